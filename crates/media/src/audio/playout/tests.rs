//! What is heard of received streams, played in real time to nowhere.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::audio::FRAME;
use crate::audio::event::no_events;
use crate::audio::generate::Tone;
use crate::audio::meter::{rms, tone_share};
use crate::audio::opus::{OpusConfig, OpusEncoder};

/// Pushes a tone of so many packets as a network would.
fn push_tone(streams: &[&RemoteAudio], hz: f32, packets: u16) {
    let mut encoder = OpusEncoder::new(OpusConfig::default()).unwrap();
    let mut tone = Tone::new(hz);
    let start = Instant::now();
    for n in 0..packets {
        let mut frame = [0.0; FRAME];
        tone.fill(&mut frame);
        let payload = encoder.encode(&frame).unwrap();
        let due = start + Duration::from_millis(20) * u32::from(n);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for stream in streams {
            stream.push(MediaPacket {
                sequence: n,
                timestamp: u32::from(n) * FRAME as u32,
                marker: false,
                payload: payload.clone(),
                arrived: Instant::now(),
            });
        }
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stream_is_decoded_measured_and_recorded_without_a_speaker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heard.wav");
    let playout = Playout::start(SpeakerTarget::Null, no_events()).unwrap();
    let stream = playout.add_stream("TR_1").unwrap();
    stream.record(&path).unwrap();
    push_tone(&[&stream], 440.0, 60);
    assert!(stream.level() > 0.4, "{}", stream.level());
    stream.stop_recording();
    let stats = stream.stats();
    assert_eq!(stats.received, 60);
    let heard = crate::audio::wav::read(&path).unwrap();
    let loud: Vec<f32> = heard
        .chunks(480)
        .filter(|block| rms(block) > 0.05)
        .flatten()
        .copied()
        .collect();
    assert!(loud.len() > 24_000, "{} samples of the tone", loud.len());
    let share = loud
        .windows(9600)
        .step_by(2400)
        .map(|window| tone_share(window, SAMPLE_RATE, 440.0));
    assert!(share.fold(0.0, f64::max) > 0.9);
    assert!(playout.problem().is_none());
    assert!(playout.device().is_none());
}

#[test]
fn a_dropped_stream_is_gone_and_a_new_one_takes_its_place() {
    let playout = Playout::start(SpeakerTarget::Null, no_events()).unwrap();
    drop(playout.add_stream("TR_1").unwrap());
    let stream = playout.add_stream("TR_2").unwrap();
    assert_eq!(stream.id(), "TR_2");
    until("the first stream's end", || playout.streams.lock().len() == 1);
    until("mixing", || stream.stats().samples > 4800);
}

#[test]
fn a_muted_listener_still_sees_the_level() {
    let playout = Playout::start(SpeakerTarget::Null, no_events()).unwrap();
    let (heard, silenced) = (playout.add_stream("TR_1").unwrap(), playout.add_stream("TR_2").unwrap());
    silenced.set_volume(0.0);
    silenced.set_volume(f32::NAN);
    silenced.set_volume(0.0);
    push_tone(&[&heard, &silenced], 440.0, 30);
    assert!(heard.level() > 0.4 && silenced.level() > 0.4);
}

#[test]
fn packets_pass_the_transform_before_they_are_decoded() {
    struct Unseal;
    impl FrameTransform for Unseal {
        fn transform(&mut self, frame: Bytes) -> Option<Bytes> {
            frame.strip_prefix(b"sealed").map(Bytes::copy_from_slice)
        }
    }
    let playout = Playout::start(SpeakerTarget::Null, no_events()).unwrap();
    let stream = playout.add_stream("TR_1").unwrap();
    stream.set_transform(Box::new(Unseal));
    let packet = |payload: &'static [u8]| MediaPacket {
        sequence: 1,
        timestamp: 960,
        marker: false,
        payload: Bytes::from_static(payload),
        arrived: Instant::now(),
    };
    stream.push(packet(b"not for us"));
    assert_eq!(stream.stats().received, 0);
    stream.push(packet(b"sealed\x78\x01\x02"));
    assert_eq!(stream.stats().received, 1);
}

#[test]
fn what_was_played_reaches_the_canceller_in_blocks_and_old_sound_does_not() {
    let far_end = FarEnd::default();
    let (mut played, ring) = rtrb::RingBuffer::new(48_000);
    far_end.replace(Some(FarRing::new(ring, SAMPLE_RATE)));
    for n in 0..700 {
        played.push(n as f32).unwrap();
    }
    let mut blocks = Vec::new();
    far_end.drain(|block| blocks.push(*block));
    assert_eq!((blocks.len(), blocks[0][0]), (1, 0.0));
    for n in 700..40_000 {
        played.push(n as f32).unwrap();
    }
    blocks.clear();
    far_end.clone().drain(|block| blocks.push(*block));
    assert_eq!(blocks.len(), 20);
    assert_eq!(blocks[19][479], (40_000 / 480 * 480 - 1) as f32);
}

#[cfg(not(feature = "sound"))]
#[test]
fn a_build_without_devices_says_so_and_goes_on() {
    let playout = Playout::start(SpeakerTarget::Device(None), no_events()).unwrap();
    assert_eq!(playout.problem(), Some(DeviceError::NotFound(DeviceKind::Speaker)));
    let stream = playout.add_stream("TR_1").unwrap();
    until("mixing", || stream.stats().samples > 4800);
}
