//! The contract between the room actors and whatever forwards media. The actors
//! decide (who is in, what they may do, what events say); the engine carries
//! media and reports facts. It must not know accounts, tokens, HTTP or storage.
//!
//! One command at a time per room, in order; answers by `oneshot`, facts over
//! one bounded channel per room.

#[cfg(test)]
mod conformance;
pub mod embedded;
pub mod fake;

use async_trait::async_trait;
pub use confab_sfu::{DataKind, Layer, LinkState, Target, TrackAnnouncement, TrackWish};
use confab_types::{Grants, ParticipantSid, RoomSid, TrackSid};
use thiserror::Error;
use tokio::sync::mpsc;

/// A fact, reported to the room's actor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EngineEvent {
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
        /// The m-line's mid, for `TrackInfo.mid`.
        mid: String,
    },
    /// The track's m-line went inactive or its connection ended.
    TrackEnded {
        /// Whose.
        participant: ParticipantSid,
        /// Which.
        track: TrackSid,
    },
    /// A data packet, an encoded LiveKit `DataPacket`, not yet checked by anyone.
    Data {
        /// From whom.
        participant: ParticipantSid,
        /// On which channel.
        kind: DataKind,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// A subscriber's bandwidth no longer carries a track, or does again (LiveKit's StreamStateUpdate).
    StreamPaused {
        /// Whose bandwidth.
        participant: ParticipantSid,
        /// The track that it gets nothing of.
        track: TrackSid,
        /// Held back, or sent again.
        paused: bool,
    },
    /// Who is speaking, loudest first, with levels 0 to 1 (LiveKit's scale). Sent when it changes, at most every 300 ms.
    Speakers(Vec<(ParticipantSid, f32)>),
    /// The room's forwarding ended by a fault (a panic in it). Everyone must be told to rejoin.
    RoomFailed,
}

/// Counters of one room, for tests, metrics and the live page.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RoomCounters {
    /// By track.
    pub tracks: Vec<TrackCounters>,
    /// Packets of participants that matched no announced track: dropped.
    pub refused_packets: u64,
}

/// Counters of one track.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TrackCounters {
    /// The track.
    pub sid: String,
    /// Its participant.
    pub participant: String,
    /// RTP packets in, all layers.
    pub packets_in: u64,
    /// RTP bytes in.
    pub bytes_in: u64,
    /// RTP packets out, all subscribers.
    pub packets_out: u64,
    /// Keyframes asked of the sender.
    pub keyframe_requests: u64,
}

/// Why the engine could not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No such room (it ended meanwhile).
    #[error("the room is not open")]
    NoRoom,
    /// No such participant.
    #[error("the participant is not in the room")]
    NoParticipant,
    /// The SDP cannot be used; the text says why.
    #[error("the session description was refused: {0}")]
    BadSdp(String),
    /// The grants forbid it.
    #[error("the grants do not allow it")]
    NotAllowed,
    /// The engine stopped or is overloaded.
    #[error("the media engine does not answer")]
    Gone,
}

/// Whatever forwards media: the embedded sfu, a fake for tests, later a LiveKit cluster.
#[async_trait]
pub trait MediaEngine: Send + Sync + 'static {
    /// Opens a room; its facts arrive on the receiver until `close_room`.
    async fn open_room(&self, room: &RoomSid) -> Result<mpsc::Receiver<EngineEvent>, EngineError>;
    /// Closes a room and everyone's connections.
    async fn close_room(&self, room: &RoomSid);
    /// Adds a participant with nothing sent or received yet. With `can_subscribe` the engine makes the first
    /// subscriber offer at once (data channels `_reliable` and `_lossy`), tracks or none.
    /// `auto_subscribe`: subscribe to every track as it comes.
    async fn add_participant(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        grants: Grants,
        auto_subscribe: bool,
    ) -> Result<(), EngineError>;
    /// Removes a participant, its tracks and its connections.
    async fn remove_participant(&self, room: &RoomSid, who: &ParticipantSid);
    /// New grants. Tracks no longer allowed stop at once (and are reported ended).
    async fn set_grants(&self, room: &RoomSid, who: &ParticipantSid, grants: Grants) -> Result<(), EngineError>;
    /// A track that may now arrive.
    async fn announce_track(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: TrackAnnouncement,
    ) -> Result<(), EngineError>;
    /// Stops and forgets a track.
    async fn remove_track(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid);
    /// Muted tracks are not forwarded.
    async fn set_muted(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, muted: bool);
    /// The client's offer on the publisher connection; answers with SDP that holds all candidates. An offer with new
    /// ICE credentials is an ICE restart.
    async fn publisher_offer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<String, EngineError>;
    /// The client's answer to the last subscriber offer.
    async fn subscriber_answer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<(), EngineError>;
    /// A client's ICE candidate (`candidate:...` without `a=`).
    async fn trickle(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        target: Target,
        candidate: String,
    ) -> Result<(), EngineError>;
    /// Makes a new subscriber offer with an ICE restart (a resume).
    async fn restart_subscriber(&self, room: &RoomSid, who: &ParticipantSid) -> Result<(), EngineError>;
    /// Subscribes to or unsubscribes from a track.
    async fn subscribe(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: &TrackSid,
        on: bool,
    ) -> Result<(), EngineError>;
    /// What the subscriber wants of a track it is subscribed to.
    async fn track_wish(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, wish: TrackWish);
    /// Sends a data packet down the subscriber connections of `to`.
    async fn send_data(&self, room: &RoomSid, to: &[ParticipantSid], kind: DataKind, payload: Vec<u8>);
    /// Counters now.
    async fn counters(&self, room: &RoomSid) -> Result<RoomCounters, EngineError>;
}
