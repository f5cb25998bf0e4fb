//! The sending pipeline of one microphone: blocks -> processing -> level -> mute -> Opus -> transform -> callback, on
//! a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use confab_types::Bitrate;

use super::event::DeviceEvents;
use super::meter::Loudness;
use super::opus::{OpusConfig, OpusEncoder};
use super::playout::FarEnd;
use super::process::{ProcessingConfig, Processor};
use super::source::{AudioCapture, Captured, open};
use super::thread::spawn_audio;
use super::{BLOCK, Block, FRAME};
use crate::api::{AudioSourceSpec, DeviceError, DeviceKind, EncodedAudio, FrameTransform};

/// How long the pipeline waits for sound before it looks for commands.
const WAIT: Duration = Duration::from_millis(40);
/// About how long sound takes from the far-end reference through the air to the processing.
const DELAY_HINT_MS: u32 = 40;
/// Speech is louder than this, -dBov.
const SPEECH: u8 = 45;
/// So many loud blocks of 10 ms among the last ones are speech and not a knock on the table.
const SPEECH_BLOCKS: u8 = 20;
/// How long "you are muted" is shown after the last speech.
const REMIND: Duration = Duration::from_secs(2);

/// Whether sound is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processing {
    /// Microphones are, test sources and files are left as they are.
    Auto(ProcessingConfig),
    /// Whatever the source.
    Always(ProcessingConfig),
    /// Never.
    Off,
}

impl Default for Processing {
    fn default() -> Self {
        Self::Auto(ProcessingConfig::default())
    }
}

/// How to send sound.
#[derive(Clone)]
pub struct AudioSenderConfig {
    /// Where it comes from.
    pub source: AudioSourceSpec,
    /// Echo, noise and gain.
    pub processing: Processing,
    /// Codec settings.
    pub opus: OpusConfig,
    /// Start muted.
    pub muted: bool,
    /// What the speaker plays ([`super::Playout::far_end`]); without it echo stays.
    pub far_end: Option<FarEnd>,
}

impl AudioSenderConfig {
    /// The usual settings for a source.
    pub fn new(source: AudioSourceSpec) -> Self {
        Self {
            source,
            processing: Processing::default(),
            opus: OpusConfig::default(),
            muted: false,
            far_end: None,
        }
    }
}

/// Where packets go; called on the pipeline's thread every 20 ms, must return at once.
pub type OnAudio = Box<dyn FnMut(EncodedAudio) + Send>;

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AudioSenderStats {
    /// Packets handed over.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A running pipeline. Dropping it closes the device.
pub struct AudioSender {
    commands: Option<Sender<Command>>,
    shared: Arc<Shared>,
    events: DeviceEvents,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Source(Box<AudioCapture>),
    Bitrate(Bitrate),
    ExpectedLoss(u8),
}

#[derive(Default)]
struct Shared {
    muted: AtomicBool,
    loudness: AtomicU8,
    speaking_while_muted: AtomicBool,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl AudioSender {
    /// Opens the source and starts sending. Opening a microphone may take a second or two.
    pub fn start(
        config: AudioSenderConfig,
        transform: Box<dyn FrameTransform>,
        on_audio: OnAudio,
        events: DeviceEvents,
    ) -> Result<Self, DeviceError> {
        let capture = open(&config.source, &events)?;
        let encoder = OpusEncoder::new(config.opus).map_err(|error| DeviceError::Other {
            kind: DeviceKind::Microphone,
            reason: error.to_string(),
        })?;
        let shared = Arc::new(Shared {
            muted: AtomicBool::new(config.muted),
            loudness: AtomicU8::new(Loudness::SILENCE.dbov()),
            ..Shared::default()
        });
        let (commands, received) = mpsc::channel();
        let pipeline = Pipeline {
            processor: None,
            processing: config.processing,
            far_end: config.far_end,
            encoder,
            transform,
            on_audio,
            shared: Arc::clone(&shared),
            half: None,
            loud_blocks: 0,
            spoke: None,
        };
        let thread = spawn_audio("confab-mic", DeviceKind::Microphone, move || {
            pipeline.run(capture, &received)
        })?;
        Ok(Self {
            commands: Some(commands),
            shared,
            events,
            thread: Some(thread),
        })
    }

    /// Stops or resumes sending. The device stays open while muted, so that "you are muted" can be told.
    pub fn set_muted(&self, muted: bool) {
        self.shared.muted.store(muted, Ordering::Release);
    }

    /// Whether nothing is sent now.
    pub fn muted(&self) -> bool {
        self.shared.muted.load(Ordering::Acquire)
    }

    /// Sends from another source; the old one goes on if it cannot be opened. May take a second or two.
    pub fn set_source(&self, source: &AudioSourceSpec) -> Result<(), DeviceError> {
        let capture = open(source, &self.events)?;
        self.send(Command::Source(Box::new(capture)));
        Ok(())
    }

    /// Changes the codec's target.
    pub fn set_bitrate(&self, bitrate: Bitrate) {
        self.send(Command::Bitrate(bitrate));
    }

    /// Tells the codec how much loss to prepare for, in percent.
    pub fn set_expected_loss(&self, percent: u8) {
        self.send(Command::ExpectedLoss(percent));
    }

    /// Loudness of the microphone, muted or not.
    pub fn loudness(&self) -> Loudness {
        Loudness::from_dbov(self.shared.loudness.load(Ordering::Relaxed))
    }

    /// Level for a meter, 0 to 1, muted or not.
    pub fn level(&self) -> f32 {
        self.loudness().level()
    }

    /// Somebody spoke into the muted microphone within the last two seconds.
    pub fn speaking_while_muted(&self) -> bool {
        self.shared.speaking_while_muted.load(Ordering::Relaxed)
    }

    /// Totals.
    pub fn stats(&self) -> AudioSenderStats {
        AudioSenderStats {
            packets: self.shared.packets.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
        }
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // Fails only when the thread ended by a panic, which has been logged.
            let _ = commands.send(command);
        }
    }
}

impl Drop for AudioSender {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // Ends within one wait for sound.
            let _ = thread.join();
        }
    }
}

struct Pipeline {
    processor: Option<Processor>,
    processing: Processing,
    far_end: Option<FarEnd>,
    encoder: OpusEncoder,
    transform: Box<dyn FrameTransform>,
    on_audio: OnAudio,
    shared: Arc<Shared>,
    /// The first half of a packet.
    half: Option<Block>,
    loud_blocks: u8,
    spoke: Option<Instant>,
}

impl Pipeline {
    fn run(mut self, mut capture: AudioCapture, commands: &Receiver<Command>) {
        self.prepare(&capture);
        loop {
            loop {
                match commands.try_recv() {
                    Ok(Command::Source(source)) => {
                        capture = *source;
                        self.prepare(&capture);
                    }
                    Ok(command) => self.apply(&command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            match capture.next(WAIT) {
                Captured::Block(block) => self.take(block),
                Captured::Nothing => self.half = None,
            }
        }
    }

    fn prepare(&mut self, capture: &AudioCapture) {
        self.half = None;
        let config = match self.processing {
            Processing::Auto(config) if capture.is_microphone() => Some(config),
            Processing::Always(config) => Some(config),
            _ => None,
        };
        self.processor = config.map(Processor::new);
    }

    fn apply(&mut self, command: &Command) {
        let applied = match command {
            Command::Bitrate(bitrate) => self.encoder.set_bitrate(*bitrate),
            Command::ExpectedLoss(percent) => self.encoder.set_expected_loss(*percent),
            Command::Source(_) => Ok(()),
        };
        if let Err(error) = applied {
            tracing::debug!(%error, "codec setting refused");
        }
    }

    fn take(&mut self, mut block: Block) {
        if let Some(processor) = &mut self.processor {
            if let Some(far_end) = &self.far_end {
                far_end.drain(|played| processor.played(played));
            }
            processor.set_delay_hint(DELAY_HINT_MS);
            processor.capture(&mut block.samples);
        }
        let loudness = Loudness::of(&block.samples);
        self.shared.loudness.store(loudness.dbov(), Ordering::Relaxed);
        let muted = self.shared.muted.load(Ordering::Acquire);
        self.watch_for_speech(muted, loudness, block.captured);
        if muted {
            self.half = None;
            return;
        }
        match self.half.take() {
            // A break between the halves: the older one is left out.
            Some(first) if block.captured - first.captured <= Duration::from_millis(15) => self.encode(&first, &block),
            _ => self.half = Some(block),
        }
    }

    fn watch_for_speech(&mut self, muted: bool, loudness: Loudness, now: Instant) {
        let loud = loudness.dbov() < SPEECH;
        self.loud_blocks = if loud {
            self.loud_blocks.saturating_add(1).min(2 * SPEECH_BLOCKS)
        } else {
            self.loud_blocks.saturating_sub(1)
        };
        if self.loud_blocks >= SPEECH_BLOCKS {
            self.spoke = Some(now);
        }
        let lately = self
            .spoke
            .is_some_and(|spoke| now.saturating_duration_since(spoke) < REMIND);
        if !muted {
            self.loud_blocks = 0;
            self.spoke = None;
        }
        self.shared
            .speaking_while_muted
            .store(muted && lately, Ordering::Relaxed);
    }

    fn encode(&mut self, first: &Block, second: &Block) {
        let mut frame = [0.0; FRAME];
        frame[..BLOCK].copy_from_slice(&first.samples);
        frame[BLOCK..].copy_from_slice(&second.samples);
        let level = Loudness::of(&frame).dbov();
        let packet = match self.encoder.encode(&frame) {
            Ok(packet) => packet,
            Err(error) => {
                tracing::debug!(%error, "20 ms of sound left out");
                return;
            }
        };
        let Some(data) = self.transform.transform(packet) else {
            return;
        };
        self.shared.packets.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        (self.on_audio)(EncodedAudio {
            captured: first.captured,
            level,
            data,
        });
    }
}

#[cfg(test)]
mod tests;
