//! Where pictures come from: one trait for cameras, files and the test pattern. A
//! source emits I420 with its capture time into a slot until its handle is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::video::pattern::{TestPattern, now_millis};
use crate::video::slot::FrameSlot;
use crate::video::y4m::{Y4mReader, device_error};
use crate::{DeviceError, DeviceKind, I420, VideoSourceSpec};

/// What would be good to have; a source comes as near as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureWish {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
}

impl Default for CaptureWish {
    fn default() -> Self {
        Self {
            width: 640,
            height: 480,
            fps: 30,
        }
    }
}

/// What happens to a source while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// It delivers, with this size and rate; again after each reopening.
    Opened {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Frames per second.
        fps: u32,
    },
    /// It stopped. Cameras are tried again by themselves every two seconds.
    Lost(DeviceError),
}

/// Told what happens; called on the source's thread, must return at once.
pub type DeviceEvents = Arc<dyn Fn(DeviceEvent) + Send + Sync>;

/// Something that takes pictures.
pub trait VideoSource: Send {
    /// Starts it. Returns when it is known to work, or why it does not.
    fn start(
        self: Box<Self>,
        wish: CaptureWish,
        out: FrameSlot,
        events: DeviceEvents,
    ) -> Result<VideoCapture, DeviceError>;
}

/// A running source; dropping it stops it. The slot stays open, so another source can follow.
pub struct VideoCapture(#[expect(dead_code, reason = "kept for its Drop")] Box<dyn Send + Sync>);

impl VideoCapture {
    /// From whatever stops the source when dropped.
    pub fn new(stop: impl Send + Sync + 'static) -> Self {
        Self(Box::new(stop))
    }
}

impl std::fmt::Debug for VideoCapture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VideoCapture")
    }
}

/// Opens what a spec names. Blocks until it delivers or fails (a camera: a few seconds at most).
pub fn open(
    spec: &VideoSourceSpec,
    wish: CaptureWish,
    out: FrameSlot,
    events: DeviceEvents,
) -> Result<VideoCapture, DeviceError> {
    let source: Box<dyn VideoSource> = match spec {
        VideoSourceSpec::None => return Err(DeviceError::NotFound(DeviceKind::Camera)),
        VideoSourceSpec::Camera(id) => camera(id.clone())?,
        VideoSourceSpec::TestPattern {
            width,
            height,
            fps,
            hue,
        } => Box::new(PatternSource {
            pattern: TestPattern::new(*width, *height, *hue),
            fps: *fps,
        }),
        VideoSourceSpec::Y4m(path) => Box::new(Y4mSource(path.clone())),
    };
    source.start(wish, out, events)
}

#[cfg(feature = "camera")]
fn camera(id: Option<String>) -> Result<Box<dyn VideoSource>, DeviceError> {
    Ok(Box::new(crate::camera::CameraSource::new(id)))
}

#[cfg(not(feature = "camera"))]
fn camera(_id: Option<String>) -> Result<Box<dyn VideoSource>, DeviceError> {
    // Server and bot are built without cameras.
    Err(DeviceError::NotFound(DeviceKind::Camera))
}

/// The test pattern at its own size and rate.
struct PatternSource {
    pattern: TestPattern,
    fps: u32,
}

impl VideoSource for PatternSource {
    fn start(
        self: Box<Self>,
        _wish: CaptureWish,
        out: FrameSlot,
        events: DeviceEvents,
    ) -> Result<VideoCapture, DeviceError> {
        let fps = self.fps.clamp(1, 120);
        let (width, height) = self.pattern.size();
        let mut frame = 0;
        let draw = move |time| {
            frame += 1;
            Ok(self.pattern.draw(frame, now_millis(), time))
        };
        events(DeviceEvent::Opened { width, height, fps });
        paced("test-pattern", f64::from(fps), out, events, draw)
    }
}

/// A y4m file at its own size and rate, looped.
struct Y4mSource(PathBuf);

impl VideoSource for Y4mSource {
    fn start(
        self: Box<Self>,
        _wish: CaptureWish,
        out: FrameSlot,
        events: DeviceEvents,
    ) -> Result<VideoCapture, DeviceError> {
        let path = self.0;
        let mut reader = Y4mReader::open(&path).map_err(|error| device_error(&path, &error))?;
        // A file without pictures is refused now rather than later; reading goes on with the second picture.
        let mut first = Some(
            reader
                .next_frame(Instant::now())
                .map_err(|error| device_error(&path, &error))?,
        );
        let (width, height) = reader.size();
        let fps = reader.fps().clamp(1.0, 120.0);
        events(DeviceEvent::Opened {
            width,
            height,
            fps: fps.round() as u32,
        });
        let read = move |time| match first.take() {
            Some(frame) => Ok(I420 { time, ..frame }),
            None => reader.next_frame(time).map_err(|error| device_error(&path, &error)),
        };
        paced("y4m", fps, out, events, read)
    }
}

/// Stops and joins a thread when dropped.
struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a source's thread panicked");
            }
        }
    }
}

/// Runs `next` at a steady rate on a thread; ticks that are over are left out, never made up for.
fn paced(
    name: &str,
    fps: f64,
    out: FrameSlot,
    events: DeviceEvents,
    mut next: impl FnMut(Instant) -> Result<I420, DeviceError> + Send + 'static,
) -> Result<VideoCapture, DeviceError> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let run = move || {
        let interval = Duration::from_secs_f64(1.0 / fps);
        let start = Instant::now();
        let mut tick: u32 = 0;
        while !stopped.load(Ordering::Relaxed) {
            let due = start + interval * tick;
            let now = Instant::now();
            if now < due {
                std::thread::park_timeout(due - now);
                continue;
            }
            match next(now) {
                Ok(frame) => {
                    if !out.put(frame) {
                        return;
                    }
                }
                Err(error) => return events(DeviceEvent::Lost(error)),
            }
            let elapsed = start.elapsed().as_secs_f64() / interval.as_secs_f64();
            tick = tick.saturating_add(1).max(elapsed as u32);
        }
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    let failed = |error: std::io::Error| DeviceError::Other {
        kind: DeviceKind::Camera,
        reason: error.to_string(),
    };
    Ok(VideoCapture::new(Running {
        stop,
        thread: Some(spawned.map_err(failed)?),
    }))
}
