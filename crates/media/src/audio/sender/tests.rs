//! What a listener of the pipeline gets.

use std::sync::mpsc;

use super::*;
use crate::api::NoTransform;
use crate::audio::event::no_events;
use crate::audio::meter::dominant_frequency;
use crate::audio::opus::OpusDecoder;
use bytes::Bytes;

fn start(config: AudioSenderConfig) -> (AudioSender, mpsc::Receiver<EncodedAudio>) {
    let (packets, received) = mpsc::channel();
    let sender = AudioSender::start(
        config,
        Box::new(NoTransform),
        Box::new(move |packet| {
            let _ = packets.send(packet);
        }),
        no_events(),
    )
    .unwrap();
    (sender, received)
}

fn take(received: &mpsc::Receiver<EncodedAudio>, count: usize) -> Vec<EncodedAudio> {
    (0..count)
        .map(|_| received.recv_timeout(Duration::from_secs(2)).unwrap())
        .collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_tone_arrives_as_evenly_timed_packets_with_its_pitch_and_level() {
    let (sender, received) = start(AudioSenderConfig::new(AudioSourceSpec::TestTone(440.0)));
    let packets = take(&received, 30);
    assert!(
        packets
            .windows(2)
            .all(|pair| pair[1].captured - pair[0].captured == Duration::from_millis(20))
    );
    let mut decoder = OpusDecoder::new().unwrap();
    let mut heard = Vec::new();
    for packet in &packets {
        let mut frame = [0.0; FRAME];
        decoder.decode(&packet.data, &mut frame).unwrap();
        heard.extend_from_slice(&frame);
    }
    let pitch = dominant_frequency(&heard[9600..], 48_000).unwrap();
    assert!((pitch - 440.0).abs() < 3.0, "{pitch}");
    assert!((15..=25).contains(&packets[20].level), "{}", packets[20].level);
    assert!(sender.stats().packets >= 30);
    assert!(sender.level() > 0.5);
}

#[test]
fn muting_sends_nothing_and_notices_speech() {
    let mut config = AudioSenderConfig::new(AudioSourceSpec::TestTone(300.0));
    config.muted = true;
    let (sender, received) = start(config);
    until("the reminder", || sender.speaking_while_muted());
    assert!(received.try_recv().is_err(), "a muted microphone sent something");
    sender.set_muted(false);
    take(&received, 3);
    until("the end of the reminder", || !sender.speaking_while_muted());
    sender.set_muted(true);
    assert!(sender.muted());
}

#[test]
fn silence_while_muted_reminds_nobody() {
    let mut config = AudioSenderConfig::new(AudioSourceSpec::Silence);
    config.muted = true;
    let (sender, _received) = start(config);
    std::thread::sleep(Duration::from_millis(400));
    assert!(!sender.speaking_while_muted());
    assert_eq!(sender.loudness(), Loudness::SILENCE);
}

#[test]
fn the_source_can_change_while_it_runs() {
    let (sender, received) = start(AudioSenderConfig::new(AudioSourceSpec::Silence));
    take(&received, 2);
    assert!(sender.set_source(&AudioSourceSpec::Wav("/nowhere.wav".into())).is_err());
    take(&received, 2);
    sender.set_source(&AudioSourceSpec::TestTone(500.0)).unwrap();
    until("the tone", || take(&received, 1)[0].level < 30);
}

#[test]
fn a_transform_may_change_or_drop_packets() {
    struct EverySecond(u32);
    impl FrameTransform for EverySecond {
        fn transform(&mut self, _: Bytes) -> Option<Bytes> {
            self.0 += 1;
            self.0.is_multiple_of(2).then(|| Bytes::from_static(b"sealed"))
        }
    }
    let (packets, received) = mpsc::channel();
    let _sender = AudioSender::start(
        AudioSenderConfig::new(AudioSourceSpec::Silence),
        Box::new(EverySecond(0)),
        Box::new(move |packet| {
            let _ = packets.send(packet);
        }),
        no_events(),
    )
    .unwrap();
    let packets = take(&received, 3);
    assert!(packets.iter().all(|packet| &packet.data[..] == b"sealed"));
    assert_eq!(packets[1].captured - packets[0].captured, Duration::from_millis(40));
}
