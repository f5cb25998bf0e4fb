//! How long to hold packets: what the network's jitter asks for, after NetEq's delay manager.
//!
//! The fastest packet of the last seconds is the reference; every packet is late against it by its *relative delay*.
//! A histogram of those that forgets with time gives the delay that would have caught nearly all of them. The moving
//! reference follows clock drift and route changes by itself.

use std::time::Instant;

use super::super::SAMPLE_RATE;

/// Width of a histogram bucket, ms. Narrower is more exact and needs more packets to settle.
const BUCKET_MS: f64 = 5.0;
/// Buckets: up to 600 ms.
const BUCKETS: usize = 120;
/// Share of packets that must come in time. Higher holds all packets longer for the sake of a few.
const QUANTILE: f32 = 0.975;
/// How much of the past stays with each packet: about four seconds of 20 ms packets.
const FORGET: f32 = 0.995;
/// Ms on top: pulls come in steps of 10 ms, and not quite evenly.
const MARGIN_MS: f64 = 10.0;
/// The reference is the fastest packet of this many slices of time.
const SLICES: usize = 10;
/// Ms in a slice. Together: how long a faster route of the past still counts.
const SLICE_MS: f64 = 500.0;
/// How fast the measured loss follows.
const LOSS_RATE: f32 = 0.02;
/// Loss from which one packet more is held, so that its error correction can be used; and when that ends.
const LOSS_ON: f32 = 0.025;
const LOSS_OFF: f32 = 0.005;

/// Decides the target delay, and measures delays against the fastest packet.
#[derive(Debug)]
pub(super) struct DelayManager {
    /// Any fixed moment, and the media time that goes with it.
    origin: Option<(Instant, i64)>,
    /// Smallest transit time of each slice, ms; only differences mean something.
    slices: [f64; SLICES],
    slice: usize,
    slice_started: f64,
    histogram: [f32; BUCKETS],
    packets: u32,
    loss: f32,
    lossy: bool,
    packet_ms: f64,
    bounds: (f64, f64),
}

impl DelayManager {
    pub(super) fn new(min_ms: u32, max_ms: u32) -> Self {
        Self {
            origin: None,
            slices: [f64::INFINITY; SLICES],
            slice: 0,
            slice_started: 0.0,
            histogram: [0.0; BUCKETS],
            packets: 0,
            loss: 0.0,
            lossy: false,
            packet_ms: 20.0,
            bounds: (f64::from(min_ms), f64::from(max_ms.max(min_ms))),
        }
    }

    /// Takes note of a packet's arrival.
    pub(super) fn arrived(&mut self, timestamp: i64, samples: usize, at: Instant) {
        self.origin.get_or_insert((at, timestamp));
        self.packet_ms = samples as f64 * 1000.0 / f64::from(SAMPLE_RATE);
        let transit = self.transit(timestamp, at);
        self.follow(transit, at);
        let late = (transit - self.fastest()).max(0.0);
        // What no allowed delay would have saved teaches nothing.
        if late <= self.bounds.1 {
            self.count(((late / BUCKET_MS) as usize).min(BUCKETS - 1));
        }
    }

    /// Takes note of a packet that was played, or that was not there when needed.
    pub(super) fn played(&mut self, lost: bool) {
        let now = if lost { 1.0 } else { 0.0 };
        self.loss += LOSS_RATE * (now - self.loss);
        self.lossy = if self.lossy {
            self.loss > LOSS_OFF
        } else {
            self.loss > LOSS_ON
        };
    }

    /// How long after the fastest possible packet media time `timestamp` is at `now`, ms.
    pub(super) fn delay_ms(&self, timestamp: i64, now: Instant) -> f64 {
        self.transit(timestamp, now) - self.fastest()
    }

    /// How long packets should be held against the fastest one, ms.
    pub(super) fn target_ms(&self) -> f64 {
        let mut sum = 0.0;
        let mut bucket = 0;
        for (index, share) in self.histogram.iter().enumerate() {
            sum += share;
            bucket = index;
            if sum >= QUANTILE {
                break;
            }
        }
        // Before anything is known a middling jitter is assumed.
        let jitter = if self.packets == 0 {
            20.0
        } else {
            (bucket + 1) as f64 * BUCKET_MS
        };
        let correction = if self.lossy { self.packet_ms } else { 0.0 };
        (jitter + MARGIN_MS + correction).clamp(self.bounds.0, self.bounds.1)
    }

    /// The first packet of a stream that paused, or of another stream, says nothing about the old reference.
    pub(super) fn restart(&mut self) {
        self.origin = None;
        self.slices = [f64::INFINITY; SLICES];
    }

    fn transit(&self, timestamp: i64, at: Instant) -> f64 {
        let Some((moment, media)) = self.origin else { return 0.0 };
        let elapsed = if at >= moment {
            (at - moment).as_secs_f64() * 1000.0
        } else {
            -((moment - at).as_secs_f64() * 1000.0)
        };
        elapsed - (timestamp - media) as f64 * 1000.0 / f64::from(SAMPLE_RATE)
    }

    fn fastest(&self) -> f64 {
        let fastest = self.slices.iter().copied().fold(f64::INFINITY, f64::min);
        if fastest.is_finite() { fastest } else { 0.0 }
    }

    fn follow(&mut self, transit: f64, at: Instant) {
        let Some((moment, _)) = self.origin else { return };
        let elapsed = at.saturating_duration_since(moment).as_secs_f64() * 1000.0;
        if elapsed < self.slice_started {
            self.slice_started = elapsed;
        }
        let passed = ((elapsed - self.slice_started) / SLICE_MS) as usize;
        for _ in 0..passed.min(SLICES) {
            self.slice = (self.slice + 1) % SLICES;
            self.slices[self.slice] = f64::INFINITY;
        }
        self.slice_started += passed as f64 * SLICE_MS;
        self.slices[self.slice] = self.slices[self.slice].min(transit);
    }

    fn count(&mut self, bucket: usize) {
        self.packets = self.packets.saturating_add(1);
        // The first packets count fully, so that a new stream settles at once.
        let forget = FORGET.min(1.0 - 2.0 / (self.packets as f32 + 1.0)).max(0.0);
        self.histogram.iter_mut().for_each(|share| *share *= forget);
        self.histogram[bucket] += 1.0 - forget;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_even_stream_is_held_shortly_and_a_shaken_one_as_long_as_it_needs() {
        let start = Instant::now();
        let mut even = DelayManager::new(0, 500);
        let mut shaken = DelayManager::new(0, 500);
        for n in 0..500u64 {
            let sent = start + Duration::from_millis(20 * n);
            even.arrived(960 * n as i64, 960, sent);
            shaken.arrived(960 * n as i64, 960, sent + Duration::from_millis(n * 37 % 101));
        }
        assert!(even.target_ms() <= 20.0, "{}", even.target_ms());
        assert!((100.0..=130.0).contains(&shaken.target_ms()), "{}", shaken.target_ms());
    }

    #[test]
    fn the_reference_follows_a_slower_route() {
        let start = Instant::now();
        let mut delays = DelayManager::new(0, 500);
        for n in 0..1500u64 {
            let route = if n < 250 { 10 } else { 90 };
            delays.arrived(960 * n as i64, 960, start + Duration::from_millis(20 * n + route));
        }
        assert!(delays.target_ms() <= 20.0, "{}", delays.target_ms());
    }

    #[test]
    fn loss_holds_one_packet_more() {
        let mut delays = DelayManager::new(0, 500);
        delays.arrived(0, 960, Instant::now());
        let before = delays.target_ms();
        for n in 0..100 {
            delays.played(n % 10 == 0);
        }
        assert_eq!(delays.target_ms(), before + 20.0);
        for _ in 0..400 {
            delays.played(false);
        }
        assert_eq!(delays.target_ms(), before);
    }
}
