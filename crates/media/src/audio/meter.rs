//! How loud sound is, and which tones are in it: for level displays, speaker detection, reports and tests.

use std::f64::consts::TAU;

/// The loudness of 10 or 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loudness(u8);

impl Loudness {
    /// Digital silence.
    pub const SILENCE: Self = Self(127);

    /// Measures samples: root mean square in -dBov, 0 (loudest) to 127 (RFC 6464, RFC 6465).
    pub fn of(samples: &[f32]) -> Self {
        let rms = rms(samples);
        if rms <= 0.0 {
            return Self::SILENCE;
        }
        Self((-20.0 * rms.log10()).round().clamp(0.0, 127.0) as u8)
    }

    /// From the number the RTP extension carries.
    pub fn from_dbov(dbov: u8) -> Self {
        Self(dbov.min(127))
    }

    /// As the RTP extension carries it: 0 is the loudest, 127 silence.
    pub fn dbov(self) -> u8 {
        self.0
    }

    /// For a meter: 0 below -60 dBov, 1 from -10 dBov on.
    pub fn level(self) -> f32 {
        ((60.0 - f32::from(self.0)) / 50.0).clamp(0.0, 1.0)
    }
}

/// Root mean square.
pub fn rms(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    (energy(samples) / samples.len() as f64).sqrt() as f32
}

/// Sum of squares.
pub fn energy(samples: &[f32]) -> f64 {
    samples
        .iter()
        .map(|&sample| f64::from(sample) * f64::from(sample))
        .sum()
}

/// Power of one frequency (Goertzel), as the mean square of that tone: a sine of amplitude `a` gives `a*a/2`.
pub fn tone_power(samples: &[f32], rate: u32, hz: f32) -> f64 {
    if samples.is_empty() || rate == 0 {
        return 0.0;
    }
    let n = samples.len() as f64;
    let step = TAU * f64::from(hz) / f64::from(rate);
    let coefficient = 2.0 * step.cos();
    let (mut s1, mut s2) = (0.0f64, 0.0f64);
    for &sample in samples {
        let s0 = f64::from(sample) + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    2.0 * power / (n * n)
}

/// Share of the sound's power that is within a few Hz of one frequency: near 1 for a clean tone, near 0 without it.
pub fn tone_share(samples: &[f32], rate: u32, hz: f32) -> f64 {
    let total = energy(samples) / samples.len().max(1) as f64;
    if total <= 0.0 {
        return 0.0;
    }
    (tone_power(samples, rate, hz) / total).min(1.0)
}

/// The strongest frequency between 50 Hz and 8 kHz, to about 1 Hz; `None` in silence. Looks at the first second.
pub fn dominant_frequency(samples: &[f32], rate: u32) -> Option<f32> {
    let samples = &samples[..samples.len().min(rate as usize)];
    if samples.len() < 64 || rms(samples) < 1e-5 {
        return None;
    }
    let windowed = hann(samples);
    let resolution = rate as f32 / samples.len() as f32;
    let peak = |from: f32, to: f32, step: f32| {
        let steps = ((to - from) / step).ceil() as usize;
        (0..=steps)
            .map(|i| from + step * i as f32)
            .map(|hz| (hz, tone_power(&windowed, rate, hz)))
            .fold((from, -1.0), |best, next| if next.1 > best.1 { next } else { best })
            .0
    };
    let top = (rate as f32 / 2.0 - 1.0).min(8000.0);
    // The window's main lobe is four bins wide, so steps of two bins cannot miss a tone.
    let coarse = peak(50.0, top, (resolution * 2.0).max(2.0));
    let width = (resolution * 3.0).max(3.0);
    let fine = peak((coarse - width).max(20.0), coarse + width, width / 12.0);
    Some(peak(
        (fine - width / 6.0).max(20.0),
        fine + width / 6.0,
        (width / 60.0).max(0.25),
    ))
}

/// How close `heard` is to `reference`, sample by sample.
pub fn snr_db(reference: &[f32], heard: &[f32]) -> f64 {
    let noise: f64 = reference.iter().zip(heard).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    10.0 * (energy(reference).max(1e-12) / noise.max(1e-12)).log10()
}

fn hann(samples: &[f32]) -> Vec<f32> {
    let n = samples.len() as f64;
    samples
        .iter()
        .enumerate()
        .map(|(i, &sample)| sample * (0.5 - 0.5 * (TAU * i as f64 / n).cos()) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, amplitude: f32, len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| amplitude * (std::f32::consts::TAU * hz * i as f32 / 48_000.0).sin())
            .collect()
    }

    #[test]
    fn a_tone_is_found_at_its_frequency_and_nowhere_else() {
        let heard = tone(523.0, 0.5, 24_000);
        assert!((tone_power(&heard, 48_000, 523.0) - 0.125).abs() < 0.005);
        assert!(tone_power(&heard, 48_000, 700.0) < 0.001);
        assert!(tone_share(&heard, 48_000, 523.0) > 0.95);
        let found = dominant_frequency(&heard, 48_000).unwrap();
        assert!((found - 523.0).abs() < 1.5, "{found}");
        assert_eq!(dominant_frequency(&[0.0; 4800], 48_000), None);
    }

    #[test]
    fn loudness_follows_rfc_6464() {
        assert_eq!(Loudness::of(&[1.0; 480]).dbov(), 0);
        assert_eq!(Loudness::of(&[0.0; 480]).dbov(), 127);
        assert_eq!(Loudness::of(&tone(1000.0, 1.0, 4800)).dbov(), 3);
        assert_eq!(Loudness::of(&[]).dbov(), 127);
        assert_eq!(Loudness::SILENCE.level(), 0.0);
        assert_eq!(Loudness::of(&[0.5; 480]).level(), 1.0);
    }
}
