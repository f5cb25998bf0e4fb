//! The own microphone: opened beside the call, muted without closing it, its packets handed
//! to the outlet.

use std::sync::Arc;

use bytes::Bytes;
use confab_media::audio::{AudioSender, AudioSenderConfig, DeviceEvent, DeviceEvents, FarEnd};
use confab_media::{AudioSourceSpec, DeviceError, NoTransform};
use confab_transport::EncodedFrame;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::actor::Note;
use super::hearing::{Onsets, unix_ms_of};
use super::own::OwnNote;
use super::publication::Outlet;

/// The microphone and its encoder.
pub struct OwnAudio {
    source: AudioSourceSpec,
    far_end: Option<FarEnd>,
    sender: Option<Arc<AudioSender>>,
    /// Which opening counts.
    opening: u64,
    pending: bool,
    /// Where packets go.
    pub outlet: Arc<Outlet>,
    /// Where sound began.
    pub onsets: Arc<Mutex<Onsets>>,
    notes: mpsc::Sender<Note>,
}

impl OwnAudio {
    /// Closed.
    pub fn new(source: AudioSourceSpec, notes: mpsc::Sender<Note>) -> Self {
        Self {
            source,
            far_end: None,
            sender: None,
            opening: 0,
            pending: false,
            outlet: Arc::default(),
            onsets: Arc::default(),
            notes,
        }
    }

    /// What the speaker plays, for the echo canceller.
    pub fn set_far_end(&mut self, far_end: FarEnd) {
        self.far_end = Some(far_end);
    }

    /// Whether there is a source at all.
    pub fn exists(&self) -> bool {
        self.source != AudioSourceSpec::None
    }

    /// The device delivers.
    pub fn is_open(&self) -> bool {
        self.sender.is_some()
    }

    /// Opens the device in the background, unless it is open or on its way. The outcome comes as a note.
    pub fn open(&mut self) {
        if self.sender.is_some() || self.pending || !self.exists() {
            return;
        }
        self.pending = true;
        self.opening += 1;
        let (opening, outlet, notes) = (self.opening, self.outlet.clone(), self.notes.clone());
        let onsets = self.onsets.clone();
        let mut config = AudioSenderConfig::new(self.source.clone());
        config.far_end.clone_from(&self.far_end);
        let events = device_events(notes.clone());
        tokio::task::spawn_blocking(move || {
            let on_audio = Box::new(move |packet: confab_media::EncodedAudio| {
                onsets.lock().take(packet.level, 2, unix_ms_of(packet.captured));
                outlet.send(EncodedFrame {
                    layer: 0,
                    captured: packet.captured,
                    keyframe: false,
                    temporal: None,
                    audio_level: Some(packet.level),
                    data: Bytes::clone(&packet.data),
                });
            });
            let opened = AudioSender::start(config, Box::new(NoTransform), on_audio, events);
            // Nobody waits any more when the call is over: the device closes again.
            let _ = notes.blocking_send(Note::Own(OwnNote::Microphone(opening, opened)));
        });
    }

    /// Takes an opened device; false if another opening counts by now.
    pub fn opened(&mut self, opening: u64, sender: AudioSender, muted: bool) -> bool {
        if opening != self.opening {
            close_aside(Arc::new(sender));
            return false;
        }
        self.pending = false;
        sender.set_muted(muted);
        self.sender = Some(Arc::new(sender));
        true
    }

    /// The opening failed; false if another one counts by now.
    pub fn failed(&mut self, opening: u64) -> bool {
        let counts = opening == self.opening;
        self.pending &= !counts;
        counts
    }

    /// Stops or resumes sending; the device stays open.
    pub fn set_muted(&self, muted: bool) {
        if let Some(sender) = &self.sender {
            sender.set_muted(muted);
        }
    }

    /// Another source: at once if open, else with the next opening.
    pub fn set_source(&mut self, source: AudioSourceSpec) {
        self.source = source.clone();
        let Some(sender) = self.sender.clone() else {
            // One on its way is no longer the right one.
            self.opening += 1;
            self.pending = false;
            return;
        };
        let notes = self.notes.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(e) = sender.set_source(&source) {
                let _ = notes.blocking_send(Note::Device(e.to_string()));
            }
        });
    }

    /// Tells the codec how much loss to prepare for.
    pub fn set_expected_loss(&self, percent: u8) {
        if let Some(sender) = &self.sender {
            sender.set_expected_loss(percent);
        }
    }

    /// Speech into the muted microphone, lately.
    pub fn speaking_while_muted(&self) -> bool {
        self.sender
            .as_ref()
            .is_some_and(|s| s.muted() && s.speaking_while_muted())
    }

    /// Closes the device.
    pub fn close(&mut self) {
        self.opening += 1;
        self.pending = false;
        if let Some(sender) = self.sender.take() {
            close_aside(sender);
        }
    }
}

/// Closing waits for a thread: not on the runtime's.
fn close_aside(sender: Arc<AudioSender>) {
    tokio::task::spawn_blocking(move || drop(sender));
}

/// Device events as notes. A full queue loses words for a person, nothing else.
pub fn device_events(notes: mpsc::Sender<Note>) -> DeviceEvents {
    Arc::new(move |event: DeviceEvent| {
        let _ = notes.try_send(Note::Device(event.to_string()));
    })
}

/// A device's failure as a sentence for a person.
pub fn sentence(error: &DeviceError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
