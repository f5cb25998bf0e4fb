//! The types that flow through the pipeline, and the traits of its ends. Devices,
//! files and test sources stand behind the same traits.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;

/// A picture, planar 4:2:0 limited-range BT.601, one allocation: Y, then U, then V, rows without padding.
#[derive(Clone)]
pub struct I420 {
    /// Pixels across; even.
    pub width: u32,
    /// Pixels down; even.
    pub height: u32,
    /// `width*height*3/2` bytes.
    pub data: Arc<[u8]>,
    /// When it was captured (own pictures) or decoded (received ones).
    pub time: Instant,
}

impl std::fmt::Debug for I420 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "I420 {}x{}", self.width, self.height)
    }
}

impl I420 {
    /// The luma plane.
    pub fn y(&self) -> &[u8] {
        &self.data[..self.luma_len()]
    }
    /// The first chroma plane.
    pub fn u(&self) -> &[u8] {
        &self.data[self.luma_len()..self.luma_len() * 5 / 4]
    }
    /// The second chroma plane.
    pub fn v(&self) -> &[u8] {
        &self.data[self.luma_len() * 5 / 4..]
    }
    fn luma_len(&self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// Why a source or sink failed. Each says what a person can do next.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is none.
    #[error("no {0} was found; connect one, or go on without")]
    NotFound(DeviceKind),
    /// Another program has it.
    #[error("the {0} is used by another program; close that program and try again")]
    Busy(DeviceKind),
    /// The system forbids it.
    #[error("this app may not use the {0}; allow it in the system's privacy settings")]
    Denied(DeviceKind),
    /// It went away, or stopped answering.
    #[error("the {0} was disconnected or stopped answering")]
    Lost(DeviceKind),
    /// The file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Anything else, in the driver's words.
    #[error("the {kind} failed: {reason}")]
    Other {
        /// Which device.
        kind: DeviceKind,
        /// The driver's words.
        reason: String,
    },
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Takes pictures.
    Camera,
    /// Takes sound.
    Microphone,
    /// Plays sound.
    Speaker,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::Speaker => "speaker",
        })
    }
}

/// A device as menus show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Stable name to open it by.
    pub id: String,
    /// Name for people.
    pub label: String,
    /// Which kind.
    pub kind: DeviceKind,
    /// The system's choice.
    pub default: bool,
}

/// Where pictures come from, as the command line and the settings name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoSourceSpec {
    /// No pictures.
    None,
    /// A camera by id; `None` is the first one.
    Camera(Option<String>),
    /// The test pattern: moving, with a machine-readable timecode and a colour of the given hue (degrees).
    TestPattern {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Frames per second.
        fps: u32,
        /// Hue in degrees, 0 to 359; derived from the participant.
        hue: u16,
    },
    /// A y4m file, looped.
    Y4m(std::path::PathBuf),
}

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum AudioSourceSpec {
    /// No sound at all (no track).
    None,
    /// A microphone by id; `None` is the system's.
    Microphone(Option<String>),
    /// A steady tone; Hz.
    TestTone(f32),
    /// A voice-like, syllabic tone for the companion; the number is its pitch in Hz.
    VoiceLike(f32),
    /// A wav file, looped.
    Wav(std::path::PathBuf),
    /// Digital silence.
    Silence,
}

/// An encoded picture of one simulcast layer.
#[derive(Debug, Clone)]
pub struct EncodedVideo {
    /// Layer index, lowest first.
    pub layer: usize,
    /// When the picture was captured.
    pub captured: Instant,
    /// A decoder can start here.
    pub keyframe: bool,
    /// Temporal layer and switch-up point, if any.
    pub temporal: Option<(u8, bool)>,
    /// The VP8 frame.
    pub data: Bytes,
}

/// An encoded 20 ms of sound.
#[derive(Debug, Clone)]
pub struct EncodedAudio {
    /// Capture time of its first sample.
    pub captured: Instant,
    /// Loudness, dBov: 0 (loudest) to 127 (silence), RFC 6464.
    pub level: u8,
    /// The Opus packet.
    pub data: Bytes,
}

/// A received RTP packet, as a jitter or frame buffer needs it.
#[derive(Debug, Clone)]
pub struct MediaPacket {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// RTP payload.
    pub payload: Bytes,
    /// When it came.
    pub arrived: Instant,
}

/// Changes frames between encoder and packetizer, and between depacketizer and decoder: the place where
/// end-to-end encryption goes. `None` drops the frame.
pub trait FrameTransform: Send {
    /// Transforms one frame's bytes.
    fn transform(&mut self, frame: Bytes) -> Option<Bytes>;
}

/// Leaves frames as they are.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoTransform;

impl FrameTransform for NoTransform {
    fn transform(&mut self, frame: Bytes) -> Option<Bytes> {
        Some(frame)
    }
}
