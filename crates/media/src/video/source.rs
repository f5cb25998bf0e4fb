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

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::video::pattern::read_timecode;
    use crate::video::slot::SlotWait;
    use crate::video::testing::{eventually, grey};
    use crate::video::y4m::Y4mWriter;

    fn collect() -> (DeviceEvents, Arc<Mutex<Vec<DeviceEvent>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        (Arc::new(move |event| sink.lock().push(event)), seen)
    }

    #[test]
    fn the_test_pattern_runs_at_its_rate_until_it_is_dropped() {
        let (slot, (events, seen)) = (FrameSlot::new(), collect());
        let spec = VideoSourceSpec::TestPattern {
            width: 160,
            height: 90,
            fps: 100,
            hue: 30,
        };
        let capture = open(&spec, CaptureWish::default(), slot.clone(), events).unwrap();
        let mut codes = Vec::new();
        while codes.len() < 10 {
            let SlotWait::Frame(frame) = slot.wait(Duration::from_secs(10)) else {
                panic!("no picture")
            };
            codes.push(read_timecode(frame.y(), 160, 90, 160).unwrap().frame);
        }
        assert!(codes.windows(2).all(|w| w[0] < w[1]), "{codes:?}");
        assert_eq!(
            seen.lock()[..],
            [DeviceEvent::Opened {
                width: 160,
                height: 90,
                fps: 100
            }]
        );
        drop(capture);
        let put = slot.frames_put();
        assert!(matches!(
            slot.wait(Duration::from_millis(50)),
            SlotWait::Frame(_) | SlotWait::Timeout
        ));
        assert_eq!(slot.frames_put(), put);
        assert!(!slot.is_closed(), "another source can follow");
    }

    #[test]
    fn a_closed_slot_ends_the_source() {
        let slot = FrameSlot::new();
        let spec = VideoSourceSpec::TestPattern {
            width: 64,
            height: 36,
            fps: 120,
            hue: 0,
        };
        let _capture = open(&spec, CaptureWish::default(), slot.clone(), collect().0).unwrap();
        slot.close();
        assert!(matches!(slot.wait(Duration::ZERO), SlotWait::Closed));
    }

    #[test]
    fn a_film_is_looped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film.y4m");
        let mut writer = Y4mWriter::create(&path, 60).unwrap();
        for luma in [40, 80] {
            writer.write(&grey(16, 8, luma)).unwrap();
        }
        writer.finish().unwrap();
        let (slot, lumas) = (FrameSlot::new(), Arc::new(Mutex::new(Vec::new())));
        let sink = lumas.clone();
        slot.add_tap(Box::new(move |frame| sink.lock().push(frame.y()[0])));
        let _capture = open(&VideoSourceSpec::Y4m(path), CaptureWish::default(), slot, collect().0).unwrap();
        eventually("three rounds", || lumas.lock().len() >= 6);
        assert_eq!(lumas.lock()[..6], [40, 80, 40, 80, 40, 80]);
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let open = |spec| open(&spec, CaptureWish::default(), FrameSlot::new(), collect().0).unwrap_err();
        let error = open(VideoSourceSpec::Y4m("/nowhere/film.y4m".into()));
        assert!(error.to_string().starts_with("/nowhere/film.y4m: "), "{error}");
        assert_eq!(open(VideoSourceSpec::None), DeviceError::NotFound(DeviceKind::Camera));
        #[cfg(not(feature = "camera"))]
        assert_eq!(
            open(VideoSourceSpec::Camera(None)),
            DeviceError::NotFound(DeviceKind::Camera)
        );
    }
}
