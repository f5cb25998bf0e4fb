//! One track on its way to one subscriber: which layer goes out, and with
//! which numbers.

use confab_types::{ParticipantSid, TrackKind};
use str0m::media::{Mid, Pt};

use crate::rewrite::{Numbers, Rewriter, Rewritten};
use crate::{ConnectionId, Layer, TrackWish};

/// A track's way to a subscriber.
#[derive(Debug)]
pub(crate) struct Downlink {
    pub subscriber: ParticipantSid,
    pub connection: ConnectionId,
    pub mid: Mid,
    pub pt: Pt,
    pub kind: TrackKind,
    /// The m-line is negotiated and the connection up.
    pub active: bool,
    pub wish: TrackWish,
    /// The layer it should get.
    pub target: Option<Layer>,
    pub rewriter: Rewriter,
}

impl Downlink {
    /// Whether packets may flow.
    pub fn is_on(&self) -> bool {
        self.active && self.wish.enabled
    }

    /// The numbers that a packet goes out with; none if it is not for this subscriber.
    pub fn take(&mut self, packet: &Numbers, starts_keyframe: bool) -> Option<Rewritten> {
        if !self.is_on() {
            return None;
        }
        let current = self.rewriter.layer();
        let starts = match self.kind {
            TrackKind::Audio => current.is_none(),
            TrackKind::Video => starts_keyframe && self.target == Some(packet.layer) && current != Some(packet.layer),
        };
        if starts {
            self.rewriter.start(packet);
        }
        self.rewriter.rewrite(packet)
    }
}
