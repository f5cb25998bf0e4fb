//! VP8 in RTP (RFC 7741): the payload descriptor and the cutting of frames.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::Temporal;

/// Bytes of VP8 in one packet. With the RTP header (12), extensions (up to 28), the
/// descriptor (6) and RTX's sequence number (2) a packet stays under 1,200 bytes, and
/// under 1,280 with SRTP, UDP and IPv6 around it: the least every path takes.
const MOST: usize = 1150;

/// Cuts the frames of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Packetizer {
    picture_id: u16,
    tl0: u8,
}

impl Packetizer {
    /// Both numbers are random (RFC 7741, 4.2).
    pub(crate) fn new(picture_id: u16, tl0: u8) -> Self {
        Self {
            picture_id: picture_id & 0x7fff,
            tl0,
        }
    }

    /// The payloads of a frame, in parts of about equal size; the last one gets the RTP marker.
    pub(crate) fn packetize(&mut self, frame: &Bytes, temporal: Option<Temporal>) -> Vec<Bytes> {
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        if temporal.is_none_or(|t| t.id == 0) {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let count = frame.len().div_ceil(MOST);
        let each = frame.len().div_ceil(count.max(1));
        (0..count)
            .map(|n| {
                let part = frame.slice(n * each..frame.len().min((n + 1) * each));
                let mut payload = BytesMut::with_capacity(6 + part.len());
                self.descriptor(n == 0, temporal, &mut payload);
                payload.put_slice(&part);
                payload.freeze()
            })
            .collect()
    }

    /// ```text
    ///  |X|R|N|S|R| PID |   X, S on the first packet; N: nothing depends on it
    ///  |I|L|T|K| RSV   |   I always; L and T with temporal layers
    ///  |M| PictureID 15 bit
    ///  | TL0PICIDX     |
    ///  |TID|Y| KEYIDX  |
    /// ```
    fn descriptor(&self, first: bool, temporal: Option<Temporal>, out: &mut BytesMut) {
        let disposable = temporal.is_some_and(|t| t.id >= 2);
        out.put_u8(0x80 | if disposable { 0x20 } else { 0 } | if first { 0x10 } else { 0 });
        out.put_u8(if temporal.is_some() { 0x80 | 0x40 | 0x20 } else { 0x80 });
        out.put_u16(0x8000 | self.picture_id);
        if let Some(t) = temporal {
            out.put_u8(self.tl0);
            out.put_u8((t.id & 3) << 6 | if t.sync { 0x20 } else { 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use rtc::rtp::codec::vp8::Vp8Packet;
    use rtc::rtp::packetizer::Depacketizer;

    use super::*;

    #[test]
    fn a_depacketizer_gets_the_frame_back() {
        let frame = Bytes::from((0..10_000u32).map(|n| n as u8).collect::<Vec<_>>());
        let mut packetizer = Packetizer::new(0x7fff, 255);
        for round in 0..3u16 {
            let payloads = packetizer.packetize(&frame, Some(Temporal { id: 0, sync: false }));
            let mut back = Vec::new();
            for (n, payload) in payloads.iter().enumerate() {
                assert!(payload.len() <= MOST + 6);
                let mut packet = Vp8Packet::default();
                back.extend_from_slice(&packet.depacketize(payload).unwrap());
                assert_eq!(
                    (packet.s, packet.pid, packet.picture_id, packet.tl0_pic_idx),
                    (u8::from(n == 0), 0, round, round as u8)
                );
            }
            assert_eq!(back, frame);
        }
    }

    #[test]
    fn temporal_layers_are_named_and_share_the_base_layers_index() {
        let frame = Bytes::from_static(b"frame");
        let mut packetizer = Packetizer::new(0, 7);
        let mut seen = Vec::new();
        for (id, sync) in [(0, false), (2, true), (1, true), (2, false), (0, false)] {
            let payloads = packetizer.packetize(&frame, Some(Temporal { id, sync }));
            let mut packet = Vp8Packet::default();
            packet.depacketize(&payloads[0]).unwrap();
            seen.push((packet.tid, packet.y, packet.tl0_pic_idx, packet.n));
        }
        assert_eq!(
            seen,
            [(0, 0, 8, 0), (2, 1, 8, 1), (1, 1, 8, 0), (2, 0, 8, 1), (0, 0, 9, 0)]
        );
    }

    #[test]
    fn an_empty_frame_gives_no_packet() {
        assert!(Packetizer::new(0, 0).packetize(&Bytes::new(), None).is_empty());
    }
}
