//! Where time comes from. Everything in this crate asks a [`Clock`].

use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;

/// The wall clock and a monotonic one.
pub trait Clock: Send + Sync + 'static {
    /// The time of day, in UTC.
    fn now(&self) -> OffsetDateTime;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(OffsetDateTime, Duration)>,
}

impl ManualClock {
    /// Stands still at `now`.
    pub fn new(now: OffsetDateTime) -> Self {
        Self {
            now: Mutex::new((now, Duration::ZERO)),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        now.0 += by;
        now.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        self.now.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().1
    }
}
