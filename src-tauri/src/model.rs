//! The shell's state and how it looks to the UI. Held by `Shell` behind one lock
//! that is never kept across an await; must not start anything by itself.

use std::sync::Arc;

use confab_client::api::{CallSnapshot, JoinOptions, VideoKey};
use confab_client::call::CallHandle;
use confab_client::session::SessionManager;
use confab_types::{Role, TrackSource};

use crate::call_view::{self, CallExtras, Tiles};
use crate::dto::{
    AppState, Busy, CallPhase, CallView, CertificateView, HostingView, LobbyView, QrView, Screen, SessionView,
    SummaryView, VideoTile,
};
use crate::frames::FrameHub;
use crate::lobby::Lobby;
use crate::settings::Settings;
use crate::summary::Minutes;

/// The newest chat messages that the page is sent; the whole state goes out up to 20 times a second.
const SHOWN_CHAT: usize = 200;

/// All of it.
pub struct Model {
    /// Remembered between starts.
    pub settings: Settings,
    /// Which screen.
    pub screen: Screen,
    /// Who is signed in.
    pub session: Option<ActiveSession>,
    /// The call server here, as shown.
    pub hosting: Option<HostingView>,
    /// Waits for a person.
    pub certificate: Option<PendingCertificate>,
    /// What runs now.
    pub busy: Option<Busy>,
    /// The joining form.
    pub lobby: Lobby,
    /// The call.
    pub call: Option<ActiveCall>,
    /// After a call.
    pub summary: Option<SummaryView>,
    /// How the last call was joined, for Rejoin.
    pub last_join: Option<JoinOptions>,
}

/// A session in use.
pub struct ActiveSession {
    /// Keeps and renews it.
    pub manager: SessionManager,
    /// As shown.
    pub view: SessionView,
    /// The account's role on the server.
    pub role: Role,
    /// Started by *Try a call*: nothing of it is kept.
    pub trial: bool,
}

/// A certificate a person must decide on, and what to do again afterwards.
pub struct PendingCertificate {
    /// As shown.
    pub view: CertificateView,
    /// The sign-in to repeat; absent when the key changed (blocked).
    pub retry: Option<crate::dto::SignIn>,
    /// Key for the settings: host:port.
    pub authority: String,
    /// What to keep when accepted.
    pub fingerprint: String,
}

/// A call that runs.
pub struct ActiveCall {
    /// The client's side.
    pub handle: Arc<CallHandle>,
    /// Newest snapshot.
    pub snapshot: CallSnapshot,
    /// Chat, hands, reactions, volumes.
    pub extras: CallExtras,
    /// ms since 1970, once in it.
    pub joined_at: Option<f64>,
    /// The most people at once.
    pub most_people: u32,
    /// Quality by the minute.
    pub minutes: Minutes,
    /// To copy for others.
    pub invite: String,
    /// The same as a picture.
    pub invite_qr: Option<QrView>,
    /// The own hand is up since (ms since 1970).
    pub hand_up: Option<f64>,
    /// The companion of *Try a call*, ended with the call.
    pub companion: Option<tokio_util::sync::DropGuard>,
}

impl Tiles for FrameHub {
    fn tile(&self, video: &VideoKey) -> (u16, (u32, u32)) {
        (self.key_of(video), self.size_of(video))
    }
}

impl Model {
    /// At the start of the app.
    pub fn new(settings: Settings, lobby: Lobby) -> Self {
        let screen = if settings.servers.is_empty() {
            Screen::Welcome
        } else {
            Screen::SignIn
        };
        Self {
            settings,
            screen,
            session: None,
            hosting: None,
            certificate: None,
            busy: None,
            lobby,
            call: None,
            summary: None,
            last_join: None,
        }
    }

    /// The role forbids sending anything.
    pub fn watch_only(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.role == Role::Subscriber)
    }

    /// What the UI draws.
    pub fn view(&self, hub: &FrameHub, now: std::time::Instant) -> AppState {
        AppState {
            screen: self.screen,
            servers: self.settings.servers.clone(),
            session: self.session.as_ref().map(|s| s.view.clone()),
            hosting: self.hosting.clone(),
            lobby: self.lobby_view(hub),
            call: self.call.as_ref().and_then(|call| self.call_view(call, hub, now)),
            summary: self.summary.clone(),
            certificate: self.certificate.as_ref().map(|c| c.view.clone()),
            busy: self.busy,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn lobby_view(&self, hub: &FrameHub) -> LobbyView {
        let preview = self.lobby.previewing().then(|| {
            let own = VideoKey::Own(TrackSource::Camera);
            let (key, (width, height)) = hub.tile(&own);
            VideoTile {
                key,
                width,
                height,
                mirror: true,
                stalled: width == 0,
            }
        });
        LobbyView {
            room: self.lobby.room.clone(),
            nickname: self.lobby.nickname.clone(),
            quality: self.lobby.quality_name().into(),
            microphone_on: self.lobby.microphone_on,
            camera_on: self.lobby.camera_on,
            cameras: self.lobby.cameras.clone(),
            microphones: self.lobby.microphones.clone(),
            speakers: self.lobby.speakers.clone(),
            microphone_level: self.lobby.microphone_level,
            preview,
            network: self.lobby.network.clone(),
            watch_only: self.watch_only(),
        }
    }

    fn call_view(&self, call: &ActiveCall, hub: &FrameHub, now: std::time::Instant) -> Option<CallView> {
        let snapshot = &call.snapshot;
        let phase = call_view::phase(&snapshot.phase)?;
        let connecting = phase == CallPhase::Connecting;
        Some(CallView {
            room: snapshot.room.clone(),
            phase,
            phase_seconds: call_view::phase_seconds(snapshot, now),
            joined_at: call.joined_at,
            people: call_view::people(snapshot, &call.extras, hub),
            microphone: call_view::own_device(&snapshot.microphone),
            camera: call_view::own_device(&snapshot.camera),
            cameras: self.lobby.cameras.clone(),
            microphones: self.lobby.microphones.clone(),
            speakers: self.lobby.speakers.clone(),
            watch_only: if connecting {
                self.watch_only()
            } else {
                snapshot.may_publish.is_empty()
            },
            moderator: false,
            speaking_while_muted: snapshot.speaking_while_muted,
            chat: call.extras.chat[call.extras.chat.len().saturating_sub(SHOWN_CHAT)..].to_vec(),
            hand_up: call.hand_up.is_some(),
            invite: call.invite.clone(),
            invite_qr: call.invite_qr.clone(),
        })
    }
}
