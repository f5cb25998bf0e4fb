//! The shapes that cross between Rust and the web view: commands' arguments and
//! answers, and the one state snapshot the UI renders. TypeScript for all of it is
//! generated into `ui/src/gen` (`cargo test -p confab export_bindings`); a test fails on a difference.
//!
//! The UI calls `invoke(COMMAND, args)` and listens to the event `state` (an
//! [`AppState`], sent whole after every change, at most 20 times a second) and
//! `toast` (a [`Toast`]).
//!
//! Commands (arguments -> answer; every failure is a [`UiError`]):
//! `get_state() -> AppState`, `try_a_call() -> ()`, `host_start(HostOptions) -> ()`, `host_stop() -> ()`,
//! `sign_in(SignIn) -> ()`, `sign_out() -> ()`, `accept_certificate({accept: bool}) -> ()`,
//! `open_lobby({room?: string}) -> ()`, `leave_lobby() -> ()`, `set_lobby(LobbyChoice) -> ()`,
//! `join() -> ()`, `leave() -> ()`, `dismiss_summary() -> ()`, `rejoin() -> ()`,
//! `set_microphone({on: bool}) -> ()`, `set_camera({on: bool}) -> ()`,
//! `choose_device({kind: DeviceKindDto, id: string}) -> ()`, `test_speaker() -> ()`,
//! `send_chat({text: string}) -> ()`, `raise_hand({up: bool}) -> ()`, `react({emoji: string}) -> ()`,
//! `set_volume({sid: string, volume: number}) -> ()` (0 to 1; 0 = muted for me),
//! `moderate(ModerateAction) -> ()`, `frames_endpoint() -> FramesEndpoint`,
//! `poll_frames({tiles: TileWish[]}) -> ArrayBuffer` (the fallback transport, same body as the socket's message),
//! `copy_text({text}) -> ()`, `diagnostics() -> string`, `close_to_tray() -> ()`.
//!
//! Frames: WebSocket `ws://127.0.0.1:PORT/`; the first message is the token as text. The page then sends JSON
//! `{"tiles": TileWish[]}` whenever the shown tiles or sizes change, and `{"ack": n}` after drawing message `n`.
//! Rust sends binary messages, only after the previous one was acknowledged, with every tile that changed:
//! `u32 LE n` (message number), `u16 LE count`, then per tile `u16 LE key`, `u16 LE width`, `u16 LE height`, `u16 LE reserved`,
//! then I420 bytes of `width*height*3/2`. `key` is [`VideoTile::key`].

use serde::{Deserialize, Serialize};
use ts_rs::TS;

macro_rules! dto {
    ($($item:item)*) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
        #[serde(rename_all = "camelCase")]
        #[ts(export, export_to = "../../ui/src/gen/")]
        $item
    )*};
}

dto! {
    /// Everything the UI shows.
    pub struct AppState {
        /// Which screen.
        pub screen: Screen,
        /// Servers signed in to before, newest first.
        pub servers: Vec<KnownServer>,
        /// The session, if signed in.
        pub session: Option<SessionView>,
        /// This computer's call server, if it runs.
        pub hosting: Option<HostingView>,
        /// The joining form.
        pub lobby: LobbyView,
        /// The call, if in one (or joining).
        pub call: Option<CallView>,
        /// What the last call was like, until dismissed.
        pub summary: Option<SummaryView>,
        /// A certificate that waits for a person's decision.
        pub certificate: Option<CertificateView>,
        /// What runs now, for spinners; `None` when nothing does.
        pub busy: Option<Busy>,
        /// The app's version.
        pub version: String,
    }

    /// The screens.
    #[derive(Copy, Eq)]
    pub enum Screen {
        /// First run: try, host, sign in.
        Welcome,
        /// The sign-in form.
        SignIn,
        /// Preview, devices, room, nickname.
        Lobby,
        /// In a call.
        Call,
        /// After a call.
        Summary,
    }

    /// A long action in progress.
    #[derive(Copy, Eq)]
    pub enum Busy {
        /// Starting the server and the companion.
        StartingTrial,
        /// Starting the server.
        StartingHost,
        /// Signing in.
        SigningIn,
        /// Joining.
        Joining,
        /// Leaving.
        Leaving,
    }

    /// A server signed in to before.
    pub struct KnownServer {
        /// Its URL.
        pub url: String,
        /// The user name used there last.
        pub user: Option<String>,
    }

    /// Who is signed in, where.
    pub struct SessionView {
        /// The server's URL.
        pub server: String,
        /// The user name.
        pub user: String,
        /// subscriber, publisher or moderator.
        pub role: String,
        /// Whether the account administers the server.
        pub administrator: bool,
        /// Tokens are in a file (0600), for want of a keychain.
        pub secrets_in_file: bool,
    }

    /// This computer as a call server.
    pub struct HostingView {
        /// Its URL for others.
        pub url: String,
        /// Its certificate's fingerprint, when it listens beyond this computer.
        pub fingerprint: Option<String>,
        /// It uses a throw-away folder (Try a call).
        pub trial: bool,
    }

    /// Arguments of `host_start`.
    pub struct HostOptions {
        /// Reachable from other computers.
        pub public: bool,
        /// Administrator to make at first run.
        pub admin_user: String,
        /// Its password.
        pub admin_password: String,
    }

    /// Arguments of `sign_in`.
    pub struct SignIn {
        /// `https://host[:port]`, or just a host.
        pub server: String,
        /// User name.
        pub user: String,
        /// Password.
        pub password: String,
    }

    /// A certificate to accept once.
    pub struct CertificateView {
        /// Which server.
        pub server: String,
        /// SHA-256 of the public key, 32 pairs of hex digits separated by colons.
        pub fingerprint: String,
        /// The fingerprint accepted before, when the key changed: joining is blocked until the old one is removed.
        pub changed_from: Option<String>,
    }

    /// Kinds of devices.
    #[derive(Copy, Eq)]
    pub enum DeviceKindDto {
        /// Takes pictures.
        Camera,
        /// Takes sound.
        Microphone,
        /// Plays sound.
        Speaker,
    }

    /// A device in a menu.
    pub struct DeviceView {
        /// To choose it by.
        pub id: String,
        /// For people.
        pub label: String,
    }

    /// The devices of a kind.
    pub struct DeviceMenu {
        /// All of them.
        pub devices: Vec<DeviceView>,
        /// The chosen one.
        pub chosen: Option<String>,
        /// Why it cannot be used, with the next step.
        pub problem: Option<String>,
        /// It is being opened.
        pub switching: bool,
    }

    /// The joining form.
    pub struct LobbyView {
        /// Room name.
        pub room: String,
        /// Nickname.
        pub nickname: String,
        /// LOW, MEDIUM or HIGH.
        pub quality: String,
        /// Join with the microphone on.
        pub microphone_on: bool,
        /// Join with the camera on.
        pub camera_on: bool,
        /// Cameras.
        pub cameras: DeviceMenu,
        /// Microphones.
        pub microphones: DeviceMenu,
        /// Speakers.
        pub speakers: DeviceMenu,
        /// Loudness at the microphone now, 0 to 1.
        pub microphone_level: f32,
        /// The preview's picture.
        pub preview: Option<VideoTile>,
        /// Good, Fair or Poor, once measured.
        pub network: Option<NetworkView>,
        /// The role forbids sending: no devices are shown.
        pub watch_only: bool,
    }

    /// The network as measured towards the server.
    pub struct NetworkView {
        /// good, fair or poor.
        pub verdict: String,
        /// Why, in words and figures.
        pub reason: String,
    }

    /// Arguments of `set_lobby`: what changed; `None` leaves it.
    pub struct LobbyChoice {
        /// Room name.
        pub room: Option<String>,
        /// Nickname.
        pub nickname: Option<String>,
        /// LOW, MEDIUM or HIGH.
        pub quality: Option<String>,
        /// Microphone on.
        pub microphone_on: Option<bool>,
        /// Camera on.
        pub camera_on: Option<bool>,
    }

    /// The call.
    pub struct CallView {
        /// Room name.
        pub room: String,
        /// Where it stands.
        pub phase: CallPhase,
        /// Seconds in this phase, for the banner.
        pub phase_seconds: u32,
        /// In the call since, ms since 1970; `None` before.
        pub joined_at: Option<f64>,
        /// Everyone, self included, in the order to show.
        pub people: Vec<PersonView>,
        /// The own microphone.
        pub microphone: OwnDevice,
        /// The own camera.
        pub camera: OwnDevice,
        /// Devices to choose from during the call.
        pub cameras: DeviceMenu,
        /// Devices to choose from during the call.
        pub microphones: DeviceMenu,
        /// Devices to choose from during the call.
        pub speakers: DeviceMenu,
        /// The role forbids sending.
        pub watch_only: bool,
        /// May moderate here.
        pub moderator: bool,
        /// Speech while muted.
        pub speaking_while_muted: bool,
        /// Chat so far.
        pub chat: Vec<ChatMessage>,
        /// The own hand is up.
        pub hand_up: bool,
        /// What to copy to invite others (a link or the server's address and room).
        pub invite: String,
        /// The same as QR code: an SVG path's `d` on a grid of `qr_size` modules.
        pub invite_qr: Option<QrView>,
    }

    /// A QR code to draw.
    pub struct QrView {
        /// Modules a side.
        pub size: u32,
        /// SVG path data, one unit a module.
        pub path: String,
    }

    /// Where a call stands.
    #[derive(Copy, Eq)]
    pub enum CallPhase {
        /// First connection.
        Connecting,
        /// In it.
        Connected,
        /// The way to the server is lost; retries go on. Banner: "your network".
        Reconnecting,
        /// The server does not answer, but the network is up. Banner: "Server lost".
        ServerLost,
    }

    /// The own microphone or camera.
    pub struct OwnDevice {
        /// Others receive it.
        pub on: bool,
        /// It is being opened.
        pub busy: bool,
        /// Why it is not on, with the next step.
        pub problem: Option<String>,
    }

    /// Someone in the call.
    pub struct PersonView {
        /// LiveKit's participant sid.
        pub sid: String,
        /// Shown first.
        pub nickname: String,
        /// Shown under it.
        pub user: String,
        /// subscriber, publisher, moderator; empty when unknown.
        pub role: String,
        /// The one at this window.
        pub is_self: bool,
        /// Sends sound now.
        pub microphone_on: bool,
        /// Sends pictures now.
        pub camera_on: bool,
        /// Speaks now.
        pub speaking: bool,
        /// Loudness 0 to 1.
        pub level: f32,
        /// excellent, good, poor, lost, unknown.
        pub quality: String,
        /// Its camera's picture, if any.
        pub video: Option<VideoTile>,
        /// Its screen's picture, if any.
        pub screen: Option<VideoTile>,
        /// Raised its hand at, ms since 1970.
        pub hand_up_at: Option<f64>,
        /// The last reaction and when (ms since 1970); shown for 3 s.
        pub reaction: Option<Reaction>,
        /// Own volume for this person, 0 to 1.
        pub volume: f32,
        /// Its connection is being restored.
        pub reconnecting: bool,
    }

    /// A reaction.
    pub struct Reaction {
        /// What.
        pub emoji: String,
        /// When, ms since 1970.
        pub at: f64,
    }

    /// A picture to draw.
    pub struct VideoTile {
        /// Its number in frame messages.
        pub key: u16,
        /// Pixels across at the source, for the aspect; 0 before the first frame.
        pub width: u32,
        /// Pixels down at the source.
        pub height: u32,
        /// Draw it mirrored (the own camera).
        pub mirror: bool,
        /// No picture at the moment: the connection is too weak, or nothing came yet.
        pub stalled: bool,
    }

    /// What the page shows of a tile.
    pub struct TileWish {
        /// [`VideoTile::key`].
        pub key: u16,
        /// Shown width in device pixels; 0: off screen.
        pub width: u32,
        /// Shown height in device pixels.
        pub height: u32,
    }

    /// Where frames come from.
    pub struct FramesEndpoint {
        /// `ws://127.0.0.1:PORT/`, or `None`: use `poll_frames`.
        pub url: Option<String>,
        /// Good once.
        pub token: String,
    }

    /// A chat message.
    pub struct ChatMessage {
        /// Unique.
        pub id: String,
        /// The sender's nickname.
        pub from: String,
        /// By this window.
        pub own: bool,
        /// Shown as text, never as markup.
        pub text: String,
        /// ms since 1970.
        pub at: f64,
    }

    /// Arguments of `moderate`.
    pub struct ModerateAction {
        /// Whom; empty for `endForAll` and `muteAll`.
        pub sid: String,
        /// What.
        pub action: ModerateKind,
    }

    /// What a moderator can do.
    #[derive(Copy, Eq)]
    pub enum ModerateKind {
        /// Mute one.
        Mute,
        /// Mute everyone else.
        MuteAll,
        /// Remove one.
        Remove,
        /// End the call for all.
        EndForAll,
    }

    /// After a call.
    pub struct SummaryView {
        /// Room name.
        pub room: String,
        /// Why it ended, in words.
        pub reason: String,
        /// The end was the person's own doing.
        pub own: bool,
        /// Can be joined again.
        pub can_rejoin: bool,
        /// Seconds in the call.
        pub seconds: u32,
        /// The most people at once.
        pub people: u32,
        /// One entry a minute: good, fair or poor, with its mean level 0 to 1.
        pub minutes: Vec<MinuteView>,
        /// In words: "Good, with one poor minute".
        pub verdict: String,
        /// Figures: label and value.
        pub figures: Vec<FigureView>,
    }

    /// A minute of the quality report.
    pub struct MinuteView {
        /// good, fair, poor.
        pub quality: String,
        /// 0 to 1.
        pub level: f32,
    }

    /// A figure.
    pub struct FigureView {
        /// What it is.
        pub label: String,
        /// Its value with its unit.
        pub value: String,
    }

    /// A short notice.
    pub struct Toast {
        /// Words.
        pub text: String,
        /// info or error.
        pub kind: String,
        /// A command without arguments to offer, with its label.
        pub action: Option<ToastAction>,
    }

    /// What a toast offers.
    pub struct ToastAction {
        /// On the button.
        pub label: String,
        /// The command.
        pub command: String,
    }

    /// A failure, for a person.
    pub struct UiError {
        /// For programs and support: e.g. `wrong_credentials`, `unreachable`, `camera_busy`.
        pub code: String,
        /// The cause.
        pub message: String,
        /// What to do next.
        pub next: String,
        /// The field it belongs to: server, user, password, room, nickname; `None`: the whole form.
        pub field: Option<String>,
        /// Wait so many seconds before trying again.
        pub retry_after: Option<u32>,
    }
}
