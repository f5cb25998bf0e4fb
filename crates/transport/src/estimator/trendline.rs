//! Whether the path's queue grows: the slope of the delay between groups of packets
//! against an adaptive threshold (draft-ietf-rmcat-gcc-02, 5.2 to 5.4, with libwebrtc's
//! trendline instead of the Kalman filter).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that left within this time are one group: they were a burst.
const BURST_MS: f64 = 5.0;
/// Groups in the regression. More is steadier and slower.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// Scales the slope to the threshold's milliseconds.
const GAIN: f64 = 4.0;
/// A trend counts fully after this many groups.
const MOST_GROUPS: f64 = 60.0;
/// The threshold's start and bounds, in milliseconds.
const THRESHOLD: (f64, f64, f64) = (12.5, 6.0, 600.0);
/// How fast the threshold follows the trend up and down; slower up, or a competing TCP flow would starve us.
const FOLLOW: (f64, f64) = (0.0087, 0.039);
/// A trend above the threshold for this long is overuse.
const OVERUSE_MS: f64 = 10.0;

/// What the queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// It is stable.
    Normal,
    /// It grows.
    Over,
    /// It drains.
    Under,
}

#[derive(Clone, Copy)]
struct Group {
    first_sent: f64,
    sent: f64,
    arrived: f64,
}

/// See the module's text.
pub(crate) struct Trendline {
    epoch: Option<Instant>,
    current: Option<Group>,
    previous: Option<Group>,
    groups: f64,
    accumulated: f64,
    smoothed: f64,
    points: VecDeque<(f64, f64)>,
    threshold: f64,
    threshold_at: Option<f64>,
    previous_trend: f64,
    over_ms: f64,
    over_count: u32,
    usage: Usage,
}

impl Trendline {
    /// No packet seen.
    pub(crate) fn new() -> Self {
        Self {
            epoch: None,
            current: None,
            previous: None,
            groups: 0.0,
            accumulated: 0.0,
            smoothed: 0.0,
            points: VecDeque::with_capacity(WINDOW + 1),
            threshold: THRESHOLD.0,
            threshold_at: None,
            previous_trend: 0.0,
            over_ms: 0.0,
            over_count: 0,
            usage: Usage::Normal,
        }
    }

    /// The newest judgement.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// A packet that arrived: when it left here, and when it came there on the receiver's clock.
    pub(crate) fn packet(&mut self, departure: Instant, arrival: Duration) {
        let epoch = *self.epoch.get_or_insert(departure);
        let sent = departure.saturating_duration_since(epoch).as_secs_f64() * 1000.0;
        let arrived = arrival.as_secs_f64() * 1000.0;
        match &mut self.current {
            None => {
                self.current = Some(Group {
                    first_sent: sent,
                    sent,
                    arrived,
                })
            }
            // Out of order: says nothing about the queue.
            Some(group) if sent < group.first_sent => {}
            Some(group) if sent - group.first_sent <= BURST_MS => {
                group.sent = group.sent.max(sent);
                group.arrived = group.arrived.max(arrived);
            }
            Some(group) => {
                let done = *group;
                *group = Group {
                    first_sent: sent,
                    sent,
                    arrived,
                };
                if let Some(before) = self.previous.replace(done) {
                    self.group(done.sent - before.sent, done.arrived - before.arrived, done.arrived);
                }
            }
        }
    }

    fn group(&mut self, sent_apart: f64, arrived_apart: f64, at: f64) {
        // The receiver's clock jumped, or the computer slept: begin anew.
        if !(-1000.0..3000.0).contains(&arrived_apart) || (arrived_apart - sent_apart).abs() > 3000.0 {
            *self = Self {
                epoch: self.epoch,
                ..Self::new()
            };
            return;
        }
        self.groups = (self.groups + 1.0).min(MOST_GROUPS);
        self.accumulated += arrived_apart - sent_apart;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        self.points.push_back((at, self.smoothed));
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        let slope = if self.points.len() == WINDOW {
            self.slope().unwrap_or(self.previous_trend)
        } else {
            0.0
        };
        self.judge(slope, sent_apart, at);
    }

    fn slope(&self) -> Option<f64> {
        let n = self.points.len() as f64;
        let (mean_x, mean_y) = self
            .points
            .iter()
            .fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
        let (top, bottom) = self.points.iter().fold((0.0, 0.0), |(t, b), p| {
            let dx = p.0 - mean_x;
            (t + dx * (p.1 - mean_y), b + dx * dx)
        });
        (bottom > 0.0).then(|| top / bottom)
    }

    fn judge(&mut self, slope: f64, sent_apart: f64, at: f64) {
        let trend = self.groups * slope * GAIN;
        if trend > self.threshold {
            self.over_ms += sent_apart;
            self.over_count += 1;
            if self.over_ms > OVERUSE_MS && self.over_count > 1 && slope >= self.previous_trend {
                self.over_ms = 0.0;
                self.over_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = 0.0;
            self.over_count = 0;
            self.usage = if trend < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.previous_trend = slope;
        self.adapt(trend.abs(), at);
    }

    fn adapt(&mut self, trend: f64, at: f64) {
        let apart = self
            .threshold_at
            .replace(at)
            .map_or(0.0, |last| (at - last).clamp(0.0, 100.0));
        // A spike (a route change) must not raise the threshold for long.
        if trend > self.threshold + 15.0 {
            return;
        }
        let speed = if trend < self.threshold { FOLLOW.1 } else { FOLLOW.0 };
        self.threshold = (self.threshold + speed * (trend - self.threshold) * apart).clamp(THRESHOLD.1, THRESHOLD.2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(queue_ms_per_group: f64, groups: u32) -> Usage {
        let start = Instant::now();
        let mut trendline = Trendline::new();
        let mut usage = Usage::Normal;
        for n in 0..groups {
            let sent = Duration::from_millis(10) * n;
            let queued = Duration::from_secs_f64((queue_ms_per_group * f64::from(n)).max(0.0) / 1000.0);
            trendline.packet(start + sent, Duration::from_secs(5) + sent + queued);
            usage = if trendline.usage() == Usage::Over {
                Usage::Over
            } else {
                usage
            };
        }
        if usage == Usage::Over { usage } else { trendline.usage() }
    }

    #[test]
    fn a_growing_queue_is_overuse_and_a_stable_path_is_not() {
        assert_eq!(run(0.0, 200), Usage::Normal);
        assert_eq!(run(2.0, 60), Usage::Over);
    }

    #[test]
    fn clocks_that_run_apart_a_little_are_no_overuse() {
        // 100 ppm.
        assert_eq!(run(0.001, 6000), Usage::Normal);
    }

    #[test]
    fn jitter_without_a_trend_is_no_overuse() {
        let start = Instant::now();
        let mut trendline = Trendline::new();
        for n in 0..2000u32 {
            let sent = Duration::from_millis(10) * n;
            let jitter = Duration::from_micros(u64::from(n * 7919 % 5000));
            trendline.packet(start + sent, Duration::from_secs(5) + sent + jitter);
            assert_ne!(trendline.usage(), Usage::Over, "at {n}");
        }
    }
}
