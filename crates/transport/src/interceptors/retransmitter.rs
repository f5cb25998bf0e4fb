//! Answers NACKs from a short history (RFC 4588), under a cap: a receiver behind a
//! congested link asks for much, and answering it all would congest the link further.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rtc::interceptor::{Attribute, AttributedPacket, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::shared::TransportContext;

use super::{Belt, Probe, Stage, has_nack};
use crate::wire::Wire;

/// A receiver does not ask for anything older.
const HISTORY: Duration = Duration::from_millis(1500);
/// Bounds the memory: 2,048 packets are 2.4 MB at most.
const HISTORY_PACKETS: usize = 2048;
/// Part of the target that retransmissions may take: 20 % loss can be repaired.
const SHARE: f64 = 0.25;
/// Never less than this, in bits a second: small targets lose packets too.
const LEAST: f64 = 100_000.0;
/// How much of a second's allowance may go at once: a keyframe's burst of losses.
const BURST_SECONDS: f64 = 0.5;
/// The same packet is not sent again sooner, however short the round trip.
const AGAIN: Duration = Duration::from_millis(10);

/// How long a test of the path lasts: longer measures better, shorter fills a narrow path's queue less.
const PROBE_SECONDS: f64 = 0.03;
/// The fewest and the most packets of a test.
const PROBE_PACKETS: (usize, usize) = (7, 80);

struct Sent {
    packet: rtc::rtp::Packet,
    at: Instant,
    again: Option<Instant>,
}

struct Stream {
    rtx: Option<(u32, u8)>,
    rtx_sequence: u16,
    history: VecDeque<Sent>,
}

impl Stream {
    fn find(&mut self, sequence: u16) -> Option<&mut Sent> {
        let first = self.history.front()?.packet.header.sequence_number;
        // Our own numbers have no holes, so the distance is the index.
        self.history
            .get_mut(usize::from(sequence.wrapping_sub(first)))
            .filter(|s| s.packet.header.sequence_number == sequence)
    }

    fn wrap(&mut self, packet: &rtc::rtp::Packet) -> rtc::rtp::Packet {
        let Some((ssrc, payload_type)) = self.rtx else {
            return packet.clone();
        };
        let mut payload = BytesMut::with_capacity(2 + packet.payload.len());
        payload.put_u16(packet.header.sequence_number);
        payload.put_slice(&packet.payload);
        let sequence_number = self.rtx_sequence;
        self.rtx_sequence = sequence_number.wrapping_add(1);
        let header = rtc::rtp::Header {
            version: 2,
            ssrc,
            payload_type,
            sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            ..Default::default()
        };
        rtc::rtp::Packet {
            header,
            payload: payload.freeze(),
        }
    }
}

/// See the module's text.
pub(crate) struct Retransmitter {
    wire: Arc<Wire>,
    streams: HashMap<u32, Stream>,
    allowance: f64,
    filled: Option<Instant>,
}

impl Retransmitter {
    /// Nothing sent yet.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            streams: HashMap::new(),
            allowance: LEAST * BURST_SECONDS,
            filled: None,
        }
    }

    fn fill(&mut self, now: Instant) {
        let rate = (self.wire.target().as_bps() as f64 * SHARE).max(LEAST);
        let passed = self
            .filled
            .replace(now)
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.allowance = (self.allowance + rate * passed.as_secs_f64()).min(rate * BURST_SECONDS);
    }

    /// Old packets once more, as many as make a burst at the rate: the other side drops them as duplicates.
    fn probe(&mut self, rate: f64, ssrc: u32, now: Instant, belt: &mut Belt) {
        let Some(stream) = self
            .streams
            .get_mut(&ssrc)
            .filter(|s| s.rtx.is_some() && !s.history.is_empty())
        else {
            return;
        };
        let packets: Vec<_> = stream
            .history
            .iter()
            .rev()
            .take(PROBE_PACKETS.1)
            .map(|s| s.packet.clone())
            .collect();
        let mut bits = rate * PROBE_SECONDS;
        for (count, packet) in packets.iter().cycle().take(PROBE_PACKETS.1).enumerate() {
            if bits <= 0.0 && count >= PROBE_PACKETS.0 {
                break;
            }
            bits -= (packet.payload.len() as f64 + 40.0) * 8.0;
            let packet = stream.wrap(packet);
            let message = AttributedPacket::new(Packet::Rtp(packet)).with(Attribute::Custom(Arc::new(Probe(rate))));
            belt.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message,
            });
        }
    }

    fn answer(&mut self, now: Instant, nack: &TransportLayerNack, belt: &mut Belt) {
        self.fill(now);
        let not_again = self.wire.round_trip().mul_f64(0.8).max(AGAIN);
        let Some(stream) = self.streams.get_mut(&nack.media_ssrc) else {
            return;
        };
        for sequence in nack.nacks.iter().flat_map(|n| n.packet_list()) {
            let Some(sent) = stream.find(sequence) else { continue };
            let too_soon = sent
                .again
                .is_some_and(|again| now.saturating_duration_since(again) < not_again);
            let bits = (sent.packet.payload.len() as f64 + 40.0) * 8.0;
            if too_soon || self.allowance < bits {
                continue;
            }
            sent.again = Some(now);
            let original = sent.packet.clone();
            self.allowance -= bits;
            let packet = stream.wrap(&original);
            belt.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtp(packet)).with(Attribute::Retransmission),
            });
        }
    }
}

impl Stage for Retransmitter {
    fn inbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            for nack in packets
                .iter()
                .filter_map(|p| p.as_any().downcast_ref::<TransportLayerNack>())
            {
                self.answer(packet.now, nack, belt);
            }
        }
        belt.read.push_back(packet);
    }

    fn outbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        let (now, mut carrier) = (packet.now, None);
        if let Packet::Rtp(rtp) = &packet.message.packet
            && let Some(stream) = self.streams.get_mut(&rtp.header.ssrc)
        {
            carrier = stream.rtx.is_some().then_some(rtp.header.ssrc);
            let history = &mut stream.history;
            let follows = history
                .back()
                .is_none_or(|last| last.packet.header.sequence_number.wrapping_add(1) == rtp.header.sequence_number);
            if !follows {
                history.clear();
            }
            while history.len() >= HISTORY_PACKETS
                || history
                    .front()
                    .is_some_and(|s| packet.now.saturating_duration_since(s.at) > HISTORY)
            {
                history.pop_front();
            }
            history.push_back(Sent {
                packet: rtp.clone(),
                at: packet.now,
                again: None,
            });
        }
        belt.write.push_back(packet);
        if let Some(ssrc) = carrier
            && let Some(rate) = self.wire.take_probe()
        {
            self.probe(rate, ssrc, now, belt);
        }
    }

    fn bind_local(&mut self, info: &StreamInfo) {
        if has_nack(info) {
            let rtx = info.ssrc_rtx.zip(info.payload_type_rtx);
            self.streams.insert(
                info.ssrc,
                Stream {
                    rtx,
                    rtx_sequence: 0,
                    history: VecDeque::new(),
                },
            );
        }
    }

    fn unbind_local(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use confab_types::Bitrate;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers;

    use super::super::testing::{rtp, tagged, video};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn nack(now: Instant, numbers: &[u16]) -> TaggedPacket {
        let nacks = nack_pairs_from_sequence_numbers(numbers);
        tagged(
            now,
            Packet::Rtcp(vec![Box::new(TransportLayerNack {
                sender_ssrc: 9,
                media_ssrc: 1,
                nacks,
            })]),
        )
    }

    fn sending(count: u16, now: Instant) -> (Retransmitter, Belt, Arc<Wire>) {
        let wire = Arc::new(Wire::new());
        wire.set_round_trip(50 * MS);
        let mut retransmitter = Retransmitter::new(wire.clone());
        retransmitter.bind_local(&video(1, 2));
        let mut belt = Belt::default();
        for n in 0..count {
            retransmitter.outbound(rtp(now, 1, 65_530u16.wrapping_add(n), &[n as u8; 1100]), &mut belt);
        }
        belt.write.clear();
        (retransmitter, belt, wire)
    }

    #[test]
    fn a_lost_packet_goes_out_again_on_the_rtx_stream() {
        let now = Instant::now();
        let (mut retransmitter, mut belt, _) = sending(20, now);
        retransmitter.inbound(nack(now, &[65_531, 2]), &mut belt);
        let again = belt.write.iter().filter_map(|p| match &p.message.packet {
            Packet::Rtp(rtp) => Some((
                rtp.header.ssrc,
                rtp.header.payload_type,
                rtp.header.sequence_number,
                rtp.payload[..3].to_vec(),
            )),
            _ => None,
        });
        let again: Vec<_> = again.collect();
        assert_eq!(again, [(2, 97, 0, vec![0xff, 0xfb, 1]), (2, 97, 1, vec![0, 2, 8])]);
    }

    #[test]
    fn asking_twice_in_a_round_trip_draws_one_retransmission() {
        let now = Instant::now();
        let (mut retransmitter, mut belt, _) = sending(20, now);
        for ms in [0, 5, 20, 60] {
            retransmitter.inbound(nack(now + MS * ms, &[65_535]), &mut belt);
        }
        assert_eq!(belt.write.len(), 2);
    }

    #[test]
    fn a_receiver_that_asks_for_everything_gets_a_quarter_of_the_target() {
        let start = Instant::now();
        let (mut retransmitter, mut belt, wire) = sending(1000, start);
        wire.set_target(Bitrate::kbps(800));
        for second in 0..10u32 {
            for n in 0..100u16 {
                let now = start + MS * (second * 100 + u32::from(n));
                retransmitter.inbound(nack(now, &[65_530u16.wrapping_add(second as u16 * 100 + n)]), &mut belt);
            }
        }
        let bits: usize = belt.write.len() * 1140 * 8;
        assert!(
            bits < 320_000,
            "one second at 200 kbps and half a second's burst: {bits}"
        );
        assert!(bits > 200_000, "{bits}");
    }
}
