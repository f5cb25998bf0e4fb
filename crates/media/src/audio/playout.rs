//! What is heard: all received streams, mixed, on a speaker that may change or go away at any time.
//!
//! A call without a speaker is still a call: the streams are then decoded in real time and thrown away, so that levels,
//! recordings and figures go on, and the next speaker that appears is taken.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rtrb::Consumer;

use super::event::DeviceEvents;
use super::jitter::{JitterBuffer, JitterConfig, JitterStats};
use super::meter::Loudness;
use super::mixer::{BlockTap, Mixer, Output, Stream};
use super::opus::OpusError;
use super::recorder::Recorder;
use super::resample::ToBlocks;
use super::thread::spawn_audio;
use super::{BLOCK, SAMPLE_RATE};
use crate::api::{DeviceError, DeviceInfo, DeviceKind, FrameTransform, MediaPacket, NoTransform};

/// Where received sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeakerTarget {
    /// The speaker with this id, or the system's; the system's too while the named one is away.
    Device(Option<String>),
    /// Mixed and thrown away in real time.
    Null,
}

/// The playout of one call. Dropping it ends the sound.
pub struct Playout {
    streams: Arc<Mutex<Vec<Arc<Stream>>>>,
    mixer: Option<(Sender<Output>, JoinHandle<()>)>,
    #[cfg(feature = "sound")]
    speaker: Option<super::speaker::Speaker>,
    state: Arc<PlayoutState>,
    jitter: JitterConfig,
}

/// What the speaker's supervisor tells.
#[derive(Default)]
pub(super) struct PlayoutState {
    pub(super) problem: Mutex<Option<DeviceError>>,
    pub(super) device: Mutex<Option<DeviceInfo>>,
    pub(super) far_end: FarEnd,
}

impl Playout {
    /// Starts mixing at once; the speaker is opened beside it. Whether it could be is in [`Self::problem`] and `events`.
    pub fn start(target: SpeakerTarget, events: DeviceEvents) -> Result<Self, DeviceError> {
        let streams: Arc<Mutex<Vec<Arc<Stream>>>> = Arc::default();
        let (outputs, switched) = mpsc::channel();
        let mixer = Mixer::new(Arc::clone(&streams));
        let thread = spawn_audio("confab-mix", DeviceKind::Speaker, move || mixer.run(&switched))?;
        let state: Arc<PlayoutState> = Arc::default();
        #[cfg(feature = "sound")]
        let speaker = {
            let wiring = super::speaker::Wiring {
                outputs: outputs.clone(),
                mixer: thread.thread().clone(),
                state: Arc::clone(&state),
                events,
            };
            Some(super::speaker::Speaker::start(target, wiring)?)
        };
        #[cfg(not(feature = "sound"))]
        if let SpeakerTarget::Device(_) = target {
            let error = DeviceError::NotFound(DeviceKind::Speaker);
            *state.problem.lock() = Some(error.clone());
            events(super::event::DeviceEvent::Failed {
                kind: DeviceKind::Speaker,
                error,
            });
        }
        Ok(Self {
            streams,
            mixer: Some((outputs, thread)),
            #[cfg(feature = "sound")]
            speaker,
            state,
            jitter: JitterConfig::default(),
        })
    }

    /// Plays elsewhere from now on; the streams go on without a break.
    pub fn set_target(&self, target: SpeakerTarget) {
        #[cfg(feature = "sound")]
        if let Some(speaker) = &self.speaker {
            speaker.set_target(target);
        }
        #[cfg(not(feature = "sound"))]
        drop(target);
    }

    /// How the buffers of streams added from now on behave.
    pub fn set_jitter_config(&mut self, config: JitterConfig) {
        self.jitter = config;
    }

    /// Adds a received stream; it is heard until the handle is dropped.
    pub fn add_stream(&self, id: &str) -> Result<RemoteAudio, OpusError> {
        let stream = Arc::new(Stream {
            id: id.to_owned(),
            jitter: Mutex::new(JitterBuffer::new(self.jitter)?),
            transform: Mutex::new(Box::new(NoTransform)),
            volume: AtomicU32::new(1.0f32.to_bits()),
            loudness: AtomicU8::new(Loudness::SILENCE.dbov()),
            recorder: Mutex::new(None),
            tap: Mutex::new(None),
            ended: AtomicBool::new(false),
        });
        self.streams.lock().push(Arc::clone(&stream));
        Ok(RemoteAudio { stream })
    }

    /// What the speaker plays, for the echo canceller of the microphone.
    pub fn far_end(&self) -> FarEnd {
        self.state.far_end.clone()
    }

    /// Why nothing is heard; `None` while a speaker plays, or none is wanted.
    pub fn problem(&self) -> Option<DeviceError> {
        self.state.problem.lock().clone()
    }

    /// The speaker in use.
    pub fn device(&self) -> Option<DeviceInfo> {
        self.state.device.lock().clone()
    }
}

impl Drop for Playout {
    fn drop(&mut self) {
        // First the speaker, whose callback reads from the ring, then the mixer, which ends with its last sender.
        #[cfg(feature = "sound")]
        drop(self.speaker.take());
        if let Some((outputs, thread)) = self.mixer.take() {
            drop(outputs);
            thread.thread().unpark();
            // Ends within one block.
            let _ = thread.join();
        }
    }
}

/// A received stream being played. Dropping it removes it.
pub struct RemoteAudio {
    stream: Arc<Stream>,
}

impl RemoteAudio {
    /// The id it was added with.
    pub fn id(&self) -> &str {
        &self.stream.id
    }

    /// Takes a packet as it came, in any order. Returns at once.
    pub fn push(&self, mut packet: MediaPacket) {
        let Some(payload) = self.stream.transform.lock().transform(packet.payload) else {
            return;
        };
        packet.payload = payload;
        self.stream.jitter.lock().push(packet);
    }

    /// Changes packets before they are decoded.
    pub fn set_transform(&self, transform: Box<dyn FrameTransform>) {
        *self.stream.transform.lock() = transform;
    }

    /// Volume for this listener alone: 0 is silent, 1 as sent, 2 the most.
    pub fn set_volume(&self, volume: f32) {
        let volume = if volume.is_finite() {
            volume.clamp(0.0, 2.0)
        } else {
            1.0
        };
        self.stream.volume.store(volume.to_bits(), Ordering::Relaxed);
    }

    /// Counts and delay.
    pub fn stats(&self) -> JitterStats {
        self.stream.stats()
    }

    /// How loud it is now, before the volume.
    pub fn loudness(&self) -> Loudness {
        Loudness::from_dbov(self.stream.loudness.load(Ordering::Relaxed))
    }

    /// Level for a meter, 0 to 1.
    pub fn level(&self) -> f32 {
        self.loudness().level()
    }

    /// Writes what is heard of it, before the volume, to a wav file until [`Self::stop_recording`] or the end.
    pub fn record(&self, path: &Path) -> Result<(), DeviceError> {
        let recorder = Recorder::create(path)?;
        let previous = self.stream.recorder.lock().replace(recorder);
        drop(previous);
        Ok(())
    }

    /// Shows every decoded block, before the volume, to `tap`: measuring.
    pub fn set_tap(&self, tap: BlockTap) {
        *self.stream.tap.lock() = Some(tap);
    }

    /// Finishes the file.
    pub fn stop_recording(&self) {
        let recorder = self.stream.recorder.lock().take();
        drop(recorder);
    }
}

impl Drop for RemoteAudio {
    fn drop(&mut self) {
        self.stream.ended.store(true, Ordering::Release);
        self.stop_recording();
    }
}

/// What the speaker plays: written by its callback, read by the echo canceller. Clones share one stream of sound, for
/// one reader at a time.
#[derive(Clone, Default)]
pub struct FarEnd {
    ring: Arc<Mutex<Option<FarRing>>>,
}

pub(super) struct FarRing {
    samples: Consumer<f32>,
    resampler: Option<ToBlocks>,
    scratch: Vec<f32>,
}

impl FarRing {
    #[cfg_attr(not(feature = "sound"), allow(dead_code))]
    pub(super) fn new(samples: Consumer<f32>, rate: u32) -> Self {
        let resampler = (rate != SAMPLE_RATE).then(|| ToBlocks::new(rate)).flatten();
        let most = resampler.as_ref().map_or(BLOCK, ToBlocks::most_needed);
        Self {
            samples,
            resampler,
            scratch: vec![0.0; most],
        }
    }

    fn next(&mut self) -> Option<[f32; BLOCK]> {
        let needed = self.resampler.as_ref().map_or(BLOCK, ToBlocks::needed);
        let scratch = self.scratch.get_mut(..needed)?;
        self.samples.pop_entire_slice(scratch).ok()?;
        let mut block = [0.0; BLOCK];
        match &mut self.resampler {
            None => block.copy_from_slice(scratch),
            Some(resampler) => {
                if !resampler.process(scratch, &mut block) {
                    return None;
                }
            }
        }
        Some(block)
    }
}

impl FarEnd {
    /// Takes the sound of another speaker from now on.
    #[cfg_attr(not(feature = "sound"), allow(dead_code))]
    pub(super) fn replace(&self, ring: Option<FarRing>) {
        *self.ring.lock() = ring;
    }

    /// Hands over all blocks played since the last call, oldest first. The newest 200 ms of a long pause.
    pub(super) fn drain(&self, mut played: impl FnMut(&[f32; BLOCK])) {
        let mut ring = self.ring.lock();
        let Some(ring) = ring.as_mut() else { return };
        let blocks = ring.samples.slots() / BLOCK;
        for index in 0.. {
            let Some(block) = ring.next() else { return };
            if index + 20 >= blocks {
                played(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests;
