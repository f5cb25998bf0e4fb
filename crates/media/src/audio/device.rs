//! Lists microphones and speakers, and chooses among them.
//!
//! On Linux a PulseAudio server (PipeWire has one too) is preferred and ALSA the fallback. The server is found through
//! `XDG_RUNTIME_DIR`; a `PULSE_RUNTIME_PATH` in the environment would lead elsewhere, so programs start without it.

use crate::api::{DeviceInfo, DeviceKind};

/// Microphones, the default first.
pub fn microphones() -> Vec<DeviceInfo> {
    list(DeviceKind::Microphone)
}

/// Speakers, the default first.
pub fn speakers() -> Vec<DeviceInfo> {
    list(DeviceKind::Speaker)
}

#[cfg(not(feature = "sound"))]
fn list(_: DeviceKind) -> Vec<DeviceInfo> {
    Vec::new()
}

#[cfg(feature = "sound")]
fn list(kind: DeviceKind) -> Vec<DeviceInfo> {
    host::Devices::default().list(kind)
}

#[cfg(feature = "sound")]
pub(super) mod host;
#[cfg(feature = "sound")]
pub(super) mod supervise;
