//! Keeps the mix of many voices below full scale without hard clipping.

use super::BLOCK;

/// The mix is kept below this: -1 dBFS.
const CEILING: f32 = 0.89;
/// Samples in a step of the gain: half a millisecond.
const STEP: usize = 24;
/// Steps in a block.
const STEPS: usize = BLOCK / STEP;
/// How much of the way back to full gain each step goes: about 100 ms altogether.
const RELEASE: f32 = 0.01;

/// Turns the gain down half a millisecond before a peak and slowly up again.
#[derive(Debug, Clone)]
pub struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Limiter {
    /// Limits a block in place.
    pub fn process(&mut self, block: &mut [f32; BLOCK]) {
        let mut wanted = [1.0f32; STEPS + 1];
        for (step, samples) in block.chunks_exact(STEP).enumerate() {
            let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            if peak > CEILING {
                wanted[step] = CEILING / peak;
            }
        }
        // What the block's last step has to end on is not known yet: it holds.
        wanted[STEPS] = wanted[STEPS - 1];
        for step in 0..STEPS {
            let start = self.gain.min(wanted[step]);
            let risen = start + (1.0 - start) * RELEASE;
            let end = risen.min(wanted[step]).min(wanted[step + 1]);
            let samples = &mut block[step * STEP..(step + 1) * STEP];
            for (index, sample) in samples.iter_mut().enumerate() {
                let gain = start + (end - start) * index as f32 / STEP as f32;
                *sample = (*sample * gain).clamp(-1.0, 1.0);
            }
            self.gain = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::meter::tone_share;

    fn tone(amplitude: f32, blocks: usize) -> Vec<f32> {
        (0..BLOCK * blocks)
            .map(|i| amplitude * (std::f32::consts::TAU * 500.0 * i as f32 / 48_000.0).sin())
            .collect()
    }

    fn limit(samples: &[f32]) -> Vec<f32> {
        let mut limiter = Limiter::default();
        samples
            .chunks_exact(BLOCK)
            .flat_map(|chunk| {
                let mut block: [f32; BLOCK] = chunk.try_into().unwrap();
                limiter.process(&mut block);
                block
            })
            .collect()
    }

    #[test]
    fn four_loud_voices_stay_below_full_scale_and_clean() {
        let out = limit(&tone(3.0, 50));
        assert!(out.iter().all(|sample| sample.abs() <= 0.9));
        assert!(tone_share(&out[4800..], 48_000, 500.0) > 0.98);
    }

    #[test]
    fn a_quiet_voice_is_left_as_it_is() {
        let quiet = tone(0.5, 20);
        assert_eq!(limit(&quiet), quiet);
    }

    #[test]
    fn the_gain_comes_back() {
        let mut sound = tone(2.0, 5);
        sound.extend(tone(0.5, 60));
        let out = limit(&sound);
        let last = out[out.len() - 480..]
            .iter()
            .fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        assert!(last > 0.49, "{last}");
    }
}
