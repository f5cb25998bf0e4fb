//! The second participant of *Try a call*: a moving picture and a voice-like sound, so that a
//! newcomer sees and hears a real call through the real server.

use confab_media::{AudioSourceSpec, VideoSourceSpec};
use confab_types::{CameraQuality, Secret};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::bot::{Access, BotConfig, BotError, run};

/// The companion's colour: a calm teal, far from the usual first participant's.
const HUE: u16 = 174;
/// The pitch of its voice, Hz.
const PITCH: f32 = 165.0;

/// Joins as a companion and stays until `stop` is cancelled or the call ends.
pub async fn companion(
    server: Url,
    user: &str,
    password: Secret,
    room: &str,
    nickname: &str,
    stop: CancellationToken,
) -> Result<(), BotError> {
    let config = BotConfig {
        access: Access::SignIn {
            server,
            user: user.to_owned(),
            password,
            room: room.to_owned(),
            nickname: nickname.to_owned(),
            pin: None,
        },
        camera: VideoSourceSpec::TestPattern {
            width: 640,
            height: 480,
            fps: 30,
            hue: HUE,
        },
        microphone: AudioSourceSpec::VoiceLike(PITCH),
        quality: CameraQuality::Medium,
        duration: None,
        record: None,
        tcp_only: false,
        force_publish: false,
        say: None,
    };
    // Nobody follows its events: sending to a closed channel is fine.
    let (events, _) = mpsc::unbounded_channel();
    run(config, events, stop).await.map(drop)
}
