//! The words that the sfu shares with whoever drives it.

use confab_types::{TrackKind, TrackSid, TrackSource};

/// Which of a participant's two peer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// From the participant to the server; the client offers.
    Publisher,
    /// From the server to the participant; the server offers.
    Subscriber,
}

/// A simulcast layer, lowest first, by LiveKit's rid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// rid `q`.
    Low,
    /// rid `h`.
    Mid,
    /// rid `f`, and the only one of a track without simulcast.
    High,
}

impl Layer {
    /// Every layer, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Mid, Self::High];

    /// 0 for the lowest.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The layer that an RTP stream id names. Numbers count from the lowest, as in `0`, `1`, `2`.
    pub(crate) fn from_rid(rid: Option<&str>) -> Self {
        match rid {
            Some("q" | "l" | "0") => Self::Low,
            Some("h" | "m" | "1") => Self::Mid,
            _ => Self::High,
        }
    }
}

/// A track that may arrive: AddTrack passed the grants. Nothing that was not announced so is forwarded.
#[derive(Debug, Clone)]
pub struct TrackAnnouncement {
    /// The server's id for it.
    pub sid: TrackSid,
    /// The client's id: the track half of `a=msid` on its m-line.
    pub cid: String,
    /// Sound or picture.
    pub kind: TrackKind,
    /// Where it comes from; checked against the grants once more.
    pub source: TrackSource,
    /// Whether it starts muted.
    pub muted: bool,
}

/// What a subscriber wants of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackWish {
    /// Off screen: send nothing.
    pub enabled: bool,
    /// The highest layer worth sending.
    pub max_layer: Layer,
}

impl Default for TrackWish {
    fn default() -> Self {
        Self {
            enabled: true,
            max_layer: Layer::High,
        }
    }
}

/// Reliable (ordered, retransmitted) or lossy data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// Channel `_reliable`.
    Reliable,
    /// Channel `_lossy`.
    Lossy,
}

impl DataKind {
    /// The channel's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
        }
    }

    /// The kind with this label, none for others.
    pub fn from_label(label: &str) -> Option<Self> {
        match label {
            "_reliable" => Some(Self::Reliable),
            "_lossy" => Some(Self::Lossy),
            _ => None,
        }
    }
}

/// A peer connection's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// ICE and DTLS are up.
    Connected,
    /// No packets; may come back.
    Disconnected,
    /// Over. Only an ICE restart or a new join helps.
    Failed,
}
