//! Opens what sound comes from. Microphones, files and test sources give the same 10 ms blocks.

use std::time::{Duration, Instant};

use super::event::DeviceEvents;
use super::generate::{Tone, Voice};
use super::{BLOCK, Block, wav};
use crate::api::{AudioSourceSpec, DeviceError, DeviceKind};

/// A block's length.
const BLOCK_TIME: Duration = Duration::from_millis(10);

/// A reader this far behind (the machine slept, the process was stopped) skips what it missed.
const MAX_BEHIND: Duration = Duration::from_millis(200);

/// What [`AudioCapture::next`] gives.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a block is the usual case, and is copied once every 10 ms"
)]
pub enum Captured {
    /// 10 ms of sound.
    Block(Block),
    /// Nothing came in time; a microphone may be on its way back. Ask again.
    Nothing,
}

/// An open source of sound. Dropping it closes the device.
pub struct AudioCapture {
    inner: Inner,
}

enum Inner {
    Paced(Paced),
    #[cfg(feature = "sound")]
    Microphone(Box<super::microphone::Microphone>),
}

/// Opens a source. May take a second or two for a real microphone: not for an async task.
///
/// Device changes later on go to `events`; the capture itself goes on with the next best microphone.
pub fn open(spec: &AudioSourceSpec, events: &DeviceEvents) -> Result<AudioCapture, DeviceError> {
    let content = match spec {
        AudioSourceSpec::Microphone(id) => return open_microphone(id.as_deref(), events),
        AudioSourceSpec::None => return Err(DeviceError::NotFound(DeviceKind::Microphone)),
        AudioSourceSpec::TestTone(hz) => Content::Tone(Tone::new(*hz)),
        AudioSourceSpec::VoiceLike(hz) => Content::Voice(Box::new(Voice::new(*hz))),
        AudioSourceSpec::Wav(path) => Content::Loop {
            samples: wav::read(path)?,
            at: 0,
        },
        AudioSourceSpec::Silence => Content::Silence,
    };
    Ok(AudioCapture {
        inner: Inner::Paced(Paced::new(content, Instant::now())),
    })
}

#[cfg(feature = "sound")]
fn open_microphone(id: Option<&str>, events: &DeviceEvents) -> Result<AudioCapture, DeviceError> {
    let microphone = super::microphone::Microphone::open(id, events)?;
    Ok(AudioCapture {
        inner: Inner::Microphone(Box::new(microphone)),
    })
}

#[cfg(not(feature = "sound"))]
fn open_microphone(_: Option<&str>, _: &DeviceEvents) -> Result<AudioCapture, DeviceError> {
    Err(DeviceError::NotFound(DeviceKind::Microphone))
}

impl AudioCapture {
    /// The next block, in real time; blocks the calling thread for `timeout` at most.
    pub fn next(&mut self, timeout: Duration) -> Captured {
        match &mut self.inner {
            Inner::Paced(paced) => {
                let wait = paced.due().saturating_duration_since(Instant::now());
                if wait > timeout {
                    std::thread::sleep(timeout);
                    return Captured::Nothing;
                }
                std::thread::sleep(wait);
                Captured::Block(paced.block(Instant::now()))
            }
            #[cfg(feature = "sound")]
            Inner::Microphone(microphone) => microphone.next(timeout),
        }
    }

    /// Whether the sound comes through the air, and so needs echo cancelling.
    pub fn is_microphone(&self) -> bool {
        #[cfg(feature = "sound")]
        if matches!(self.inner, Inner::Microphone(_)) {
            return true;
        }
        false
    }
}

enum Content {
    Tone(Tone),
    Voice(Box<Voice>),
    Loop { samples: Vec<f32>, at: usize },
    Silence,
}

/// Gives out blocks on a fixed 10 ms grid of the monotonic clock: waiting too long once is not carried on.
struct Paced {
    content: Content,
    /// Capture time of the next block's first sample.
    next: Instant,
}

impl Paced {
    fn new(content: Content, now: Instant) -> Self {
        Self { content, next: now }
    }

    /// When the next block is complete.
    fn due(&self) -> Instant {
        self.next + BLOCK_TIME
    }

    fn block(&mut self, now: Instant) -> Block {
        let behind = now.saturating_duration_since(self.due());
        if behind > MAX_BEHIND {
            // Whole packets, so that the 20 ms grid stays.
            let packets = behind.as_millis() as u32 / 20;
            self.next += BLOCK_TIME * 2 * packets;
        }
        let mut samples = [0.0; BLOCK];
        match &mut self.content {
            Content::Tone(tone) => tone.fill(&mut samples),
            Content::Voice(voice) => voice.fill(&mut samples),
            Content::Silence => {}
            Content::Loop { samples: source, at } => {
                for sample in &mut samples {
                    *sample = source[*at];
                    *at = (*at + 1) % source.len();
                }
            }
        }
        let captured = self.next;
        self.next += BLOCK_TIME;
        Block { samples, captured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::event::no_events;

    #[test]
    fn blocks_keep_the_pace_of_the_clock_and_skip_what_a_sleep_missed() {
        let start = Instant::now();
        let mut paced = Paced::new(Content::Silence, start);
        for n in 0..1000u32 {
            // Called late by up to 9 ms each time: the grid does not move.
            let block = paced.block(paced.due() + Duration::from_millis(u64::from(n % 10)));
            assert_eq!(block.captured, start + BLOCK_TIME * n);
        }
        let asleep = paced.due() + Duration::from_secs(600);
        let block = paced.block(asleep);
        assert!(asleep.saturating_duration_since(block.captured) < MAX_BEHIND);
        assert_eq!((block.captured - start).as_millis() % 20, 0);
    }

    #[test]
    fn test_sources_come_in_real_time() {
        let mut capture = open(&AudioSourceSpec::TestTone(440.0), &no_events()).unwrap();
        let start = Instant::now();
        let mut blocks = 0;
        while blocks < 20 {
            if let Captured::Block(_) = capture.next(Duration::from_millis(50)) {
                blocks += 1;
            }
        }
        assert!(start.elapsed() >= Duration::from_millis(195));
        assert!(!capture.is_microphone());
    }

    #[test]
    fn a_short_file_is_looped() {
        let mut paced = Paced::new(
            Content::Loop {
                samples: vec![0.25; 100],
                at: 0,
            },
            Instant::now(),
        );
        assert!(paced.block(Instant::now()).samples.iter().all(|&sample| sample == 0.25));
    }

    #[test]
    fn no_source_and_a_missing_file_are_refused() {
        assert!(open(&AudioSourceSpec::None, &no_events()).is_err());
        let missing = AudioSourceSpec::Wav("/nowhere/speech.wav".into());
        assert!(matches!(open(&missing, &no_events()), Err(DeviceError::File { .. })));
    }
}
