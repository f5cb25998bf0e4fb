//! Wav files as a source of sound.

use std::path::Path;

use hound::{SampleFormat, WavReader};

use super::resample;
use crate::api::DeviceError;

/// The longest file taken, in seconds of 48 kHz mono: it is held in memory (190 kB a second).
const MAX_SECONDS: u64 = 600;

/// Reads a wav file as 48 kHz mono. Integer and float samples, any rate and number of channels.
pub fn read(path: &Path) -> Result<Vec<f32>, DeviceError> {
    let refuse = |reason: String| DeviceError::File {
        path: path.display().to_string(),
        reason,
    };
    let mut reader = WavReader::open(path).map_err(|error| refuse(explain(&error)))?;
    let spec = reader.spec();
    if spec.channels == 0 || spec.sample_rate == 0 {
        return Err(refuse("this wav file names no channels or no sample rate".into()));
    }
    if u64::from(reader.duration()) > MAX_SECONDS * u64::from(spec.sample_rate) {
        return Err(refuse(format!(
            "longer than {} minutes; use a shorter file",
            MAX_SECONDS / 60
        )));
    }
    let interleaved: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            let scale = 1.0 / (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            reader
                .samples::<i32>()
                .map(|sample| sample.map(|value| value as f32 * scale))
                .collect()
        }
    };
    let interleaved = interleaved.map_err(|error| refuse(explain(&error)))?;
    let channels = usize::from(spec.channels);
    let mono: Vec<f32> = interleaved
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() / channels as f32)
        .map(|sample| {
            if sample.is_finite() {
                sample.clamp(-1.0, 1.0)
            } else {
                0.0
            }
        })
        .collect();
    if mono.is_empty() {
        return Err(refuse("there is no sound in this file".into()));
    }
    resample::whole(mono, spec.sample_rate)
        .ok_or_else(|| refuse(format!("a sample rate of {} Hz cannot be used", spec.sample_rate)))
}

fn explain(error: &hound::Error) -> String {
    match error {
        hound::Error::IoError(error) if error.kind() == std::io::ErrorKind::NotFound => "no such file".into(),
        hound::Error::IoError(error) => error.to_string(),
        _ => "not a wav file this app can read".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::SAMPLE_RATE;
    use crate::audio::meter::dominant_frequency;

    #[test]
    fn a_stereo_cd_file_becomes_48_khz_mono() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tone.wav");
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for i in 0..44_100 {
            let sample = (10_000.0 * (std::f32::consts::TAU * 600.0 * i as f32 / 44_100.0).sin()) as i16;
            writer.write_sample(sample).unwrap();
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let samples = read(&path).unwrap();
        assert!((samples.len() as i64 - 48_000).abs() < 100);
        assert!((dominant_frequency(&samples, SAMPLE_RATE).unwrap() - 600.0).abs() < 2.0);
    }

    #[test]
    fn what_is_not_sound_is_refused_in_plain_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.wav");
        std::fs::write(&path, "this is not sound").unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert!(refused.contains("not a wav file"), "{refused}");
        let missing = read(&folder.path().join("missing.wav")).unwrap_err().to_string();
        assert!(missing.ends_with("no such file"), "{missing}");
    }
}
