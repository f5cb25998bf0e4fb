//! Asks for what did not arrive (RFC 4585, 6.2.1). An RTX packet counts as the packet it
//! repairs, and a number is asked for again only after a round trip, a few times, and not
//! when it is too old to be played.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::{Belt, Stage, has_nack};
use crate::sequence::{Restart, is_after};
use crate::wire::Wire;

/// How often gaps are looked at. Lower repairs sooner, higher puts more numbers in a packet.
const INTERVAL: Duration = Duration::from_millis(10);
/// A packet may come out of order; asking sooner would draw needless retransmissions.
const REORDER: Duration = Duration::from_millis(5);
/// Beyond a measured round trip, for the other side's own pacing.
const MARGIN: Duration = Duration::from_millis(15);
/// As libwebrtc's: more would only feed a congested network.
const MOST_TRIES: u32 = 10;
/// Nothing older will be played.
const TOO_OLD: Duration = Duration::from_millis(1500);
/// A larger jump is a new beginning, not a loss.
const MOST_MISSING: u16 = 1000;

struct Missing {
    since: Instant,
    asked: Option<Instant>,
    tries: u32,
}

#[derive(Default)]
struct Stream {
    newest: Option<u16>,
    /// By the distance from an arbitrary start, so that order survives the wrap.
    missing: BTreeMap<u64, (u16, Missing)>,
    counted: u64,
    restart: Restart,
}

impl Stream {
    /// Notes an arrival; returns how the count of lost packets changes.
    fn arrived(&mut self, sequence: u16, repair: bool, now: Instant) -> i64 {
        let Some(newest) = self.newest else {
            if !repair {
                self.newest = Some(sequence);
            }
            return 0;
        };
        if !repair && self.restart.found(sequence, newest) {
            self.newest = Some(sequence);
            self.missing.clear();
            return 0;
        }
        if !is_after(sequence, newest) {
            let found = self.missing.iter().find(|(_, (s, _))| *s == sequence).map(|(k, _)| *k);
            return match found.and_then(|k| self.missing.remove(&k)) {
                Some(_) => -1,
                None => 0,
            };
        }
        if repair {
            return 0;
        }
        let ahead = sequence.wrapping_sub(newest);
        self.newest = Some(sequence);
        if ahead > MOST_MISSING {
            self.missing.clear();
            return 0;
        }
        for skipped in 1..ahead {
            self.counted += 1;
            self.missing.insert(
                self.counted,
                (
                    newest.wrapping_add(skipped),
                    Missing {
                        since: now,
                        asked: None,
                        tries: 0,
                    },
                ),
            );
        }
        i64::from(ahead) - 1
    }

    /// The numbers to ask for now. Those given up stay counted as lost.
    fn due(&mut self, now: Instant, round_trip: Duration) -> Vec<u16> {
        self.missing
            .retain(|_, (_, m)| now.saturating_duration_since(m.since) < TOO_OLD && (m.tries < MOST_TRIES));
        let mut due = Vec::new();
        for (sequence, missing) in self.missing.values_mut() {
            // Each further wait is half as long again.
            let wait = (round_trip + MARGIN).mul_f64(1.5f64.powi(missing.tries.saturating_sub(1) as i32));
            let ready = match missing.asked {
                None => now.saturating_duration_since(missing.since) >= REORDER,
                Some(asked) => now.saturating_duration_since(asked) >= wait,
            };
            if ready {
                missing.asked = Some(now);
                missing.tries += 1;
                due.push(*sequence);
            }
        }
        due
    }
}

/// See the module's text.
pub(crate) struct NackRequester {
    wire: Arc<Wire>,
    streams: HashMap<u32, Stream>,
    repairs: HashMap<u32, u32>,
    due: Option<Instant>,
    sender_ssrc: u32,
}

impl NackRequester {
    /// `sender_ssrc` is random.
    pub(crate) fn new(wire: Arc<Wire>, sender_ssrc: u32) -> Self {
        Self {
            wire,
            streams: HashMap::new(),
            repairs: HashMap::new(),
            due: None,
            sender_ssrc,
        }
    }
}

impl Stage for NackRequester {
    fn inbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        if let Packet::Rtp(rtp) = &packet.message.packet {
            let header = &rtp.header;
            let (ssrc, sequence, repair) = match self.repairs.get(&header.ssrc) {
                Some(primary) if rtp.payload.len() >= 2 => {
                    (*primary, u16::from_be_bytes([rtp.payload[0], rtp.payload[1]]), true)
                }
                _ => (header.ssrc, header.sequence_number, false),
            };
            if let Some(stream) = self.streams.get_mut(&ssrc) {
                let lost = stream.arrived(sequence, repair, packet.now);
                if lost != 0
                    && let Some(inbound) = self.wire.inbound(ssrc)
                {
                    inbound.count_gaps(0, lost);
                }
                if self.due.is_none() && !stream.missing.is_empty() {
                    self.due = Some(packet.now + REORDER);
                }
            }
        }
        belt.read.push_back(packet);
    }

    fn timeout(&mut self, now: Instant, belt: &mut Belt) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let round_trip = self.wire.round_trip();
        let mut waiting = false;
        for (ssrc, stream) in &mut self.streams {
            let numbers = stream.due(now, round_trip);
            waiting |= !stream.missing.is_empty();
            if numbers.is_empty() {
                continue;
            }
            if let Some(inbound) = self.wire.inbound(*ssrc) {
                inbound.count_gaps(numbers.len() as u64, 0);
            }
            let nacks = nack_pairs_from_sequence_numbers(&numbers);
            belt.write_rtcp(
                now,
                Box::new(TransportLayerNack {
                    sender_ssrc: self.sender_ssrc,
                    media_ssrc: *ssrc,
                    nacks,
                }),
            );
        }
        self.due = waiting.then(|| now + INTERVAL);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn bind_remote(&mut self, info: &StreamInfo) {
        if !has_nack(info) || self.repairs.contains_key(&info.ssrc) {
            return;
        }
        if let Some(rtx) = info.ssrc_rtx {
            self.repairs.insert(rtx, info.ssrc);
        }
        // Bound again at each negotiation: what is missing stays missing.
        self.streams.entry(info.ssrc).or_default();
    }

    fn unbind_remote(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
        self.repairs
            .retain(|rtx, primary| *rtx != info.ssrc && *primary != info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rtp, video};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn asked(belt: &mut Belt) -> Vec<u16> {
        let mut numbers = Vec::new();
        while let Some(packet) = belt.write.pop_front() {
            let Packet::Rtcp(packets) = packet.message.packet else {
                continue;
            };
            for nack in packets
                .iter()
                .filter_map(|p| p.as_any().downcast_ref::<TransportLayerNack>())
            {
                numbers.extend(nack.nacks.iter().flat_map(|n| n.packet_list()));
            }
        }
        numbers
    }

    fn requester(round_trip: Duration) -> NackRequester {
        let wire = Arc::new(Wire::new());
        wire.set_round_trip(round_trip);
        let mut requester = NackRequester::new(wire, 7);
        requester.bind_remote(&video(1, 2));
        requester
    }

    #[test]
    fn a_gap_is_asked_for_once_a_round_trip_until_it_is_repaired() {
        let (mut requester, mut belt, start) = (requester(50 * MS), Belt::default(), Instant::now());
        requester.inbound(rtp(start, 1, u16::MAX, b"x"), &mut belt);
        requester.inbound(rtp(start, 1, 2, b"x"), &mut belt);
        let mut times = Vec::new();
        for ms in 0..400 {
            let now = start + MS * ms;
            if ms == 200 {
                requester.inbound(rtp(now, 2, 77, b"\x00\x00x"), &mut belt);
            }
            requester.timeout(now, &mut belt);
            let numbers = asked(&mut belt);
            if !numbers.is_empty() {
                times.push((ms, numbers));
            }
        }
        assert_eq!(times[0], (5, vec![0, 1]));
        assert!(
            times.iter().all(|(ms, numbers)| *ms < 200 || numbers == &[1]),
            "{times:?}"
        );
        assert!((4..=6).contains(&times.len()), "{times:?}");
    }

    #[test]
    fn a_packet_out_of_order_is_not_asked_for() {
        let (mut requester, mut belt, start) = (requester(50 * MS), Belt::default(), Instant::now());
        for (ms, sequence) in [(0, 1), (1, 3), (4, 2), (5, 4)] {
            requester.inbound(rtp(start + MS * ms, 1, sequence, b"x"), &mut belt);
            requester.timeout(start + MS * ms, &mut belt);
        }
        requester.timeout(start + MS * 30, &mut belt);
        assert_eq!(asked(&mut belt), [0u16; 0]);
        assert_eq!(requester.next_timeout(), None);
    }

    #[test]
    fn a_lost_packet_is_given_up_after_ten_tries() {
        let (mut requester, mut belt, start) = (requester(MS), Belt::default(), Instant::now());
        requester.inbound(rtp(start, 1, 1, b"x"), &mut belt);
        requester.inbound(rtp(start, 1, 3, b"x"), &mut belt);
        for ms in 0..3000 {
            requester.timeout(start + MS * ms, &mut belt);
        }
        assert!(asked(&mut belt).len() <= 10);
        assert_eq!(requester.next_timeout(), None);
    }
}
