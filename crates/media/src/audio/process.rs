//! Echo cancelling, noise suppression and gain for a microphone, on `sonora` (WebRTC's audio processing).

use sonora::config::{AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, MaxProcessingRate};
use sonora::config::{NoiseSuppression, NoiseSuppressionLevel, Pipeline};
use sonora::{AudioProcessing, Config, StreamConfig};

use super::{BLOCK, SAMPLE_RATE};

/// What is done to a microphone's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessingConfig {
    /// Takes what the speaker played out of the microphone's sound.
    pub echo: bool,
    /// Lowers steady noise.
    pub noise: bool,
    /// Brings speech to an even loudness.
    pub gain: bool,
}

impl Default for ProcessingConfig {
    fn default() -> Self {
        Self {
            echo: true,
            noise: true,
            gain: true,
        }
    }
}

/// Processes 10 ms blocks. What the speaker plays goes into [`Self::played`] as it is played.
pub struct Processor {
    inner: AudioProcessing,
    scratch: [f32; BLOCK],
}

impl Processor {
    /// Sets the processing up (about 1 MB).
    pub fn new(config: ProcessingConfig) -> Self {
        let stream = StreamConfig::new(SAMPLE_RATE, 1);
        let processing = Config {
            pipeline: Pipeline {
                maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
                ..Pipeline::default()
            },
            high_pass_filter: Some(HighPassFilter::default()),
            echo_canceller: config.echo.then(EchoCanceller::default),
            noise_suppression: config.noise.then(|| NoiseSuppression {
                level: NoiseSuppressionLevel::High,
                ..NoiseSuppression::default()
            }),
            gain_controller2: config.gain.then(|| GainController2 {
                adaptive_digital: Some(AdaptiveDigital::default()),
                ..GainController2::default()
            }),
            ..Config::default()
        };
        let inner = AudioProcessing::builder()
            .config(processing)
            .capture_config(stream)
            .render_config(stream)
            .build();
        Self {
            inner,
            scratch: [0.0; BLOCK],
        }
    }

    /// Takes note of 10 ms that the speaker plays: the far-end reference.
    pub fn played(&mut self, block: &[f32; BLOCK]) {
        // Fails only on a wrong block size, which the types exclude.
        let _ = self.inner.process_render_f32(&[block], &mut [&mut self.scratch]);
    }

    /// Says how long the way from [`Self::played`] through the air into [`Self::capture`] is, about. The canceller
    /// finds the exact delay itself.
    pub fn set_delay_hint(&mut self, milliseconds: u32) {
        // Out of range is clamped inside.
        let _ = self.inner.set_stream_delay_ms(milliseconds.min(500) as i32);
    }

    /// Processes 10 ms of the microphone in place.
    pub fn capture(&mut self, block: &mut [f32; BLOCK]) {
        if self
            .inner
            .process_capture_f32(&[block.as_slice()], &mut [&mut self.scratch])
            .is_ok()
        {
            block.copy_from_slice(&self.scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::generate::Voice;
    use crate::audio::meter::energy;

    /// A small room: the direct sound after 60 ms and a tail of reflections.
    fn room(far: &[f32]) -> Vec<f32> {
        const DELAY: usize = 2880;
        let taps: Vec<(usize, f32)> = (0..40)
            .map(|i| {
                (
                    DELAY + i * 97 + (i * i) % 53,
                    0.5 * 0.88f32.powi(i as i32) * if i % 3 == 1 { -1.0 } else { 1.0 },
                )
            })
            .collect();
        (0..far.len())
            .map(|n| {
                taps.iter()
                    .filter(|(delay, _)| n >= *delay)
                    .map(|(delay, gain)| far[n - delay] * gain)
                    .sum()
            })
            .collect()
    }

    fn speech(seconds: usize, pitch: f32) -> Vec<f32> {
        let mut samples = vec![0.0; SAMPLE_RATE as usize * seconds];
        Voice::continuous(pitch).fill(&mut samples);
        samples
    }

    fn run(config: ProcessingConfig, far: &[f32], microphone: &[f32]) -> Vec<f32> {
        let mut processor = Processor::new(config);
        let mut out = Vec::new();
        for (far, near) in far.chunks_exact(BLOCK).zip(microphone.chunks_exact(BLOCK)) {
            processor.played(far.try_into().unwrap());
            let mut block: [f32; BLOCK] = near.try_into().unwrap();
            processor.set_delay_hint(60);
            processor.capture(&mut block);
            out.extend_from_slice(&block);
        }
        out
    }

    fn db(a: f64, b: f64) -> f64 {
        10.0 * (a.max(1e-12) / b.max(1e-12)).log10()
    }

    #[test]
    fn the_echo_of_a_room_is_30_db_down_after_two_seconds() {
        let far = speech(6, 130.0);
        let echo = room(&far);
        let config = ProcessingConfig {
            echo: true,
            noise: false,
            gain: false,
        };
        let out = run(config, &far, &echo);
        let from = 2 * SAMPLE_RATE as usize;
        let down = db(energy(&echo[from..]), energy(&out[from..]));
        println!("echo {down:.1} dB down");
        assert!(down >= 30.0, "only {down:.1} dB down");
    }

    #[test]
    fn the_near_voice_comes_through_while_the_far_one_is_quiet() {
        let far = speech(3, 130.0);
        let echo = room(&far);
        let near = speech(3, 210.0);
        // The far side talks for three seconds, then the near one does.
        let far: Vec<f32> = far.into_iter().chain(vec![0.0; near.len()]).collect();
        let microphone: Vec<f32> = echo.into_iter().chain(near.iter().copied()).collect();
        let config = ProcessingConfig {
            echo: true,
            noise: false,
            gain: false,
        };
        let out = run(config, &far, &microphone);
        let from = near.len() + SAMPLE_RATE as usize;
        let lost = db(energy(&microphone[from..]), energy(&out[from..]));
        println!("near voice changed by {:.1} dB", -lost);
        assert!(lost.abs() < 3.0, "the near voice changed by {lost:.1} dB");
    }
}
