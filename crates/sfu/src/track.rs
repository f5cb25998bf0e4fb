//! An announced track: its layers, its counters and those it is sent to.

use std::time::{Duration, Instant};

use confab_types::{Bitrate, ParticipantSid};
use str0m::media::{Mid, Rid};

use crate::allocation::Candidate;
use crate::downlink::Downlink;
use crate::keyframes::KeyframeRequests;
use crate::rate::RateMeter;
use crate::speakers::LevelMeter;
use crate::{ConnectionId, Layer, TrackAnnouncement};

/// A layer silent for this long is gone. A shared screen may really send only every second or so.
const LIVE_FOR: Duration = Duration::from_secs(2);

/// A layer is gone sooner when a lower one sent this many frames meanwhile: the sender dropped it.
const MISSED_FRAMES: u32 = 6;
const MISSED_FOR: Duration = Duration::from_millis(200);

/// Where a track's packets come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub connection: ConnectionId,
    pub mid: Mid,
}

/// One layer of a track.
#[derive(Debug, Default)]
pub(crate) struct LayerState {
    pub rid: Option<Rid>,
    pub keyframes: KeyframeRequests,
    seen: Option<Instant>,
    missed: u32,
    rate: RateMeter,
}

impl LayerState {
    /// Whether it arrives.
    pub fn is_live(&self, now: Instant) -> bool {
        self.seen.is_some_and(|seen| {
            let silent = now.saturating_duration_since(seen);
            silent < LIVE_FOR && !(self.missed >= MISSED_FRAMES && silent > MISSED_FOR)
        })
    }
}

/// An announced track.
#[derive(Debug)]
pub(crate) struct Track {
    pub owner: ParticipantSid,
    pub announcement: TrackAnnouncement,
    pub binding: Option<Binding>,
    /// First media came, and was reported.
    pub live: bool,
    pub layers: [LayerState; 3],
    pub downlinks: Vec<Downlink>,
    pub levels: LevelMeter,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub keyframe_requests: u64,
}

impl Track {
    /// An announced track without media.
    pub fn new(owner: ParticipantSid, announcement: TrackAnnouncement) -> Self {
        Self {
            owner,
            announcement,
            binding: None,
            live: false,
            layers: Default::default(),
            downlinks: Vec::new(),
            levels: LevelMeter::default(),
            packets_in: 0,
            bytes_in: 0,
            packets_out: 0,
            keyframe_requests: 0,
        }
    }

    /// Counts a packet in. True if its layer was not live before.
    pub fn count(&mut self, now: Instant, layer: Layer, rid: Option<Rid>, bytes: usize, marker: bool) -> bool {
        self.packets_in += 1;
        self.bytes_in += bytes as u64;
        let state = &mut self.layers[layer.index()];
        let is_new = !state.is_live(now);
        state.rid = rid;
        state.seen = Some(now);
        state.missed = 0;
        state.rate.add(now, bytes);
        if marker {
            for higher in &mut self.layers[layer.index() + 1..] {
                higher.missed += 1;
            }
        }
        is_new
    }

    /// What an allocator needs to know.
    pub fn candidate(&mut self, now: Instant, max: Layer, held: bool) -> Candidate {
        let mut live: [Option<Bitrate>; 3] = [None; 3];
        for (rate, layer) in live.iter_mut().zip(&mut self.layers) {
            if layer.is_live(now) {
                *rate = Some(layer.rate.rate(now));
            }
        }
        Candidate { max, live, held }
    }

    /// The downlink to a subscriber.
    pub fn downlink_to(&mut self, who: &ParticipantSid) -> Option<&mut Downlink> {
        self.downlinks.iter_mut().find(|d| d.subscriber == *who)
    }

    /// Asks for a keyframe of the layer that a downlink waits for or shows.
    pub fn want_keyframe(&mut self, layer: Layer) {
        self.layers[layer.index()].keyframes.want();
    }

    /// Stops all downlinks until media comes again.
    pub fn pause_downlinks(&mut self) {
        self.downlinks.iter_mut().for_each(|d| d.rewriter.pause());
    }

    /// Asks for a keyframe for each downlink that has to start anew.
    pub fn want_keyframes_for_waiting(&mut self) {
        let Self { downlinks, layers, .. } = self;
        for downlink in downlinks.iter().filter(|d| d.is_on() && !d.held) {
            if let Some(target) = downlink.target
                && downlink.rewriter.layer() != Some(target)
            {
                layers[target.index()].keyframes.want();
            }
        }
    }
}
