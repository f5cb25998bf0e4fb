//! The joining form: names, devices, preview and microphone meter, kept across
//! starts. Nothing here ever blocks joining: a device that fails leaves a problem
//! beside its menu.

use std::time::{Duration, Instant};

use confab_client::api::{SpeakerSpec, VideoKey, VideoSink as _};
use confab_media::{AudioSourceSpec, DeviceInfo, DeviceKind, VideoSourceSpec};
use confab_types::{CameraQuality, RoomName, TrackSource};

use crate::args::{self, Args};
use crate::dto::{DeviceKindDto, DeviceMenu, DeviceView, LobbyChoice, NetworkView, Screen};
use crate::settings::Settings;
use crate::shell::{Answer, Shell};

/// How often the device menus look for changes: no event tells of them.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The room offered to someone who never joined one.
const FIRST_ROOM: &str = "TUTORIAL";
/// Source names of the command line, offered in the menus beside the devices.
const TEST_CAMERA: &str = "test-pattern";

/// The form.
pub struct Lobby {
    /// Room name as typed.
    pub room: String,
    /// Nickname as typed.
    pub nickname: String,
    /// Camera quality.
    pub quality: CameraQuality,
    /// Join with the microphone on.
    pub microphone_on: bool,
    /// Join with the camera on.
    pub camera_on: bool,
    /// Menus.
    pub cameras: DeviceMenu,
    /// Menus.
    pub microphones: DeviceMenu,
    /// Menus.
    pub speakers: DeviceMenu,
    /// 0 to 1.
    pub microphone_level: f32,
    /// Towards the server.
    pub network: Option<NetworkView>,
    preview: Option<tokio_util::sync::DropGuard>,
    previewing: bool,
}

impl Lobby {
    /// As it was left last time; the command line wins.
    pub fn new(settings: &Settings, args: &Args) -> Self {
        let or = |given: &Option<String>, kept: &str, first: &str| {
            given
                .clone()
                .unwrap_or_else(|| if kept.is_empty() { first } else { kept }.to_owned())
        };
        let menu = |given: &Option<String>, kept: &Option<String>| DeviceMenu {
            devices: Vec::new(),
            chosen: given.clone().or_else(|| kept.clone()),
            problem: None,
            switching: false,
        };
        Self {
            room: or(&args.room, &settings.room, FIRST_ROOM),
            nickname: or(&args.nickname, &settings.nickname, ""),
            quality: parse_quality(&settings.quality).unwrap_or_default(),
            microphone_on: !settings.microphone_off,
            camera_on: !settings.camera_off,
            cameras: menu(&args.camera, &settings.camera),
            microphones: menu(&args.microphone, &settings.microphone),
            speakers: menu(&None, &settings.speaker),
            microphone_level: 0.0,
            network: None,
            preview: None,
            previewing: false,
        }
    }

    /// LOW, MEDIUM, HIGH.
    pub fn quality_name(&self) -> &'static str {
        match self.quality {
            CameraQuality::Low => "LOW",
            CameraQuality::Medium => "MEDIUM",
            CameraQuality::High => "HIGH",
        }
    }

    /// A picture of the own camera is shown.
    pub fn previewing(&self) -> bool {
        self.previewing
    }

    /// Fills an empty nickname.
    pub fn nickname_default(&mut self, user: &str) {
        if self.nickname.is_empty() {
            user.clone_into(&mut self.nickname);
        }
    }

    /// The camera to open. The hue of a test pattern follows from the nickname.
    pub fn camera_spec(&self) -> VideoSourceSpec {
        let Some(chosen) = &self.cameras.chosen else {
            return VideoSourceSpec::Camera(None);
        };
        let (width, height) = self.quality.size();
        if chosen == TEST_CAMERA {
            return VideoSourceSpec::TestPattern {
                width,
                height,
                fps: 30,
                hue: hue_of(&self.nickname),
            };
        }
        args::camera(chosen, hue_of(&self.nickname)).unwrap_or(VideoSourceSpec::Camera(None))
    }

    /// The microphone to open.
    pub fn microphone_spec(&self) -> AudioSourceSpec {
        let chosen = self.microphones.chosen.as_deref().unwrap_or("default");
        args::microphone(chosen).unwrap_or(AudioSourceSpec::Microphone(None))
    }

    /// The speaker to play on.
    pub fn speaker_spec(&self) -> SpeakerSpec {
        SpeakerSpec::Device(self.speakers.chosen.clone())
    }

    /// The menu of a kind.
    pub fn menu(&mut self, kind: DeviceKindDto) -> &mut DeviceMenu {
        match kind {
            DeviceKindDto::Camera => &mut self.cameras,
            DeviceKindDto::Microphone => &mut self.microphones,
            DeviceKindDto::Speaker => &mut self.speakers,
        }
    }
}

/// Reads LOW, MEDIUM or HIGH.
pub fn parse_quality(text: &str) -> Option<CameraQuality> {
    match text {
        "LOW" => Some(CameraQuality::Low),
        "MEDIUM" => Some(CameraQuality::Medium),
        "HIGH" => Some(CameraQuality::High),
        _ => None,
    }
}

/// A steady colour for a name (FNV-1a, folded to degrees).
pub fn hue_of(name: &str) -> u16 {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    u16::try_from(hash % 360).unwrap_or_default()
}

/// The devices of a kind, with the command line's source among them.
fn fill_menu(menu: &mut DeviceMenu, found: &[DeviceInfo], kind: DeviceKind) {
    menu.devices = found
        .iter()
        .map(|d| DeviceView {
            id: d.id.clone(),
            label: d.label.clone(),
        })
        .collect();
    let named_source = menu
        .chosen
        .as_ref()
        .filter(|c| c.starts_with("test-") || c.starts_with("voice-") || c.contains('.'));
    if let Some(source) = named_source.filter(|c| !menu.devices.iter().any(|d| d.id == **c)) {
        menu.devices.insert(
            0,
            DeviceView {
                id: source.clone(),
                label: source_label(source),
            },
        );
    }
    if menu.devices.is_empty() {
        menu.problem = Some(format!("No {kind} was found. Connect one, or join without."));
    } else {
        menu.problem = None;
        if menu.chosen.is_none() {
            menu.chosen = found.iter().find(|d| d.default).or(found.first()).map(|d| d.id.clone());
        }
    }
}

fn source_label(source: &str) -> String {
    let name = source.split(':').next().unwrap_or(source);
    match name {
        "test-pattern" => "Test pattern".into(),
        "test-tone" => "Test tone".into(),
        "voice-like" => "Voice-like sound".into(),
        _ => name.rsplit('/').next().unwrap_or(name).to_owned(),
    }
}

impl Shell {
    /// Goes to the form and looks for devices and the network.
    pub fn enter_lobby(&self) {
        self.update(|m| {
            m.screen = Screen::Lobby;
            m.summary = None;
        });
        self.watch_devices();
        self.measure_network();
        self.open_preview();
    }

    /// Opens the form, for a room if one is named.
    pub fn open_lobby(&self, room: Option<String>) {
        if self.read(|m| m.session.is_none()) {
            self.update(|m| m.screen = Screen::SignIn);
            return;
        }
        if let Some(room) = room.and_then(|r| r.parse::<RoomName>().ok()) {
            self.update(|m| m.lobby.room = room.to_string());
        }
        self.enter_lobby();
    }

    /// Back to the first page.
    pub fn leave_lobby(&self) {
        self.close_preview();
        self.update(|m| m.screen = Screen::Welcome);
    }

    /// Changes the form.
    pub fn set_lobby(&self, choice: LobbyChoice) {
        let reopen = choice.quality.is_some() || choice.camera_on.is_some() || choice.microphone_on.is_some();
        self.remember(|s| {
            if let Some(room) = &choice.room {
                s.room.clone_from(room);
            }
            if let Some(nickname) = &choice.nickname {
                s.nickname.clone_from(nickname);
            }
            if let Some(quality) = choice.quality.as_ref().filter(|q| parse_quality(q).is_some()) {
                s.quality.clone_from(quality);
            }
            s.camera_off = choice.camera_on.map_or(s.camera_off, |on| !on);
            s.microphone_off = choice.microphone_on.map_or(s.microphone_off, |on| !on);
        });
        self.update(|m| {
            let lobby = &mut m.lobby;
            lobby.room = choice.room.unwrap_or(std::mem::take(&mut lobby.room));
            lobby.nickname = choice.nickname.unwrap_or(std::mem::take(&mut lobby.nickname));
            lobby.quality = choice.quality.and_then(|q| parse_quality(&q)).unwrap_or(lobby.quality);
            lobby.camera_on = choice.camera_on.unwrap_or(lobby.camera_on);
            lobby.microphone_on = choice.microphone_on.unwrap_or(lobby.microphone_on);
        });
        if reopen && self.read(|m| m.screen == Screen::Lobby) {
            self.open_preview();
        }
    }

    /// Chooses a device, in the form or in the call.
    #[allow(clippy::unused_async, reason = "an action like the others, which its command awaits")]
    pub async fn choose_device(&self, kind: DeviceKindDto, id: String) -> Answer<()> {
        self.update(|m| {
            let menu = m.lobby.menu(kind);
            menu.chosen = Some(id.clone());
            menu.problem = None;
        });
        self.remember(|s| match kind {
            DeviceKindDto::Camera => s.camera = Some(id),
            DeviceKindDto::Microphone => s.microphone = Some(id),
            DeviceKindDto::Speaker => s.speaker = Some(id),
        });
        if self.read(|m| m.call.is_some()) {
            self.switch_device(kind);
        } else if self.read(|m| m.screen == Screen::Lobby) {
            self.open_preview();
        }
        Ok(())
    }

    /// Looks for devices now and then, as long as a form or a call shows them.
    fn watch_devices(&self) {
        let shell = self.clone();
        self.spawn(async move {
            loop {
                let found = tokio::task::spawn_blocking(find_devices).await;
                let Ok((cameras, microphones, speakers)) = found else {
                    return;
                };
                shell.update(|m| {
                    fill_menu(&mut m.lobby.cameras, &cameras, DeviceKind::Camera);
                    fill_menu(&mut m.lobby.microphones, &microphones, DeviceKind::Microphone);
                    fill_menu(&mut m.lobby.speakers, &speakers, DeviceKind::Speaker);
                });
                tokio::time::sleep(LOOK_EVERY).await;
                if shell.read(|m| m.screen != Screen::Lobby && m.call.is_none()) {
                    return;
                }
            }
        });
    }

    /// Times the way to the server and back.
    fn measure_network(&self) {
        let Some(manager) = self.read(|m| m.session.as_ref().map(|s| s.manager.clone())) else {
            return;
        };
        let shell = self.clone();
        self.spawn(async move {
            let mut best = Duration::MAX;
            for _ in 0..3 {
                let start = Instant::now();
                let answer: Result<confab_wire::rest::SessionInfo, _> = manager
                    .request::<(), _>(reqwest::Method::GET, "/api-login/session", None)
                    .await;
                if answer.is_ok() {
                    best = best.min(start.elapsed());
                }
            }
            let view = network_view(best);
            shell.update(|m| m.lobby.network = Some(view));
        });
    }

    /// Shows the own camera and the microphone's level.
    pub fn open_preview(&self) {
        self.close_preview();
        let (camera, microphone) = self.read(|m| {
            let sends = !m.watch_only() && m.screen == Screen::Lobby;
            let camera = (sends && m.lobby.camera_on).then(|| m.lobby.camera_spec());
            (
                camera,
                (sends && m.lobby.microphone_on).then(|| m.lobby.microphone_spec()),
            )
        });
        let stop = tokio_util::sync::CancellationToken::new();
        let wish = self.read(|m| m.lobby.quality.size());
        self.update(|m| {
            m.lobby.preview = Some(stop.clone().drop_guard());
            m.lobby.previewing = camera.is_some();
        });
        if let Some(spec) = camera {
            let (shell, stop) = (self.clone(), stop.clone());
            self.runtime
                .spawn_blocking(move || crate::preview::camera(&shell, &spec, wish, &stop));
        }
        if let Some(spec) = microphone {
            let shell = self.clone();
            self.runtime
                .spawn_blocking(move || crate::preview::microphone(&shell, &spec, &stop));
        }
    }

    /// Closes camera and microphone.
    pub fn close_preview(&self) {
        self.update(|m| {
            m.lobby.preview = None;
            m.lobby.previewing = false;
            m.lobby.microphone_level = 0.0;
        });
        self.hub.ended(&VideoKey::Own(TrackSource::Camera));
    }
}

fn find_devices() -> (Vec<DeviceInfo>, Vec<DeviceInfo>, Vec<DeviceInfo>) {
    (
        confab_media::camera::cameras(),
        confab_media::audio::microphones(),
        confab_media::audio::speakers(),
    )
}

fn network_view(round_trip: Duration) -> NetworkView {
    let ms = round_trip.as_millis();
    let (verdict, reason) = match ms {
        0..150 => ("good", format!("The server answers in {ms} ms")),
        150..400 => (
            "fair",
            format!("The server takes {ms} ms to answer; talk may lag a little"),
        ),
        _ if round_trip == Duration::MAX => ("poor", "The server does not answer".into()),
        _ => (
            "poor",
            format!("The server takes {ms} ms to answer; expect people to talk over each other"),
        ),
    };
    NetworkView {
        verdict: verdict.into(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_leaves_a_problem_and_a_next_step() {
        let mut menu = DeviceMenu {
            devices: vec![],
            chosen: None,
            problem: None,
            switching: false,
        };
        fill_menu(&mut menu, &[], DeviceKind::Camera);
        assert_eq!(
            menu.problem.as_deref(),
            Some("No camera was found. Connect one, or join without.")
        );
    }

    #[test]
    fn a_source_of_the_command_line_stands_in_the_menu() {
        let mut menu = DeviceMenu {
            devices: vec![],
            chosen: Some("test-tone:880".into()),
            problem: None,
            switching: false,
        };
        fill_menu(&mut menu, &[], DeviceKind::Microphone);
        assert_eq!(menu.devices[0].label, "Test tone");
        assert!(menu.problem.is_none());
    }

    #[test]
    fn the_network_verdict_comes_with_its_reason() {
        assert_eq!(
            network_view(Duration::from_millis(20)).reason,
            "The server answers in 20 ms"
        );
        assert_eq!(network_view(Duration::MAX).verdict, "poor");
    }
}
