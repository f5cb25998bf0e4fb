//! What happened in a room, decided and numbered by the room alone, for whoever
//! observes: logs, tests, later webhooks and the audit.

use confab_types::{ParticipantSid, RoomName, RoomSid, TrackKind, TrackSid, TrackSource};
use time::OffsetDateTime;

/// Why something ended, in Vonage's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftReason {
    /// The participant left.
    ClientDisconnected,
    /// Someone else made it leave.
    ForceDisconnected,
    /// The network or the server went.
    NetworkDisconnected,
    /// A stream alone was taken away by someone else.
    ForceUnpublished,
}

impl LeftReason {
    /// As written in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientDisconnected => "clientDisconnected",
            Self::ForceDisconnected => "forceDisconnected",
            Self::NetworkDisconnected => "networkDisconnected",
            Self::ForceUnpublished => "forceUnpublished",
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// The room's run.
    pub room: RoomSid,
    /// Its name.
    pub name: RoomName,
    /// Counts up from 1 in each run of a room.
    pub sequence: u64,
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fact {
    /// Someone came.
    Joined {
        /// Who, this time.
        participant: ParticipantSid,
        /// Stable identity.
        identity: String,
    },
    /// Someone went.
    Left {
        /// Who.
        participant: ParticipantSid,
        /// Why.
        reason: LeftReason,
    },
    /// A track arrives.
    TrackPublished {
        /// Whose.
        participant: ParticipantSid,
        /// Which.
        track: TrackSid,
        /// Sound or picture.
        kind: TrackKind,
        /// From where.
        source: TrackSource,
    },
    /// It ended.
    TrackUnpublished {
        /// Whose.
        participant: ParticipantSid,
        /// Which.
        track: TrackSid,
        /// Why.
        reason: LeftReason,
    },
    /// The room and all its tokens are over.
    RoomEnded,
}
