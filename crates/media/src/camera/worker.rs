//! The camera thread, its watchdog, and the way other threads talk to them.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::camera::device::Device;
use crate::camera::list::{Found, find, infos};
use crate::video::{CaptureWish, DeviceEvent, DeviceEvents, FrameSlot, VideoCapture};
use crate::{DeviceError, DeviceInfo, DeviceKind};

const CAMERA: DeviceKind = DeviceKind::Camera;
/// A camera that gives no picture for this long has stopped: nokhwa itself would wait forever.
const STALLED: Duration = Duration::from_secs(3);
/// A lost camera is looked for this often; there is no event that tells.
const RETRY: Duration = Duration::from_secs(2);
/// The first look comes sooner: where any camera will do, another one can take over within a second.
const FIRST_RETRY: Duration = Duration::from_millis(300);
/// Opening takes up to a second on real cameras, more where several formats fail, and a minute where the system asks the
/// person first (macOS).
const OPEN_LIMIT: Duration = Duration::from_secs(if cfg!(target_os = "macos") { 75 } else { 15 });
const LIST_LIMIT: Duration = Duration::from_secs(5);

/// What a capture is about. Shared by its handle, the thread and the watchdog.
struct Job {
    id: Option<String>,
    wish: CaptureWish,
    out: FrameSlot,
    events: DeviceEvents,
    closed: AtomicBool,
}

enum Command {
    List(Sender<Vec<DeviceInfo>>),
    Open(Arc<Job>, Sender<Result<(), DeviceError>>),
    /// From the watchdog: a new thread takes over what the stalled one held.
    Resume(Arc<Job>),
    /// A handle was dropped; look at the job's flag.
    Closed,
}

/// What the watchdog sees of a thread.
#[derive(Default)]
struct Pulse {
    /// The job whose picture is waited for, and since when.
    waiting: Mutex<Option<(Arc<Job>, Instant)>>,
    /// The watchdog gave it up: it must end when its driver lets go.
    abandoned: AtomicBool,
}

/// Commands not yet taken. It outlives a thread that hangs, so nobody waits for an answer that cannot come.
#[derive(Default)]
struct Mailbox {
    commands: Mutex<VecDeque<Command>>,
    changed: Condvar,
}

impl Mailbox {
    fn put(&self, command: Command) {
        self.commands.lock().push_back(command);
        self.changed.notify_one();
    }

    /// The next command; `None` at the deadline. Without one it waits forever.
    fn take(&self, deadline: Option<Instant>) -> Option<Command> {
        let mut commands = self.commands.lock();
        loop {
            if let Some(command) = commands.pop_front() {
                return Some(command);
            }
            match deadline {
                None => self.changed.wait(&mut commands),
                Some(at) => {
                    if self.changed.wait_until(&mut commands, at).timed_out() {
                        return commands.pop_front();
                    }
                }
            }
        }
    }
}

/// Where commands for the camera thread go.
pub struct Hub {
    mailbox: Arc<Mailbox>,
    pulse: Mutex<Arc<Pulse>>,
}

/// The one of this process; starts its threads at first use.
pub fn hub() -> &'static Hub {
    static HUB: OnceLock<Hub> = OnceLock::new();
    HUB.get_or_init(|| {
        let mailbox = Arc::new(Mailbox::default());
        let pulse = start_worker(&mailbox);
        let hub = Hub {
            mailbox,
            pulse: Mutex::new(pulse),
        };
        let watch = || loop {
            std::thread::sleep(Duration::from_millis(500));
            if let Some(hub) = HUB.get() {
                hub.watch(Instant::now());
            }
        };
        if let Err(error) = std::thread::Builder::new().name("camera-watch".into()).spawn(watch) {
            tracing::error!(%error, "the camera watchdog does not run");
        }
        hub
    })
}

fn start_worker(mailbox: &Arc<Mailbox>) -> Arc<Pulse> {
    let pulse = Arc::new(Pulse::default());
    let (mailbox, for_worker) = (mailbox.clone(), pulse.clone());
    // The worker is made on its thread: what it will hold may never leave it. Without the thread callers get an error in time.
    let run = move || {
        Worker {
            mailbox,
            pulse: for_worker,
            state: State::Idle,
        }
        .run()
    };
    if let Err(error) = std::thread::Builder::new().name("camera".into()).spawn(run) {
        tracing::error!(%error, "the camera thread does not run");
    }
    pulse
}

impl Hub {
    /// See [`crate::camera::cameras`].
    pub fn list(&self) -> Vec<DeviceInfo> {
        let (answer, answered) = channel();
        self.mailbox.put(Command::List(answer));
        answered.recv_timeout(LIST_LIMIT).unwrap_or_default()
    }

    /// Opens a camera; the capture's drop closes it.
    pub fn open(
        &'static self,
        id: Option<String>,
        wish: CaptureWish,
        out: FrameSlot,
        events: DeviceEvents,
    ) -> Result<VideoCapture, DeviceError> {
        let job = Arc::new(Job {
            id,
            wish,
            out,
            events,
            closed: AtomicBool::new(false),
        });
        let (answer, answered) = channel();
        self.mailbox.put(Command::Open(job.clone(), answer));
        let handle = Handle { job, hub: self };
        match answered.recv_timeout(OPEN_LIMIT) {
            Ok(opened) => opened.map(|()| VideoCapture::new(handle)),
            Err(_) => Err(DeviceError::Lost(CAMERA)),
        }
    }

    /// Replaces a thread whose driver has not answered for too long.
    fn watch(&self, now: Instant) {
        let mut pulse = self.pulse.lock();
        let stalled = pulse
            .waiting
            .lock()
            .take_if(|(_, since)| now.saturating_duration_since(*since) > STALLED);
        if let Some((job, _)) = stalled {
            tracing::warn!("the camera does not answer any more");
            pulse.abandoned.store(true, Ordering::Relaxed);
            self.mailbox.commands.lock().push_front(Command::Resume(job.clone()));
            *pulse = start_worker(&self.mailbox);
            drop(pulse);
            if !job.closed.load(Ordering::Relaxed) {
                (job.events)(DeviceEvent::Lost(DeviceError::Lost(CAMERA)));
            }
        }
    }
}

struct Handle {
    job: Arc<Job>,
    hub: &'static Hub,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.job.closed.store(true, Ordering::Relaxed);
        self.hub.mailbox.put(Command::Closed);
    }
}

enum State {
    Idle,
    Streaming(Arc<Job>, Device),
    Lost(Arc<Job>, Instant),
}

struct Worker {
    mailbox: Arc<Mailbox>,
    pulse: Arc<Pulse>,
    state: State,
}

impl Worker {
    fn run(mut self) {
        while !self.pulse.abandoned.load(Ordering::Relaxed) {
            let deadline = match &self.state {
                State::Idle => None,
                State::Lost(_, at) => Some(*at),
                State::Streaming(..) => Some(Instant::now()),
            };
            match self.mailbox.take(deadline) {
                Some(command) => self.command(command),
                None => self.step(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            // Nobody may be waiting any more.
            Command::List(answer) => drop(answer.send(infos(&find()))),
            Command::Open(job, answer) => {
                self.replace_current();
                let opened = self.open(&job);
                let result = opened.map(|device| self.state = State::Streaming(job, device));
                let _ = answer.send(result);
            }
            Command::Resume(job) => self.state = State::Lost(job, Instant::now() + RETRY),
            Command::Closed => {
                if self.job().is_some_and(|job| job.closed.load(Ordering::Relaxed)) {
                    self.state = State::Idle;
                }
            }
        }
    }

    fn job(&self) -> Option<&Arc<Job>> {
        match &self.state {
            State::Idle => None,
            State::Streaming(job, _) | State::Lost(job, _) => Some(job),
        }
    }

    /// The newest capture wins; who held the camera before is told.
    fn replace_current(&mut self) {
        let before = self.job().cloned();
        self.state = State::Idle;
        if let Some(job) = before.filter(|job| !job.closed.load(Ordering::Relaxed)) {
            (job.events)(DeviceEvent::Lost(DeviceError::Busy(CAMERA)));
        }
    }

    /// Tries the camera asked for, or every one until one works.
    fn open(&self, job: &Arc<Job>) -> Result<Device, DeviceError> {
        let found = find();
        let wanted: Vec<&Found> = match &job.id {
            Some(id) => found.iter().filter(|f| f.is(id)).collect(),
            None => found.iter().collect(),
        };
        let mut failed = DeviceError::NotFound(CAMERA);
        let mut tried = HashSet::new();
        for camera in wanted.into_iter().filter(|f| tried.insert(f.id.clone())) {
            match Device::open(&camera.index, job.wish) {
                Ok(device) => {
                    let (width, height, fps) = device.format();
                    tracing::info!(camera = camera.label, width, height, fps, "camera opened");
                    (job.events)(DeviceEvent::Opened { width, height, fps });
                    return Ok(device);
                }
                // The first one's reason is the one to tell: it is the one people mean.
                Err(error) if failed == DeviceError::NotFound(CAMERA) => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// One picture, or one attempt to get the camera back.
    fn step(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Idle);
        self.state = match state {
            State::Idle => State::Idle,
            State::Streaming(job, device) => self.stream(job, device),
            State::Lost(job, _) if job.closed.load(Ordering::Relaxed) => State::Idle,
            State::Lost(job, _) => match self.open(&job) {
                Ok(device) => State::Streaming(job, device),
                Err(error) => {
                    tracing::debug!(%error, "the camera is not back yet");
                    State::Lost(job, Instant::now() + RETRY)
                }
            },
        };
    }

    fn stream(&self, job: Arc<Job>, mut device: Device) -> State {
        *self.pulse.waiting.lock() = Some((job.clone(), Instant::now()));
        let picture = device.picture();
        *self.pulse.waiting.lock() = None;
        if self.pulse.abandoned.load(Ordering::Relaxed) || job.closed.load(Ordering::Relaxed) {
            return State::Idle;
        }
        match picture {
            Ok(picture) => {
                if job.out.put(picture) {
                    State::Streaming(job, device)
                } else {
                    State::Idle
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the camera is lost");
                drop(device);
                (job.events)(DeviceEvent::Lost(DeviceError::Lost(CAMERA)));
                State::Lost(job, Instant::now() + FIRST_RETRY)
            }
        }
    }
}
