//! Sample-rate conversion at the edges, by `rubato`'s sinc interpolation.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction};

use super::{BLOCK, SAMPLE_RATE};

/// Taps of the interpolation filter. More is cleaner and costs CPU and delay (half of it in samples).
const SINC_LEN: usize = 64;

/// The most a clock may differ and still be followed: 1 %. Real sound cards stay under 0.05 %.
const MAX_DRIFT: f64 = 1.01;

/// Converts a device's rate to blocks of 480 samples at 48 kHz, and follows the device's clock.
#[cfg_attr(not(feature = "sound"), allow(dead_code))]
pub(super) struct ToBlocks {
    inner: Async<f32>,
}

#[cfg_attr(not(feature = "sound"), allow(dead_code))]
impl ToBlocks {
    pub(super) fn new(rate: u32) -> Option<Self> {
        let ratio = f64::from(SAMPLE_RATE) / f64::from(rate.max(1));
        Async::new_sinc(ratio, MAX_DRIFT, &parameters(), BLOCK, 1, FixedAsync::Output)
            .ok()
            .map(|inner| Self { inner })
    }

    /// Samples at the device's rate that the next block takes.
    pub(super) fn needed(&self) -> usize {
        self.inner.input_frames_next()
    }

    /// The most that [`Self::needed`] ever gives.
    pub(super) fn most_needed(&self) -> usize {
        self.inner.input_frames_max()
    }

    /// Makes a block from [`Self::needed`] samples. False: they were too few.
    pub(super) fn process(&mut self, input: &[f32], out: &mut [f32; BLOCK]) -> bool {
        let Ok(input) = SequentialSlice::new(input, 1, input.len()) else {
            return false;
        };
        let Ok(mut output) = SequentialSlice::new_mut(out.as_mut_slice(), 1, BLOCK) else {
            return false;
        };
        self.inner.process_into_buffer(&input, &mut output, None).is_ok()
    }

    /// Makes more (above 1) or less (below 1) output of the same input.
    pub(super) fn steer(&mut self, relative: f64) {
        let relative = relative.clamp(1.0 / MAX_DRIFT, MAX_DRIFT);
        if let Some(adjustable) = self.inner.as_adjustable() {
            // In range by the clamp above.
            let _ = adjustable.set_resample_ratio_relative(relative, true);
        }
    }
}

/// Converts blocks of 480 samples at 48 kHz to a device's rate.
#[cfg_attr(not(feature = "sound"), allow(dead_code))]
pub(super) struct FromBlocks {
    inner: Option<Async<f32>>,
    out: Vec<f32>,
}

#[cfg_attr(not(feature = "sound"), allow(dead_code))]
impl FromBlocks {
    pub(super) fn new(rate: u32) -> Self {
        let ratio = f64::from(rate.max(1)) / f64::from(SAMPLE_RATE);
        let inner = (rate != SAMPLE_RATE)
            .then(|| Async::new_sinc(ratio, MAX_DRIFT, &parameters(), BLOCK, 1, FixedAsync::Input).ok())
            .flatten();
        let most = inner.as_ref().map_or(BLOCK, Resampler::output_frames_max);
        Self {
            inner,
            out: vec![0.0; most],
        }
    }

    /// The block at the device's rate.
    pub(super) fn process<'a>(&'a mut self, block: &'a [f32; BLOCK]) -> &'a [f32] {
        let Some(inner) = &mut self.inner else { return block };
        let most = self.out.len();
        let Ok(input) = SequentialSlice::new(block.as_slice(), 1, BLOCK) else {
            return &[];
        };
        let Ok(mut output) = SequentialSlice::new_mut(self.out.as_mut_slice(), 1, most) else {
            return &[];
        };
        match inner.process_into_buffer(&input, &mut output, None) {
            Ok((_, made)) => &self.out[..made],
            Err(_) => &[],
        }
    }
}

/// Converts a whole recording to 48 kHz; `None` where the rate makes no sense.
pub(super) fn whole(samples: Vec<f32>, rate: u32) -> Option<Vec<f32>> {
    if rate == SAMPLE_RATE || samples.is_empty() {
        return Some(samples);
    }
    if !(1_000..=768_000).contains(&rate) {
        return None;
    }
    let ratio = f64::from(SAMPLE_RATE) / f64::from(rate);
    let mut resampler = Async::<f32>::new_sinc(ratio, 1.0, &parameters(), 1024, 1, FixedAsync::Input).ok()?;
    let input = SequentialSlice::new(&samples, 1, samples.len()).ok()?;
    let mut out = vec![0.0; resampler.process_all_needed_output_len(samples.len())];
    let len = out.len();
    let mut output = SequentialSlice::new_mut(&mut out, 1, len).ok()?;
    let (_, made) = resampler
        .process_all_into_buffer(&input, &mut output, samples.len(), None)
        .ok()?;
    out.truncate(made);
    Some(out)
}

fn parameters() -> SincInterpolationParameters {
    SincInterpolationParameters::new(SINC_LEN, WindowFunction::BlackmanHarris2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::meter::{dominant_frequency, tone_share};

    fn tone(hz: f32, rate: u32, len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| 0.4 * (std::f32::consts::TAU * hz * i as f32 / rate as f32).sin())
            .collect()
    }

    #[test]
    fn a_recording_keeps_its_pitch_and_length() {
        let out = whole(tone(700.0, 44_100, 44_100), 44_100).unwrap();
        assert!((out.len() as i64 - 48_000).abs() < 100, "{}", out.len());
        assert!((dominant_frequency(&out, SAMPLE_RATE).unwrap() - 700.0).abs() < 2.0);
        assert!(whole(vec![0.0; 10], 3).is_none());
    }

    #[test]
    fn blocks_survive_the_way_to_a_device_and_back() {
        let input = tone(700.0, SAMPLE_RATE, 48_000);
        let (mut to_device, mut from_device) = (FromBlocks::new(44_100), ToBlocks::new(44_100).unwrap());
        let (mut at_device, mut back) = (Vec::new(), Vec::new());
        for block in input.chunks_exact(BLOCK) {
            at_device.extend_from_slice(to_device.process(block.try_into().unwrap()));
            while at_device.len() >= from_device.needed() {
                let taken: Vec<f32> = at_device.drain(..from_device.needed()).collect();
                let mut out = [0.0; BLOCK];
                assert!(from_device.process(&taken, &mut out));
                back.extend_from_slice(&out);
            }
        }
        assert!(back.len() > 46_000, "{}", back.len());
        assert!(tone_share(&back[4800..43_200], SAMPLE_RATE, 700.0) > 0.98);
    }

    #[test]
    fn steering_changes_how_much_is_needed() {
        let mut blocks = ToBlocks::new(48_000).unwrap();
        let mut taken = 0;
        blocks.steer(1.005);
        for _ in 0..1000 {
            let needed = blocks.needed();
            assert!(needed <= blocks.most_needed());
            taken += needed;
            let mut out = [0.0; BLOCK];
            assert!(blocks.process(&vec![0.0; needed], &mut out));
        }
        let expected = 480_000.0 / 1.005;
        assert!((taken as f64 - expected).abs() < 300.0, "{taken} for {expected}");
    }
}
