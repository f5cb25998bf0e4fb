//! New ids from the operating system's randomness: the one place where the server draws them.

use confab_types::{ParticipantSid, TrackSid};

fn random() -> [u8; 12] {
    rand::random()
}

/// A participant's.
pub(crate) fn participant() -> ParticipantSid {
    ParticipantSid::from_random(random())
}

/// A track's.
pub(crate) fn track() -> TrackSid {
    TrackSid::from_random(random())
}
