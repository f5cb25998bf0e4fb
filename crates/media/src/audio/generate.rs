//! Sounds made here: a steady tone, a voice-like murmur, silence. Each is a pure function of its samples so far.

use std::f64::consts::TAU;

use super::SAMPLE_RATE;

/// Loudness of the test tone: -20 dBFS, clear and not startling.
const TONE_AMPLITUDE: f64 = 0.14;

/// Loudness of the voice's vowels, peak: gentle beside real speech.
const VOICE_AMPLITUDE: f32 = 0.16;

/// Samples of one period in a vowel's table.
const TABLE: usize = 1024;

/// A steady tone.
#[derive(Debug, Clone)]
pub struct Tone {
    phase: f64,
    step: f64,
}

impl Tone {
    /// A tone of so many Hz, kept between 20 Hz and 20 kHz.
    pub fn new(hz: f32) -> Self {
        let hz = if hz.is_finite() {
            hz.clamp(20.0, 20_000.0)
        } else {
            440.0
        };
        Self {
            phase: 0.0,
            step: TAU * f64::from(hz) / f64::from(SAMPLE_RATE),
        }
    }

    /// Makes the next samples.
    pub fn fill(&mut self, out: &mut [f32]) {
        for sample in out {
            *sample = (TONE_AMPLITUDE * self.phase.sin()) as f32;
            self.phase += self.step;
            if self.phase >= TAU {
                self.phase -= TAU;
            }
        }
    }
}

/// Formants of a few open vowels: centre, Hz, and strength.
const VOWELS: [[(f32, f32); 3]; 5] = [
    [(730.0, 1.0), (1090.0, 0.5), (2440.0, 0.12)],
    [(530.0, 1.0), (1840.0, 0.35), (2480.0, 0.16)],
    [(570.0, 1.0), (840.0, 0.6), (2410.0, 0.06)],
    [(440.0, 1.0), (1020.0, 0.4), (2240.0, 0.08)],
    [(390.0, 1.0), (1990.0, 0.3), (2550.0, 0.18)],
];

/// Something like a person speaking gently in another room: vowels in syllables of 160 to 300 ms, a melody
/// that falls along each phrase, pauses between phrases. The order comes from a fixed seed.
#[derive(Debug, Clone)]
pub struct Voice {
    pitch: f64,
    tables: Vec<[f32; TABLE]>,
    phase: f64,
    random: u32,
    continuous: bool,
    syllable: Syllable,
    left_in_phrase: u32,
    /// Falls from 1 to 0 along a phrase.
    melody: f64,
}

#[derive(Debug, Clone)]
struct Syllable {
    from: usize,
    to: usize,
    at: usize,
    len: usize,
    loudness: f32,
    pitch: f64,
}

impl Voice {
    /// A voice of so many Hz, kept between 60 and 400 Hz, with pauses.
    pub fn new(hz: f32) -> Self {
        let hz = if hz.is_finite() { hz.clamp(60.0, 400.0) } else { 160.0 };
        let tables = VOWELS.iter().map(|formants| vowel_table(hz, formants)).collect();
        let first = Syllable {
            from: 0,
            to: 0,
            at: 0,
            len: 1,
            loudness: 0.0,
            pitch: f64::from(hz),
        };
        Self {
            pitch: f64::from(hz),
            tables,
            phase: 0.0,
            random: 0x9E37_79B9 ^ hz.to_bits(),
            continuous: false,
            syllable: first,
            left_in_phrase: 0,
            melody: 1.0,
        }
    }

    /// Without the pauses between phrases: for measurements.
    pub fn continuous(hz: f32) -> Self {
        Self {
            continuous: true,
            ..Self::new(hz)
        }
    }

    /// Makes the next samples.
    pub fn fill(&mut self, out: &mut [f32]) {
        for sample in out {
            if self.syllable.at >= self.syllable.len {
                self.next_syllable();
            }
            *sample = self.next_sample();
        }
    }

    fn next_sample(&mut self) -> f32 {
        let syllable = &mut self.syllable;
        let position = syllable.at as f32 / syllable.len as f32;
        syllable.at += 1;
        if syllable.loudness == 0.0 {
            return 0.0;
        }
        // Rises in a fifth of the syllable and dies away over the rest.
        let envelope = if position < 0.2 {
            0.5 - 0.5 * (std::f32::consts::PI * position / 0.2).cos()
        } else {
            0.5 + 0.5 * (std::f32::consts::PI * (position - 0.2) / 0.8).cos()
        };
        let index = self.phase * TABLE as f64;
        let (low, fraction) = (index as usize % TABLE, index.fract() as f32);
        let high = (low + 1) % TABLE;
        let read = |table: &[f32; TABLE]| table[low] + (table[high] - table[low]) * fraction;
        let (from, to) = (read(&self.tables[syllable.from]), read(&self.tables[syllable.to]));
        self.phase = (self.phase + syllable.pitch / f64::from(SAMPLE_RATE)).fract();
        (from + (to - from) * position) * envelope * syllable.loudness * VOICE_AMPLITUDE
    }

    fn next_syllable(&mut self) {
        if self.left_in_phrase == 0 {
            self.left_in_phrase = 5 + self.dice(6);
            self.melody = 1.0;
            if !self.continuous {
                let len = self.milliseconds(500, 900);
                self.syllable = Syllable {
                    loudness: 0.0,
                    at: 0,
                    len,
                    ..self.syllable.clone()
                };
                return;
            }
        }
        self.left_in_phrase -= 1;
        self.melody *= 0.8;
        let accent = f64::from(self.dice(100)) / 100.0;
        self.syllable = Syllable {
            from: self.syllable.to,
            to: self.dice(VOWELS.len() as u32) as usize,
            at: 0,
            len: self.milliseconds(160, 300),
            loudness: 0.65 + 0.35 * accent as f32,
            pitch: self.pitch * (0.95 + 0.08 * self.melody + 0.04 * accent),
        };
    }

    fn milliseconds(&mut self, from: u32, to: u32) -> usize {
        (from + self.dice(to - from)) as usize * SAMPLE_RATE as usize / 1000
    }

    /// 0 to `sides - 1` (xorshift).
    fn dice(&mut self, sides: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random % sides
    }
}

fn vowel_table(pitch: f32, formants: &[(f32, f32); 3]) -> [f32; TABLE] {
    let mut table = [0.0f32; TABLE];
    let harmonics = (3600.0 / pitch) as usize;
    for harmonic in 1..=harmonics.max(3) {
        let hz = pitch * harmonic as f32;
        let resonance: f32 = formants
            .iter()
            .map(|&(centre, strength)| strength / (1.0 + ((hz - centre) / 110.0).powi(2)))
            .sum();
        // The glottal source falls by about 12 dB an octave, the lips give 6 back.
        let amplitude = (0.12 + resonance) / harmonic as f32;
        let shift = harmonic as f32 * 1.3;
        for (i, sample) in table.iter_mut().enumerate() {
            *sample += amplitude * (std::f32::consts::TAU * harmonic as f32 * i as f32 / TABLE as f32 + shift).sin();
        }
    }
    let peak = table.iter().fold(1e-6f32, |peak, sample| peak.max(sample.abs()));
    table.iter_mut().for_each(|sample| *sample /= peak);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::meter::{dominant_frequency, rms};

    #[test]
    fn the_tone_has_its_frequency() {
        let mut samples = vec![0.0; 48_000];
        Tone::new(523.25).fill(&mut samples);
        assert!((dominant_frequency(&samples, SAMPLE_RATE).unwrap() - 523.25).abs() < 1.5);
    }

    #[test]
    fn the_voice_is_gentle_and_pauses() {
        let mut samples = vec![0.0; 48_000 * 10];
        Voice::new(180.0).fill(&mut samples);
        assert!(samples.iter().all(|sample| sample.abs() <= 0.2));
        let loud = samples.chunks(4800).filter(|chunk| rms(chunk) > 0.005).count();
        let quiet = samples.chunks(4800).filter(|chunk| rms(chunk) < 0.0005).count();
        assert!(loud > 40, "{loud} of 100 tenths sound");
        assert!(quiet > 10, "{quiet} of 100 tenths are pauses");
    }

    #[test]
    fn two_pitches_are_two_voices_and_one_pitch_is_always_the_same() {
        let take = |hz| {
            let mut samples = vec![0.0; 48_000];
            Voice::new(hz).fill(&mut samples);
            samples
        };
        assert_eq!(take(150.0), take(150.0));
        assert_ne!(take(150.0), take(220.0));
    }
}
