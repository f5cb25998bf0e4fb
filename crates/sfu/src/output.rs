//! What goes into a room and what comes out of it.

use std::time::Instant;

use confab_types::{ParticipantSid, TrackSid};

use crate::net::{Receive, Transmit};
use crate::{ConnectionId, DataKind, LinkState, Target};

/// Something that happened outside.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Made once per packet, on the stack: boxing it would allocate.
pub enum Input<'a> {
    /// The time given by [`Output::Timeout`] has come.
    Timeout,
    /// A packet for one of the room's connections.
    Receive(ConnectionId, Receive<'a>),
}

/// What the room wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this packet.
    Transmit(ConnectionId, Transmit),
    /// Tell whoever runs the room.
    Event(Event),
    /// Nothing more for now: call again at this time, or at the next input.
    Timeout(Instant),
}

/// A fact.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The subscriber connection needs this offer answered. At most one is outstanding per participant.
    SubscriberOffer {
        /// For whom.
        participant: ParticipantSid,
        /// The SDP.
        sdp: String,
    },
    /// A connection changed.
    Link {
        /// Whose.
        participant: ParticipantSid,
        /// Which one.
        target: Target,
        /// Into what.
        state: LinkState,
    },
    /// First media of an announced track arrived.
    TrackLive {
        /// Whose.
        participant: ParticipantSid,
        /// Which.
        track: TrackSid,
        /// e.g. `video/VP8`.
        mime: String,
        /// The m-line's mid.
        mid: String,
    },
    /// The track's m-line went inactive, its grant went, or its connection ended.
    TrackEnded {
        /// Whose.
        participant: ParticipantSid,
        /// Which.
        track: TrackSid,
    },
    /// A data packet.
    Data {
        /// From whom.
        participant: ParticipantSid,
        /// On which channel.
        kind: DataKind,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// A subscriber's bandwidth no longer carries a track, or does again.
    StreamPaused {
        /// Whose bandwidth.
        participant: ParticipantSid,
        /// The track that it gets nothing of.
        track: TrackSid,
        /// Held back, or sent again.
        paused: bool,
    },
    /// Who is speaking, loudest first, with levels 0 to 1.
    Speakers(Vec<(ParticipantSid, f32)>),
    /// A connection is gone: forget its addresses.
    ConnectionClosed(ConnectionId),
}
