//! How many messages one client may send: a bucket that slows it down, and ends it
//! when it goes on. Pure: takes the time, reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// Messages a second. A joining client sends a few tens; candidates come in bursts.
const RATE: f64 = 100.0;
/// Messages at once. More forgives larger bursts; a settings message per track of a large room fits.
const BURST: f64 = 500.0;
/// Slowed down for so long without a pause, a client is a flood.
const PATIENCE: Duration = Duration::from_secs(4);

/// What to do with the next message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Handle it.
    Go,
    /// Handle it, then read nothing for this long.
    GoThenWait(Duration),
    /// Close with 1008.
    Flood,
}

/// One client's bucket.
#[derive(Debug)]
pub(super) struct Flow {
    tokens: f64,
    at: Instant,
    slowed: Duration,
}

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
            slowed: Duration::ZERO,
        }
    }

    /// A message came.
    pub(super) fn take(&mut self, now: Instant) -> Verdict {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        if self.tokens > BURST / 2.0 {
            self.slowed = Duration::ZERO;
        }
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Verdict::Go;
        }
        let wait = Duration::from_secs_f64(-self.tokens / RATE);
        self.slowed += wait;
        if self.slowed > PATIENCE {
            Verdict::Flood
        } else {
            Verdict::GoThenWait(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that always has messages waiting: how many are handled before it is ended, and when.
    fn flood() -> (u32, Duration) {
        let start = Instant::now();
        let mut now = start;
        let mut flow = Flow::new(now);
        for n in 0.. {
            match flow.take(now) {
                Verdict::Go => {}
                Verdict::GoThenWait(wait) => now += wait,
                Verdict::Flood => return (n, now - start),
            }
        }
        unreachable!()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_slowed_down_and_then_ended() {
        let (handled, after) = flood();
        assert!((500..1500).contains(&handled), "{handled}");
        assert!(after >= Duration::from_secs(3), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_a_steady_flow_pass() {
        let mut now = Instant::now();
        let mut flow = Flow::new(now);
        for _ in 0..500 {
            assert_eq!(flow.take(now), Verdict::Go);
        }
        for _ in 0..5000 {
            now += Duration::from_millis(20);
            assert_ne!(flow.take(now), Verdict::Flood);
        }
    }
}
