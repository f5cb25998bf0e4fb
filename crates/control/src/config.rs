//! What a [`Control`](crate::Control) is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use confab_types::Secret;

use crate::{Clock, Entropy, OsEntropy, SystemClock};

/// Where the data is and how long things last.
#[derive(Clone)]
pub struct ControlConfig {
    /// The folder of the database; made with mode 0700 when missing.
    pub data_dir: PathBuf,
    /// Adds the demo accounts (password `pass`). Never beyond loopback; the caller sees to that.
    pub demo: bool,
    /// API keys as name and secret. When there are some, the kept default pair is not used.
    pub keys: Vec<(String, Secret)>,
    /// What hashing a password costs.
    pub hash_cost: HashCost,
    /// Life times and bounds.
    pub limits: Limits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl ControlConfig {
    /// The defaults, with the machine's clock and randomness.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            demo: false,
            keys: Vec::new(),
            hash_cost: HashCost::default(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(OsEntropy),
        }
    }
}

/// Argon2id's parameters. More of each is slower for an attacker and for a login alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// How many hashes run at once; each holds `memory_kib`.
    pub parallel_hashes: usize,
    /// How many may wait for a turn; more are refused as unavailable.
    pub waiting_hashes: usize,
}

impl Default for HashCost {
    /// OWASP's 19 MiB, 2 passes, 1 lane; 2 at once keep a small machine usable.
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
            parallel_hashes: 2,
            waiting_hashes: 128,
        }
    }
}

/// Life times and bounds. Shorter is safer, longer survives worse networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Life of a session token.
    pub session_token: Duration,
    /// A session nobody refreshes for so long is over.
    pub session_idle: Duration,
    /// How long a spent refresh token still gives its successor.
    pub refresh_grace: Duration,
    /// The longest session token that a backend may ask for.
    pub backend_token_max: Duration,
    /// Failed logins are counted over this window.
    pub attempts_window: Duration,
    /// The failure of an account that is answered with "too many".
    pub account_failures: usize,
    /// The same for an address (an IPv6 /64), which many people may share.
    pub address_failures: usize,
    /// Life of a room token.
    pub room_token: Duration,
    /// How long a seat is held after a connection is lost or left.
    pub departing: Duration,
    /// The same for those who were in a call when the server stopped.
    pub departing_after_restart: Duration,
    /// How far a token's times may be off.
    pub leeway: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_token: Duration::from_secs(15 * 60),
            session_idle: Duration::from_secs(30 * 24 * 3600),
            refresh_grace: Duration::from_secs(30),
            backend_token_max: Duration::from_secs(24 * 3600),
            attempts_window: Duration::from_secs(15 * 60),
            account_failures: 6,
            address_failures: 50,
            room_token: Duration::from_secs(10 * 60),
            departing: Duration::from_secs(20),
            departing_after_restart: Duration::from_secs(60),
            leeway: Duration::from_secs(2),
        }
    }
}
