//! Looks at received sound for figures: its tone, and when sound begins after silence. Two
//! reports of one machine pair the beginnings up to mouth-to-ear delay. Pure.

use std::collections::VecDeque;
use std::time::Instant;

use confab_media::audio::SAMPLE_RATE;
use confab_media::audio::meter::dominant_frequency;

/// Louder than this is sound, -dBov.
const SOUND: u8 = 40;
/// Sound after this much silence is a beginning, in blocks of 10 ms.
const SILENCE: u32 = 20;
/// Beginnings kept.
const ONSETS: usize = 120;
/// Samples kept for the tone: a tenth of a second. More is more exact and costs more in each report.
const KEPT: usize = SAMPLE_RATE as usize / 10;

/// Finds where sound begins.
#[derive(Debug, Default)]
pub struct Onsets {
    silent: u32,
    at: VecDeque<f64>,
}

impl Onsets {
    /// Takes `blocks` times 10 ms of a loudness (-dBov) that began at `at_ms`, milliseconds since 1970.
    pub fn take(&mut self, dbov: u8, blocks: u32, at_ms: f64) {
        if dbov >= SOUND {
            self.silent = self.silent.saturating_add(blocks);
            return;
        }
        if std::mem::take(&mut self.silent) >= SILENCE {
            if self.at.len() == ONSETS {
                self.at.pop_front();
            }
            self.at.push_back(at_ms);
        }
    }

    /// Milliseconds since 1970, oldest first.
    pub fn all(&self) -> Vec<f64> {
        self.at.iter().copied().collect()
    }
}

/// The newest tenth of a second of a sound, silence left out.
#[derive(Debug, Default, Clone)]
pub struct Newest(VecDeque<f32>);

impl Newest {
    /// Adds samples of a loudness (-dBov).
    pub fn add(&mut self, samples: &[f32], dbov: u8) {
        if dbov >= SOUND {
            return;
        }
        let over = (self.0.len() + samples.len()).saturating_sub(KEPT);
        self.0.drain(..over.min(self.0.len()));
        self.0.extend(samples);
    }

    /// The strongest frequency, Hz; `None` in silence.
    pub fn tone(&self) -> Option<f32> {
        let samples: Vec<f32> = self.0.iter().copied().collect();
        dominant_frequency(&samples, SAMPLE_RATE)
    }
}

/// A moment of the monotonic clock in milliseconds since 1970, to the microsecond.
pub fn unix_ms_of(at: Instant) -> f64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_secs_f64() - at.elapsed().as_secs_f64()) * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beep_each_second_begins_once_a_second() {
        let mut onsets = Onsets::default();
        for block in 0..300 {
            let dbov = if block % 100 < 5 { 10 } else { 127 };
            onsets.take(dbov, 1, f64::from(block) * 10.0);
        }
        assert_eq!(onsets.all(), [1000.0, 2000.0]);
    }

    #[test]
    fn the_tone_is_that_of_the_newest_sound() {
        let mut newest = Newest::default();
        let tone = |hz: f32| -> Vec<f32> {
            (0..48_000)
                .map(|i| 0.5 * (std::f32::consts::TAU * hz * i as f32 / 48_000.0).sin())
                .collect()
        };
        newest.add(&tone(440.0), 9);
        newest.add(&tone(660.0), 9);
        newest.add(&[0.0; 4800], 127);
        assert!((newest.tone().unwrap() - 660.0).abs() < 3.0);
    }
}
