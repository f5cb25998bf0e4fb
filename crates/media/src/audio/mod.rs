//! Sound: sources, processing, Opus, the jitter buffer, mixing and playout.
//!
//! Everything inside runs at 48 kHz mono `f32` in blocks of 10 ms; devices with other rates are
//! resampled at the edge. Knows nothing of participants: a received stream is an id and its packets.

pub mod device;
pub mod event;
pub mod generate;
pub mod jitter;
pub mod limiter;
pub mod meter;
#[cfg(feature = "sound")]
mod microphone;
mod mixer;
pub mod opus;
pub mod playout;
pub mod process;
pub mod recorder;
mod resample;
pub mod sender;
pub mod source;
#[cfg(feature = "sound")]
mod speaker;
mod thread;
pub mod wav;

pub use device::{microphones, speakers};
pub use event::{DeviceEvent, DeviceEvents, no_events};
pub use jitter::{JitterBuffer, JitterConfig, JitterStats, Pulled};
pub use meter::Loudness;
pub use mixer::BlockTap;
pub use opus::{OpusConfig, OpusDecoder, OpusEncoder, OpusError};
pub use playout::{FarEnd, Playout, RemoteAudio, SpeakerTarget};
pub use process::{ProcessingConfig, Processor};
pub use sender::{AudioSender, AudioSenderConfig, AudioSenderStats, OnAudio, Processing};
pub use source::{AudioCapture, Captured};

/// Samples in a second, everywhere inside.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples in the 10 ms that capture, processing and playout work in. The echo canceller takes no other size.
pub const BLOCK: usize = 480;

/// Samples in the 20 ms of one Opus packet. Shorter costs more packets and headers, longer more delay.
pub const FRAME: usize = 960;

/// 10 ms of sound.
#[derive(Debug, Clone)]
pub struct Block {
    /// 48 kHz mono, -1 to 1.
    pub samples: [f32; BLOCK],
    /// When its first sample was captured. Blocks of one run are exactly 10 ms apart: clock drift is resampled away.
    pub captured: std::time::Instant,
}
