//! The surface that the shell and the bot build on. Behaviour lives in the modules beside it.
//!
//! Session (after Video.io's session manager):
//! `SessionManager::new(SessionConfig) -> SessionManager` (cheap to clone), with
//! `start(SessionStart) -> Result<Session, SessionError>`, `get() -> Option<Session>`,
//! `observe() -> watch::Receiver<Option<Session>>`, `stop() -> Result<(), SessionError>`,
//! `set_loader(Arc<dyn SessionLoader>)`, and the authenticated calls
//! `room_token(&RoomName, Option<&Nickname>) -> Result<RoomTokenAnswer, SessionError>`,
//! `remove_user(&RoomName, &Secret) -> Result<(), SessionError>`.
//! Call: `Call::join(JoinOptions) -> CallHandle` returns at once; the snapshot tells the rest.

use std::sync::Arc;

use async_trait::async_trait;
use confab_media::{AudioSourceSpec, I420, VideoSourceSpec};
use confab_types::{
    CameraQuality, ParticipantSid, Role, RoomName, Scope, Secret, TrackKind, TrackSid, TrackSource, UserName,
};
use time::OffsetDateTime;
use url::Url;

/// A signed-in session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where.
    pub server: Url,
    /// Who.
    pub user: UserName,
    /// The account's role.
    pub role: Role,
    /// Administers the server.
    pub administrator: bool,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Bearer token.
    pub token: Secret,
    /// For one refresh; absent in sessions made from a backend's token.
    pub refresh: Option<Secret>,
    /// When the token ends.
    pub expires_at: OffsetDateTime,
}

/// How to start a session.
#[derive(Debug, Clone)]
pub enum SessionStart {
    /// Ask the server, with user name and password.
    Credentials {
        /// Where.
        server: Url,
        /// Who.
        user: String,
        /// The password.
        password: Secret,
        /// What for; `None`: all the role allows.
        scopes: Option<Vec<Scope>>,
        /// Name of this device, for the list of sessions.
        device: Option<String>,
    },
    /// A session a backend made or the app kept: no request is made.
    Token(Session),
}

/// Gives a new session when an authenticated call needs one. Called once for all calls that wait
/// together; afterwards each call is repeated once.
#[async_trait]
pub trait SessionLoader: Send + Sync {
    /// `expired`: the session that is over, or none if there was none.
    async fn load(&self, expired: Option<Session>) -> Option<SessionStart>;
}

/// Where received pictures go. Called on decoding threads: must return at once.
pub trait VideoSink: Send + Sync + 'static {
    /// The newest picture of a track, scaled to the wish given with [`CallCommand::Show`].
    fn frame(&self, track: &VideoKey, frame: I420);
    /// The track is gone.
    fn ended(&self, track: &VideoKey);
}

/// Which picture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VideoKey {
    /// The own camera, as captured.
    Own(TrackSource),
    /// Someone's track.
    Remote(TrackSid),
}

/// How to get the room token.
#[derive(Clone)]
pub enum JoinWith {
    /// Through the session, by room name; the client fetches a new one where a 401 says so.
    Session(crate::session::SessionManager),
    /// Given, with the signalling URL: any LiveKit server.
    Token {
        /// `ws://` or `wss://`.
        url: Url,
        /// The access token.
        token: Secret,
    },
}

/// How to join.
#[derive(Clone)]
pub struct JoinOptions {
    /// How.
    pub with: JoinWith,
    /// Room; ignored with a token.
    pub room: RoomName,
    /// Name for others; ignored with a token.
    pub nickname: String,
    /// Pictures to send, if the role allows.
    pub camera: VideoSourceSpec,
    /// Sound to send, if the role allows.
    pub microphone: AudioSourceSpec,
    /// Start with the camera on.
    pub camera_on: bool,
    /// Start with the microphone on.
    pub microphone_on: bool,
    /// Camera quality.
    pub quality: CameraQuality,
    /// Where sound plays.
    pub speaker: SpeakerSpec,
    /// Where pictures go; `None`: decode and count only.
    pub sink: Option<Arc<dyn VideoSink>>,
    /// Write every received track here (y4m, wav).
    pub record: Option<std::path::PathBuf>,
    /// Use ICE-TCP only.
    pub tcp_only: bool,
    /// Announce and send tracks whatever the grants say: for tests of what a server refuses.
    pub force_publish: bool,
}

/// Where received sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeakerSpec {
    /// The system's speaker, or the one with this id.
    Device(Option<String>),
    /// Mixed and thrown away in real time (bots).
    Null,
}

/// Where the call stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// First connection.
    Connecting,
    /// In it.
    Connected,
    /// Signalling or media is lost; resuming or rejoining.
    Reconnecting {
        /// Nothing answers at all, though the network is up.
        server_lost: bool,
    },
    /// Over.
    Ended(EndReason),
}

/// Why a call ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The person left.
    #[error("you left the call")]
    Left,
    /// A moderator or a backend removed the participant.
    #[error("you were removed from the call")]
    Removed,
    /// The room was ended.
    #[error("the call was ended for everyone")]
    RoomEnded,
    /// The same identity joined elsewhere.
    #[error("you joined this call from another device")]
    Duplicate,
    /// Joining failed; the code is the REST contract's or the client's own (`unreachable`, `tls`, `media_blocked`).
    #[error("{message}")]
    Failed {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// The call as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct CallSnapshot {
    /// Where it stands.
    pub phase: Phase,
    /// Since when (monotonic).
    pub phase_since: std::time::Instant,
    /// The room's name.
    pub room: String,
    /// The room's sid, once joined.
    pub room_sid: Option<String>,
    /// The own participant, once joined.
    pub me: Option<ParticipantSid>,
    /// May send: from the grants of the server, not from hope.
    pub may_publish: Vec<TrackSource>,
    /// May moderate.
    pub moderator: bool,
    /// Everyone, the own participant first, then by join time.
    pub participants: Vec<ParticipantSnapshot>,
    /// The own microphone.
    pub microphone: OwnTrack,
    /// The own camera.
    pub camera: OwnTrack,
    /// Speech heard while muted, lately.
    pub speaking_while_muted: bool,
}

/// A participant.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticipantSnapshot {
    /// LiveKit's sid.
    pub sid: ParticipantSid,
    /// LiveKit's identity.
    pub identity: String,
    /// Its name (nickname).
    pub nickname: String,
    /// The account's name: `serverData` of its metadata, else the identity.
    pub user: String,
    /// From its permissions.
    pub role: Role,
    /// The own one.
    pub is_self: bool,
    /// Joined at, ms since 1970.
    pub joined_at_ms: i64,
    /// Its tracks.
    pub tracks: Vec<TrackSnapshot>,
    /// Speaks now.
    pub speaking: bool,
    /// Loudness 0 to 1.
    pub level: f32,
    /// LiveKit's quality: excellent, good, poor, lost; `None` before the first.
    pub quality: Option<String>,
    /// Attributes (hand and so on).
    pub attributes: std::collections::BTreeMap<String, String>,
}

/// A published track.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackSnapshot {
    /// LiveKit's sid.
    pub sid: TrackSid,
    /// Sound or picture.
    pub kind: TrackKind,
    /// Where it comes from.
    pub source: TrackSource,
    /// Muted by its owner or a moderator.
    pub muted: bool,
    /// Pixels at the source.
    pub size: (u32, u32),
    /// Pictures arrive (false: nothing for a second).
    pub flowing: bool,
}

/// The own microphone or camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnTrack {
    /// Others receive it.
    pub on: bool,
    /// Being opened or published.
    pub busy: bool,
    /// Why it is not on, with the next step.
    pub problem: Option<String>,
}

/// What one can do in a call. Sent through `CallHandle::send`; effects show in the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallCommand {
    /// Microphone on or off (muted, the device stays open for "you're muted").
    Microphone(bool),
    /// Camera on or off (off closes the device).
    Camera(bool),
    /// Another microphone.
    MicrophoneSource(AudioSourceSpec),
    /// Another camera.
    CameraSource(VideoSourceSpec),
    /// Another speaker.
    Speaker(SpeakerSpec),
    /// What is shown: pixels of each track; tracks not named are not decoded, and the server is told.
    Show(Vec<(VideoKey, (u32, u32))>),
    /// Volume of a participant for this person alone, 0 to 1.
    Volume(ParticipantSid, f32),
    /// A chat message (text stream on `lk.chat`).
    Chat(String),
    /// Sets own attributes.
    Attributes(std::collections::BTreeMap<String, String>),
    /// A data packet on a topic (reactions).
    Data {
        /// Topic.
        topic: String,
        /// Bytes, at most 15 KiB.
        payload: Vec<u8>,
        /// Reliable or lossy.
        reliable: bool,
    },
    /// Try again at once.
    RetryNow,
    /// Leave.
    Leave,
}

/// Something that happened, for toasts and reports; state is in the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEvent {
    /// A chat message.
    Chat {
        /// Its id.
        id: String,
        /// From whom.
        from: ParticipantSid,
        /// Text.
        text: String,
    },
    /// A data packet.
    Data {
        /// From whom.
        from: Option<ParticipantSid>,
        /// Topic.
        topic: String,
        /// Bytes.
        payload: Vec<u8>,
    },
    /// Someone came.
    Joined(ParticipantSid),
    /// Someone left.
    Left(ParticipantSid, String),
    /// A moderator muted an own track.
    MutedByModerator(TrackSource),
    /// A device failed or came back; words for a person.
    Device(String),
}
