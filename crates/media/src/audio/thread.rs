//! Names audio threads and raises their priority where the system allows it.

use std::thread::JoinHandle;

use crate::api::{DeviceError, DeviceKind};

/// Starts a thread for real-time sound work.
pub(super) fn spawn_audio<F>(name: &str, kind: DeviceKind, work: F) -> Result<JoinHandle<()>, DeviceError>
where
    F: FnOnce() + Send + 'static,
{
    spawn(name, kind, move || {
        raise_priority();
        work();
    })
}

/// Starts an ordinary thread.
pub(super) fn spawn<F>(name: &str, kind: DeviceKind, work: F) -> Result<JoinHandle<()>, DeviceError>
where
    F: FnOnce() + Send + 'static,
{
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| DeviceError::Other {
            kind,
            reason: error.to_string(),
        })
}

#[cfg(feature = "sound")]
fn raise_priority() {
    // Without the right to it (the usual case for a plain user without rtkit) sound works, only less surely under load.
    if let Err(error) =
        audio_thread_priority::promote_current_thread_to_real_time(super::BLOCK as u32, super::SAMPLE_RATE)
    {
        tracing::debug!(%error, "no real-time priority for an audio thread");
    }
}

#[cfg(not(feature = "sound"))]
fn raise_priority() {}
