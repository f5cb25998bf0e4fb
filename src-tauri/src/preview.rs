//! The joining form's live parts: the own picture, the microphone's level and the
//! speaker test. Each runs on a thread of its own until its token is cancelled.

use std::time::{Duration, Instant};

use confab_client::api::{SpeakerSpec, VideoKey, VideoSink as _};
use confab_media::audio::{self, Captured, Loudness, Playout, SpeakerTarget};
use confab_media::video::{self, CaptureWish, FrameSlot, SlotWait};
use confab_media::{AudioSourceSpec, MediaPacket, VideoSourceSpec};
use confab_types::TrackSource;
use tokio_util::sync::CancellationToken;

use crate::dto::{DeviceKindDto, UiError};
use crate::shell::{Answer, Shell};

/// The meter moves at most this often.
const METER_EVERY: Duration = Duration::from_millis(80);
/// Pictures a second in the preview.
const PREVIEW_FPS: u32 = 30;
/// The test sound: two notes, so that a click or hum is not taken for it.
const NOTES_HZ: [f32; 2] = [523.25, 783.99];
/// Length of each note in 20 ms packets.
const NOTE_PACKETS: u16 = 20;

/// Shows the own camera until cancelled.
pub fn camera(shell: &Shell, spec: &VideoSourceSpec, (width, height): (u32, u32), stop: &CancellationToken) {
    if *spec == VideoSourceSpec::None {
        return;
    }
    let slot = FrameSlot::new();
    let wish = CaptureWish {
        width,
        height,
        fps: PREVIEW_FPS,
    };
    let problem_shell = shell.clone();
    let events: video::DeviceEvents = std::sync::Arc::new(move |event| {
        let problem = match event {
            video::DeviceEvent::Lost(error) => Some(UiError::sentences(&error.to_string())),
            _ => None,
        };
        problem_shell.update(|m| m.lobby.cameras.problem = problem);
    });
    let _capture = match video::open(spec, wish, slot.clone(), events) {
        Ok(capture) => capture,
        Err(error) => {
            shell.update(|m| m.lobby.cameras.problem = Some(UiError::sentences(&error.to_string())));
            return;
        }
    };
    let own = VideoKey::Own(TrackSource::Camera);
    let mut size = (0, 0);
    while !stop.is_cancelled() {
        let SlotWait::Frame(frame) = slot.wait(Duration::from_millis(200)) else {
            continue;
        };
        let new_size = (frame.width, frame.height);
        shell.hub.frame(&own, frame);
        if size != new_size {
            size = new_size;
            shell.update(|m| m.lobby.cameras.problem = None);
        }
    }
}

/// Moves the microphone's meter until cancelled.
pub fn microphone(shell: &Shell, spec: &AudioSourceSpec, stop: &CancellationToken) {
    if *spec == AudioSourceSpec::None {
        return;
    }
    let mut capture = match audio::source::open(spec, &audio::no_events()) {
        Ok(capture) => capture,
        Err(error) => {
            shell.update(|m| m.lobby.microphones.problem = Some(UiError::sentences(&error.to_string())));
            return;
        }
    };
    let (mut loudest, mut told) = (0.0_f32, Instant::now());
    while !stop.is_cancelled() {
        if let Captured::Block(block) = capture.next(Duration::from_millis(200)) {
            loudest = loudest.max(Loudness::of(&block.samples).level());
        }
        if told.elapsed() >= METER_EVERY {
            shell.update(|m| m.lobby.microphone_level = loudest);
            (loudest, told) = (0.0, Instant::now());
        }
    }
}

impl Shell {
    /// Plays two notes on the chosen speaker.
    pub async fn test_speaker(&self) -> Answer<()> {
        let SpeakerSpec::Device(id) = self.read(|m| m.lobby.speaker_spec()) else {
            return Ok(());
        };
        let played = tokio::task::spawn_blocking(move || play_notes(id)).await;
        let problem = match played {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some("the speaker test failed; choose another speaker".to_owned()),
        };
        if let Some(sentence) = problem {
            self.update(|m| m.lobby.menu(DeviceKindDto::Speaker).problem = Some(UiError::sentences(&sentence)));
            return Err(UiError::new("speaker", &sentence));
        }
        Ok(())
    }
}

fn play_notes(speaker: Option<String>) -> Result<(), String> {
    let playout = Playout::start(SpeakerTarget::Device(speaker), audio::no_events()).map_err(|e| e.to_string())?;
    let stream = playout.add_stream("speaker-test").map_err(|e| e.to_string())?;
    let mut encoder = audio::OpusEncoder::new(audio::OpusConfig::default()).map_err(|e| e.to_string())?;
    let start = Instant::now();
    for packet in 0..NOTE_PACKETS * 2 {
        let hz = NOTES_HZ[usize::from(packet / NOTE_PACKETS)];
        let data = encoder
            .encode(&note(hz, packet % NOTE_PACKETS))
            .map_err(|e| e.to_string())?;
        std::thread::sleep(
            (start + Duration::from_millis(20) * u32::from(packet)).saturating_duration_since(Instant::now()),
        );
        stream.push(MediaPacket {
            sequence: packet,
            timestamp: u32::from(packet) * 960,
            marker: packet == 0,
            payload: data,
            arrived: Instant::now(),
        });
    }
    // The last packets are still on their way through the buffer.
    std::thread::sleep(Duration::from_millis(300));
    playout.problem().map_or(Ok(()), |problem| Err(problem.to_string()))
}

/// 20 ms of a note that fades in and out.
fn note(hz: f32, packet: u16) -> [f32; audio::FRAME] {
    std::array::from_fn(|i| {
        let sample = f32::from(packet) * audio::FRAME as f32 + i as f32;
        let all = f32::from(NOTE_PACKETS) * audio::FRAME as f32;
        let envelope = (std::f32::consts::PI * sample / all).sin();
        0.3 * envelope * (std::f32::consts::TAU * hz * sample / audio::SAMPLE_RATE as f32).sin()
    })
}
