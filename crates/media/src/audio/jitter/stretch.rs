//! Makes sound a pitch period shorter or longer without a change of pitch: how the buffer's delay is moved while
//! someone speaks.

/// Shortest and longest piece taken out or put in, samples: 2.5 to 15 ms, the range of pitch periods.
const MIN_LAG: usize = 120;
const MAX_LAG: usize = 720;
/// Samples compared to find where the sound repeats.
const WINDOW: usize = 360;
/// Samples blended at the joint.
const BLEND: usize = 240;
/// Step of the first, coarse search.
const COARSE: usize = 4;
/// Below this mean square it is silence, where any joint is inaudible: -54 dBFS.
const QUIET: f32 = 4e-6;

/// Samples that [`shorten`] needs to look at.
pub(super) const SHORTEN_NEEDS: usize = MAX_LAG + WINDOW;
/// Samples of the past that [`lengthen`] needs.
pub(super) const LENGTHEN_PAST: usize = MAX_LAG;
/// Samples ahead that [`lengthen`] needs.
pub(super) const LENGTHEN_NEEDS: usize = WINDOW;

/// Takes one period out of the beginning of `sound`: gives how many samples, 0 where it does not repeat well enough.
pub(super) fn shorten(sound: &mut Vec<f32>, likeness: f32) -> usize {
    if sound.len() < SHORTEN_NEEDS {
        return 0;
    }
    let Some(lag) = best_lag(likeness, sound, |lag| (0, lag)) else {
        return 0;
    };
    for i in 0..BLEND {
        let share = (i + 1) as f32 / (BLEND + 1) as f32;
        sound[i] = sound[i] * (1.0 - share) + sound[i + lag] * share;
    }
    sound.drain(BLEND..BLEND + lag);
    lag
}

/// Puts one more period in front of `sound`, which follows on `past`: gives how many samples.
pub(super) fn lengthen(past: &[f32], sound: &mut Vec<f32>, likeness: f32) -> usize {
    if past.len() < LENGTHEN_PAST || sound.len() < LENGTHEN_NEEDS {
        return 0;
    }
    let mut all = past[past.len() - LENGTHEN_PAST..].to_vec();
    all.extend_from_slice(&sound[..LENGTHEN_NEEDS]);
    let at = LENGTHEN_PAST;
    let Some(lag) = best_lag(likeness, &all, |lag| (at, at - lag)) else {
        return 0;
    };
    // Goes on as planned, slides over to one period earlier, and takes the way from there again.
    let mut again: Vec<f32> = Vec::with_capacity(lag + sound.len());
    for i in 0..BLEND {
        let share = (i + 1) as f32 / (BLEND + 1) as f32;
        again.push(all[at + i] * (1.0 - share) + all[at - lag + i] * share);
    }
    again.extend_from_slice(&all[at - lag + BLEND..at.max(at - lag + BLEND)]);
    let resume = BLEND.saturating_sub(lag);
    again.extend_from_slice(&sound[resume..]);
    let added = again.len() - sound.len();
    *sound = again;
    added
}

/// The lag at which the two places given for it are most alike, if alike enough.
fn best_lag(likeness: f32, sound: &[f32], places: impl Fn(usize) -> (usize, usize)) -> Option<usize> {
    let (first, _) = places(MIN_LAG);
    let power = |at: usize| sound[at..at + WINDOW].iter().map(|s| s * s).sum::<f32>() / WINDOW as f32;
    let (a, b) = places(MAX_LAG);
    if power(first) < QUIET && power(a) < QUIET && power(b) < QUIET {
        return Some(MAX_LAG);
    }
    let alike = |lag: usize, step: usize| {
        let (a, b) = places(lag);
        let (mut product, mut left, mut right) = (0.0f32, 1e-9f32, 1e-9f32);
        for i in (0..WINDOW).step_by(step) {
            let (x, y) = (sound[a + i], sound[b + i]);
            product += x * y;
            left += x * x;
            right += y * y;
        }
        product / (left * right).sqrt()
    };
    let best = |lags: &mut dyn Iterator<Item = usize>, step: usize| {
        lags.map(|lag| (lag, alike(lag, step)))
            .fold((0, -1.0f32), |best, next| if next.1 > best.1 { next } else { best })
    };
    let (coarse, _) = best(&mut (MIN_LAG..=MAX_LAG).step_by(COARSE), COARSE);
    let from = coarse.saturating_sub(COARSE).max(MIN_LAG);
    let (lag, found) = best(&mut (from..=(coarse + COARSE).min(MAX_LAG)), 1);
    (found >= likeness).then_some(lag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::meter::{dominant_frequency, tone_share};

    fn tone(hz: f32, len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| 0.3 * (std::f32::consts::TAU * hz * i as f32 / 48_000.0).sin())
            .collect()
    }

    #[test]
    fn a_tone_stays_clean_when_it_is_made_shorter_and_longer() {
        let source = tone(310.0, 48_000);
        let mut shorter = Vec::new();
        let mut longer: Vec<f32> = Vec::new();
        let (mut removed, mut added) = (0, 0);
        for chunk in source.chunks_exact(1440) {
            let mut piece = chunk.to_vec();
            removed += shorten(&mut piece, 0.9);
            shorter.extend_from_slice(&piece);
        }
        for chunk in source.chunks_exact(1440) {
            let mut piece = chunk.to_vec();
            added += lengthen(&longer, &mut piece, 0.9);
            longer.extend_from_slice(&piece);
        }
        assert!(removed > 4800 && added > 4800, "{removed} {added}");
        assert_eq!(shorter.len() + removed, 47_520);
        assert_eq!(longer.len(), 47_520 + added);
        for sound in [&shorter, &longer] {
            let heard = dominant_frequency(sound, 48_000).unwrap();
            assert!((heard - 310.0).abs() < 4.0, "{heard}");
            assert!(
                sound.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 0.03),
                "a click at a joint"
            );
        }
        assert!(tone_share(&shorter[..9600], 48_000, 310.0) > 0.8);
    }

    #[test]
    fn noise_is_left_alone_and_silence_yields_the_most() {
        let mut random = 7u32;
        let mut noise: Vec<f32> = (0..1440)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        assert_eq!(shorten(&mut noise, 0.9), 0);
        let mut silence = vec![0.0; 1440];
        assert_eq!(shorten(&mut silence, 0.9), MAX_LAG);
        assert_eq!(lengthen(&[0.0; 720], &mut silence, 0.9), MAX_LAG);
    }
}
