//! Measures a bit rate over the last second. Pure.

use std::time::{Duration, Instant};

use confab_types::Bitrate;

/// One slot's length. Ten of them make the window.
const SLOT: Duration = Duration::from_millis(100);
const SLOTS: usize = 10;

/// Bytes over a sliding second.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateMeter {
    slots: [u64; SLOTS],
    /// Number of the newest slot since `start`.
    newest: u64,
    start: Option<Instant>,
}

impl RateMeter {
    /// Counts bytes.
    pub fn add(&mut self, now: Instant, bytes: usize) {
        self.advance(now);
        self.slots[(self.newest % SLOTS as u64) as usize] += bytes as u64;
    }

    /// The rate. A stream younger than a second is measured over its life.
    pub fn rate(&mut self, now: Instant) -> Bitrate {
        self.advance(now);
        let slots = (self.newest + 1).clamp(2, SLOTS as u64);
        let bytes: u64 = self.slots.iter().sum();
        Bitrate::bps(bytes * 8 * 1000 / (slots * SLOT.as_millis() as u64))
    }

    fn advance(&mut self, now: Instant) {
        let start = *self.start.get_or_insert(now);
        let slot = (now.saturating_duration_since(start).as_millis() / SLOT.as_millis()) as u64;
        if slot > self.newest + SLOTS as u64 {
            self.slots = [0; SLOTS];
        } else {
            for n in self.newest + 1..=slot {
                self.slots[(n % SLOTS as u64) as usize] = 0;
            }
        }
        self.newest = self.newest.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_reads_as_its_rate_and_a_silent_one_as_zero() {
        let start = Instant::now();
        let mut meter = RateMeter::default();
        for ms in (0..3000).step_by(10) {
            meter.add(start + Duration::from_millis(ms), 1250);
        }
        let rate = meter.rate(start + Duration::from_millis(2999)).as_kbps();
        assert!((900..=1050).contains(&rate), "{rate}");
        assert_eq!(meter.rate(start + Duration::from_secs(10)), Bitrate::ZERO);
    }
}
