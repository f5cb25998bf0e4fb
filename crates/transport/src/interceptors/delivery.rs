//! The last link on the way in: unwraps RTX (RFC 4588), drops duplicates and padding, and
//! hands packets with their arrival time to the track's queue. They go no further: the
//! library's own queue would drop the newest packets when full.

use std::collections::HashMap;
use std::sync::Arc;

use rtc::interceptor::{Packet, StreamInfo, TaggedPacket};

use super::{Belt, Stage};
use crate::api::ReceivedPacket;
use crate::sequence::Window;
use crate::streams::Inbound;
use crate::wire::Wire;

struct Stream {
    inbound: Arc<Inbound>,
    seen: Window,
}

/// See the module's text.
pub(crate) struct Delivery {
    wire: Arc<Wire>,
    streams: HashMap<u32, Stream>,
    /// RTX stream to the stream it repairs.
    repairs: HashMap<u32, u32>,
}

impl Delivery {
    /// Delivers into the queues that `wire` holds.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            streams: HashMap::new(),
            repairs: HashMap::new(),
        }
    }

    fn deliver(&mut self, packet: &TaggedPacket, rtp: &rtc::rtp::Packet) {
        let repaired = self.repairs.get(&rtp.header.ssrc).copied();
        let Some(stream) = self.streams.get_mut(&repaired.unwrap_or(rtp.header.ssrc)) else {
            return;
        };
        let (sequence, payload) = match repaired {
            Some(_) if rtp.payload.len() < 2 => return,
            Some(_) => (
                u16::from_be_bytes([rtp.payload[0], rtp.payload[1]]),
                rtp.payload.slice(2..),
            ),
            None => (rtp.header.sequence_number, rtp.payload.clone()),
        };
        if stream.inbound.is_ended()
            && let Some(renewed) = self.wire.inbound(stream.inbound.ssrc)
        {
            stream.inbound = renewed;
        }
        stream.inbound.count(payload.len() as u64, repaired.is_some());
        if !stream.seen.is_new(sequence) || (repaired.is_some() && payload.is_empty()) {
            return;
        }
        stream.inbound.push(ReceivedPacket {
            sequence,
            timestamp: rtp.header.timestamp,
            marker: rtp.header.marker,
            payload,
            arrived: packet.now,
            retransmitted: repaired.is_some(),
        });
    }
}

impl Stage for Delivery {
    fn inbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        match &packet.message.packet {
            Packet::Rtp(rtp) => self.deliver(&packet, rtp),
            _ => belt.read.push_back(packet),
        }
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        if self.repairs.contains_key(&info.ssrc) {
            return;
        }
        if let Some(rtx) = info.ssrc_rtx {
            self.repairs.insert(rtx, info.ssrc);
        }
        let inbound = self.wire.inbound_began(info);
        let stream = self.streams.entry(info.ssrc).or_insert_with(|| Stream {
            inbound: inbound.clone(),
            seen: Window::default(),
        });
        stream.inbound = inbound;
    }

    fn unbind_remote(&mut self, info: &StreamInfo) {
        self.repairs.remove(&info.ssrc);
        if let Some(rtx) = info.ssrc_rtx {
            self.repairs.remove(&rtx);
        }
        if let Some(stream) = self.streams.remove(&info.ssrc) {
            stream.inbound.end();
            self.wire.inbound_ended(info.ssrc);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::testing::{rtp, video};
    use super::*;

    #[test]
    fn a_repaired_packet_arrives_once_under_its_own_number() {
        let wire = Arc::new(Wire::new());
        let mut delivery = Delivery::new(wire.clone());
        let mut belt = Belt::default();
        let now = Instant::now();
        delivery.bind_remote(&video(1, 2));
        let inbound = wire.inbound(1).unwrap();
        for (ssrc, sequence, payload) in [
            (1, 10, &b"ten"[..]),
            (1, 12, b"twelve"),
            (2, 900, b"\x00\x0beleven"),
            (2, 901, b"\x00\x0beleven"),
            (1, 12, b"twelve"),
            (2, 902, b""),
        ] {
            delivery.inbound(rtp(now, ssrc, sequence, payload), &mut belt);
        }
        let got: Vec<_> = std::iter::from_fn(|| inbound.pop())
            .map(|p| (p.sequence, p.payload.to_vec(), p.retransmitted))
            .collect();
        assert_eq!(
            got,
            [
                (10, b"ten".to_vec(), false),
                (12, b"twelve".to_vec(), false),
                (11, b"eleven".to_vec(), true)
            ]
        );
        assert!(belt.read.is_empty());
    }

    #[test]
    fn a_stream_that_is_bound_again_goes_on_in_its_queue() {
        let wire = Arc::new(Wire::new());
        let mut delivery = Delivery::new(wire.clone());
        let mut belt = Belt::default();
        let now = Instant::now();
        delivery.bind_remote(&video(1, 2));
        let inbound = wire.inbound(1).unwrap();
        delivery.inbound(rtp(now, 1, 10, b"ten"), &mut belt);
        delivery.bind_remote(&video(1, 2));
        delivery.inbound(rtp(now, 1, 10, b"ten"), &mut belt);
        delivery.inbound(rtp(now, 1, 11, b"eleven"), &mut belt);
        let got: Vec<_> = std::iter::from_fn(|| inbound.pop()).map(|p| p.sequence).collect();
        assert_eq!(got, [10, 11]);
        assert!(!inbound.is_ended());
        let renewed = wire.renew_inbound(&inbound);
        delivery.inbound(rtp(now, 1, 12, b"twelve"), &mut belt);
        assert!(inbound.is_ended() && inbound.pop().is_none());
        assert_eq!(renewed.pop().unwrap().sequence, 12);
    }
}
