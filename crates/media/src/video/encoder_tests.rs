//! What a call gets from the encoder.

use std::collections::BTreeMap;

use confab_types::CameraQuality;

use super::*;
use crate::NoTransform;
use crate::video::pattern::TestPattern;
use crate::video::testing::{eventually, grey};
use crate::video::vp8::keyframe_size;

type Got = Arc<Mutex<Vec<EncodedVideo>>>;

/// An encoder, its slot, and what came out.
fn start(config: SimulcastConfig) -> (SimulcastEncoder, FrameSlot, Got) {
    let (slot, got) = (FrameSlot::new(), Got::default());
    let sink = got.clone();
    let out: EncodedSink = Box::new(move |frame| sink.lock().push(frame));
    (
        SimulcastEncoder::start(config, slot.clone(), Box::new(NoTransform), out).unwrap(),
        slot,
        got,
    )
}

/// Puts one picture in and waits until it was taken care of.
fn feed(encoder: &SimulcastEncoder, slot: &FrameSlot, picture: I420) {
    let before = encoder.stats().pictures;
    slot.put(picture);
    eventually("the picture is encoded", || encoder.stats().pictures > before);
}

/// Pictures 33 ms apart, however fast the test runs.
fn pictures(width: u32, height: u32) -> impl Iterator<Item = I420> {
    let (pattern, start) = (TestPattern::new(width, height, 77), Instant::now());
    (0u32..).map(move |n| pattern.draw(n, n * 34, start + Duration::from_millis(34) * n))
}

fn sizes(got: &Got) -> BTreeMap<usize, (u32, u32)> {
    got.lock()
        .iter()
        .filter_map(|f| Some((f.layer, keyframe_size(&f.data)?)))
        .collect()
}

#[test]
fn every_wanted_layer_comes_at_its_size_and_starts_with_a_keyframe() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::High, 30));
    pictures(1280, 720).take(3).for_each(|p| feed(&encoder, &slot, p));
    assert_eq!(
        sizes(&got),
        BTreeMap::from([(0, (320, 180)), (1, (640, 360)), (2, (1280, 720))])
    );
    let got = got.lock();
    assert_eq!(got.len(), 9);
    assert!(got.iter().all(|f| f.keyframe == (f.captured == got[0].captured)));
}

#[test]
fn layers_nobody_watches_are_not_encoded_and_come_back_with_a_keyframe() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::Medium, 30));
    let mut source = pictures(640, 480);
    encoder.set_layers(0b01);
    source.by_ref().take(3).for_each(|p| feed(&encoder, &slot, p));
    assert!(got.lock().iter().all(|f| f.layer == 0));
    encoder.set_layers(0b11);
    source.by_ref().take(1).for_each(|p| feed(&encoder, &slot, p));
    assert!(got.lock().iter().any(|f| f.layer == 1 && f.keyframe));
    encoder.set_layers(0);
    let before = got.lock().len();
    source.by_ref().take(2).for_each(|p| feed(&encoder, &slot, p));
    assert_eq!(got.lock().len(), before);
}

#[test]
fn a_keyframe_request_is_for_the_layers_named() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::Medium, 30));
    let mut source = pictures(640, 480);
    source.by_ref().take(3).for_each(|p| feed(&encoder, &slot, p));
    let before = got.lock().len();
    encoder.request_keyframe(0b10);
    source.by_ref().take(1).for_each(|p| feed(&encoder, &slot, p));
    let keys: Vec<_> = got.lock()[before..].iter().map(|f| (f.layer, f.keyframe)).collect();
    assert!(keys.contains(&(1, true)) && !keys.contains(&(0, true)), "{keys:?}");
}

#[test]
fn a_source_that_stands_still_answers_a_keyframe_request_all_the_same() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::Low, 15));
    feed(&encoder, &slot, grey(320, 240, 80));
    encoder.request_keyframe(1);
    eventually("a second keyframe", || {
        got.lock().iter().filter(|f| f.keyframe).count() == 2
    });
}

#[test]
fn a_camera_of_another_shape_keeps_it() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::Medium, 30));
    feed(&encoder, &slot, grey(1280, 720, 90));
    assert_eq!(sizes(&got), BTreeMap::from([(0, (320, 180)), (1, (640, 360))]));
    // The camera was changed in the middle of the call.
    let mut other = grey(320, 240, 90);
    other.time += Duration::from_secs(1);
    feed(&encoder, &slot, other);
    assert_eq!(sizes(&got), BTreeMap::from([(0, (160, 120)), (1, (320, 240))]));
}

#[test]
fn the_target_bitrate_is_kept_and_little_of_it_closes_the_top_layer() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::Medium, 30));
    encoder.set_target(Bitrate::kbps(150));
    let mut source = pictures(640, 480);
    source.by_ref().take(60).for_each(|p| feed(&encoder, &slot, p));
    let stats = encoder.stats();
    assert_eq!(stats.layers[1].frames, 0);
    let kbps = got.lock().iter().map(|f| f.data.len()).sum::<usize>() * 8 / 2040;
    assert!(kbps < 200, "{kbps} kbps of 150");
    encoder.set_target(Bitrate::kbps(900));
    source.by_ref().take(2).for_each(|p| feed(&encoder, &slot, p));
    assert_eq!(encoder.stats().layers[1].keyframes, 1);
}

#[test]
fn a_network_for_sound_alone_pauses_the_picture_and_a_better_one_brings_it_back() {
    let (encoder, slot, got) = start(SimulcastConfig::for_camera(CameraQuality::Low, 30));
    let mut source = pictures(320, 240);
    encoder.set_target(Bitrate::kbps(8));
    source.by_ref().take(3).for_each(|p| feed(&encoder, &slot, p));
    assert!(encoder.stats().paused && got.lock().is_empty());
    encoder.set_target(Bitrate::kbps(120));
    source.by_ref().take(1).for_each(|p| feed(&encoder, &slot, p));
    assert!(!encoder.stats().paused && got.lock()[0].keyframe);
}

#[test]
fn too_many_pictures_are_thinned_to_the_rate_asked_for() {
    let (encoder, slot, got) = start(SimulcastConfig::single(64, 64, 15, Bitrate::kbps(300)));
    let start = Instant::now();
    for n in 0..60u32 {
        let mut picture = grey(64, 64, n as u8 * 4);
        picture.time = start + Duration::from_millis(1000) * n / 60;
        slot.put(picture);
        eventually("it was taken", || {
            matches!(slot.wait(Duration::ZERO), SlotWait::Timeout)
        });
    }
    assert!(encoder.stats().pictures <= 16, "{} pictures", encoder.stats().pictures);
    drop(encoder);
    assert!(got.lock().len() <= 16);
}

#[test]
fn a_transform_changes_what_goes_out() {
    struct Xor;
    impl FrameTransform for Xor {
        fn transform(&mut self, frame: bytes::Bytes) -> Option<bytes::Bytes> {
            Some(frame.iter().map(|b| b ^ 0x55).collect())
        }
    }
    let (slot, got) = (FrameSlot::new(), Got::default());
    let sink = got.clone();
    let config = SimulcastConfig::single(64, 64, 30, Bitrate::kbps(100));
    let out: EncodedSink = Box::new(move |frame| sink.lock().push(frame));
    let encoder = SimulcastEncoder::start(config, slot.clone(), Box::new(Xor), out).unwrap();
    feed(&encoder, &slot, grey(64, 64, 50));
    let plain: Vec<u8> = got.lock()[0].data.iter().map(|b| b ^ 0x55).collect();
    assert_eq!(keyframe_size(&plain), Some((64, 64)));
}
