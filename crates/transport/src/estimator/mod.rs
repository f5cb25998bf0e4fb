//! What the network takes: Google's congestion control on transport-wide feedback
//! (draft-ietf-rmcat-gcc-02). The library's own is not used: it rises without bound
//! when little is sent, and a batch with two losses of ten counts as congestion.

mod probe;
mod trendline;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_types::Bitrate;
use rtc::interceptor::{BandwidthEstimator, EstimatorStats, PacketReport};

use tracing::{debug, trace};

use crate::wire::{INITIAL_TARGET, Wire};
use probe::Prober;
use trendline::{Trendline, Usage};

/// Sound and a thumbnail.
const LEAST: f64 = 60_000.0;
/// Camera and screen at their best.
const MOST: f64 = 8_000_000.0;
/// The window over which the acknowledged rate is measured (draft, 5.5).
const RATE_WINDOW: Duration = Duration::from_millis(500);
/// The estimate may not rise beyond this times the acknowledged rate, plus a constant for small ones (draft, 5.5).
const HEADROOM: (f64, f64) = (1.5, 10_000.0);
/// Growth in a second while nothing was ever congested, far from the last congestion, and near it (in bits).
const GROWTH: (f64, f64, f64) = (1.5, 1.08, 40_000.0);
/// Overuse brings the target to this part of what arrives.
const BACK_OFF: f64 = 0.85;
/// Who sends less than this part of the target does not test the path: delay is then somebody else's, and what arrives
/// says nothing of what could. A call with sound only must still have room for the first picture.
const LITTLE: f64 = 0.6;
/// Delay alone does not take the target of one who sends little below this, where calls begin.
const LEAST_UNTESTED: f64 = 300_000.0;
/// Losses are judged over this time: single batches hold ten packets, where one loss is already a tenth.
const LOSS_WINDOW: Duration = Duration::from_millis(1000);
/// Losses of the beginning are not judged: a server drops the first packets of each stream while it makes room for it.
const LOSS_AFTER: Duration = Duration::from_millis(500);
/// Fewer packets in the window say nothing.
const LOSS_PACKETS: usize = 20;
/// Below the first the target may rise, above the second it must fall (draft, 6).
const LOSS: (f64, f64) = (0.02, 0.10);
/// A queue needs this long to drain before more is taken away.
const BETWEEN_DECREASES: Duration = Duration::from_millis(300);

/// Sums over a sliding window.
#[derive(Default)]
struct Window {
    entries: VecDeque<(Instant, f64, f64)>,
}

impl Window {
    fn add(&mut self, now: Instant, length: Duration, value: f64, weight: f64) {
        self.entries.push_back((now, value, weight));
        while self
            .entries
            .front()
            .is_some_and(|(at, ..)| now.saturating_duration_since(*at) > length)
        {
            self.entries.pop_front();
        }
    }

    fn sums(&self) -> (f64, f64) {
        self.entries
            .iter()
            .fold((0.0, 0.0), |(v, w), (_, value, weight)| (v + value, w + weight))
    }

    fn age(&self, now: Instant) -> Duration {
        self.entries
            .front()
            .map_or(Duration::ZERO, |(at, ..)| now.saturating_duration_since(*at))
    }
}

/// The algorithm, without anyone to tell.
struct Control {
    trendline: Trendline,
    prober: Prober,
    acknowledged: Window,
    /// By the time of departure: what was offered.
    offered: Window,
    losses: Window,
    target: f64,
    /// The acknowledged rate at the last congestion: near it the target creeps.
    ceiling: Option<f64>,
    congested: bool,
    rose: Option<Instant>,
    fell: Option<Instant>,
    began: Option<Instant>,
}

impl Control {
    fn new(initial: f64) -> Self {
        Self {
            trendline: Trendline::new(),
            prober: Prober::new(),
            acknowledged: Window::default(),
            offered: Window::default(),
            losses: Window::default(),
            target: initial,
            ceiling: None,
            congested: false,
            rose: None,
            fell: None,
            began: None,
        }
    }

    /// Bits a second that arrived; none before half a window is filled.
    fn rate(&self, now: Instant) -> Option<f64> {
        let age = self.acknowledged.age(now);
        // The oldest batch came in the time before the window.
        let oldest = self.acknowledged.entries.front().map_or(0.0, |(_, bytes, _)| *bytes);
        (age * 2 >= RATE_WINDOW).then(|| (self.acknowledged.sums().0 - oldest) * 8.0 / age.as_secs_f64())
    }

    /// Whether less than the target was offered lately, so that nothing was tested.
    fn sends_little(&self) -> bool {
        let Some((newest, ..)) = self.offered.entries.back() else {
            return false;
        };
        let age = self.offered.age(*newest);
        age * 2 >= RATE_WINDOW && self.offered.sums().0 * 8.0 / age.as_secs_f64() < self.target * LITTLE
    }

    /// Delay while little is sent: a little less, down to where calls begin. The path counts as untested still.
    fn give_way(&mut self, now: Instant) {
        self.rose = Some(now);
        let lately = self
            .fell
            .is_some_and(|fell| now.saturating_duration_since(fell) < BETWEEN_DECREASES);
        if !lately && self.target > LEAST_UNTESTED {
            self.target = (self.target * BACK_OFF).max(LEAST_UNTESTED);
            self.fell = Some(now);
        }
    }

    fn loss(&self) -> f64 {
        let (lost, all) = self.losses.sums();
        if all < LOSS_PACKETS as f64 { 0.0 } else { lost / all }
    }

    fn feedback(&mut self, now: Instant, reports: &[PacketReport]) {
        let mut over = false;
        let (mut lost, mut bytes) = (0, 0);
        for report in reports {
            if self.prober.is_probe(report.departure) {
                // A test fills the queue on purpose.
                bytes += if report.arrived { report.size } else { 0 };
                continue;
            }
            self.offered.add(report.departure, RATE_WINDOW, report.size as f64, 0.0);
            if !report.arrived {
                lost += 1;
                continue;
            }
            bytes += report.size;
            if let Some(arrival) = report.arrival {
                self.trendline.packet(report.departure, arrival);
                over |= self.trendline.usage() == Usage::Over;
            }
        }
        self.acknowledged.add(now, RATE_WINDOW, bytes as f64, 0.0);
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= LOSS_AFTER {
            self.losses.add(now, LOSS_WINDOW, f64::from(lost), reports.len() as f64);
        }
        let rate = self.rate(now);
        let loss = self.loss();
        trace!(
            reports = reports.len(),
            lost,
            bytes,
            ?rate,
            loss,
            over,
            target = self.target,
            "feedback"
        );
        let usage = if over { Usage::Over } else { self.trendline.usage() };
        match usage {
            Usage::Over if self.sends_little() => self.give_way(now),
            Usage::Over => self.fall(now, rate.map(|r| r * BACK_OFF), rate),
            _ if loss > LOSS.1 => self.fall(now, Some(self.target * (1.0 - 0.5 * loss)), rate),
            Usage::Normal if loss < LOSS.0 => self.rise(now, rate),
            // The queue drains, or a little is lost: what is there is right.
            _ => self.rose = Some(now),
        }
        if let Some(found) = self.prober.feedback(now, reports, self.target) {
            debug!(from = self.target, found, "a test of the path found more");
            self.target = found.clamp(LEAST, MOST);
        }
    }

    /// The rate to test now, if the application could send more than the target.
    fn test(&mut self, now: Instant, wanted: f64) -> Option<f64> {
        let settled = self
            .began
            .is_some_and(|began| now.saturating_duration_since(began) >= LOSS_AFTER);
        let clean = self.trendline.usage() == Usage::Normal && self.loss() < LOSS.0;
        if settled && clean {
            self.prober.order(now, self.target, wanted.min(MOST))
        } else {
            None
        }
    }

    fn fall(&mut self, now: Instant, to: Option<f64>, rate: Option<f64>) {
        self.rose = Some(now);
        self.congested = true;
        if self
            .fell
            .is_some_and(|fell| now.saturating_duration_since(fell) < BETWEEN_DECREASES)
        {
            return;
        }
        // Before a rate is known: half, as nothing better is.
        let to = to.unwrap_or(self.target / 2.0);
        if to < self.target {
            debug!(
                from = self.target,
                to,
                ?rate,
                loss = self.loss(),
                "the path is congested"
            );
            self.target = to.clamp(LEAST, MOST);
            self.fell = Some(now);
            self.prober.congested(now);
            // What was lost before says nothing of the new rate.
            self.losses.entries.clear();
            self.ceiling = rate.or(self.ceiling);
        }
    }

    fn rise(&mut self, now: Instant, rate: Option<f64>) {
        let passed = self
            .rose
            .replace(now)
            .map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64().min(1.0));
        let near = self
            .ceiling
            .is_some_and(|c| self.target > c * 0.7 && self.target < c * 1.2);
        if self.ceiling.is_some_and(|c| self.target >= c * 1.2) {
            // The path is wider than it was.
            self.ceiling = None;
        }
        let wanted = match (near, self.congested) {
            (true, _) => self.target + GROWTH.2.max(self.target * 0.04) * passed,
            (false, true) => self.target * GROWTH.1.powf(passed),
            (false, false) => self.target * GROWTH.0.powf(passed),
        };
        // Without a rate nothing was tested yet.
        let bound = rate.map_or(self.target, |r| r * HEADROOM.0 + HEADROOM.1);
        self.target = wanted.min(bound.max(self.target)).clamp(LEAST, MOST);
    }
}

/// Congestion control that tells `wire` its target.
pub(crate) struct Estimator {
    control: Control,
    wire: Arc<Wire>,
}

impl Estimator {
    /// Starts at the initial target.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            control: Control::new(INITIAL_TARGET.as_bps() as f64),
            wire,
        }
    }
}

impl BandwidthEstimator for Estimator {
    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        if reports.is_empty() {
            return;
        }
        if let Some(window) = self.wire.take_probe_window() {
            self.control.prober.left(window);
        }
        self.control.feedback(now, reports);
        if let Some(rate) = self.control.test(now, self.wire.wanted()) {
            self.wire.order_probe(rate);
        }
        self.wire.set_target(Bitrate::bps(self.control.target as u64));
    }

    fn target_bitrate(&self) -> f64 {
        self.control.target
    }

    fn stats(&self) -> EstimatorStats {
        let mut stats = EstimatorStats::default();
        stats.packet_loss = Some(self.control.loss());
        stats
    }
}

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
