//! Which layers fit a subscriber's bandwidth. Pure.
//!
//! The estimate of a sender that sends little says little: it settles near what is sent (measured: 126 kbps with
//! sound only on an idle loopback). So an estimate is believed only when it is *below* what is being sent. Then it
//! becomes a cap, layers go down, and after a pause the cap is lifted for a new try; the pause doubles when the try
//! fails. While there is no cap, wishes alone decide.

use std::time::{Duration, Instant};

use confab_types::Bitrate;

use crate::Layer;

/// An estimate under this part of the sent rate is congestion.
const CONGESTED: f64 = 0.85;

/// How long congestion must last before a layer goes: one keyframe burst is not congestion.
const PATIENCE: Duration = Duration::from_millis(600);

/// First pause before a capped subscriber is tried with more. Doubles up to the maximum when the try fails.
const MIN_PAUSE: Duration = Duration::from_secs(8);
const MAX_PAUSE: Duration = Duration::from_secs(64);

/// A cap that comes back within this time after being lifted means the try failed.
const TRIAL: Duration = Duration::from_secs(10);

/// What is assumed of a layer that is not being measured yet.
const FALLBACK: [Bitrate; 3] = [Bitrate::kbps(120), Bitrate::kbps(350), Bitrate::kbps(1200)];

/// One track that a subscriber gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The highest layer that the subscriber wants.
    pub max: Layer,
    /// Each layer's measured rate; none if nothing of it arrives.
    pub live: [Option<Bitrate>; 3],
}

/// The bandwidth state of one subscriber.
#[derive(Debug)]
pub(crate) struct Allocator {
    estimate: Option<Bitrate>,
    congested_since: Option<Instant>,
    cap: Option<Bitrate>,
    capped_at: Option<Instant>,
    lifted_at: Option<Instant>,
    pause: Duration,
}

impl Default for Allocator {
    fn default() -> Self {
        Self {
            estimate: None,
            congested_since: None,
            cap: None,
            capped_at: None,
            lifted_at: None,
            pause: MIN_PAUSE,
        }
    }
}

impl Allocator {
    /// A new estimate of the path.
    pub fn set_estimate(&mut self, estimate: Bitrate) {
        self.estimate = Some(estimate);
    }

    /// Looks at the estimate against what is being sent. Call every few hundred milliseconds.
    pub fn tick(&mut self, now: Instant, sent: Bitrate) {
        let Some(estimate) = self.estimate else { return };
        let congested = (estimate.as_bps() as f64) < sent.as_bps() as f64 * CONGESTED;
        if !congested {
            self.congested_since = None;
            if let Some(cap) = self.cap {
                self.cap = Some(cap.max(estimate));
            }
            if self
                .capped_at
                .is_some_and(|at| now.saturating_duration_since(at) >= self.pause)
            {
                self.cap = None;
                self.capped_at = None;
                self.lifted_at = Some(now);
            }
            return;
        }
        let since = *self.congested_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE {
            return;
        }
        if self.cap.is_none() {
            let failed = self
                .lifted_at
                .is_some_and(|at| now.saturating_duration_since(at) < TRIAL);
            self.pause = if failed {
                (self.pause * 2).min(MAX_PAUSE)
            } else {
                MIN_PAUSE
            };
        }
        self.cap = Some(estimate);
        self.capped_at = Some(now);
    }

    /// The layer for each track, in the order given: everyone gets the lowest live layer, then all are raised step by
    /// step while the cap allows.
    pub fn allocate(&self, tracks: &[Candidate]) -> Vec<Option<Layer>> {
        let mut chosen: Vec<Option<Layer>> = tracks.iter().map(|t| t.choose(Layer::Low)).collect();
        let Some(cap) = self.cap else {
            return tracks.iter().map(|t| t.choose(t.max)).collect();
        };
        for step in [Layer::Mid, Layer::High] {
            for (n, track) in tracks.iter().enumerate() {
                if step > track.max {
                    continue;
                }
                let raised = track.choose(step);
                let others: u64 = (0..tracks.len())
                    .filter(|o| *o != n)
                    .map(|o| tracks[o].cost(chosen[o]))
                    .sum();
                if others + track.cost(raised) <= cap.as_bps() {
                    chosen[n] = raised;
                }
            }
        }
        chosen
    }

    /// What would be sent if nothing held it back, for the prober.
    pub fn desired(tracks: &[Candidate]) -> Bitrate {
        Bitrate::bps(tracks.iter().map(|t| t.cost(t.choose(t.max))).sum())
    }
}

impl Candidate {
    /// The highest live layer up to `max`, else the lowest live one.
    fn choose(&self, max: Layer) -> Option<Layer> {
        let live = |l: &Layer| self.live[l.index()].is_some();
        Layer::ALL
            .into_iter()
            .rev()
            .filter(live)
            .find(|l| *l <= max)
            .or_else(|| Layer::ALL.into_iter().find(live))
    }

    fn cost(&self, layer: Option<Layer>) -> u64 {
        let Some(layer) = layer else { return 0 };
        let measured = self.live[layer.index()].unwrap_or(Bitrate::ZERO);
        // A layer that has just begun measures low; a static screen really is low, and costs little.
        if measured == Bitrate::ZERO {
            FALLBACK[layer.index()].as_bps()
        } else {
            measured.as_bps()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: Candidate = Candidate {
        max: Layer::High,
        live: [
            Some(Bitrate::kbps(150)),
            Some(Bitrate::kbps(400)),
            Some(Bitrate::kbps(1500)),
        ],
    };

    fn congest(allocator: &mut Allocator, from: Instant, estimate: u64, sent: u64) -> Instant {
        allocator.set_estimate(Bitrate::kbps(estimate));
        allocator.tick(from, Bitrate::kbps(sent));
        let later = from + PATIENCE;
        allocator.tick(later, Bitrate::kbps(sent));
        later
    }

    #[test]
    fn an_application_limited_estimate_takes_no_layer() {
        let mut allocator = Allocator::default();
        congest(&mut allocator, Instant::now(), 126, 40);
        assert_eq!(allocator.allocate(&[CAMERA]), vec![Some(Layer::High)]);
    }

    #[test]
    fn congestion_lowers_the_layer_and_time_brings_it_back() {
        let mut allocator = Allocator::default();
        let at = congest(&mut allocator, Instant::now(), 450, 1500);
        assert_eq!(allocator.allocate(&[CAMERA]), vec![Some(Layer::Mid)]);
        allocator.tick(at + MIN_PAUSE / 2, Bitrate::kbps(400));
        assert_eq!(allocator.allocate(&[CAMERA]), vec![Some(Layer::Mid)]);
        allocator.tick(at + MIN_PAUSE, Bitrate::kbps(400));
        assert_eq!(allocator.allocate(&[CAMERA]), vec![Some(Layer::High)]);
    }

    #[test]
    fn a_failed_try_waits_twice_as_long() {
        let mut allocator = Allocator::default();
        let at = congest(&mut allocator, Instant::now(), 450, 1500) + MIN_PAUSE;
        allocator.tick(at, Bitrate::kbps(400));
        let at = congest(&mut allocator, at, 450, 1500);
        allocator.tick(at + MIN_PAUSE, Bitrate::kbps(400));
        assert_eq!(allocator.allocate(&[CAMERA]), vec![Some(Layer::Mid)]);
        allocator.tick(at + MIN_PAUSE * 2, Bitrate::kbps(400));
        assert_eq!(allocator.allocate(&[CAMERA]), vec![Some(Layer::High)]);
    }

    #[test]
    fn nobody_starves_while_others_are_raised() {
        let mut allocator = Allocator::default();
        congest(&mut allocator, Instant::now(), 600, 3000);
        assert_eq!(
            allocator.allocate(&[CAMERA, CAMERA]),
            vec![Some(Layer::Mid), Some(Layer::Low)]
        );
    }

    #[test]
    fn a_layer_that_does_not_arrive_is_never_chosen() {
        let only_top = Candidate {
            max: Layer::Low,
            live: [None, None, Some(Bitrate::kbps(900))],
        };
        assert_eq!(Allocator::default().allocate(&[only_top]), vec![Some(Layer::High)]);
        let nothing = Candidate {
            max: Layer::High,
            live: [None; 3],
        };
        assert_eq!(Allocator::default().allocate(&[nothing]), vec![None]);
    }
}
