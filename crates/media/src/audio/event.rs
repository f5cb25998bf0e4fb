//! What happened to a sound device while it was in use, in words for a person.

use std::sync::Arc;

use crate::api::{DeviceError, DeviceKind};

/// A change of a device in use. `Display` gives the words for a toast.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// Another device is in use now: the default changed, or the chosen one went or came back.
    Switched {
        /// Microphone or speaker.
        kind: DeviceKind,
        /// Its name for people.
        label: String,
    },
    /// No device is in use; the call goes on and the next one that appears is taken.
    Failed {
        /// Microphone or speaker.
        kind: DeviceKind,
        /// Why.
        error: DeviceError,
    },
}

impl DeviceEvent {
    /// Which kind of device it is about.
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Switched { kind, .. } | Self::Failed { kind, .. } => *kind,
        }
    }
}

impl std::fmt::Display for DeviceEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Switched { label, .. } => write!(f, "Switched to {label}"),
            Self::Failed { error, .. } => {
                let text = error.to_string();
                let mut letters = text.chars();
                let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
                write!(f, "{first}{}", letters.as_str())
            }
        }
    }
}

/// Where device events go; called on the device's supervising thread, must return at once.
pub type DeviceEvents = Arc<dyn Fn(DeviceEvent) + Send + Sync>;

/// Ignores device events.
pub fn no_events() -> DeviceEvents {
    Arc::new(|_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_as_sentences() {
        let switched = DeviceEvent::Switched {
            kind: DeviceKind::Speaker,
            label: "Headphones".into(),
        };
        assert_eq!(switched.to_string(), "Switched to Headphones");
        let failed = DeviceEvent::Failed {
            kind: DeviceKind::Microphone,
            error: DeviceError::Lost(DeviceKind::Microphone),
        };
        assert_eq!(
            failed.to_string(),
            "The microphone was disconnected or stopped answering"
        );
    }
}
