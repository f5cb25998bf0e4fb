//! When to try again after pictures were paused for want of bits. While only sound is sent, an estimate of the
//! network hardly grows: somebody has to send more to learn whether more goes through. Pure.

use std::time::{Duration, Instant};

use confab_types::Bitrate;

/// What a trial sends.
pub(super) const TRIAL_RATE: Bitrate = Bitrate::kbps(30);
/// How long a trial lasts: an estimator answers within two seconds.
const TRIAL: Duration = Duration::from_secs(3);
/// Before the first trial; doubled after each that fails. Sooner would disturb the sound more often.
const FIRST_WAIT: Duration = Duration::from_secs(8);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Decides on trials.
#[derive(Default)]
pub(super) struct Pause {
    since: Option<Instant>,
    trial_until: Option<Instant>,
    failed: u32,
}

impl Pause {
    /// Told for every picture whether it `fits` into what the network takes. Answers whether to send it though it does not.
    pub(super) fn try_anyway(&mut self, now: Instant, fits: bool) -> bool {
        let trying = self.trial_until.is_some_and(|until| now < until);
        if fits {
            self.since = None;
            if !trying {
                (self.trial_until, self.failed) = (None, 0);
            }
            return false;
        }
        if trying {
            return true;
        }
        if self.trial_until.take().is_some() {
            self.failed += 1;
            self.since = Some(now);
        }
        let wait = (FIRST_WAIT * 2u32.pow(self.failed.min(5))).min(LONGEST_WAIT);
        if now.saturating_duration_since(*self.since.get_or_insert(now)) < wait {
            return false;
        }
        self.trial_until = Some(now + TRIAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds at which pictures are sent though they do not fit.
    fn trials(pause: &mut Pause, start: Instant, seconds: std::ops::Range<u64>) -> Vec<u64> {
        seconds
            .filter(|s| pause.try_anyway(start + Duration::from_secs(*s), false))
            .collect()
    }

    #[test]
    fn trials_come_again_and_again_with_growing_pauses() {
        let mut pause = Pause::default();
        let start = Instant::now();
        assert_eq!(trials(&mut pause, start, 0..80), [8, 9, 10, 27, 28, 29, 62, 63, 64]);
    }

    #[test]
    fn a_trial_that_succeeds_ends_the_pause() {
        let mut pause = Pause::default();
        let start = Instant::now();
        let second = |s| start + Duration::from_secs(s);
        assert_eq!(trials(&mut pause, start, 0..10), [8, 9]);
        assert!((10..20).all(|s| !pause.try_anyway(second(s), true)));
        // The next pause begins with a short wait again.
        assert_eq!(trials(&mut pause, start, 20..31), [28, 29, 30]);
    }
}
