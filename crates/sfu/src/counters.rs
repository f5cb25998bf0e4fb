//! A room's counters, for tests, metrics and the live page.

use confab_types::{ParticipantSid, TrackSid};

/// Counters of one room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomCounters {
    /// By track.
    pub tracks: Vec<TrackCounters>,
    /// Packets of participants that matched no announced and permitted track, and data that the grants forbid.
    pub refused_packets: u64,
}

/// Counters of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackCounters {
    /// The track.
    pub sid: TrackSid,
    /// Its participant.
    pub participant: ParticipantSid,
    /// RTP packets in, all layers.
    pub packets_in: u64,
    /// RTP payload bytes in.
    pub bytes_in: u64,
    /// RTP packets out, all subscribers.
    pub packets_out: u64,
    /// Keyframes asked of the sender.
    pub keyframe_requests: u64,
}
