//! What a viewer gets from a received track.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use confab_types::Bitrate;

use super::*;
use crate::NoTransform;
use crate::video::pattern::{TestPattern, read_timecode};
use crate::video::testing::{Packetizer, eventually, grey};
use crate::video::vp8::{Encoder, EncoderConfig};

/// A sender of the test pattern, packet by packet.
struct Sender {
    encoder: Encoder,
    packetizer: Packetizer,
    pattern: TestPattern,
    start: Instant,
    frame: u32,
}

impl Sender {
    fn new() -> Self {
        let (width, height) = (320, 180);
        let bitrate = Bitrate::kbps(400);
        let config = EncoderConfig {
            width,
            height,
            fps: 30,
            bitrate,
            temporal_layers: 3,
            speed: 12,
        };
        Self {
            encoder: Encoder::new(config).unwrap(),
            packetizer: Packetizer::new(65_000, 0, 1100),
            pattern: TestPattern::new(width, height, 0),
            start: Instant::now(),
            frame: 0,
        }
    }

    fn next(&mut self, keyframe: bool) -> Vec<MediaPacket> {
        let time = self.start + Duration::from_millis(33) * self.frame;
        let picture = self.pattern.draw(self.frame, self.frame, time);
        self.frame += 1;
        let Some(coded) = self.encoder.encode(&picture, keyframe).unwrap() else {
            return Vec::new();
        };
        self.packetizer
            .frame(self.frame * 3000, coded.temporal, &coded.data, Instant::now())
    }
}

struct Viewer {
    receiver: VideoReceiver,
    pictures: Arc<Mutex<Vec<DecodedFrame>>>,
    asked: Arc<AtomicUsize>,
}

impl Viewer {
    fn new() -> Self {
        let (pictures, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (sink, count) = (pictures.clone(), asked.clone());
        let ask = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let out: PictureSink = Box::new(move |frame| sink.lock().push(frame));
        Self {
            receiver: VideoReceiver::start(Box::new(NoTransform), out, ask).unwrap(),
            pictures,
            asked,
        }
    }

    fn codes(&self) -> Vec<u32> {
        let read = |f: &DecodedFrame| {
            let p = &f.picture;
            read_timecode(p.y(), p.width, p.height, p.width as usize).map(|t| t.millis)
        };
        self.pictures.lock().iter().filter_map(read).collect()
    }
}

#[test]
fn every_picture_sent_is_seen_in_order() {
    let (mut sender, viewer) = (Sender::new(), Viewer::new());
    viewer.receiver.set_shown(Some((320, 180)));
    for _ in 0..40 {
        sender.next(false).into_iter().for_each(|p| viewer.receiver.push(p));
    }
    eventually("40 frames", || {
        viewer.receiver.stats().frames_received + 1 >= u64::from(sender.frame)
    });
    eventually("they are decoded", || viewer.codes().len() >= 39);
    assert!(viewer.codes().windows(2).all(|w| w[0] < w[1]));
    let stats = viewer.receiver.stats();
    assert_eq!((stats.size, stats.decode_errors, stats.keyframes), ((320, 180), 0, 1));
    assert_eq!(viewer.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn pictures_come_in_the_size_that_is_shown() {
    let (mut sender, viewer) = (Sender::new(), Viewer::new());
    viewer.receiver.set_shown(Some((120, 90)));
    sender.next(true).into_iter().for_each(|p| viewer.receiver.push(p));
    eventually("a picture", || !viewer.pictures.lock().is_empty());
    let frame = viewer.pictures.lock()[0].clone();
    // As small as covers a 4:3 tile.
    assert_eq!(
        ((frame.picture.width, frame.picture.height), frame.coded_size),
        ((160, 90), (320, 180))
    );
}

#[test]
fn a_hidden_tile_costs_no_decoding_and_asks_for_a_keyframe_when_it_shows() {
    let (mut sender, viewer) = (Sender::new(), Viewer::new());
    for _ in 0..10 {
        sender.next(false).into_iter().for_each(|p| viewer.receiver.push(p));
    }
    eventually("frames are counted", || viewer.receiver.stats().frames_received >= 9);
    assert!(viewer.pictures.lock().is_empty());
    assert_eq!(viewer.receiver.stats().frames_decoded, 1);
    viewer.receiver.set_shown(Some((320, 180)));
    eventually("a keyframe is asked for", || viewer.asked.load(Ordering::Relaxed) == 1);
    sender.next(true).into_iter().for_each(|p| viewer.receiver.push(p));
    eventually("the picture is there", || viewer.codes() == [sender.frame - 1]);
}

#[test]
fn a_frame_lost_for_good_is_healed_by_a_keyframe() {
    let (mut sender, viewer) = (Sender::new(), Viewer::new());
    viewer.receiver.set_shown(Some((320, 180)));
    sender.next(true).into_iter().for_each(|p| viewer.receiver.push(p));
    // The base frame 4 is lost, and so is all hope until a keyframe.
    for frame in 1..8 {
        let packets = sender.next(false);
        packets
            .into_iter()
            .filter(|_| frame != 4)
            .for_each(|p| viewer.receiver.push(p));
    }
    eventually("a keyframe is asked for", || viewer.asked.load(Ordering::Relaxed) > 0);
    sender.next(true).into_iter().for_each(|p| viewer.receiver.push(p));
    eventually("the picture is back", || {
        viewer.codes().last() == Some(&(sender.frame - 1))
    });
}

#[test]
fn garbage_is_survived_and_counted() {
    let (mut sender, viewer) = (Sender::new(), Viewer::new());
    viewer.receiver.set_shown(Some((320, 180)));
    for n in 0..200u16 {
        let payload = Bytes::from((0..n % 40).map(|b| (b * 37 + n) as u8).collect::<Vec<u8>>());
        let packet = MediaPacket {
            sequence: n,
            timestamp: u32::from(n),
            marker: n % 3 == 0,
            payload,
            arrived: Instant::now(),
        };
        viewer.receiver.push(packet);
    }
    for keyframe in [true, false, false] {
        sender.next(keyframe).into_iter().for_each(|p| viewer.receiver.push(p));
    }
    eventually("the good ones are decoded", || viewer.codes().last() == Some(&2));
}

#[test]
fn a_tap_sees_frames_for_a_recording() {
    let (mut sender, viewer) = (Sender::new(), Viewer::new());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    viewer.receiver.set_tap(Box::new(move |frame| {
        assert!(!frame.data.is_empty());
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    for _ in 0..5 {
        sender.next(false).into_iter().for_each(|p| viewer.receiver.push(p));
    }
    eventually("four frames or more", || count.load(Ordering::Relaxed) >= 4);
}

#[test]
fn freezes_are_counted_as_webrtc_stats_says() {
    let (mut flow, mut stats, mut now) = (Flow::default(), ReceiverStats::default(), Instant::now());
    for gap in [33, 33, 33, 180, 33, 33, 250, 33] {
        now += Duration::from_millis(gap);
        flow.picture(now, &mut stats);
    }
    // 180 ms lies under the mean plus 150; 250 ms lies over that and over three means.
    assert_eq!((stats.freezes, stats.freeze_ms), (1, 250));
    flow.pause();
    flow.picture(now + Duration::from_secs(9), &mut stats);
    assert_eq!(stats.freezes, 1, "a hidden tile does not freeze");
    assert!(stats.fps < 40.0);
}

#[test]
fn a_receiver_can_be_dropped_at_any_time() {
    let viewer = Viewer::new();
    viewer.receiver.push(MediaPacket {
        sequence: 0,
        timestamp: 0,
        marker: true,
        payload: Bytes::copy_from_slice(&grey(2, 2, 1).data),
        arrived: Instant::now(),
    });
    drop(viewer);
}
