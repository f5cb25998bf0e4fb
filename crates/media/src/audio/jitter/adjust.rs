//! Moves the delay of a jitter buffer towards its target: by pitch periods, or by skipping when it is far behind.

use std::time::Instant;

use super::super::{BLOCK, SAMPLE_RATE};
use super::{JitterBuffer, LIKENESS, Pulled, State, stretch};

/// Delay above the target that is tolerated, ms. Less works on the sound more often.
const HIGH_MS: f64 = 15.0;
/// Delay below the target that is tolerated, ms.
const LOW_MS: f64 = 8.0;
/// Delay above the target at which packets are skipped, ms: working it off would take many seconds.
const SKIP_MS: f64 = 300.0;
/// Blocks between two changes of the delay.
const STRETCH_PAUSE: u32 = 3;
const LEAST_LIKENESS: f32 = 0.5;

impl JitterBuffer {
    /// Moves the delay towards its target.
    pub(super) fn adjust(&mut self, now: Instant) {
        self.since_stretch = self.since_stretch.saturating_add(1);
        if self.state != State::Playing || self.ready_kind != Pulled::Sound {
            return;
        }
        let target = self.delays.target_ms();
        if self.delay_ms > target + SKIP_MS {
            return self.skip_to(target, now);
        }
        if self.since_stretch < STRETCH_PAUSE {
            return;
        }
        let changed = if self.delay_ms > target + HIGH_MS {
            self.shorten(now)
        } else if self.delay_ms < target - LOW_MS {
            self.lengthen()
        } else {
            self.likeness = LIKENESS;
            return;
        };
        if changed {
            self.since_stretch = 0;
            self.likeness = LIKENESS;
        } else {
            self.likeness = (self.likeness - 0.02).max(LEAST_LIKENESS);
        }
    }

    fn shorten(&mut self, now: Instant) -> bool {
        // Only from what is there: never by inventing.
        while self.ready.len() < stretch::SHORTEN_NEEDS + BLOCK {
            match self.packets.first_key_value() {
                Some((&time, _)) if time <= self.next_time => self.produce(now),
                _ => return false,
            }
        }
        let removed = stretch::shorten(&mut self.ready, self.likeness);
        self.stats.removed_samples += removed as u64;
        self.delay_ms -= removed as f64 * 1000.0 / f64::from(SAMPLE_RATE);
        removed > 0
    }

    fn lengthen(&mut self) -> bool {
        let added = stretch::lengthen(&self.past, &mut self.ready, self.likeness);
        self.stats.inserted_samples += added as u64;
        self.delay_ms += added as f64 * 1000.0 / f64::from(SAMPLE_RATE);
        added > 0
    }

    /// Far behind (a stalled network let go): leaves out what would be heard too late.
    fn skip_to(&mut self, target: f64, now: Instant) {
        let too_much = ((self.delay_ms - target) * f64::from(SAMPLE_RATE) / 1000.0) as i64;
        let wanted = self.next_time + too_much;
        let Some(resume) = self.packets.range(..=wanted).next_back().map(|(&time, _)| time) else {
            return;
        };
        if resume <= self.next_time {
            return;
        }
        let kept = self.packets.split_off(&resume);
        self.stats.discarded += self.packets.len() as u64;
        self.packets = kept;
        self.last_sequence = self
            .packets
            .first_key_value()
            .map_or(self.last_sequence, |(_, first)| first.sequence - 1);
        self.next_time = resume;
        self.joint = true;
        self.delay_ms = self.delays.delay_ms(resume - self.ready.len() as i64, now);
    }
}
