//! Counts failed logins by account and by address over a sliding window. Pure:
//! the caller says what time it is. Must not know whether an account exists.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Limits;

/// How many accounts and addresses are remembered at once. More memory (about 200 bytes each) makes it harder
/// to push an account out by failing for others, which the bound on addresses makes hard already.
const MAX_KEYS: usize = 20_000;

/// What failures are counted for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// The hash of the account's name in lower case, known or not: of one size for any text.
    Account([u8; 32]),
    /// An IPv4 address or the /64 of an IPv6 one.
    Address([u8; 8]),
}

/// A try to sign in, as the limiter sees it.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    account: Key,
    address: Key,
}

impl Attempt {
    pub(crate) fn new(user: &str, address: IpAddr) -> Self {
        let account = Sha256::digest(user.trim().to_lowercase().as_bytes());
        let address = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                // Not to be mistaken for a /64: 0xff.. is multicast.
                [0xff, 4, 0, 0, a, b, c, d]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                [a, b, c, d, e, f, g, h]
            }
        };
        Self {
            account: Key::Account(account.into()),
            address: Key::Address(address),
        }
    }
}

/// The times of the latest failures of each key, oldest first.
pub(crate) struct Limiter {
    window: Duration,
    account_failures: usize,
    address_failures: usize,
    failures: HashMap<Key, VecDeque<Duration>>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            window: limits.attempts_window,
            account_failures: limits.account_failures.max(1),
            address_failures: limits.address_failures.max(1),
            failures: HashMap::new(),
        }
    }

    /// How long this attempt must wait, if it must.
    pub(crate) fn blocked(&mut self, attempt: Attempt, now: Duration) -> Option<Duration> {
        let account = self.wait(attempt.account, self.account_failures, now);
        let address = self.wait(attempt.address, self.address_failures, now);
        account.max(address)
    }

    /// Counts a failure; says how long to wait if it was one too many.
    pub(crate) fn failed(&mut self, attempt: Attempt, now: Duration) -> Option<Duration> {
        self.count(attempt.account, self.account_failures, now);
        self.count(attempt.address, self.address_failures, now);
        self.blocked(attempt, now)
    }

    fn wait(&mut self, key: Key, limit: usize, now: Duration) -> Option<Duration> {
        let window = self.window;
        let times = self.failures.get_mut(&key)?;
        while times.front().is_some_and(|t| *t + window <= now) {
            times.pop_front();
        }
        if times.is_empty() {
            self.failures.remove(&key);
            return None;
        }
        let first = times.len().checked_sub(limit).and_then(|i| times.get(i))?;
        let left = (*first + window).saturating_sub(now);
        // Retry-After has whole seconds: round up, so that who waits so long is let in.
        Some(Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(Duration::from_secs(1)))
    }

    fn count(&mut self, key: Key, limit: usize, now: Duration) {
        if self.failures.len() >= MAX_KEYS && !self.failures.contains_key(&key) {
            self.make_room(now);
        }
        let times = self.failures.entry(key).or_default();
        times.push_back(now);
        // Attempts that were under way together may all fail: no more than the limit is of interest.
        while times.len() > limit {
            times.pop_front();
        }
    }

    fn make_room(&mut self, now: Duration) {
        let window = self.window;
        self.failures
            .retain(|_, times| times.back().is_some_and(|t| *t + window > now));
        if self.failures.len() >= MAX_KEYS {
            let stalest = self
                .failures
                .iter()
                .min_by_key(|(_, t)| (t.len(), t.back().copied()))
                .map(|(k, _)| *k);
            if let Some(key) = stalest {
                self.failures.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limiter() -> Limiter {
        Limiter::new(&Limits::default())
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn the_sixth_failure_blocks_until_the_first_is_fifteen_minutes_old() {
        let mut limiter = limiter();
        for minute in 0..5u8 {
            let attempt = Attempt::new("ada", address(minute));
            assert_eq!(limiter.failed(attempt, u32::from(minute) * MINUTE), None);
        }
        let attempt = Attempt::new("ada", address(9));
        assert_eq!(limiter.blocked(attempt, 5 * MINUTE), None);
        assert_eq!(limiter.failed(attempt, 5 * MINUTE), Some(10 * MINUTE));
        assert_eq!(limiter.blocked(attempt, 14 * MINUTE), Some(MINUTE));
        assert_eq!(limiter.blocked(attempt, 15 * MINUTE), None);
    }

    #[test]
    fn letter_case_and_white_space_make_no_new_account() {
        let mut limiter = limiter();
        for user in ["ada", "ADA", " Ada ", "adA", "ada\n", "aDa"] {
            limiter.failed(Attempt::new(user, address(1)), MINUTE);
        }
        assert!(limiter.blocked(Attempt::new("ada", address(2)), MINUTE).is_some());
        assert!(limiter.blocked(Attempt::new("bob", address(2)), MINUTE).is_none());
    }

    #[test]
    fn an_address_that_fails_for_many_accounts_is_blocked_and_another_is_not() {
        let mut limiter = limiter();
        for n in 0..50 {
            assert_eq!(
                limiter.blocked(Attempt::new(&format!("user{n}"), address(1)), MINUTE),
                None
            );
            limiter.failed(Attempt::new(&format!("user{n}"), address(1)), MINUTE);
        }
        assert!(limiter.blocked(Attempt::new("someone", address(1)), MINUTE).is_some());
        assert!(limiter.blocked(Attempt::new("someone", address(2)), MINUTE).is_none());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let of = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        let mut limiter = limiter();
        for n in 0..50 {
            limiter.failed(Attempt::new(&format!("user{n}"), of(n)), MINUTE);
        }
        assert!(limiter.blocked(Attempt::new("someone", of(999)), MINUTE).is_some());
    }

    #[test]
    fn memory_is_bounded_and_blocked_accounts_are_kept() {
        let mut limiter = limiter();
        for _ in 0..6 {
            limiter.failed(Attempt::new("ada", address(1)), MINUTE);
        }
        for n in 0..(MAX_KEYS + 100) {
            limiter.count(Attempt::new(&format!("user{n}"), address(2)).account, 6, 2 * MINUTE);
        }
        assert!(limiter.failures.len() <= MAX_KEYS);
        assert!(limiter.blocked(Attempt::new("ada", address(3)), 2 * MINUTE).is_some());
    }
}
