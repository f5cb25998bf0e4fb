//! The test pattern survives what a call does to it.

use std::time::{Duration, Instant};

use confab_types::Bitrate;

use super::*;
use crate::video::convert::to_rgba;
use crate::video::scale::{crop_to_shape, scale};
use crate::video::vp8::{Decoder, Encoder, EncoderConfig};

const SIZES: [(u32, u32); 5] = [(1280, 720), (640, 480), (320, 240), (320, 180), (160, 90)];

fn read(picture: &I420) -> Option<Timecode> {
    read_timecode(picture.y(), picture.width, picture.height, picture.width as usize)
}

fn mirror(picture: &I420) -> I420 {
    let mut data = picture.data.to_vec();
    let (w, h) = (picture.width as usize, picture.height as usize);
    let (luma, chroma) = data.split_at_mut(w * h);
    luma.chunks_exact_mut(w).for_each(<[u8]>::reverse);
    chroma.chunks_exact_mut(w / 2).for_each(<[u8]>::reverse);
    I420 {
        data: data.into(),
        ..*picture
    }
}

/// Codes `count` pictures at `kbps` and gives the last ones back as decoded, with what was drawn.
fn through_vp8(pattern: &TestPattern, kbps: u64, count: u32) -> Vec<(Timecode, I420)> {
    let (width, height) = pattern.size();
    let bitrate = Bitrate::kbps(kbps);
    let config = EncoderConfig {
        width,
        height,
        fps: 30,
        bitrate,
        temporal_layers: 1,
        speed: 10,
    };
    let (mut encoder, mut decoder) = (Encoder::new(config).unwrap(), Decoder::new().unwrap());
    let start = Instant::now();
    let mut out = Vec::new();
    for frame in 0..count {
        let millis = 3_000_000_000 + frame * 33;
        let picture = pattern.draw(frame, millis, start + Duration::from_millis(33) * frame);
        if let Some(coded) = encoder.encode(&picture, frame == 0).unwrap() {
            let decoded = decoder.decode(&coded.data, start).unwrap().unwrap();
            out.push((
                Timecode {
                    frame: frame as u16,
                    millis,
                    mirrored: false,
                },
                decoded,
            ));
        }
    }
    out
}

#[test]
fn the_timecode_drawn_is_the_timecode_read_at_every_size() {
    for (w, h) in SIZES {
        let picture = TestPattern::new(w, h, 200).draw(70_000, 0xfedc_ba98, Instant::now());
        let expected = Timecode {
            frame: (70_000 % 65_536) as u16,
            millis: 0xfedc_ba98,
            mirrored: false,
        };
        assert_eq!(read(&picture), Some(expected), "{w}x{h}");
        let rgba = to_rgba(&picture).unwrap();
        assert_eq!(read_timecode_rgba(&rgba, w, h), Some(expected), "{w}x{h} in RGBA");
        let seen_mirrored = Timecode {
            mirrored: true,
            ..expected
        };
        assert_eq!(read(&mirror(&picture)), Some(seen_mirrored), "{w}x{h} mirrored");
    }
}

#[test]
fn the_timecode_survives_vp8_at_low_bitrates() {
    for ((w, h), kbps) in [((1280, 720), 300), ((640, 480), 150), ((320, 240), 80), ((160, 90), 40)] {
        let decoded = through_vp8(&TestPattern::new(w, h, 30), kbps, 60);
        let right = decoded
            .iter()
            .filter(|(drawn, picture)| read(picture) == Some(*drawn))
            .count();
        let wrong = decoded
            .iter()
            .filter(|(drawn, picture)| read(picture).is_some_and(|t| t != *drawn))
            .count();
        assert!(
            right * 10 >= decoded.len() * 9,
            "{w}x{h} at {kbps} kbps: {right} of {}",
            decoded.len()
        );
        assert_eq!(wrong, 0, "{w}x{h} at {kbps} kbps");
    }
}

#[test]
fn the_timecode_survives_scaling_and_cropping_to_a_tile() {
    let (drawn, decoded) = through_vp8(&TestPattern::new(1280, 720, 300), 800, 20).pop().unwrap();
    for (w, h) in [(640, 360), (320, 180), (214, 120), (160, 90), (500, 282)] {
        assert_eq!(read(&scale(&decoded, w, h)), Some(drawn), "{w}x{h}");
    }
    for shape in [(4, 3), (1, 1), (3, 2)] {
        assert_eq!(
            read(&crop_to_shape(&decoded, shape)),
            Some(drawn),
            "cropped to {shape:?}"
        );
    }
    let (drawn, decoded) = through_vp8(&TestPattern::new(640, 480, 300), 500, 20).pop().unwrap();
    assert_eq!(
        read(&crop_to_shape(&decoded, (16, 9))),
        Some(drawn),
        "4:3 in a wide tile"
    );
    assert_eq!(read(&crop_to_shape(&scale(&decoded, 240, 180), (1, 1))), Some(drawn));
}

#[test]
fn pictures_without_a_timecode_show_none() {
    for luma in [0, 128, 255] {
        assert_eq!(read(&crate::video::testing::grey(320, 240, luma)), None);
    }
    let mut state = 1u32;
    for _ in 0..200 {
        let noise: Vec<u8> = (0..160 * 90)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert_eq!(read_timecode(&noise, 160, 90, 160), None);
    }
    assert_eq!(read_timecode(&[0; 10], 1280, 720, 1280), None);
    assert_eq!(read_timecode_rgba(&[], u32::MAX, u32::MAX), None);
}

#[test]
fn the_participants_hue_is_read_back() {
    for hue in (0..360).step_by(24) {
        let (_, decoded) = through_vp8(&TestPattern::new(320, 180, hue), 150, 10).pop().unwrap();
        let seen = read_hue(&decoded).unwrap();
        assert!(hue_distance(seen, hue) <= 12, "{hue} came as {seen}");
        let seen = read_hue_rgba(&to_rgba(&decoded).unwrap()).unwrap();
        assert!(hue_distance(seen, hue) <= 14, "{hue} came as {seen} in RGBA");
    }
    assert_eq!(read_hue(&crate::video::testing::grey(16, 16, 90)), None);
}

#[test]
fn the_picture_moves() {
    let pattern = TestPattern::new(320, 180, 120);
    let at = |millis| pattern.draw(0, millis, Instant::now());
    assert!(at(1000).y() != at(1033).y());
}

#[test]
fn ages_work_across_the_wrap_of_the_clock() {
    let code = Timecode {
        frame: 0,
        millis: u32::MAX - 9,
        mirrored: false,
    };
    assert_eq!(code.age_millis(40), 50);
    assert_eq!(code.age_millis(u32::MAX - 19), -10);
}
