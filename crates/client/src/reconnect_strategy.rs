//! How long to wait before the next attempt to come back into a call. A formula and
//! nothing else: randomness is handed in.

use std::time::Duration;

/// The first wait: short, since most interruptions are over at once.
pub const FIRST_WAIT: Duration = Duration::from_millis(150);
/// The longest wait. Higher: less load on a server that comes back; lower: back sooner.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// Resumes that are tried before a full rejoin.
pub const RESUMES: u32 = 3;
/// Unanswered attempts after which the server counts as lost.
pub const SERVER_LOST_AFTER: u32 = 2;

/// The wait before attempt number `attempt` (0: at once). Doubles from [`FIRST_WAIT`] to
/// [`LONGEST_WAIT`]; `random` (0 to 1) takes up to a third off, so that clients of a
/// restarted server do not come together.
pub fn wait_before(attempt: u32, random: f64) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let doubled = FIRST_WAIT.saturating_mul(1 << (attempt - 1).min(10));
    let longest = doubled.min(LONGEST_WAIT);
    longest.mul_f64(1.0 - random.clamp(0.0, 1.0) / 3.0)
}

/// Whether attempt number `attempt` may be a resume; later ones are full rejoins.
pub fn may_resume(attempt: u32) -> bool {
    attempt < RESUMES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_made_at_once_and_later_ones_wait_longer_up_to_a_bound() {
        let waits: Vec<u128> = (0..8).map(|n| wait_before(n, 0.0).as_millis()).collect();
        assert_eq!(waits, [0, 150, 300, 600, 1200, 2400, 3000, 3000]);
    }

    #[test]
    fn clients_of_a_restarted_server_come_back_spread_out() {
        assert_eq!(wait_before(6, 1.0), Duration::from_secs(2));
        assert!(wait_before(3, 0.5) < wait_before(3, 0.1));
    }

    #[test]
    fn a_huge_attempt_number_is_no_overflow() {
        assert_eq!(wait_before(u32::MAX, 0.0), LONGEST_WAIT);
    }

    #[test]
    fn resuming_is_given_up_for_a_full_rejoin() {
        assert!(may_resume(0) && may_resume(RESUMES - 1) && !may_resume(RESUMES));
    }
}
