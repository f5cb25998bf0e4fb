//! The codec as calls use it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use confab_types::Bitrate;
use proptest::prelude::*;

use super::*;
use crate::I420;
use crate::video::pattern::TestPattern;
use crate::video::testing::luma_psnr;

fn config(width: u32, height: u32, kbps: u64, temporal_layers: u8) -> EncoderConfig {
    EncoderConfig {
        width,
        height,
        fps: 30,
        bitrate: Bitrate::kbps(kbps),
        temporal_layers,
        speed: 10,
    }
}

/// Noise over the pattern, so that there are bits to spend.
fn noisy(pattern: &TestPattern, frame: u32, start: Instant) -> I420 {
    let picture = pattern.draw(frame, frame * 33, start + Duration::from_millis(33) * frame);
    let mut data = picture.data.to_vec();
    let mut state = frame.wrapping_mul(747_796_405) | 1;
    for value in &mut data[..(picture.width * picture.height) as usize] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = value.saturating_add((state >> 27) as u8);
    }
    I420 {
        data: data.into(),
        ..picture
    }
}

#[test]
fn a_picture_comes_back_nearly_as_it_was() {
    let (mut encoder, mut decoder) = (Encoder::new(config(640, 360, 800, 1)).unwrap(), Decoder::new().unwrap());
    let (pattern, start) = (TestPattern::new(640, 360, 10), Instant::now());
    for frame in 0..30 {
        let picture = pattern.draw(frame, frame * 33, start + Duration::from_millis(33) * frame);
        let coded = encoder
            .encode(&picture, false)
            .unwrap()
            .expect("800 kbps is enough for every frame");
        assert_eq!(coded.keyframe, frame == 0);
        assert_eq!(is_keyframe(&coded.data), coded.keyframe);
        let decoded = decoder.decode(&coded.data, start).unwrap().unwrap();
        assert!(
            luma_psnr(&picture, &decoded) > 32.0,
            "frame {frame}: {} dB",
            luma_psnr(&picture, &decoded)
        );
    }
}

#[test]
fn a_keyframe_comes_when_asked_and_a_new_decoder_starts_there() {
    let mut encoder = Encoder::new(config(320, 240, 300, 3)).unwrap();
    let (pattern, start) = (TestPattern::new(320, 240, 10), Instant::now());
    for frame in 0..20 {
        let picture = noisy(&pattern, frame, start);
        let Some(coded) = encoder.encode(&picture, frame == 13).unwrap() else {
            continue;
        };
        assert_eq!(coded.keyframe, frame == 0 || frame == 13);
        if frame == 13 {
            assert_eq!(keyframe_size(&coded.data), Some((320, 240)));
            assert_eq!(coded.temporal, Some((0, false)));
            assert!(Decoder::new().unwrap().decode(&coded.data, start).unwrap().is_some());
        }
    }
}

#[test]
fn the_bitrate_follows_a_change_while_running() {
    let mut encoder = Encoder::new(config(640, 360, 1000, 1)).unwrap();
    let (pattern, start) = (TestPattern::new(640, 360, 10), Instant::now());
    let mut bytes_of = |range: std::ops::Range<u32>| -> usize {
        let mut sum = 0;
        for frame in range {
            if frame == 120 {
                encoder.set_rate(Bitrate::kbps(250), 30).unwrap();
            }
            sum += encoder
                .encode(&noisy(&pattern, frame, start), false)
                .unwrap()
                .map_or(0, |f| f.data.len());
        }
        sum
    };
    let (_, high) = (bytes_of(0..60), bytes_of(60..120));
    let (_, low) = (bytes_of(120..150), bytes_of(150..210));
    // Two seconds each.
    let (high, low) = (high * 8 / 2000, low * 8 / 2000);
    assert!((700..1300).contains(&high), "{high} kbps of 1000");
    assert!((130..330).contains(&low), "{low} kbps of 250");
}

#[test]
fn any_upper_temporal_frame_can_be_missing() {
    for layers in [2, 3] {
        let mut encoder = Encoder::new(config(320, 180, 300, layers)).unwrap();
        let (pattern, start) = (TestPattern::new(320, 180, 10), Instant::now());
        let mut whole = Decoder::new().unwrap();
        let mut thinned: Vec<Decoder> = (0..layers).map(|_| Decoder::new().unwrap()).collect();
        let mut seen = [0; 3];
        for frame in 0..80 {
            let picture = noisy(&pattern, frame, start);
            let Some(coded) = encoder.encode(&picture, frame == 41).unwrap() else {
                continue;
            };
            let (id, _) = coded.temporal.unwrap();
            seen[usize::from(id)] += 1;
            let expected = whole.decode(&coded.data, start).unwrap().unwrap();
            for (most, decoder) in thinned.iter_mut().enumerate() {
                if usize::from(id) <= most {
                    let decoded = decoder.decode(&coded.data, start).unwrap().unwrap();
                    assert!(
                        decoded.data == expected.data,
                        "L1T{layers}: layer {id} needs more than layers 0 to {most}"
                    );
                }
            }
        }
        assert!(seen[..usize::from(layers)].iter().all(|&n| n >= 10), "{seen:?}");
    }
}

#[test]
fn a_new_size_comes_with_a_keyframe_and_needs_no_new_decoder() {
    let mut decoder = Decoder::new().unwrap();
    let start = Instant::now();
    for (w, h) in [(320, 180), (640, 360), (160, 90)] {
        let mut encoder = Encoder::new(config(w, h, 300, 1)).unwrap();
        let coded = encoder
            .encode(&TestPattern::new(w, h, 0).draw(0, 0, start), false)
            .unwrap()
            .unwrap();
        let decoded = decoder.decode(&coded.data, start).unwrap().unwrap();
        assert_eq!((decoded.width, decoded.height), (w, h));
    }
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    for (w, h) in [(0, 0), (1, 2), (3, 4), (16_382, 16_382), (u32::MAX, 2)] {
        assert!(
            matches!(Encoder::new(config(w, h, 100, 1)), Err(Vp8Error::Size(..))),
            "{w}x{h}"
        );
    }
    let mut encoder = Encoder::new(config(320, 180, 300, 1)).unwrap();
    assert!(encoder.encode(&crate::video::testing::grey(160, 90, 0), false).is_err());
    let mut bomb = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
    bomb.resize(400, 0);
    let answer = Decoder::new().unwrap().decode(&bomb, Instant::now());
    assert!(matches!(answer, Err(Vp8Error::Size(16_383, 16_383))));
}

#[test]
fn a_decoder_without_a_keyframe_says_so() {
    let mut decoder = Decoder::new().unwrap();
    for frame in [&[][..], &[1], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]] {
        assert!(matches!(decoder.decode(frame, Instant::now()), Err(Vp8Error::Corrupt)));
    }
}

fn two_frames() -> [Bytes; 2] {
    let mut encoder = Encoder::new(config(64, 64, 200, 1)).unwrap();
    let (pattern, start) = (TestPattern::new(64, 64, 0), Instant::now());
    [0, 1].map(|frame| {
        encoder
            .encode(&noisy(&pattern, frame, start), false)
            .unwrap()
            .unwrap()
            .data
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_frames_never_crash_the_decoder(
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..40),
        cut in any::<u16>(),
    ) {
        let mut decoder = Decoder::new().unwrap();
        for good in two_frames() {
            let mut bad = good.to_vec();
            for (at, value) in &changes {
                let at = usize::from(*at) % bad.len();
                bad[at] = *value;
            }
            bad.truncate(usize::from(cut) % (bad.len() + 1));
            let _ = decoder.decode(&bad, Instant::now());
        }
        // And it can be used afterwards.
        let [key, _] = two_frames();
        prop_assert!(decoder.decode(&key, Instant::now()).unwrap().is_some());
    }
}
