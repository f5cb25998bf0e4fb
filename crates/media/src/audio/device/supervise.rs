//! Keeps one microphone or speaker open: opens it, follows the system's choice, and takes the next best when it goes.
//!
//! ```text
//! closed --a device is there--> open --failed, silent for 0.5 s, a better one is there--> closed
//! ```
//! No event tells that a default changed or a device was pulled out: both are polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use cpal::ErrorKind;
use cpal::traits::StreamTrait;

use super::host::{Chosen, Devices, configurations, explain};
use crate::api::{DeviceError, DeviceInfo, DeviceKind};
use crate::audio::event::{DeviceEvent, DeviceEvents};
use crate::audio::thread::spawn;

/// How often the devices are looked at. With [`SILENT`] and the time to open, a fallback takes under a second.
const TICK: Duration = Duration::from_millis(250);
/// How often the list of devices is asked for. A sound server answers in a millisecond, other systems take longer.
const LOOK: Duration = Duration::from_millis(if cfg!(target_os = "linux") { 240 } else { 490 });
/// Looks in quick succession after a loss; then one in [`RETRY`], for hours if need be.
const QUICK_ATTEMPTS: u32 = 20;
/// How long a person who plugs something in waits at most.
const RETRY: Duration = Duration::from_secs(1);
/// A device whose callback is not called for so long is gone.
const SILENT: Duration = Duration::from_millis(500);
/// A device that has not begun within this is no good; wireless ones take a second or two.
const STARTS_WITHIN: Duration = Duration::from_secs(4);
/// How long closing is waited for: a device that only one may have is free again by then.
const CLOSE_WITHIN: Duration = Duration::from_millis(200);
/// How long a server may take to open a stream.
pub(in crate::audio) const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// What supervisors are told.
pub(in crate::audio) enum Message {
    /// Use this device (or the system's) from now on; `None`: no device at all.
    Want(Option<Option<String>>),
    /// A stream's driver gave up.
    Failed { generation: u32 },
}

/// Makes streams of one kind.
pub(in crate::audio) trait Opener {
    const KIND: DeviceKind;

    /// Opens a stream that counts its callbacks in `calls`.
    fn open(
        &mut self,
        device: &cpal::Device,
        config: cpal::StreamConfig,
        format: cpal::SampleFormat,
        calls: Arc<AtomicU32>,
        failed: Box<dyn FnMut(cpal::Error) + Send>,
    ) -> Result<cpal::Stream, cpal::Error>;

    /// The stream is gone.
    fn closed(&mut self);

    /// What is in use now, or why nothing is.
    fn report(&mut self, state: Result<DeviceInfo, DeviceError>);
}

struct Open {
    keeper: Keeper,
    info: DeviceInfo,
    calls: Arc<AtomicU32>,
    seen: u32,
    seen_at: Instant,
}

/// The loop of a supervising thread.
pub(in crate::audio) struct Supervisor<O: Opener> {
    opener: O,
    devices: Devices,
    wanted: Option<Option<String>>,
    open: Option<Open>,
    generation: u32,
    messages: Sender<Message>,
    events: DeviceEvents,
    /// The last thing said was a failure.
    failing: bool,
    /// Looks without success since the last device.
    attempts: u32,
    begun: bool,
    looked: Instant,
}

impl<O: Opener> Supervisor<O> {
    pub(in crate::audio) fn new(
        opener: O,
        wanted: Option<Option<String>>,
        messages: Sender<Message>,
        events: DeviceEvents,
    ) -> Self {
        Self {
            opener,
            devices: Devices::default(),
            wanted,
            open: None,
            generation: 0,
            messages,
            events,
            failing: false,
            attempts: 0,
            begun: false,
            looked: Instant::now(),
        }
    }

    /// Opens for the first time.
    pub(in crate::audio) fn begin(&mut self) -> Result<(), DeviceError> {
        let result = self.look();
        self.begun = true;
        result
    }

    /// Tells `events` from now on.
    pub(in crate::audio) fn tell(&mut self, events: DeviceEvents) {
        self.events = events;
    }

    /// Runs until [`Message`]s end; `stop` says so, since the streams hold senders too.
    pub(in crate::audio) fn run(mut self, messages: &Receiver<Message>, stop: impl Fn() -> bool) {
        loop {
            let urgent = match messages.recv_timeout(TICK) {
                Ok(Message::Want(wanted)) => {
                    self.wanted = wanted;
                    true
                }
                Ok(Message::Failed { generation }) => {
                    let current = generation == self.generation;
                    if current {
                        self.close();
                    }
                    current
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if stop() {
                return;
            }
            if self.went_silent() {
                tracing::info!(kind = %O::KIND, "the device stopped answering");
                self.close();
            }
            if urgent || self.looked.elapsed() >= self.patience() {
                // The outcome is reported inside.
                let _ = self.look();
            }
        }
    }

    /// How long after the last look the next one is due.
    fn patience(&self) -> Duration {
        match (&self.open, self.attempts) {
            (None, 0..QUICK_ATTEMPTS) => TICK / 2,
            (None, _) => RETRY,
            (Some(_), _) => LOOK,
        }
    }

    fn went_silent(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        let calls = open.calls.load(Ordering::Relaxed);
        if calls != open.seen {
            open.seen = calls;
            open.seen_at = Instant::now();
        }
        open.seen_at.elapsed() > if open.seen == 0 { STARTS_WITHIN } else { SILENT }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.opener.closed();
            open.keeper.close();
        }
    }

    /// Compares what should be in use with what is.
    fn look(&mut self) -> Result<(), DeviceError> {
        self.looked = Instant::now();
        let Some(wanted) = self.wanted.clone() else {
            self.close();
            self.failing = false;
            return Ok(());
        };
        let result = self
            .devices
            .choose(O::KIND, wanted.as_deref())
            .and_then(|chosen| self.take(chosen));
        if let Err(error) = &result
            && self.open.is_none()
        {
            self.attempts = self.attempts.saturating_add(1);
            self.opener.report(Err(error.clone()));
            if !std::mem::replace(&mut self.failing, true) {
                (self.events)(DeviceEvent::Failed {
                    kind: O::KIND,
                    error: error.clone(),
                });
            }
        }
        result
    }

    fn take(&mut self, chosen: Chosen) -> Result<(), DeviceError> {
        if self.open.as_ref().is_some_and(|open| open.info.id == chosen.info.id) {
            return Ok(());
        }
        self.close();
        let calls = Arc::new(AtomicU32::new(0));
        let keeper = match Keeper::start(O::KIND, self.open_stream(&chosen, &calls)?) {
            Ok(keeper) => keeper,
            Err(error) => {
                self.opener.closed();
                return Err(error);
            }
        };
        let info = chosen.info;
        tracing::info!(kind = %O::KIND, device = info.id, "opened");
        self.opener.report(Ok(info.clone()));
        if self.begun || self.failing {
            (self.events)(DeviceEvent::Switched {
                kind: O::KIND,
                label: info.label.clone(),
            });
        }
        self.failing = false;
        self.attempts = 0;
        self.open = Some(Open {
            keeper,
            info,
            calls,
            seen: 0,
            seen_at: Instant::now(),
        });
        Ok(())
    }

    fn open_stream(&mut self, chosen: &Chosen, calls: &Arc<AtomicU32>) -> Result<cpal::Stream, DeviceError> {
        let mut last = DeviceError::NotFound(O::KIND);
        for (config, format) in configurations(&chosen.device, O::KIND)? {
            self.generation = self.generation.wrapping_add(1);
            let (generation, messages) = (self.generation, self.messages.clone());
            let failed = Box::new(move |error: cpal::Error| {
                if passing(&error) {
                    tracing::trace!(%error, "sound device");
                } else {
                    tracing::debug!(%error, "sound device failed");
                    // Nobody listens once the supervisor has ended.
                    let _ = messages.send(Message::Failed { generation });
                }
            });
            match self
                .opener
                .open(&chosen.device, config, format, Arc::clone(calls), failed)
            {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tracing::debug!(%error, ?config, "not opened");
                    self.opener.closed();
                    last = explain(O::KIND, &error);
                }
            }
        }
        Err(last)
    }
}

impl<O: Opener> Drop for Supervisor<O> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Owns a stream on a thread of its own: with PulseAudio the start of a stream waits for its first data, and the drop
/// of one whose device is gone for ever.
struct Keeper {
    /// Dropped to close the stream.
    close: Sender<()>,
    /// Ends when it is closed.
    closed: Receiver<()>,
}

impl Keeper {
    fn start(kind: DeviceKind, stream: cpal::Stream) -> Result<Self, DeviceError> {
        let (close, closing) = mpsc::channel();
        let (done, closed) = mpsc::channel();
        let (started, starting) = mpsc::channel();
        spawn("confab-stream", kind, move || {
            // Who waits may have given up: then closing comes next.
            let _ = started.send(stream.play());
            // Nothing is ever sent: the end of the other side is the sign.
            let _ = closing.recv();
            drop(stream);
            drop(done);
        })?;
        match starting.recv_timeout(STARTS_WITHIN) {
            Ok(Ok(())) => Ok(Self { close, closed }),
            Ok(Err(error)) => Err(explain(kind, &error)),
            Err(_) => Err(DeviceError::Lost(kind)),
        }
    }

    fn close(self) {
        drop(self.close);
        // Either way it goes on: an error is the end of the thread, the usual case.
        let _: Result<(), _> = self.closed.recv_timeout(CLOSE_WITHIN);
    }
}

/// Errors after which the stream goes on.
fn passing(error: &cpal::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Xrun | ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged
    )
}
