//! The command line of the app. For testers: every choice of the joining form can
//! be made here, so that a packaged build joins a call without clicks.

use std::path::{Path, PathBuf};

use clap::Parser;
use confab_media::{AudioSourceSpec, VideoSourceSpec};

/// Video calls with rooms, roles and hosting built in.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "confab", version, about)]
pub struct Args {
    /// The call server, e.g. https://calls.example.org or http://127.0.0.1:7880.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The user name to sign in with. The password is asked for, or read from CONFAB_PASSWORD.
    #[arg(long)]
    pub user: Option<String>,
    /// The room to join.
    #[arg(long)]
    pub room: Option<String>,
    /// The name that others see.
    #[arg(long)]
    pub nickname: Option<String>,
    /// The camera: a device id, test-pattern[:WxH@FPS], FILE.y4m, or none.
    #[arg(long)]
    pub camera: Option<String>,
    /// The microphone: a device id, test-tone[:HZ], voice-like[:HZ], FILE.wav, silence, or none.
    #[arg(long)]
    pub microphone: Option<String>,
    /// Join at once, when server, user and room are known and CONFAB_PASSWORD holds the password.
    #[arg(long)]
    pub join: bool,
    /// Try a call: host a throw-away server here and meet a companion in room TUTORIAL.
    #[arg(long = "try")]
    pub try_a_call: bool,
    /// Where settings and sign-ins are kept. Another folder is another, independent window.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write the call's figures to this file every second (for testers).
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// A confab:// link handed over by the system.
    #[arg(hide = true)]
    pub link: Option<String>,
}

/// The sources that `--camera` and `--microphone` can name beside devices.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is not a source: {1}")]
pub struct BadSource(String, &'static str);

/// Reads `--camera`. `hue` colours the test pattern.
pub fn camera(text: &str, hue: u16) -> Result<VideoSourceSpec, BadSource> {
    let bad = |why| BadSource(text.to_owned(), why);
    if text == "none" {
        return Ok(VideoSourceSpec::None);
    }
    if text.ends_with(".y4m") {
        return Ok(VideoSourceSpec::Y4m(Path::new(text).to_owned()));
    }
    let Some(rest) = text.strip_prefix("test-pattern") else {
        return Ok(VideoSourceSpec::Camera((text != "default").then(|| text.to_owned())));
    };
    let (mut width, mut height, mut fps) = (1280, 720, 30);
    if let Some(shape) = rest.strip_prefix(':') {
        let (size, rate) = shape.split_once('@').unwrap_or((shape, "30"));
        let (w, h) = size.split_once('x').ok_or_else(|| bad("write the size as WxH"))?;
        width = w.parse().map_err(|_| bad("the width is not a number"))?;
        height = h.parse().map_err(|_| bad("the height is not a number"))?;
        fps = rate.parse().map_err(|_| bad("the frame rate is not a number"))?;
    } else if !rest.is_empty() {
        return Err(bad("write test-pattern:WxH@FPS"));
    }
    if !(16..=3840).contains(&width) || !(16..=2160).contains(&height) || !(1..=60).contains(&fps) {
        return Err(bad("sizes go from 16x16 to 3840x2160, rates from 1 to 60"));
    }
    Ok(VideoSourceSpec::TestPattern {
        width: width & !1,
        height: height & !1,
        fps,
        hue,
    })
}

/// Reads `--microphone`.
pub fn microphone(text: &str) -> Result<AudioSourceSpec, BadSource> {
    let hz = |rest: &str, default: f32| -> Result<f32, BadSource> {
        let Some(number) = rest.strip_prefix(':') else {
            return Ok(default);
        };
        number
            .parse()
            .ok()
            .filter(|hz| (20.0..=20_000.0).contains(hz))
            .ok_or_else(|| BadSource(text.to_owned(), "a pitch goes from 20 to 20000 Hz"))
    };
    Ok(match text {
        "none" => AudioSourceSpec::None,
        "silence" => AudioSourceSpec::Silence,
        "default" => AudioSourceSpec::Microphone(None),
        _ if text.ends_with(".wav") => AudioSourceSpec::Wav(Path::new(text).to_owned()),
        _ if text.starts_with("test-tone") => AudioSourceSpec::TestTone(hz(&text["test-tone".len()..], 440.0)?),
        _ if text.starts_with("voice-like") => AudioSourceSpec::VoiceLike(hz(&text["voice-like".len()..], 140.0)?),
        _ => AudioSourceSpec::Microphone(Some(text.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_pattern_can_be_given_with_size_and_rate() {
        let spec = camera("test-pattern:640x480@25", 10).unwrap();
        assert_eq!(
            spec,
            VideoSourceSpec::TestPattern {
                width: 640,
                height: 480,
                fps: 25,
                hue: 10
            }
        );
        assert!(camera("test-pattern:640", 0).is_err());
        assert!(camera("test-pattern:9x9@0", 0).is_err());
    }

    #[test]
    fn a_microphone_is_a_device_unless_it_names_a_source() {
        assert_eq!(microphone("test-tone:880").unwrap(), AudioSourceSpec::TestTone(880.0));
        assert_eq!(
            microphone("usb-mic").unwrap(),
            AudioSourceSpec::Microphone(Some("usb-mic".into()))
        );
        assert!(microphone("test-tone:1").is_err());
    }
}
