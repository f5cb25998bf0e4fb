//! The sources that `--camera` and `--microphone` name.

use std::path::PathBuf;

use confab_media::{AudioSourceSpec, VideoSourceSpec};
use confab_types::CameraQuality;
use thiserror::Error;

/// Frequency of a tone whose Hz is not given: A4.
const TONE: f32 = 440.0;
/// Pitch of a voice whose Hz is not given.
const VOICE: f32 = 180.0;

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given} is not a source: {why}")]
pub struct BadSource {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

fn bad(given: &str, why: &'static str) -> BadSource {
    BadSource {
        given: given.to_owned(),
        why,
    }
}

/// Reads `--camera`: `test-pattern[:WxH[@FPS]]`, `FILE.y4m` or `none`. `hue` (degrees) colours the pattern.
pub fn camera(text: &str, hue: u16) -> Result<VideoSourceSpec, BadSource> {
    if text == "none" {
        return Ok(VideoSourceSpec::None);
    }
    if text.ends_with(".y4m") {
        return Ok(VideoSourceSpec::Y4m(PathBuf::from(text)));
    }
    let shape = match text.strip_prefix("test-pattern") {
        Some("") => "640x480@30",
        Some(rest) => rest
            .strip_prefix(':')
            .ok_or_else(|| bad(text, "write test-pattern:WxH@FPS"))?,
        None => return Err(bad(text, "it is test-pattern[:WxH@FPS], FILE.y4m or none")),
    };
    let (size, fps) = shape.split_once('@').unwrap_or((shape, "30"));
    let (width, height) = size.split_once('x').ok_or_else(|| bad(text, "write the size as WxH"))?;
    let number = |n: &str| n.parse::<u32>().map_err(|_| bad(text, "a number cannot be read"));
    let (width, height, fps) = (number(width)? & !1, number(height)? & !1, number(fps)?);
    if !(64..=3840).contains(&width) || !(64..=2160).contains(&height) || !(1..=60).contains(&fps) {
        return Err(bad(text, "sizes go from 64x64 to 3840x2160, rates from 1 to 60"));
    }
    Ok(VideoSourceSpec::TestPattern {
        width,
        height,
        fps,
        hue: hue % 360,
    })
}

/// Reads `--microphone`: `test-tone[:HZ]`, `voice-like[:HZ]`, `FILE.wav`, `silence` or `none`.
pub fn microphone(text: &str) -> Result<AudioSourceSpec, BadSource> {
    let hz = |rest: &str, usual: f32| match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(usual),
        Some(n) => match n.parse::<f32>() {
            Ok(hz) if (50.0..=8000.0).contains(&hz) => Ok(hz),
            _ => Err(bad(text, "frequencies go from 50 to 8000 Hz")),
        },
        None => Err(bad(text, "write the frequency after a colon")),
    };
    match text {
        "none" => Ok(AudioSourceSpec::None),
        "silence" => Ok(AudioSourceSpec::Silence),
        _ if text.ends_with(".wav") => Ok(AudioSourceSpec::Wav(PathBuf::from(text))),
        _ => {
            if let Some(rest) = text.strip_prefix("test-tone") {
                return Ok(AudioSourceSpec::TestTone(hz(rest, TONE)?));
            }
            if let Some(rest) = text.strip_prefix("voice-like") {
                return Ok(AudioSourceSpec::VoiceLike(hz(rest, VOICE)?));
            }
            Err(bad(
                text,
                "it is test-tone[:HZ], voice-like[:HZ], FILE.wav, silence or none",
            ))
        }
    }
}

/// The quality whose size holds a source without enlarging it.
pub fn quality_for(camera: &VideoSourceSpec) -> CameraQuality {
    match camera {
        VideoSourceSpec::TestPattern { height: 0..=240, .. } => CameraQuality::Low,
        VideoSourceSpec::TestPattern { height: 241..=480, .. } => CameraQuality::Medium,
        _ => CameraQuality::High,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_words_name_sources() {
        let pattern = |width, height, fps| VideoSourceSpec::TestPattern {
            width,
            height,
            fps,
            hue: 120,
        };
        assert_eq!(camera("test-pattern", 120), Ok(pattern(640, 480, 30)));
        assert_eq!(camera("test-pattern:1280x720@15", 480), Ok(pattern(1280, 720, 15)));
        assert_eq!(camera("clip.y4m", 0), Ok(VideoSourceSpec::Y4m("clip.y4m".into())));
        assert_eq!(microphone("test-tone:523.25"), Ok(AudioSourceSpec::TestTone(523.25)));
        assert_eq!(microphone("voice-like"), Ok(AudioSourceSpec::VoiceLike(VOICE)));
        assert_eq!(microphone("silence"), Ok(AudioSourceSpec::Silence));
    }

    #[test]
    fn what_is_no_source_is_refused_with_a_reason() {
        for text in ["test-pattern:640", "test-pattern:1x1@30", "test-patternx", "webcam"] {
            assert!(camera(text, 0).is_err(), "{text}");
        }
        for text in ["test-tone:9000000", "test-tone440", "mic"] {
            assert!(microphone(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_small_pattern_is_not_enlarged() {
        assert_eq!(
            quality_for(&camera("test-pattern:320x240@15", 0).unwrap()),
            CameraQuality::Low
        );
        assert_eq!(quality_for(&camera("test-pattern", 0).unwrap()), CameraQuality::Medium);
    }
}
