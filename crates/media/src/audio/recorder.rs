//! Writes sound to a wav file from a thread of its own: who records never waits for a disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hound::{SampleFormat, WavSpec, WavWriter};
use rtrb::{Consumer, Producer, RingBuffer};

use super::SAMPLE_RATE;
use super::thread::spawn;
use crate::api::{DeviceError, DeviceKind};

/// Samples between the recorded thread and the writing one: two seconds, for a slow disk.
const RING: usize = 2 * SAMPLE_RATE as usize;
/// How often the writer looks.
const EVERY: Duration = Duration::from_millis(50);

/// A recording in progress: 48 kHz mono, 16 bit. Finished when dropped.
pub struct Recorder {
    ring: Producer<f32>,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Creates the file; an older one is replaced.
    pub fn create(path: &Path) -> Result<Self, DeviceError> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let file = WavWriter::create(path, spec).map_err(|error| DeviceError::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let (ring, samples) = RingBuffer::new(RING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let shown = path.display().to_string();
        let writer = spawn("confab-record", DeviceKind::Speaker, move || {
            if let Err(error) = write(file, samples, &stopped) {
                tracing::warn!(path = shown, %error, "recording ended early");
            }
        })?;
        Ok(Self {
            ring,
            stop,
            writer: Some(writer),
        })
    }

    /// Adds samples; what a stuck disk leaves no room for is lost.
    pub fn write(&mut self, samples: &[f32]) {
        let _ = self.ring.push_partial_slice(samples);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            // It ends within a write; a panic in it has been logged by the runtime.
            let _ = writer.join();
        }
    }
}

fn write<W: std::io::Write + std::io::Seek>(
    mut file: WavWriter<W>,
    mut samples: Consumer<f32>,
    stop: &AtomicBool,
) -> Result<(), hound::Error> {
    let mut since_flush = 0;
    loop {
        // Read before draining, so that what came before the end is written.
        let last = stop.load(Ordering::Acquire);
        while let Ok(sample) = samples.pop() {
            file.write_sample((sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16)?;
            since_flush += 1;
        }
        if last {
            return file.finalize();
        }
        if since_flush >= SAMPLE_RATE {
            // The header tells the length: a killed recording stays readable.
            file.flush()?;
            since_flush = 0;
        }
        std::thread::park_timeout(EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("voice.wav");
        let mut recorder = Recorder::create(&path).unwrap();
        for _ in 0..30 {
            recorder.write(&[0.5; 480]);
        }
        drop(recorder);
        let samples = crate::audio::wav::read(&path).unwrap();
        assert_eq!(samples.len(), 30 * 480);
        assert!(samples.iter().all(|sample| (sample - 0.5).abs() < 0.001));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(Recorder::create(Path::new("/nowhere/at/all.wav")).is_err());
    }
}
