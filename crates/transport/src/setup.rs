//! Codecs, header extensions, the packet chain and ICE settings of a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{CongestionControlBuilder, ReceiverReportBuilder, TwccReceiverBuilder, TwccSenderBuilder};
use rtc::peer_connection::configuration::interceptor_registry::configure_twcc_sender_only;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::{SctpMaxMessageSize, SettingEngine, SettingEngineBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::sdp::extmap;
use rtc::shared::error::Error;
use webrtc::peer_connection::{RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, Registry};

use rtc::interceptor::Slot;

use crate::api::ConnectionConfig;
use crate::estimator::Estimator;
use crate::interceptors::{BindRtx, Delivery, NackRequester, Pacer, Retransmitter, SenderReports, Staged, Stamp, Tap};
use crate::wire::Wire;

/// Between two ICE checks: nomination and DTLS each cost one of these. Lower loads a slow link with checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How many checks a pair gets: 6 s at that interval, for slow starters behind a TURN server.
const MOST_CHECKS: u16 = 300;

fn feedback(typ: &str, parameter: &str) -> RTCPFeedback {
    RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    }
}

/// The codecs: those that we can encode and decode, and no others, so that a server can tell what we lack.
pub(crate) fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// VP8 with its feedback.
pub(crate) fn vp8() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_VP8.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: vec![feedback("ccm", "fir"), feedback("nack", ""), feedback("nack", "pli")],
    }
}

/// Codecs and header extensions.
pub(crate) fn media_engine() -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    engine.register_codec(
        RTCRtpCodecParameters {
            rtp_codec: opus(),
            payload_type: 111,
        },
        RtpCodecKind::Audio,
    )?;
    engine.register_codec(
        RTCRtpCodecParameters {
            rtp_codec: vp8(),
            payload_type: 96,
        },
        RtpCodecKind::Video,
    )?;
    let rtx = RTCRtpCodec {
        mime_type: "video/rtx".to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: "apt=96".to_owned(),
        rtcp_feedback: vec![],
    };
    engine.register_codec(
        RTCRtpCodecParameters {
            rtp_codec: rtx,
            payload_type: 97,
        },
        RtpCodecKind::Video,
    )?;
    let both = [RtpCodecKind::Audio, RtpCodecKind::Video];
    for (uri, kinds) in [
        (extmap::SDES_MID_URI, &both[..]),
        (extmap::SDES_RTP_STREAM_ID_URI, &both[1..]),
        (extmap::SDES_REPAIR_RTP_STREAM_ID_URI, &both[1..]),
        (extmap::AUDIO_LEVEL_URI, &both[..1]),
    ] {
        for kind in kinds {
            engine.register_header_extension(RTCRtpHeaderExtensionCapability { uri: uri.to_owned() }, *kind, None)?;
        }
    }
    // Negotiates transport-wide feedback; the links themselves are placed below.
    configure_twcc_sender_only(Registry::new(), &mut engine)?;
    Ok(engine)
}

/// The packet chain; see `interceptors` for the order.
pub(crate) fn chain(wire: &Arc<Wire>, started: Instant) -> Registry {
    let congestion = CongestionControlBuilder::new(Estimator::new(wire.clone())).build();
    Registry::new()
        .with(Slot::from(500), Staged::new(Tap::new(wire.clone())))
        .with(Slot::CongestionControl, BindRtx::new(congestion, wire.clone()))
        .with(
            Slot::TwccSender,
            BindRtx::new(TwccSenderBuilder::new().build(), wire.clone()),
        )
        .with(Slot::from(2_500), Staged::new(Stamp::new(wire.clone())))
        .with(Slot::Pacer, Staged::new(Pacer::new(wire.clone())))
        .with(Slot::NackResponder, Staged::new(Retransmitter::new(wire.clone())))
        .with(
            Slot::NackGenerator,
            Staged::new(NackRequester::new(wire.clone(), rand::random())),
        )
        .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(
            Slot::SenderReport,
            Staged::new(SenderReports::new(wire.clone(), (started, SystemTime::now()))),
        )
        .with(Slot::from(12_900), Staged::new(Delivery::new(wire.clone())))
}

/// ICE, DTLS and SCTP settings.
pub(crate) fn settings(config: &ConnectionConfig) -> SettingEngine {
    // Each kind of pair waits before it may be nominated, in case a better one turns up; the defaults are 0.5 to 2 s.
    SettingEngineBuilder::new()
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MOST_CHECKS))
        .with_ice_timeouts(
            Some(Duration::from_secs(5)),
            Some(Duration::from_secs(20)),
            Some(Duration::from_secs(2)),
        )
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(Duration::from_millis(100)))
        .with_relay_acceptance_min_wait(Some(Duration::from_millis(500)))
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_include_loopback_candidate(config.loopback)
        .with_discard_local_candidates_during_ice_restart(true)
        // That is 256 KiB: the library's ceiling.
        .with_sctp_max_message_size(SctpMaxMessageSize::Unbounded)
        .build()
}

/// STUN and TURN servers.
pub(crate) fn configuration(config: &ConnectionConfig) -> RTCConfiguration {
    let servers = config.ice_servers.iter().map(|server| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    RTCConfigurationBuilder::default()
        .with_ice_servers(servers.collect())
        .build()
}

/// Where sockets are bound: resolved again at each ICE restart, so that a computer that
/// changed networks binds the interfaces it has then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalAddresses {
    loopback: bool,
}

impl LocalAddresses {
    /// Loopback too, or not.
    pub(crate) fn new(loopback: bool) -> Self {
        Self { loopback }
    }
}

/// Whether a packet to this address would find a way; sends nothing.
fn routed(from: IpAddr, to: IpAddr) -> bool {
    UdpSocket::bind((from, 0))
        .and_then(|socket| socket.connect((to, 9)))
        .is_ok()
}

impl ToSocketAddrs for LocalAddresses {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let mut addresses = Vec::new();
        // Documentation addresses: routed by default routes only.
        if routed(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(203, 0, 113, 1).into()) {
            addresses.push((Ipv4Addr::UNSPECIFIED, 0).into());
        }
        if routed(
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ) {
            addresses.push((Ipv6Addr::UNSPECIFIED, 0).into());
        }
        if self.loopback || addresses.is_empty() {
            addresses.push((Ipv4Addr::LOCALHOST, 0).into());
        }
        Ok(addresses.into_iter())
    }
}
