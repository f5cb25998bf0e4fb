//! A participant of the room: its grants, its connections, and the state of
//! the negotiation towards it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use confab_types::{Bitrate, Grants, TrackKind, TrackSid};
use str0m::IceCreds;
use str0m::change::SdpPendingOffer;
use str0m::media::Mid;

use crate::allocation::Allocator;
use crate::rate::RateMeter;
use crate::{ConnectionId, TrackWish};

/// An m-line of a subscriber connection.
#[derive(Debug)]
pub(crate) struct Line {
    pub kind: TrackKind,
    /// Known once it was offered.
    pub mid: Option<Mid>,
    /// Whether the subscriber should get the track.
    pub wanted: bool,
    pub wish: TrackWish,
    /// The track is gone: the line can be forgotten once it is inactive.
    pub orphaned: bool,
}

/// The offers towards a subscriber, one at a time:
///
/// ```text
///        change            offer made           answer
/// idle ---------> needed --------------> outstanding ------> idle, or needed if more changed meanwhile
/// ```
#[derive(Default)]
pub(crate) struct Negotiation {
    /// The offer that waits for its answer, and its text (told again if the client resumes meanwhile).
    pub outstanding: Option<(SdpPendingOffer, String)>,
    /// Something changed since the last offer.
    pub needed: bool,
    /// The next offer restarts ICE.
    pub restart: bool,
    /// Our credentials in the outstanding offer, if it restarts ICE.
    pub restart_credentials: Option<IceCreds>,
    /// The data channels were offered.
    pub channels_offered: bool,
}

/// M-lines whose tracks are gone. They can never be taken out of a session description, so they carry later tracks:
/// a room that runs for days would drown in them otherwise.
#[derive(Debug, Default)]
pub(crate) struct SpareLines {
    /// Inactive in the outstanding offer.
    pub retiring: Vec<(Mid, TrackKind)>,
    /// Inactive on both sides.
    pub free: Vec<(Mid, TrackKind)>,
    /// The names of lines that carry another track than they were made for.
    pub names: Vec<(Mid, Msid)>,
}

/// What `a=msid` says of an m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Msid {
    pub stream: String,
    pub track: String,
}

impl SpareLines {
    /// The other side agreed to the outstanding offer.
    pub fn agreed(&mut self) {
        self.free.append(&mut self.retiring);
    }

    /// A free line of this kind, under its new name.
    pub fn take(&mut self, kind: TrackKind, name: &Msid) -> Option<Mid> {
        let at = self.free.iter().position(|(_, k)| *k == kind)?;
        let (mid, _) = self.free.remove(at);
        self.names.retain(|(m, _)| *m != mid);
        self.names.push((mid, name.clone()));
        Some(mid)
    }
}

/// How often the path of a capped subscriber is probed. A probe is a burst of 15 ms at twice the estimate at most.
const PROBE_EVERY: Duration = Duration::from_secs(3);

/// What the prober of a subscriber connection was told.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    told: Bitrate,
    told_at: Option<Instant>,
}

impl Probing {
    /// Whether it is time to probe again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.told_at
            .is_none_or(|at| now.saturating_duration_since(at) >= PROBE_EVERY)
    }

    /// Whether the prober should be told this rate: it differs by a tenth from what it was told last.
    pub fn is_news(&mut self, now: Instant, desired: Bitrate) -> bool {
        let news = desired.as_bps().abs_diff(self.told.as_bps()) > self.told.as_bps() / 10;
        if news {
            self.told = desired;
            self.told_at = Some(now);
        }
        news
    }
}

/// A participant.
pub(crate) struct Participant {
    pub grants: Grants,
    pub auto_subscribe: bool,
    pub publisher: Option<ConnectionId>,
    pub subscriber: Option<ConnectionId>,
    pub negotiation: Negotiation,
    pub lines: BTreeMap<TrackSid, Line>,
    pub spare: SpareLines,
    pub allocator: Allocator,
    pub sent: RateMeter,
    pub probing: Probing,
}

impl Participant {
    /// A participant with nothing sent or received yet.
    pub fn new(grants: Grants, auto_subscribe: bool) -> Self {
        Self {
            grants,
            auto_subscribe,
            publisher: None,
            subscriber: None,
            negotiation: Negotiation::default(),
            lines: BTreeMap::new(),
            spare: SpareLines::default(),
            allocator: Allocator::default(),
            sent: RateMeter::default(),
            probing: Probing::default(),
        }
    }

    /// The track on one of its subscriber m-lines.
    pub fn track_on(&self, mid: Mid) -> Option<&TrackSid> {
        self.lines
            .iter()
            .find(|(_, line)| line.mid == Some(mid))
            .map(|(track, _)| track)
    }
}
