//! Which layers fit a subscriber's bandwidth. Pure.
//!
//! The estimate of a sender that sends little says little: it settles near what is sent (measured: 126 kbps with
//! sound only on an idle loopback). So an estimate is believed only when it is *below* what is being sent. Then it
//! becomes a cap and layers go down. Under a cap the path is probed now and then for the next step up, so that the
//! estimate can grow and carry the cap along. While there is no cap, wishes alone decide.

use std::time::{Duration, Instant};

use confab_types::Bitrate;

use crate::Layer;

/// An estimate under this part of the sent rate is congestion, and under the second one it is beyond doubt.
const CONGESTED: f64 = 0.85;
const FLOODED: f64 = 0.5;

/// Where more than this part is lost, what arrives is all that the path carries: str0m's estimate was seen to stand at
/// 600 kbps while a path of 64 kbps with a full queue lost 85 % of 400. Less may be a bad radio link, where a lower
/// layer helps nobody.
const DROWNED: f64 = 0.45;

/// How long mere congestion must last before a layer goes: one keyframe burst is not congestion.
const PATIENCE: Duration = Duration::from_millis(300);

/// Part of the cap given to payloads: the rest is headers, and some air to drain a queue.
const USABLE: f64 = 0.92;

/// The lowest layer of a picture goes on while this part of it fits, and comes back when all of it does. An estimate is
/// low on a lossy radio link too, where retransmissions keep a small picture alive; flooding shows as `DROWNED`.
const HOLD_PART: f64 = 0.4;

/// A cap this far above all wishes is none.
const ENOUGH: f64 = 1.1;

/// How long a cap may stand still before the next step up is simply tried. Doubles up to the maximum when that fails,
/// so that a path whose estimate does not grow by probing is found out too, at the price of a rare second of congestion.
const MIN_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(240);

/// With a picture held back, part of that pause is enough: nothing is worse than no picture.
const HELD_PAUSE_PART: u32 = 4;

/// What is assumed of a layer that is not being measured yet.
const FALLBACK: [Bitrate; 3] = [Bitrate::kbps(120), Bitrate::kbps(350), Bitrate::kbps(1200)];

/// One track that a subscriber gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The highest layer that the subscriber wants.
    pub max: Layer,
    /// Each layer's measured rate; none if nothing of it arrives.
    pub live: [Option<Bitrate>; 3],
    /// It is held back now.
    pub held: bool,
}

/// What a subscriber gets of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This layer.
    Send(Layer),
    /// Nothing arrives.
    Silent,
    /// Nothing, because there is no room for it.
    Held,
}

impl Choice {
    fn of(layer: Option<Layer>) -> Self {
        layer.map_or(Self::Silent, Self::Send)
    }
}

/// The bandwidth state of one subscriber.
#[derive(Debug)]
pub(crate) struct Allocator {
    estimate: Option<Bitrate>,
    /// By transport feedback, and by receiver reports: the former was seen to stop when most packets are lost.
    losses: [f64; 2],
    congested_since: Option<Instant>,
    cap: Option<Bitrate>,
    /// When the cap last changed what is sent.
    moved_at: Option<Instant>,
    pause: Duration,
    /// What the next step up would take, all together.
    next: Bitrate,
    /// Something is held back.
    holds: bool,
    /// What all wishes would take.
    wanted: Bitrate,
}

impl Default for Allocator {
    fn default() -> Self {
        let (next, wanted) = (Bitrate::ZERO, Bitrate::ZERO);
        Self {
            estimate: None,
            losses: [0.0; 2],
            congested_since: None,
            cap: None,
            moved_at: None,
            pause: MIN_PAUSE,
            next,
            holds: false,
            wanted,
        }
    }
}

impl Allocator {
    /// A new estimate of the path.
    pub fn set_estimate(&mut self, estimate: Bitrate) {
        self.estimate = Some(estimate);
    }

    /// The part of all packets lost in the last second, by transport feedback.
    pub fn set_transport_loss(&mut self, loss: f64) {
        self.losses[0] = loss;
    }

    /// The part of a picture's packets lost lately, by a receiver report.
    pub fn set_reported_loss(&mut self, loss: f64) {
        self.losses[1] = loss;
    }

    /// Looks at the estimate against what is being sent. Call every few hundred milliseconds.
    pub fn tick(&mut self, now: Instant, sent: Bitrate) {
        let Some(mut estimate) = self.estimate else { return };
        let loss = self.losses[0].max(self.losses[1]);
        if loss > DROWNED {
            estimate = estimate.min(Bitrate::bps((sent.as_bps() as f64 * (1.0 - loss)) as u64));
        }
        let part = estimate.as_bps() as f64 / sent.as_bps().max(1) as f64;
        if part >= CONGESTED {
            self.congested_since = None;
            self.recover(now, estimate);
            return;
        }
        let since = *self.congested_since.get_or_insert(now);
        if part < FLOODED || now.saturating_duration_since(since) >= PATIENCE {
            self.cap = Some(estimate);
            self.moved_at = Some(now);
        }
    }

    fn recover(&mut self, now: Instant, estimate: Bitrate) {
        let Some(cap) = self.cap else { return };
        let mut cap = cap.max(estimate);
        let pause = if self.holds {
            self.pause / HELD_PAUSE_PART
        } else {
            self.pause
        };
        if self
            .moved_at
            .is_none_or(|at| now.saturating_duration_since(at) >= pause)
        {
            cap = cap.max(Bitrate::bps((self.next.as_bps() as f64 / USABLE) as u64 + 1));
            self.moved_at = Some(now);
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
        self.cap = Some(cap);
        if cap.as_bps() as f64 >= self.wanted.as_bps() as f64 * ENOUGH / USABLE {
            self.cap = None;
            self.pause = MIN_PAUSE;
        }
    }

    /// Whether bandwidth is short.
    pub fn is_capped(&self) -> bool {
        self.cap.is_some()
    }

    /// What the prober should look for: room for the next step up, or for everything.
    pub fn desired(&self) -> Bitrate {
        let rate = if self.is_capped() { self.next } else { self.wanted };
        Bitrate::bps((rate.as_bps() as f64 * ENOUGH / USABLE) as u64)
    }

    /// The layer for each track, in the order given, beside `reserved` for sound. Under a cap everyone gets the lowest
    /// live layer first, as far as it goes (the rest is held back: sound goes before pictures), then all are raised
    /// step by step.
    pub fn allocate(&mut self, tracks: &[Candidate], reserved: Bitrate) -> Vec<Choice> {
        let wanted: u64 = tracks.iter().map(|t| t.cost(t.choose(t.max))).sum();
        self.wanted = Bitrate::bps(wanted + reserved.as_bps());
        self.holds = false;
        let Some(cap) = self.cap else {
            return tracks.iter().map(|t| Choice::of(t.choose(t.max))).collect();
        };
        let budget = ((cap.as_bps() as f64 * USABLE) as u64).saturating_sub(reserved.as_bps());
        let mut chosen: Vec<Choice> = Vec::with_capacity(tracks.len());
        let mut spent = 0;
        let mut next = u64::MAX;
        for track in tracks {
            let lowest = track.choose(Layer::Low);
            let cost = track.cost(lowest);
            let part = if track.held { 1.0 } else { HOLD_PART };
            let fits = spent + (cost as f64 * part) as u64 <= budget;
            if fits {
                spent += cost;
            } else {
                next = next.min(cost);
            }
            chosen.push(if fits { Choice::of(lowest) } else { Choice::Held });
        }
        for step in [Layer::Mid, Layer::High] {
            for (track, choice) in tracks.iter().zip(&mut chosen) {
                let Choice::Send(now) = *choice else { continue };
                let Some(raised) = track.choose(step.min(track.max)).filter(|r| *r > now) else {
                    continue;
                };
                let more = track.cost(Some(raised)).saturating_sub(track.cost(Some(now)));
                if spent + more <= budget {
                    spent += more;
                    *choice = Choice::Send(raised);
                } else {
                    next = next.min(more);
                }
            }
        }
        self.holds = chosen.contains(&Choice::Held);
        let next = if next == u64::MAX { 0 } else { next };
        self.next = Bitrate::bps(spent + next + reserved.as_bps());
        chosen
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
        held: false,
    };

    const ZERO: Bitrate = Bitrate::ZERO;

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
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::High)]);
    }

    #[test]
    fn a_short_dip_takes_no_layer() {
        let (mut allocator, now) = (Allocator::default(), Instant::now());
        allocator.set_estimate(Bitrate::kbps(1200));
        allocator.tick(now, Bitrate::kbps(1500));
        allocator.set_estimate(Bitrate::kbps(1600));
        allocator.tick(now + PATIENCE, Bitrate::kbps(1500));
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::High)]);
    }

    #[test]
    fn congestion_lowers_the_layer_and_a_grown_estimate_brings_it_back() {
        let mut allocator = Allocator::default();
        let at = congest(&mut allocator, Instant::now(), 450, 1500);
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Mid)]);
        assert!(
            allocator.is_capped() && allocator.desired() >= Bitrate::kbps(1500),
            "probes for the next step"
        );
        allocator.set_estimate(Bitrate::kbps(1900));
        allocator.tick(at, Bitrate::kbps(400));
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::High)]);
        assert!(!allocator.is_capped());
    }

    #[test]
    fn heavy_loss_is_believed_over_the_estimate_and_a_bad_radio_link_is_left_alone() {
        let mut allocator = Allocator::default();
        allocator.set_transport_loss(0.3);
        congest(&mut allocator, Instant::now(), 2000, 1500);
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::High)]);
        allocator.set_reported_loss(0.85);
        congest(&mut allocator, Instant::now(), 2000, 1500);
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Low)]);
    }

    #[test]
    fn a_cap_that_stands_still_is_tried_one_step_up_and_ever_more_rarely() {
        let mut allocator = Allocator::default();
        let at = congest(&mut allocator, Instant::now(), 200, 1500);
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Low)]);
        allocator.tick(at + MIN_PAUSE, Bitrate::kbps(150));
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Mid)]);
        let at = congest(&mut allocator, at + MIN_PAUSE, 200, 400);
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Low)]);
        allocator.tick(at + MIN_PAUSE, Bitrate::kbps(150));
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Low)]);
        allocator.tick(at + MIN_PAUSE * 2, Bitrate::kbps(150));
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Mid)]);
    }

    #[test]
    fn nobody_starves_while_others_are_raised() {
        let mut allocator = Allocator::default();
        congest(&mut allocator, Instant::now(), 650, 3000);
        assert_eq!(
            allocator.allocate(&[CAMERA, CAMERA], ZERO),
            vec![Choice::Send(Layer::Mid), Choice::Send(Layer::Low)]
        );
    }

    #[test]
    fn a_picture_goes_on_when_it_nearly_fits_and_comes_back_when_it_does() {
        let mut allocator = Allocator::default();
        congest(&mut allocator, Instant::now(), 120, 3000);
        assert_eq!(allocator.allocate(&[CAMERA], ZERO), vec![Choice::Send(Layer::Low)]);
        let held = Candidate { held: true, ..CAMERA };
        assert_eq!(allocator.allocate(&[held], ZERO), vec![Choice::Held]);
    }

    #[test]
    fn a_layer_that_does_not_arrive_is_never_chosen() {
        let only_top = Candidate {
            max: Layer::Low,
            live: [None, None, Some(Bitrate::kbps(900))],
            held: false,
        };
        assert_eq!(
            Allocator::default().allocate(&[only_top], ZERO),
            vec![Choice::Send(Layer::High)]
        );
        let nothing = Candidate {
            max: Layer::High,
            live: [None; 3],
            held: false,
        };
        assert_eq!(Allocator::default().allocate(&[nothing], ZERO), vec![Choice::Silent]);
    }

    #[test]
    fn what_does_not_fit_is_held_back_and_sound_goes_first() {
        let mut allocator = Allocator::default();
        congest(&mut allocator, Instant::now(), 200, 3000);
        let two = [CAMERA, CAMERA];
        assert_eq!(
            allocator.allocate(&two, ZERO),
            vec![Choice::Send(Layer::Low), Choice::Held]
        );
        assert_eq!(
            allocator.allocate(&two, Bitrate::kbps(140)),
            vec![Choice::Held, Choice::Held]
        );
    }
}
