//! One open camera: choosing a format that works, reading pictures, and turning
//! nokhwa's errors and panics into words for people. Lives on the camera thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use nokhwa::Camera;
use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};

use crate::camera::choice::rank;
use crate::video::CaptureWish;
use crate::video::convert::{PixelFormat, to_i420};
use crate::{DeviceError, DeviceKind, I420};

const CAMERA: DeviceKind = DeviceKind::Camera;
/// Formats tried until one delivers; the list of a camera has dozens, most of them alike.
const ATTEMPTS: usize = 6;
/// Pictures that may be damaged in a row before the camera counts as broken. The first ones of many cameras are.
const MAX_DAMAGED: u32 = 30;
const ALL_FORMATS: &[FrameFormat] = &[
    FrameFormat::MJPEG,
    FrameFormat::YUYV,
    FrameFormat::NV12,
    FrameFormat::GRAY,
    FrameFormat::RAWRGB,
    FrameFormat::RAWBGR,
];

/// A camera that streams.
pub struct Device {
    /// `None` only while it is dropped.
    camera: Option<Camera>,
    format: CameraFormat,
}

impl Device {
    /// Opens a camera in the best format that works.
    pub fn open(index: &CameraIndex, wish: CaptureWish) -> Result<Self, DeviceError> {
        guarded(|| {
            allow()?;
            prepare(index)?;
            let formats = rank(formats(index)?, wish);
            let mut last = DeviceError::Other {
                kind: CAMERA,
                reason: "it has no format that can be used".into(),
            };
            for format in formats.into_iter().take(ATTEMPTS) {
                match Self::start(index, format) {
                    Ok(device) => return Ok(device),
                    Err(error) => {
                        tracing::debug!(%format, %error, "a camera format does not work");
                        last = error;
                    }
                }
                if matches!(
                    last,
                    DeviceError::Busy(_) | DeviceError::Denied(_) | DeviceError::Lost(_)
                ) {
                    break;
                }
            }
            Err(last)
        })
    }

    fn start(index: &CameraIndex, format: CameraFormat) -> Result<Self, DeviceError> {
        let wanted = [format.format()];
        let request = RequestedFormat::with_formats(RequestedFormatType::Exact(format), &wanted);
        let camera = Camera::new(index.clone(), request).map_err(|e| explain(&e.to_string()))?;
        let mut device = Self {
            camera: Some(camera),
            format,
        };
        if let Some(camera) = &mut device.camera {
            camera.open_stream().map_err(|e| explain(&e.to_string()))?;
            // Drivers round; what they settled on decides how bytes are read.
            device.format = camera.camera_format();
        }
        Ok(device)
    }

    /// Size and rate.
    pub fn format(&self) -> (u32, u32, u32) {
        // Some drivers know no rate.
        let rate = Some(self.format.frame_rate()).filter(|rate| *rate > 0).unwrap_or(30);
        (self.format.width(), self.format.height(), rate)
    }

    /// The next good picture. Blocks, without a limit if the driver hangs: the watchdog's business.
    pub fn picture(&mut self) -> Result<I420, DeviceError> {
        let Some(camera) = &mut self.camera else {
            return Err(DeviceError::Lost(CAMERA));
        };
        guarded(|| {
            let mut damaged = 0;
            loop {
                let buffer = camera.frame().map_err(|e| explain(&e.to_string()))?;
                let captured = Instant::now();
                let (size, bytes) = (buffer.resolution(), buffer.buffer());
                let format = pixel_format(buffer.source_frame_format());
                match to_i420(
                    format,
                    bytes,
                    (size.width(), size.height()),
                    stride(bytes, size.height()),
                    captured,
                ) {
                    Ok(picture) => return Ok(picture),
                    Err(error) if damaged >= MAX_DAMAGED => {
                        return Err(DeviceError::Other {
                            kind: CAMERA,
                            reason: error.to_string(),
                        });
                    }
                    Err(_) => damaged += 1,
                }
            }
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let camera = self.camera.take();
        // nokhwa unwraps while it closes: an unplugged camera must not take the thread along.
        if catch_unwind(AssertUnwindSafe(move || drop(camera))).is_err() {
            tracing::warn!("closing the camera failed");
        }
    }
}

/// Rows are padded on macOS only, where the buffer ends with its last row. Elsewhere buffers end with their memory page.
fn stride(bytes: &[u8], height: u32) -> Option<usize> {
    let rows = height as usize;
    (cfg!(target_os = "macos") && rows > 0 && bytes.len().is_multiple_of(rows)).then(|| bytes.len() / rows)
}

fn pixel_format(format: FrameFormat) -> PixelFormat {
    match format {
        FrameFormat::MJPEG => PixelFormat::Mjpeg,
        FrameFormat::YUYV => PixelFormat::Yuyv,
        FrameFormat::NV12 => PixelFormat::Nv12,
        FrameFormat::GRAY => PixelFormat::Grey,
        FrameFormat::RAWRGB => PixelFormat::Rgb24,
        FrameFormat::RAWBGR => PixelFormat::Bgr24,
    }
}

/// All formats a camera has.
fn formats(index: &CameraIndex) -> Result<Vec<CameraFormat>, DeviceError> {
    let request = RequestedFormat::with_formats(RequestedFormatType::None, ALL_FORMATS);
    let mut camera = Camera::new(index.clone(), request).map_err(|e| explain(&e.to_string()))?;
    camera.compatible_camera_formats().map_err(|e| explain(&e.to_string()))
}

/// Asks the system for permission where there is such a thing (macOS), waiting for the person's answer.
fn allow() -> Result<(), DeviceError> {
    if nokhwa::nokhwa_check() {
        return Ok(());
    }
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    nokhwa::nokhwa_initialize(move |granted| {
        // A second answer has nobody waiting for it.
        let _ = answer.try_send(granted);
    });
    match answered.recv_timeout(std::time::Duration::from_secs(60)) {
        Ok(true) => Ok(()),
        _ => Err(DeviceError::Denied(CAMERA)),
    }
}

/// nokhwa reads the camera's current format first and fails on rates other than 1/N and on unknown layouts; that state
/// outlives processes. So a plain format is set before.
#[cfg(target_os = "linux")]
fn prepare(index: &CameraIndex) -> Result<(), DeviceError> {
    use v4l::video::Capture;
    use v4l::video::capture::Parameters;

    let path = format!("/dev/video{}", index.as_index().map_err(|e| explain(&e.to_string()))?);
    let device = v4l::Device::with_path(path).map_err(|e| explain(&e.to_string()))?;
    const KNOWN: [&[u8; 4]; 5] = [b"YUYV", b"NV12", b"MJPG", b"RGB3", b"BGR3"];
    let offered = device.enum_formats().map_err(|e| explain(&e.to_string()))?;
    let usable = KNOWN
        .iter()
        .find(|known| offered.iter().any(|f| f.fourcc.repr == ***known));
    let Ok(mut format) = device.format() else { return Ok(()) };
    if let Some(fourcc) = usable.filter(|_| !KNOWN.contains(&&format.fourcc.repr)) {
        format.fourcc = v4l::FourCC::new(fourcc);
        device.set_format(&format).map_err(|e| explain(&e.to_string()))?;
    }
    if device.params().is_ok_and(|params| params.interval.numerator != 1) {
        // Refused by cameras with one rate; then nokhwa tells what it thinks of that rate.
        let _ = device.set_params(&Parameters::with_fps(30));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn prepare(_index: &CameraIndex) -> Result<(), DeviceError> {
    Ok(())
}

/// nokhwa panics where drivers surprise it; that ends one attempt, not the thread.
fn guarded<T>(run: impl FnOnce() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(DeviceError::Other {
            kind: CAMERA,
            reason: "its driver answered something unexpected".into(),
        })
    })
}

/// The driver's words as one of the few things a person can act on.
pub fn explain(reason: &str) -> DeviceError {
    let lower = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["os error 16", "busy", "in use", "0xc00d3704", "0x800700aa"]) {
        DeviceError::Busy(CAMERA)
    } else if says(&[
        "os error 13)",
        "os error 1)",
        "permission",
        "denied",
        "not authorized",
        "0x80070005",
    ]) {
        DeviceError::Denied(CAMERA)
    } else if says(&[
        "os error 19",
        "os error 6)",
        "os error 5)",
        "no such device",
        "disconnected",
        "0xc00d3ea2",
    ]) {
        DeviceError::Lost(CAMERA)
    } else if says(&["os error 2)", "not found", "no such file"]) {
        DeviceError::NotFound(CAMERA)
    } else {
        DeviceError::Other {
            kind: CAMERA,
            reason: reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drivers_words_become_something_a_person_can_act_on() {
        for (reason, error) in [
            (
                "V4L2 Error: Device or resource busy (os error 16)",
                DeviceError::Busy(CAMERA),
            ),
            (
                "V4L2 Error: Permission denied (os error 13)",
                DeviceError::Denied(CAMERA),
            ),
            (
                "Could not capture frame: No such device (os error 19)",
                DeviceError::Lost(CAMERA),
            ),
            (
                "Could not capture frame: Input/output error (os error 5)",
                DeviceError::Lost(CAMERA),
            ),
            ("No such file or directory (os error 2)", DeviceError::NotFound(CAMERA)),
        ] {
            assert_eq!(explain(reason), error);
        }
        assert!(matches!(explain("strange"), DeviceError::Other { reason, .. } if reason == "strange"));
    }

    #[test]
    fn a_panic_of_the_driver_is_an_error() {
        let answer: Result<(), _> = guarded(|| panic!("unwrapped a None"));
        assert!(matches!(answer, Err(DeviceError::Other { .. })));
    }
}
