//! Reads inbound RTCP before the library swallows it: keyframe requests go to encoders,
//! sender reports to remote tracks, losses and NACKs to the counters.

use std::sync::Arc;

use rtc::interceptor::{Packet, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport as RtcpSenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use super::{Belt, Stage};
use crate::api::SenderReport;
use crate::wire::Wire;

/// See the module's text.
pub(crate) struct Tap {
    wire: Arc<Wire>,
}

impl Tap {
    /// Tells `wire` what it hears.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self { wire }
    }

    fn hear(&self, now: std::time::Instant, packet: &dyn rtc::rtcp::Packet) {
        let any = packet.as_any();
        if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            self.wire.keyframe_wanted(pli.media_ssrc, now);
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                self.wire.keyframe_wanted(entry.ssrc, now);
            }
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            self.wire.nack_received(nack.media_ssrc);
        } else if let Some(report) = any.downcast_ref::<RtcpSenderReport>() {
            self.wire.sender_report(
                report.ssrc,
                SenderReport {
                    ntp: report.ntp_time,
                    rtp: report.rtp_time,
                },
            );
            self.losses(&report.reports);
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.losses(&report.reports);
        }
    }

    fn losses(&self, reports: &[ReceptionReport]) {
        for report in reports {
            self.wire.reported_lost(report.ssrc, report.total_lost);
        }
    }
}

impl Stage for Tap {
    fn inbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            for rtcp in packets {
                self.hear(packet.now, rtcp.as_ref());
            }
        }
        belt.read.push_back(packet);
    }
}
