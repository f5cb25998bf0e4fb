//! Units with names, so that no bare number stands for a rate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits per second.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bitrate(u64);

impl Bitrate {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// From bits per second.
    pub const fn bps(bps: u64) -> Self {
        Self(bps)
    }

    /// From thousands of bits per second.
    pub const fn kbps(kbps: u64) -> Self {
        Self(kbps * 1000)
    }

    /// In bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// In whole thousands of bits per second, rounded down.
    pub const fn as_kbps(self) -> u64 {
        self.0 / 1000
    }
}

impl fmt::Debug for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kbps", self.0 / 1000)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
