//! Sender reports (RFC 3550, 6.4.1) for what we send. Their RTP time comes from the same
//! capture clock as the packets', so that lips stay in step; the library's own would
//! carry the encoder's delay.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rtc::interceptor::{Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::sender_report::SenderReport;

use super::{Belt, Stage};
use crate::rtp_clock::ntp;
use crate::wire::Wire;

/// Often enough to place a new subscriber's sound and picture soon; 64 bytes each.
const INTERVAL: Duration = Duration::from_secs(1);
/// The first one follows the first packet closely: lip-sync waits for it.
const FIRST: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Sent {
    packets: u32,
    octets: u32,
    since_report: bool,
}

/// See the module's text.
pub(crate) struct SenderReports {
    wire: Arc<Wire>,
    streams: HashMap<u32, Sent>,
    due: Option<Instant>,
    /// The wall clock, read once: reports must not jump when someone sets the time.
    anchor: (Instant, SystemTime),
}

impl SenderReports {
    /// `anchor` ties the monotonic clock to the wall clock.
    pub(crate) fn new(wire: Arc<Wire>, anchor: (Instant, SystemTime)) -> Self {
        Self {
            wire,
            streams: HashMap::new(),
            due: None,
            anchor,
        }
    }
}

impl Stage for SenderReports {
    fn outbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        if let Packet::Rtp(rtp) = &packet.message.packet
            && let Some(sent) = self.streams.get_mut(&rtp.header.ssrc)
        {
            if sent.packets == 0 {
                self.due = Some(self.due.map_or(packet.now + FIRST, |due| due.min(packet.now + FIRST)));
            }
            sent.packets = sent.packets.wrapping_add(1);
            sent.octets = sent.octets.wrapping_add(rtp.payload.len() as u32);
            sent.since_report = true;
        }
        belt.write.push_back(packet);
    }

    fn timeout(&mut self, now: Instant, belt: &mut Belt) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = Some(now + INTERVAL);
        let wall = self.anchor.1 + now.saturating_duration_since(self.anchor.0);
        for (ssrc, sent) in self.streams.iter_mut().filter(|(_, s)| s.since_report) {
            let Some(track) = self.wire.sent_track(*ssrc) else {
                continue;
            };
            sent.since_report = false;
            let report = SenderReport {
                ssrc: *ssrc,
                ntp_time: ntp(wall),
                rtp_time: track.clock.lock().at(now),
                packet_count: sent.packets,
                octet_count: sent.octets,
                ..Default::default()
            };
            belt.write_rtcp(now, Box::new(report));
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn bind_local(&mut self, info: &StreamInfo) {
        self.streams.entry(info.ssrc).or_default();
    }

    fn unbind_local(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}
