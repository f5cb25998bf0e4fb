//! What a room can be asked, and its answers.

use confab_control::VerifiedToken;
use confab_types::{Grants, ParticipantSid, RoomName, RoomSid};
use confab_wire::livekit as lk;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{LeftReason, SignalLink};
use crate::engine::RoomCounters;

/// A fresh join or the resumption of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// A new participant. `held_by`: the join that has the token now, as the database knows.
    Fresh {
        /// Whose signalling must be shown to be dead first.
        held_by: Option<ParticipantSid>,
    },
    /// The same participant with a new socket.
    Resume(ParticipantSid),
}

/// Let in: hand this back with the socket within 10 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Names the reservation.
    pub ticket: u64,
}

/// Why someone is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// Void, or its holder is connected.
    #[error("the room token is void or in use")]
    TokenVoid,
    /// No seat is left.
    #[error("the room is full")]
    Full,
    /// Nobody new may enter.
    #[error("the room is locked")]
    Locked,
    /// The room is over.
    #[error("the room is over")]
    Over,
    /// It could not be written down.
    #[error("the server cannot write now")]
    Unavailable,
}

/// Joined: how the socket names itself in later commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The participant.
    pub sid: ParticipantSid,
    /// Which of its sockets this is, so that a late word from an old one is ignored.
    pub generation: u64,
}

/// Why a room ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A moderator, administrator or backend ended it.
    Deleted,
    /// The last one left, or nobody came.
    Empty,
    /// The server stops: participants should come back.
    ServerShutdown,
}

/// A room as the live page shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomView {
    /// Name.
    pub name: RoomName,
    /// Sid.
    pub sid: RoomSid,
    /// RFC 3339.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: time::OffsetDateTime,
    /// Who is in.
    pub participants: Vec<ParticipantView>,
    /// What was forwarded.
    pub counters: RoomCounters,
}

/// A participant as the live page shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantView {
    /// Sid of this join.
    pub sid: ParticipantSid,
    /// Identity.
    pub identity: String,
    /// Shown name.
    pub name: String,
    /// Metadata.
    pub metadata: String,
    /// Its signalling is connected.
    pub connected: bool,
    /// What it may do.
    pub grants: Grants,
    /// What it sends.
    pub tracks: Vec<TrackView>,
}

/// A track as the live page shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackView {
    /// Sid.
    pub sid: String,
    /// Its name.
    pub name: String,
    /// Kind.
    pub kind: confab_types::TrackKind,
    /// Source.
    pub source: confab_types::TrackSource,
    /// Muted.
    pub muted: bool,
    /// Media arrived.
    pub live: bool,
}

/// Asked of a room.
#[derive(Debug)]
pub enum RoomCommand {
    /// May this token come in now? With `reserve` a seat is kept for 10 s.
    Admit {
        /// The token.
        token: Box<VerifiedToken>,
        /// Fresh or resumed.
        intent: Intent,
        /// Keep the seat (a join) or only ask (validate).
        reserve: bool,
        /// The answer.
        reply: oneshot::Sender<Result<Admission, AdmitError>>,
    },
    /// The socket is up.
    Attach {
        /// From [`Admission`].
        ticket: u64,
        /// The way to the socket.
        link: SignalLink,
        /// Subscribe to everything.
        auto_subscribe: bool,
        /// The client's protocol version, told to others.
        client_protocol: i32,
        /// Nobody is let in without it: `None` when the reservation is gone. The room has queued a `Leave` then.
        reply: oneshot::Sender<Option<Attached>>,
    },
    /// A client's message.
    Signal {
        /// From whom.
        from: Attached,
        /// What.
        message: Box<lk::signal_request::Message>,
    },
    /// A socket is gone.
    LinkLost {
        /// Whose.
        from: Attached,
    },
    /// A socket answered a probe.
    LinkAlive {
        /// Whose.
        from: Attached,
    },
    /// A token of the REST call was issued for this room: whoever has it gets the whole time to come.
    TokenIssued,
    /// Disconnects someone whose admission is void already.
    Remove {
        /// Identity or participant sid.
        who: String,
        /// For the events.
        reason: LeftReason,
        /// Whether there was such a one.
        reply: oneshot::Sender<bool>,
    },
    /// Everyone who is in.
    List {
        /// The answer.
        reply: oneshot::Sender<Vec<lk::ParticipantInfo>>,
    },
    /// The room in LiveKit's words.
    Info {
        /// The answer.
        reply: oneshot::Sender<lk::Room>,
    },
    /// Everything for the live page.
    View {
        /// The answer.
        reply: oneshot::Sender<RoomView>,
    },
    /// Mutes or unmutes someone's track.
    MuteTrack {
        /// Identity or participant sid.
        who: String,
        /// Track sid.
        track: String,
        /// On or off.
        muted: bool,
        /// The track afterwards, if there is one.
        reply: oneshot::Sender<Option<lk::TrackInfo>>,
    },
    /// Changes someone's name, metadata, attributes or permission.
    UpdateParticipant {
        /// The change.
        change: Box<lk::UpdateParticipantRequest>,
        /// Afterwards, if there is such a one.
        reply: oneshot::Sender<Option<lk::ParticipantInfo>>,
    },
    /// Subscribes or unsubscribes someone.
    UpdateSubscriptions {
        /// Identity or participant sid.
        who: String,
        /// Which tracks.
        tracks: Vec<String>,
        /// On or off.
        on: bool,
        /// Whether there was such a one.
        reply: oneshot::Sender<bool>,
    },
    /// Sends data to everyone or some.
    SendData {
        /// What, to whom.
        request: Box<lk::SendDataRequest>,
        /// Done.
        reply: oneshot::Sender<()>,
    },
    /// New room metadata.
    SetMetadata {
        /// The text.
        metadata: String,
        /// The room afterwards.
        reply: oneshot::Sender<lk::Room>,
    },
    /// Ends the room.
    End {
        /// Why.
        reason: EndReason,
        /// Everyone is told and all is written.
        reply: oneshot::Sender<()>,
    },
}
