//! The newest-frame slot between a source and its consumer: a new picture replaces
//! one that nobody took, so a slow consumer sees fresh pictures instead of old ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::I420;

/// What came of waiting at a [`FrameSlot`].
#[derive(Debug, Clone)]
pub enum SlotWait {
    /// The newest picture.
    Frame(I420),
    /// None came in time.
    Timeout,
    /// None will come any more.
    Closed,
}

/// Sees every picture that is put into a slot, on the source's thread; must return at once.
pub type Tap = Box<dyn Fn(&I420) + Send + Sync>;

/// Holds at most one picture, the newest. Clones share it.
#[derive(Clone, Default)]
pub struct FrameSlot(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    taps: RwLock<Vec<Tap>>,
    put: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    frame: Option<I420>,
    closed: bool,
}

impl std::fmt::Debug for FrameSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FrameSlot({} put, {} dropped)",
            self.frames_put(),
            self.frames_dropped()
        )
    }
}

impl FrameSlot {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a picture in, replacing one that was not taken. `false`: the slot is closed.
    pub fn put(&self, frame: I420) -> bool {
        for tap in self.0.taps.read().iter() {
            tap(&frame);
        }
        let mut state = self.0.state.lock();
        if state.closed {
            return false;
        }
        self.0.put.fetch_add(1, Ordering::Relaxed);
        if state.frame.replace(frame).is_some() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.0.changed.notify_one();
        true
    }

    /// Takes the newest picture, waiting for one at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> SlotWait {
        let deadline = Instant::now() + timeout;
        let mut state = self.0.state.lock();
        loop {
            if let Some(frame) = state.frame.take() {
                return SlotWait::Frame(frame);
            }
            if state.closed {
                return SlotWait::Closed;
            }
            if self.0.changed.wait_until(&mut state, deadline).timed_out() {
                return match state.frame.take() {
                    Some(frame) => SlotWait::Frame(frame),
                    None if state.closed => SlotWait::Closed,
                    None => SlotWait::Timeout,
                };
            }
        }
    }

    /// Ends it: who waits wakes up, nothing more can be put in.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.frame = None;
        self.0.changed.notify_all();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.state.lock().closed
    }

    /// Shows every picture to `tap` as well, beside the one consumer: the own preview.
    pub fn add_tap(&self, tap: Tap) {
        self.0.taps.write().push(tap);
    }

    /// Pictures put in so far.
    pub fn frames_put(&self) -> u64 {
        self.0.put.load(Ordering::Relaxed)
    }

    /// Pictures that were replaced before anyone took them.
    pub fn frames_dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::testing::grey;

    #[test]
    fn a_slow_consumer_gets_the_newest_picture() {
        let slot = FrameSlot::new();
        for width in [2, 4, 6] {
            assert!(slot.put(grey(width, 2, 0)));
        }
        assert!(matches!(slot.wait(Duration::ZERO), SlotWait::Frame(f) if f.width == 6));
        assert!(matches!(slot.wait(Duration::ZERO), SlotWait::Timeout));
        assert_eq!((slot.frames_put(), slot.frames_dropped()), (3, 2));
    }

    #[test]
    fn closing_wakes_who_waits_and_refuses_pictures() {
        let slot = FrameSlot::new();
        let waiter = std::thread::spawn({
            let slot = slot.clone();
            move || matches!(slot.wait(Duration::from_secs(60)), SlotWait::Closed)
        });
        slot.close();
        assert!(waiter.join().unwrap());
        assert!(!slot.put(grey(2, 2, 0)));
    }

    #[test]
    fn a_tap_sees_every_picture() {
        let slot = FrameSlot::new();
        let seen = Arc::new(AtomicU64::new(0));
        let counter = seen.clone();
        slot.add_tap(Box::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        for _ in 0..3 {
            slot.put(grey(2, 2, 0));
        }
        assert_eq!(seen.load(Ordering::Relaxed), 3);
    }
}
