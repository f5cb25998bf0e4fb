//! Our own links in the library's packet chain, and the form they are written in.
//! Position by distance from the wire: read walks up, write walks down.
//!
//! ```text
//!    500 tap                inbound RTCP to senders, reports and counters
//!  1,000 congestion control (library, bound to RTX too)
//!  2,000 TWCC numbers       (library, bound to RTX too)
//!  2,500 stamp              mid and rid, repaired rid on RTX
//!  3,000 pacer              spreads big frames, sound first
//!  4,000 retransmitter      answers NACKs under a rate cap
//!  7,000 NACK requester     counts an RTX packet as the packet it repairs
//!  8,000 TWCC receiver      (library)
//! 10,000 receiver reports   (library)
//! 11,000 sender reports     from the capture clock
//! 12,900 delivery           unwraps RTX, drops duplicates, hands packets to tracks
//! ```

mod bind_rtx;
mod delivery;
mod nack_requester;
mod pacer;
mod retransmitter;
mod sender_reports;
mod stamp;
mod tap;

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

pub(crate) use bind_rtx::BindRtx;
pub(crate) use delivery::Delivery;
pub(crate) use nack_requester::NackRequester;
pub(crate) use pacer::Pacer;
pub(crate) use retransmitter::Retransmitter;
pub(crate) use sender_reports::SenderReports;
pub(crate) use stamp::Stamp;
pub(crate) use tap::Tap;

/// Where a stage puts what goes on.
#[derive(Default)]
pub(crate) struct Belt {
    /// Towards the application.
    pub(crate) read: VecDeque<TaggedPacket>,
    /// Towards the wire.
    pub(crate) write: VecDeque<TaggedPacket>,
}

impl Belt {
    /// Sends RTCP of our own.
    pub(crate) fn write_rtcp(&mut self, now: Instant, packet: Box<dyn rtc::rtcp::Packet>) {
        self.write.push_back(TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtcp(vec![packet])),
        });
    }
}

/// What one link does. Everything not overridden passes through.
pub(crate) trait Stage: Send + Sync {
    /// A packet from the wire.
    fn inbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        belt.read.push_back(packet);
    }
    /// A packet to the wire.
    fn outbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        belt.write.push_back(packet);
    }
    /// Time passed.
    fn timeout(&mut self, _now: Instant, _belt: &mut Belt) {}
    /// When it wants to be told so.
    fn next_timeout(&self) -> Option<Instant> {
        None
    }
    /// A stream that we send was negotiated.
    fn bind_local(&mut self, _info: &StreamInfo) {}
    /// It ended.
    fn unbind_local(&mut self, _info: &StreamInfo) {}
    /// A stream that we receive began.
    fn bind_remote(&mut self, _info: &StreamInfo) {}
    /// It ended.
    fn unbind_remote(&mut self, _info: &StreamInfo) {}
}

/// A stage in the library's terms.
pub(crate) struct Staged<S> {
    stage: S,
    belt: Belt,
}

impl<S: Stage> Staged<S> {
    /// Wraps a stage.
    pub(crate) fn new(stage: S) -> Self {
        Self {
            stage,
            belt: Belt::default(),
        }
    }
}

impl<S: Stage> Protocol<TaggedPacket, TaggedPacket, ()> for Staged<S> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.stage.inbound(packet, &mut self.belt);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.belt.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.stage.outbound(packet, &mut self.belt);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.belt.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.stage.timeout(now, &mut self.belt);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.stage.next_timeout()
    }
}

impl<S: Stage> Interceptor for Staged<S> {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.stage.bind_local(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.stage.unbind_local(info);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.stage.bind_remote(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.stage.unbind_remote(info);
    }
}

/// Marks the packets of a test of the path, with its rate in bits a second.
pub(crate) struct Probe(pub(crate) f64);

/// The id negotiated for a header extension, when it fits a one-byte header.
pub(crate) fn extension_id(info: &StreamInfo, uri: &str) -> Option<u8> {
    let found = info.rtp_header_extensions.iter().find(|e| e.uri == uri)?;
    u8::try_from(found.id).ok().filter(|id| (1..=14).contains(id))
}

/// Whether generic NACK was negotiated.
pub(crate) fn has_nack(info: &StreamInfo) -> bool {
    info.rtcp_feedback
        .iter()
        .any(|f| f.typ == "nack" && f.parameter.is_empty())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Packets for the tables of the stages.
    use super::*;

    /// An RTP packet.
    pub(crate) fn rtp(now: Instant, ssrc: u32, sequence_number: u16, payload: &[u8]) -> TaggedPacket {
        tagged(
            now,
            Packet::Rtp(rtc::rtp::Packet {
                header: rtc::rtp::Header {
                    version: 2,
                    ssrc,
                    sequence_number,
                    ..Default::default()
                },
                payload: bytes::Bytes::copy_from_slice(payload),
            }),
        )
    }

    /// Any packet.
    pub(crate) fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
        TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        }
    }

    /// A video stream with RTX and NACK.
    pub(crate) fn video(ssrc: u32, ssrc_rtx: u32) -> StreamInfo {
        StreamInfo {
            ssrc,
            ssrc_rtx: Some(ssrc_rtx),
            payload_type: 96,
            payload_type_rtx: Some(97),
            clock_rate: 90_000,
            mime_type: "video/VP8".into(),
            rtcp_feedback: vec![rtc::interceptor::RTCPFeedback {
                typ: "nack".into(),
                parameter: String::new(),
            }],
            ..Default::default()
        }
    }
}
