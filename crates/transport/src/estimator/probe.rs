//! Tests of the path beyond what the application sends: a short burst at a chosen rate,
//! and how fast it arrived (libwebrtc's probe controller and estimator, in little). Without
//! them a call that shows small layers only would never learn that the large one fits.

use std::time::{Duration, Instant};

use rtc::interceptor::PacketReport;

/// How much more than the target is tested.
const FACTOR: f64 = 2.0;
/// Somewhat more than is wanted is enough to know.
const BEYOND: f64 = 1.15;
/// Soon again after a success; later after a failure, each time twice as late up to the last.
const AGAIN: (Duration, Duration, Duration) = (
    Duration::from_millis(100),
    Duration::from_secs(4),
    Duration::from_secs(30),
);
/// After congestion the path is left alone.
const AFTER_CONGESTION: Duration = Duration::from_secs(5);
/// Feedback comes every 100 ms, and takes its way.
const FEEDBACK: Duration = Duration::from_millis(400);
/// An order that nobody could carry out is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// Fewer packets make no rate.
const FEWEST: usize = 5;

/// What arrived of a burst.
#[derive(Clone, Copy)]
struct Arrived {
    departure: Instant,
    arrival: Duration,
    size: usize,
}

struct Running {
    rate: f64,
    ordered: Instant,
    window: Option<(Instant, Instant)>,
    sent: usize,
    arrived: Vec<Arrived>,
}

/// See the module's text.
pub(crate) struct Prober {
    running: Option<Running>,
    not_before: Option<Instant>,
    wait: Duration,
}

impl Prober {
    /// Nothing tested yet.
    pub(crate) fn new() -> Self {
        Self {
            running: None,
            not_before: None,
            wait: AGAIN.1,
        }
    }

    /// Whether a packet that left then was part of the running test. `window` is when its burst left.
    pub(crate) fn is_probe(&self, departure: Instant) -> bool {
        self.running
            .as_ref()
            .and_then(|r| r.window)
            .is_some_and(|(first, last)| departure >= first && departure <= last)
    }

    /// The burst left between these moments.
    pub(crate) fn left(&mut self, window: (Instant, Instant)) {
        if let Some(running) = &mut self.running {
            running.window.get_or_insert(window);
        }
    }

    /// The path is congested.
    pub(crate) fn congested(&mut self, now: Instant) {
        self.running = None;
        self.not_before = Some(now + AFTER_CONGESTION);
    }

    /// Takes the feedback on the burst. Once it is complete: the rate that was found, if more than the target.
    pub(crate) fn feedback(&mut self, now: Instant, reports: &[PacketReport], target: f64) -> Option<f64> {
        for report in reports {
            if self.is_probe(report.departure)
                && let Some(running) = &mut self.running
            {
                running.sent += 1;
                if let (true, Some(arrival)) = (report.arrived, report.arrival) {
                    running.arrived.push(Arrived {
                        departure: report.departure,
                        arrival,
                        size: report.size,
                    });
                }
            }
        }
        let running = self.running.as_ref()?;
        let over = match running.window {
            Some((_, last)) => now.saturating_duration_since(last) > FEEDBACK,
            None => now.saturating_duration_since(running.ordered) > FORGOTTEN,
        };
        if !over {
            return None;
        }
        let running = self.running.take()?;
        let found = running.found().filter(|found| *found > target);
        let good = found.is_some_and(|found| found > running.rate * 0.85);
        let wait = if good { AGAIN.0 } else { self.wait };
        self.wait = if good { AGAIN.1 } else { (self.wait * 2).min(AGAIN.2) };
        self.not_before = Some(now + wait);
        found
    }

    /// The rate to test now, if there is reason to. `wanted` is what the application could send.
    pub(crate) fn order(&mut self, now: Instant, target: f64, wanted: f64) -> Option<f64> {
        if self.running.is_some() || target >= wanted || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let rate = (target * FACTOR).min(wanted * BEYOND);
        self.running = Some(Running {
            rate,
            ordered: now,
            window: None,
            sent: 0,
            arrived: Vec::new(),
        });
        Some(rate)
    }
}

impl Running {
    /// The slower of how fast the burst left and how fast it came; below what was tested when it came slower.
    fn found(&self) -> Option<f64> {
        if self.arrived.len() < FEWEST || self.arrived.len() * 10 < self.sent * 8 {
            return None;
        }
        let bytes: usize = self.arrived.iter().map(|a| a.size).sum();
        let by_departure = |a: &&Arrived| a.departure;
        let (first_left, last_left) = (
            self.arrived.iter().min_by_key(by_departure)?,
            self.arrived.iter().max_by_key(by_departure)?,
        );
        let first_came = self.arrived.iter().min_by_key(|a| a.arrival)?;
        let last_came = self.arrived.iter().max_by_key(|a| a.arrival)?;
        let rate = |bytes: usize, time: Duration| bytes as f64 * 8.0 / time.as_secs_f64().max(0.001);
        let left = rate(bytes - last_left.size, last_left.departure - first_left.departure);
        let came = rate(
            bytes - first_came.size,
            last_came.arrival.saturating_sub(first_came.arrival),
        );
        let found = if came < left * 0.9 { came * 0.95 } else { left.min(came) };
        Some(found.min(self.rate))
    }
}
