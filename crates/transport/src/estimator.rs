//! What the network takes: the library's GCC, held to draft-ietf-rmcat-gcc-02 where it
//! leaves it: the estimate may not rise beyond 1.5 times what the receiver acknowledged,
//! or a sender with little to say would "find" bandwidth that nobody tested.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_types::Bitrate;
use rtc::interceptor::{BandwidthEstimator, EstimatorStats, Gcc, PacketReport};

use crate::wire::{INITIAL_TARGET, Wire};

/// Sound and a thumbnail.
const LEAST: f64 = 60_000.0;
/// Camera and screen at their best.
const MOST: f64 = 8_000_000.0;
/// The window over which the acknowledged rate is measured (draft, 5.5).
const WINDOW: Duration = Duration::from_millis(500);
/// The draft's bound (5.5), and libwebrtc's constant beside it.
const HEADROOM: (f64, f64) = (1.5, 10_000.0);

/// Bits a second that arrived, over a sliding window.
#[derive(Default)]
struct Acknowledged {
    sizes: VecDeque<(Instant, usize)>,
}

impl Acknowledged {
    fn add(&mut self, now: Instant, bytes: usize) {
        self.sizes.push_back((now, bytes));
    }

    fn rate(&mut self, now: Instant) -> Option<f64> {
        while self
            .sizes
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
        {
            self.sizes.pop_front();
        }
        let first = self.sizes.front()?.0;
        // Until the window is half full a rate would be a guess.
        let filled = now.saturating_duration_since(first) * 2 >= WINDOW;
        let bytes: usize = self.sizes.iter().map(|(_, b)| b).sum();
        filled.then(|| bytes as f64 * 8.0 / now.saturating_duration_since(first).max(WINDOW / 2).as_secs_f64())
    }
}

/// GCC with the acknowledged rate as its bound; tells `wire` its target.
pub(crate) struct Estimator {
    gcc: Gcc,
    acknowledged: Acknowledged,
    target: f64,
    wire: Arc<Wire>,
}

impl Estimator {
    /// Starts at the initial target.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        let initial = INITIAL_TARGET.as_bps() as f64;
        Self {
            gcc: Gcc::new(initial, LEAST, MOST),
            acknowledged: Acknowledged::default(),
            target: initial,
            wire,
        }
    }
}

impl BandwidthEstimator for Estimator {
    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        for report in reports.iter().filter(|r| r.arrived) {
            self.acknowledged.add(now, report.size);
        }
        self.gcc.on_reports(now, reports);
        let wanted = self.gcc.target_bitrate();
        self.target = if wanted > self.target {
            match self.acknowledged.rate(now) {
                Some(rate) => wanted.min((rate * HEADROOM.0 + HEADROOM.1).max(self.target)),
                None => self.target,
            }
        } else {
            wanted
        };
        self.wire.set_target(Bitrate::bps(self.target as u64));
    }

    fn target_bitrate(&self) -> f64 {
        self.target
    }

    fn stats(&self) -> EstimatorStats {
        self.gcc.stats()
    }
}
