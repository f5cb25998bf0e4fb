//! Stamps mid and rid on outgoing packets (RFC 8852, RFC 8843): the library negotiates
//! these extensions but leaves them out of the packets, and a server that knows no SSRC
//! from the SDP cannot place them. On RTX the rid goes out as the repaired rid.

use std::collections::HashMap;
use std::sync::Arc;

use rtc::interceptor::{Packet, StreamInfo, TaggedPacket};
use rtc::sdp::extmap;

use super::{Belt, Probe, Stage, extension_id};
use crate::wire::Wire;

#[derive(Clone, Copy)]
struct Ids {
    mid: Option<u8>,
    rid: Option<u8>,
    repair: bool,
    primary: u32,
}

/// See the module's text.
pub(crate) struct Stamp {
    wire: Arc<Wire>,
    streams: HashMap<u32, Ids>,
}

impl Stamp {
    /// Stamps what `wire` knows of the streams.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            streams: HashMap::new(),
        }
    }
}

impl Stage for Stamp {
    fn outbound(&mut self, mut packet: TaggedPacket, belt: &mut Belt) {
        if let Packet::Rtp(rtp) = &mut packet.message.packet
            && let Some(ids) = self.streams.get(&rtp.header.ssrc)
            && let Some((mid, rid)) = self.wire.names_of(ids.primary)
        {
            let bytes = rtp.payload.len() as u64;
            // An extension that does not fit is left out: the packet is still good to a peer that knows the SSRC.
            if let (Some(id), Some(mid)) = (ids.mid, mid) {
                let _ = rtp.header.set_extension(id, mid);
            }
            if let (Some(id), Some(rid)) = (ids.rid, rid) {
                let _ = rtp.header.set_extension(id, rid);
            }
            // Tests of the path are no media.
            if packet.message.custom::<Probe>().is_none() {
                self.wire.count_sent(ids.primary, bytes, ids.repair);
            }
        }
        belt.write.push_back(packet);
    }

    fn bind_local(&mut self, info: &StreamInfo) {
        let mid = extension_id(info, extmap::SDES_MID_URI);
        let rid = extension_id(info, extmap::SDES_RTP_STREAM_ID_URI);
        let repaired = extension_id(info, extmap::SDES_REPAIR_RTP_STREAM_ID_URI);
        self.streams.insert(
            info.ssrc,
            Ids {
                mid,
                rid,
                repair: false,
                primary: info.ssrc,
            },
        );
        if let Some(rtx) = info.ssrc_rtx {
            self.streams.insert(
                rtx,
                Ids {
                    mid,
                    rid: repaired,
                    repair: true,
                    primary: info.ssrc,
                },
            );
        }
        let level = extension_id(info, extmap::AUDIO_LEVEL_URI);
        self.wire.negotiated(info.ssrc, Some((info.payload_type, level)));
    }

    fn unbind_local(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
        if let Some(rtx) = info.ssrc_rtx {
            self.streams.remove(&rtx);
        }
        self.wire.negotiated(info.ssrc, None);
    }
}
