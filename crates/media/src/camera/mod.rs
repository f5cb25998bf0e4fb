//! Cameras, through nokhwa: V4L2, Media Foundation, AVFoundation. One long-lived
//! thread owns whatever nokhwa hands out (its cameras cannot change threads, and COM
//! wants one); a second one watches that it does not hang.
//!
//! ```text
//! idle --open--> streaming --frame fails, 3 s of silence--> lost --every 2 s: is it back?--> streaming
//!   ^_______________|__________________ closed ______________|
//! ```

mod choice;
mod device;
mod list;
mod worker;

use crate::video::{CaptureWish, DeviceEvents, FrameSlot, VideoCapture, VideoSource};
use crate::{DeviceError, DeviceInfo};

/// The cameras of this computer, the one a call uses by itself first. Blocks for some milliseconds.
pub fn cameras() -> Vec<DeviceInfo> {
    worker::hub().list()
}

/// A camera as a source. One camera is open at a time: opening another closes the first, whose events say so.
#[derive(Debug, Clone)]
pub struct CameraSource {
    id: Option<String>,
}

impl CameraSource {
    /// By [`DeviceInfo::id`]; `None` is the first that works. Device paths such as `/dev/video0` are understood too.
    pub fn new(id: Option<String>) -> Self {
        Self { id }
    }
}

impl VideoSource for CameraSource {
    fn start(
        self: Box<Self>,
        wish: CaptureWish,
        out: FrameSlot,
        events: DeviceEvents,
    ) -> Result<VideoCapture, DeviceError> {
        worker::hub().open(self.id, wish, out, events)
    }
}
