//! When to ask a sender for a keyframe. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// Requests for one layer are at least this far apart. Less brings more keyframes (each several times the size of
/// another frame) when many people join at once; more lets a newcomer wait longer for a picture.
const MIN_INTERVAL: Duration = Duration::from_millis(300);

/// An unanswered request is repeated with a doubling pause up to this, so that a sender whose keyframe is under way on
/// a slow path is not driven to send another.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// Throttles the keyframe requests of one layer.
#[derive(Debug)]
pub(crate) struct KeyframeRequests {
    wanted: bool,
    last: Option<Instant>,
    interval: Duration,
}

impl Default for KeyframeRequests {
    fn default() -> Self {
        Self {
            wanted: false,
            last: None,
            interval: MIN_INTERVAL,
        }
    }
}

impl KeyframeRequests {
    /// Somebody cannot decode until a keyframe comes.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe came.
    pub fn arrived(&mut self) {
        self.wanted = false;
        self.interval = MIN_INTERVAL;
    }

    /// Whether to ask now; counts as asked if so.
    pub fn take_due(&mut self, now: Instant) -> bool {
        if !self.wanted {
            return false;
        }
        match self.last {
            Some(last) if now.saturating_duration_since(last) < self.interval => return false,
            Some(last) if now.saturating_duration_since(last) < MAX_INTERVAL * 2 => {
                self.interval = (self.interval * 2).min(MAX_INTERVAL);
            }
            _ => self.interval = MIN_INTERVAL,
        }
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_newcomers_at_once_cost_one_keyframe() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::default();
        let asked = (0..10)
            .filter(|i| {
                requests.want();
                requests.take_due(start + Duration::from_millis(i * 20))
            })
            .count();
        assert_eq!(asked, 1);
    }

    #[test]
    fn an_unanswered_request_is_repeated_and_backs_off() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::default();
        requests.want();
        let asked: Vec<u64> = (0..8000)
            .filter(|ms| requests.take_due(start + Duration::from_millis(*ms)))
            .collect();
        assert!(asked.len() >= 4 && asked.len() <= 8, "{asked:?}");
        assert_eq!(asked[1], 300);
        assert!(asked.windows(2).all(|w| w[1] - w[0] >= 300));
    }

    #[test]
    fn a_keyframe_ends_the_asking() {
        let start = Instant::now();
        let mut requests = KeyframeRequests::default();
        requests.want();
        assert!(requests.take_due(start));
        requests.arrived();
        assert!(!requests.take_due(start + Duration::from_secs(5)));
    }
}
