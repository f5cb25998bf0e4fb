//! Makes one continuous RTP stream out of pieces of several: what a subscriber
//! gets of a track, across layer switches and pauses. Rewrites sequence
//! numbers, timestamps and VP8 picture ids by constant offsets per piece. Pure.

use std::time::Instant;

use crate::Layer;

/// Packets this far behind the end of the previous piece are too old to be worth sending.
const LATE_WINDOW: u64 = 512;

/// The numbers of an incoming packet that matter here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    /// The layer it belongs to.
    pub layer: Layer,
    /// Extended sequence number.
    pub seq: u64,
    /// RTP time.
    pub time: u32,
    /// When it was captured, as well as is known.
    pub captured: Instant,
    /// RTP clock rate in Hz.
    pub clock: u32,
    /// VP8 PictureID.
    pub picture_id: Option<u16>,
    /// VP8 TL0PICIDX.
    pub tl0: Option<u8>,
}

/// The same packet's numbers for the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub seq: u64,
    pub time: u32,
    pub picture_id: Option<u16>,
    pub tl0: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    layer: Layer,
    /// First sequence number of the piece: older packets came before its keyframe.
    first: u64,
    /// Highest one seen.
    last: u64,
    seq_offset: i64,
    time_offset: u32,
    picture_offset: u16,
    tl0_offset: u8,
}

/// The state of one outgoing stream.
#[derive(Debug, Default)]
pub(crate) struct Rewriter {
    current: Option<Piece>,
    /// The piece before, for packets that arrive after the switch (reordered or retransmitted).
    previous: Option<Piece>,
    /// The newest packet sent, and when it was captured.
    newest: Option<(Rewritten, Instant)>,
}

impl Rewriter {
    /// The layer being sent, none while paused.
    pub fn layer(&self) -> Option<Layer> {
        self.current.map(|p| p.layer)
    }

    /// Stops until the next [`Rewriter::start`].
    pub fn pause(&mut self) {
        self.current = None;
        self.previous = None;
    }

    /// Starts a new piece with this packet, the first of a keyframe (or any packet of a sound track).
    pub fn start(&mut self, first: &Numbers) {
        let piece = match &self.newest {
            None => Piece {
                layer: first.layer,
                first: first.seq,
                last: first.seq,
                // A receiver starts with a rollover counter of 0 (RFC 3711 section 3.3.1).
                seq_offset: -((first.seq & !0xffff) as i64),
                time_offset: 0,
                picture_offset: 0,
                tl0_offset: 0,
            },
            Some((newest, captured)) => {
                let elapsed = first.captured.saturating_duration_since(*captured);
                let ticks = (elapsed.as_micros() as u64 * u64::from(first.clock) / 1_000_000).max(1) as u32;
                Piece {
                    layer: first.layer,
                    first: first.seq,
                    last: first.seq,
                    seq_offset: newest.seq as i64 + 1 - first.seq as i64,
                    time_offset: newest.time.wrapping_add(ticks).wrapping_sub(first.time),
                    picture_offset: newest.picture_id.map_or(0, |id| {
                        id.wrapping_add(1).wrapping_sub(first.picture_id.unwrap_or(0)) & 0x7fff
                    }),
                    tl0_offset: newest
                        .tl0
                        .map_or(0, |id| id.wrapping_add(1).wrapping_sub(first.tl0.unwrap_or(0))),
                }
            }
        };
        self.previous = self.current.replace(piece);
    }

    /// The packet's numbers for the subscriber; none if it is not part of what is being sent.
    pub fn rewrite(&mut self, packet: &Numbers) -> Option<Rewritten> {
        if let Some(current) = &mut self.current
            && current.layer == packet.layer
            && packet.seq >= current.first
        {
            current.last = current.last.max(packet.seq);
            let out = current.apply(packet);
            let newest = self.newest.as_ref().map(|(r, _)| r);
            let merged = merge(newest, out);
            if newest.is_none_or(|n| out.seq > n.seq) {
                self.newest = Some((merged, packet.captured));
            }
            return Some(out);
        }
        let late = self.previous.as_ref()?;
        let in_range = packet.seq >= late.first.max(late.last.saturating_sub(LATE_WINDOW)) && packet.seq <= late.last;
        (late.layer == packet.layer && in_range).then(|| late.apply(packet))
    }
}

impl Piece {
    fn apply(&self, packet: &Numbers) -> Rewritten {
        Rewritten {
            seq: (packet.seq as i64 + self.seq_offset).max(0) as u64,
            time: packet.time.wrapping_add(self.time_offset),
            picture_id: packet
                .picture_id
                .map(|id| id.wrapping_add(self.picture_offset) & 0x7fff),
            tl0: packet.tl0.map(|id| id.wrapping_add(self.tl0_offset)),
        }
    }
}

/// Keeps the last known picture id over packets without one (padding).
fn merge(newest: Option<&Rewritten>, mut out: Rewritten) -> Rewritten {
    out.picture_id = out.picture_id.or(newest.and_then(|n| n.picture_id));
    out.tl0 = out.tl0.or(newest.and_then(|n| n.tl0));
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(layer: Layer, seq: u64, time: u32, picture: u16, at: Instant) -> Numbers {
        Numbers {
            layer,
            seq,
            time,
            captured: at,
            clock: 90_000,
            picture_id: Some(picture),
            tl0: Some(picture as u8),
        }
    }

    #[test]
    fn a_switch_leaves_no_gap_in_any_number() {
        let t = Instant::now();
        let mut rewriter = Rewriter::default();
        let first = packet(Layer::Low, 70_000, 1000, 32_767, t);
        rewriter.start(&first);
        let a = rewriter.rewrite(&first).unwrap();
        assert_eq!(a.seq, 70_000 & 0xffff);
        let high = packet(Layer::High, 5, 900_000, 17, t + Duration::from_millis(100));
        assert_eq!(rewriter.rewrite(&high), None);
        rewriter.start(&high);
        let b = rewriter.rewrite(&high).unwrap();
        assert_eq!(b.seq, a.seq + 1);
        assert_eq!(b.time, a.time + 9000);
        assert_eq!(b.picture_id, Some(0), "picture ids wrap at 15 bits");
        assert_eq!(b.tl0, Some(0));
    }

    #[test]
    fn a_late_packet_of_the_old_layer_still_fills_its_hole() {
        let t = Instant::now();
        let mut rewriter = Rewriter::default();
        let p = |seq| packet(Layer::Low, seq, 0, 1, t);
        rewriter.start(&p(10));
        assert_eq!(rewriter.rewrite(&p(10)).unwrap().seq, 10);
        assert_eq!(rewriter.rewrite(&p(12)).unwrap().seq, 12);
        let high = packet(Layer::High, 500, 0, 1, t);
        rewriter.start(&high);
        assert_eq!(rewriter.rewrite(&high).unwrap().seq, 13);
        assert_eq!(rewriter.rewrite(&p(11)).unwrap().seq, 11);
        assert_eq!(
            rewriter.rewrite(&p(13)),
            None,
            "what followed the switch belongs to nobody"
        );
        assert_eq!(rewriter.rewrite(&packet(Layer::High, 499, 0, 1, t)), None);
    }

    #[test]
    fn a_pause_is_invisible_in_the_sequence_and_visible_in_time() {
        let t = Instant::now();
        let mut rewriter = Rewriter::default();
        let first = packet(Layer::High, 1, 0, 1, t);
        rewriter.start(&first);
        rewriter.rewrite(&first);
        rewriter.pause();
        assert_eq!(rewriter.rewrite(&packet(Layer::High, 2, 3000, 2, t)), None);
        let again = packet(Layer::High, 300, 900_000, 301, t + Duration::from_secs(10));
        rewriter.start(&again);
        let out = rewriter.rewrite(&again).unwrap();
        assert_eq!((out.seq, out.time, out.picture_id), (2, 900_000, Some(2)));
    }
}
