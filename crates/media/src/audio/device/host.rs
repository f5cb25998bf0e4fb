//! The system's sound devices, through `cpal`.

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{BufferSize, ErrorKind, SampleFormat, StreamConfig};

use crate::api::{DeviceError, DeviceInfo, DeviceKind};
use crate::audio::SAMPLE_RATE;

/// What callbacks are asked to take or give at once: 10 ms. The default would be up to two seconds.
const PERIOD_MS: u32 = 10;

/// A connection to the system's sound.
#[derive(Default)]
pub(in crate::audio) struct Devices {
    host: Option<cpal::Host>,
    /// A sound server was there: ALSA would only reach it by a detour, and fail when it restarts.
    had_server: bool,
}

/// A device to open.
pub(in crate::audio) struct Chosen {
    pub(in crate::audio) device: cpal::Device,
    pub(in crate::audio) info: DeviceInfo,
}

impl Devices {
    /// All devices of a kind, the default first.
    pub(super) fn list(&mut self, kind: DeviceKind) -> Vec<DeviceInfo> {
        let default = self.default_device(kind).and_then(|device| device_id(&device));
        let mut all: Vec<DeviceInfo> = self
            .devices(kind)
            .iter()
            .filter_map(|device| describe(device, kind, default.as_deref()))
            .collect();
        all.sort_by(|a, b| b.default.cmp(&a.default).then_with(|| a.label.cmp(&b.label)));
        all
    }

    /// The wanted device, or the system's where none is wanted or the wanted one is away.
    pub(in crate::audio) fn choose(&mut self, kind: DeviceKind, wanted: Option<&str>) -> Result<Chosen, DeviceError> {
        let named = wanted.and_then(|wanted| {
            self.devices(kind)
                .into_iter()
                .find(|device| device_id(device).is_some_and(|id| names(&id, wanted)))
        });
        let default = self.default_device(kind);
        let default_id = default.as_ref().and_then(device_id);
        let Some(device) = named.or(default) else {
            if !self.had_server {
                // A sound server may have come up since.
                self.host = None;
            }
            return Err(DeviceError::NotFound(kind));
        };
        let info = describe(&device, kind, default_id.as_deref()).ok_or(DeviceError::NotFound(kind))?;
        Ok(Chosen { device, info })
    }

    fn default_device(&mut self, kind: DeviceKind) -> Option<cpal::Device> {
        for _ in 0..2 {
            let host = self.host()?;
            let found = match kind {
                DeviceKind::Speaker => host.default_output_device(),
                _ => host.default_input_device(),
            };
            match found {
                Some(device) => return usable(&device, kind).then_some(device),
                // A server that restarted answers no more; one that merely has no such device does.
                None if host.devices().is_ok() => return None,
                None => self.host = None,
            }
        }
        None
    }

    fn devices(&mut self, kind: DeviceKind) -> Vec<cpal::Device> {
        let Some(host) = self.host() else { return Vec::new() };
        let Ok(all) = host.devices() else {
            self.host = None;
            return Vec::new();
        };
        all.filter(|device| usable(device, kind))
            .filter(|device| match kind {
                DeviceKind::Speaker => device.supports_output(),
                _ => device.supports_input(),
            })
            .collect()
    }

    fn host(&mut self) -> Option<&cpal::Host> {
        if self.host.is_none() {
            self.host = self.connect();
        }
        self.host.as_ref()
    }

    #[cfg(target_os = "linux")]
    fn connect(&mut self) -> Option<cpal::Host> {
        match cpal::host_from_id(cpal::HostId::PulseAudio) {
            Ok(host) => {
                self.had_server = true;
                Some(host)
            }
            Err(error) if self.had_server => {
                tracing::debug!(%error, "the sound server does not answer");
                None
            }
            Err(_) if has_sound_card() => cpal::host_from_id(cpal::HostId::Alsa).ok(),
            Err(_) => None,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn connect(&mut self) -> Option<cpal::Host> {
        self.had_server = true;
        Some(cpal::default_host())
    }
}

/// Without a card ALSA finds nothing, and says so at length on the standard error output each time.
#[cfg(target_os = "linux")]
fn has_sound_card() -> bool {
    std::fs::read_dir("/dev/snd").is_ok_and(|nodes| {
        nodes
            .flatten()
            .any(|node| node.file_name().to_string_lossy().starts_with("pcm"))
    })
}

/// Ids are `host:name`; a person may leave out the host.
fn names(id: &str, wanted: &str) -> bool {
    id == wanted || id.split_once(':').is_some_and(|(_, name)| name == wanted)
}

fn device_id(device: &cpal::Device) -> Option<String> {
    device.id().ok().map(|id| id.to_string())
}

fn describe(device: &cpal::Device, kind: DeviceKind, default: Option<&str>) -> Option<DeviceInfo> {
    let id = device_id(device)?;
    let label = device
        .description()
        .map_or_else(|_| id.clone(), |description| description.name().to_owned());
    Some(DeviceInfo {
        default: default == Some(id.as_str()),
        id,
        label,
        kind,
    })
}

/// Leaves out what is no microphone or speaker for a person: monitors of speakers (the own sound would come back),
/// the sink that a sound server invents when there is none, and ALSA's many names for the same card.
fn usable(device: &cpal::Device, kind: DeviceKind) -> bool {
    let Some(id) = device_id(device) else { return false };
    let (host, name) = id.split_once(':').unwrap_or(("", &id));
    match host {
        "pulseaudio" => match kind {
            DeviceKind::Speaker => name != "auto_null",
            _ => !name.ends_with(".monitor"),
        },
        "alsa" => name == "default" || name.starts_with("plughw:") || name.starts_with("sysdefault:"),
        _ => true,
    }
}

/// How to open a device, best first.
pub(in crate::audio) fn configurations(
    device: &cpal::Device,
    kind: DeviceKind,
) -> Result<Vec<(StreamConfig, SampleFormat)>, DeviceError> {
    let id = device_id(device).unwrap_or_default();
    if id.starts_with("pulseaudio:") {
        // The server converts whatever the hardware has.
        let channels = if kind == DeviceKind::Speaker { 2 } else { 1 };
        return Ok([PERIOD_MS, 2 * PERIOD_MS]
            .map(|period| (fixed(channels, SAMPLE_RATE, period), SampleFormat::F32))
            .to_vec());
    }
    let explain = |error| explain(kind, &error);
    let (default, ranges) = match kind {
        DeviceKind::Speaker => (
            device.default_output_config().map_err(explain)?,
            device.supported_output_configs().map_err(explain)?.collect::<Vec<_>>(),
        ),
        _ => (
            device.default_input_config().map_err(explain)?,
            device.supported_input_configs().map_err(explain)?.collect::<Vec<_>>(),
        ),
    };
    let ours = ranges.iter().any(|range| {
        range.channels() == default.channels()
            && range.sample_format() == default.sample_format()
            && (range.min_sample_rate()..=range.max_sample_rate()).contains(&SAMPLE_RATE)
    });
    let rate = if ours { SAMPLE_RATE } else { default.sample_rate() };
    let mut all: Vec<(StreamConfig, SampleFormat)> = [1, 2, 4]
        .map(|periods| {
            (
                fixed(default.channels(), rate, periods * PERIOD_MS),
                default.sample_format(),
            )
        })
        .to_vec();
    if !cfg!(target_os = "linux") {
        // There the default is short, and some drivers take no other.
        let config = StreamConfig {
            channels: default.channels(),
            sample_rate: rate,
            buffer_size: BufferSize::Default,
        };
        all.push((config, default.sample_format()));
    }
    Ok(all)
}

fn fixed(channels: u16, sample_rate: u32, period_ms: u32) -> StreamConfig {
    StreamConfig {
        channels,
        sample_rate,
        buffer_size: BufferSize::Fixed(sample_rate * period_ms / 1000),
    }
}

/// Says a driver's error in terms of what a person can do.
pub(in crate::audio) fn explain(kind: DeviceKind, error: &cpal::Error) -> DeviceError {
    match error.kind() {
        ErrorKind::DeviceBusy => DeviceError::Busy(kind),
        ErrorKind::PermissionDenied => DeviceError::Denied(kind),
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => DeviceError::NotFound(kind),
        ErrorKind::StreamInvalidated | ErrorKind::DeviceChanged => DeviceError::Lost(kind),
        _ => DeviceError::Other {
            kind,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_be_named_without_its_host() {
        assert!(names("pulseaudio:mic", "mic"));
        assert!(names("pulseaudio:mic", "pulseaudio:mic"));
        assert!(names("alsa:plughw:CARD=0", "plughw:CARD=0"));
        assert!(!names("pulseaudio:mic2", "mic"));
    }

    #[test]
    fn driver_errors_become_next_steps() {
        let denied = explain(DeviceKind::Microphone, &cpal::Error::new(ErrorKind::PermissionDenied));
        assert_eq!(denied, DeviceError::Denied(DeviceKind::Microphone));
        let other = explain(
            DeviceKind::Speaker,
            &cpal::Error::with_message(ErrorKind::BackendError, "boom"),
        );
        assert!(other.to_string().contains("boom"));
    }
}
