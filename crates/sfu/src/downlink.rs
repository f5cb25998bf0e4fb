//! One track on its way to one subscriber: which layer goes out, and with
//! which numbers.

use confab_types::{ParticipantSid, TrackKind};
use str0m::media::{Mid, Pt};

use crate::allocation::Choice;
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
    /// Nothing is sent for want of bandwidth.
    pub held: bool,
}

impl Downlink {
    /// Whether packets may flow.
    pub fn is_on(&self) -> bool {
        self.active && self.wish.enabled
    }

    /// Takes the allocator's choice. True if it was held back before and no longer is, or the other way round.
    pub fn apply(&mut self, choice: Choice) -> bool {
        let held = choice == Choice::Held;
        match choice {
            Choice::Send(layer) => self.target = Some(layer),
            // What went silent stays the target: it is where media will come back.
            Choice::Silent => {}
            Choice::Held => self.rewriter.pause(),
        }
        std::mem::replace(&mut self.held, held) != held
    }

    /// The numbers that a packet goes out with; none if it is not for this subscriber.
    pub fn take(&mut self, packet: &Numbers, starts_keyframe: bool) -> Option<Rewritten> {
        if !self.is_on() || self.held {
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
