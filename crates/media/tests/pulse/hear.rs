//! Ears for the tests: tones, likeness of speech, beginnings of sound.

use std::time::{Duration, Instant};

use confab_media::audio::meter::{rms, tone_share};
use confab_media::audio::{AudioCapture, Captured, SAMPLE_RATE};

const SECOND: usize = SAMPLE_RATE as usize;

/// The half second in which a tone is purest. A loaded computer may spoil others.
pub fn purest(heard: &[f32], hz: f32) -> f64 {
    let from = heard
        .iter()
        .position(|sample| sample.abs() > 0.05)
        .expect("nothing was heard");
    let windows = heard[from..].windows(SECOND / 2).step_by(SECOND / 20);
    windows
        .map(|window| tone_share(window, SAMPLE_RATE, hz))
        .fold(0.0, f64::max)
}

/// How alike two sounds' loudness runs are: the mean over pieces of 400 ms, each where it fits best, and each after the
/// one before. 1 is the same.
pub fn likeness(reference: &[f32], heard: &[f32]) -> f64 {
    const PIECE: usize = 40;
    let envelope = |sound: &[f32]| {
        sound
            .chunks_exact(480)
            .map(|piece| f64::from(rms(piece)))
            .collect::<Vec<_>>()
    };
    let (reference, heard) = (envelope(reference), envelope(heard));
    let mut from = 0;
    let mut found = Vec::new();
    for piece in reference.chunks_exact(PIECE) {
        let last = heard.len().saturating_sub(PIECE);
        let best = (from..=last)
            .map(|at| (at, correlation(piece, &heard[at..at + PIECE])))
            .fold((from, 0.0), |best, next| if next.1 > best.1 { next } else { best });
        // Only a sure fit moves the place of the next: a little earlier is allowed for.
        if best.1 > 0.8 {
            from = best.0 + PIECE / 2;
        }
        found.push(best.1);
    }
    found.iter().sum::<f64>() / found.len().max(1) as f64
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut product, mut left, mut right) = (0.0, 1e-12, 1e-12);
    for (x, y) in a.iter().zip(b) {
        product += (x - ma) * (y - mb);
        left += (x - ma).powi(2);
        right += (y - mb).powi(2);
    }
    product / f64::sqrt(left * right)
}

/// When tones begin at a microphone, to a millisecond.
pub fn onsets(capture: &mut AudioCapture, length: Duration) -> Vec<Instant> {
    let end = Instant::now() + length;
    let mut found = Vec::new();
    let mut quiet_for = 0;
    while Instant::now() < end {
        let Captured::Block(block) = capture.next(Duration::from_millis(100)) else {
            continue;
        };
        for (piece, samples) in block.samples.chunks(48).enumerate() {
            if rms(samples) < 0.05 {
                quiet_for += 1;
            } else {
                if quiet_for > 200 {
                    found.push(block.captured + Duration::from_millis(piece as u64));
                }
                quiet_for = 0;
            }
        }
    }
    found
}
