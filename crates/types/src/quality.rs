//! The three camera qualities of the joining form.

use serde::{Deserialize, Serialize};

use crate::Bitrate;

/// A camera quality. The names and sizes are OpenVidu's sample's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CameraQuality {
    /// 320x240.
    Low,
    /// 640x480.
    #[default]
    Medium,
    /// 1280x720.
    High,
}

impl CameraQuality {
    /// Width and height in pixels.
    pub fn size(self) -> (u32, u32) {
        match self {
            Self::Low => (320, 240),
            Self::Medium => (640, 480),
            Self::High => (1280, 720),
        }
    }

    /// The most the top simulcast layer may take.
    pub fn max_bitrate(self) -> Bitrate {
        match self {
            Self::Low => Bitrate::kbps(250),
            Self::Medium => Bitrate::kbps(700),
            Self::High => Bitrate::kbps(1700),
        }
    }
}
