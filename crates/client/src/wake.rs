//! Finds out that the machine slept: the wall clock went on, the monotonic clock did not.
//! Pure: both clocks are handed in.

use std::time::{Duration, Instant, SystemTime};

/// A wall clock this far ahead of the monotonic one means sleep. Steps of a time server stay below; a wrong guess
/// costs one resume.
const JUMP: Duration = Duration::from_secs(8);

/// Compares the clocks from look to look.
#[derive(Debug, Default)]
pub struct WakeWatch(Option<(Instant, SystemTime)>);

impl WakeWatch {
    /// Whether the machine slept since the last look.
    pub fn slept(&mut self, now: Instant, wall: SystemTime) -> bool {
        let Some((then, wall_then)) = self.0.replace((now, wall)) else {
            return false;
        };
        let passed = wall.duration_since(wall_then).unwrap_or_default();
        passed.saturating_sub(now.saturating_duration_since(then)) >= JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_of_sleep_is_noticed_once_and_a_busy_machine_is_none() {
        let (mut watch, now, wall) = (WakeWatch::default(), Instant::now(), SystemTime::now());
        let second = Duration::from_secs(1);
        assert!(!watch.slept(now, wall));
        assert!(!watch.slept(now + 60 * second, wall + 60 * second));
        assert!(watch.slept(now + 61 * second, wall + 8 * 3600 * second));
        assert!(!watch.slept(now + 62 * second, wall + (8 * 3600 + 1) * second));
        assert!(!watch.slept(now + 63 * second, wall), "a clock set back is no sleep");
    }
}
