//! A participant's client: two str0m connections, a camera and a microphone.

use std::net::SocketAddr;
use std::time::Instant;

use confab_sfu::net::Candidate;
use confab_types::ParticipantSid;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer};
use str0m::{Event, Rtc};

use crate::stream::{Camera, Got, LAYERS, Microphone};

/// One peer connection of a client.
pub struct Link {
    pub rtc: Rtc,
    pub address: SocketAddr,
    pub timeout: Instant,
    pub channels: Vec<(ChannelId, String)>,
    pub connected: bool,
}

impl Link {
    fn new(now: Instant, address: SocketAddr) -> Self {
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        Self {
            rtc,
            address,
            timeout: now,
            channels: Vec::new(),
            connected: false,
        }
    }

    /// Writes to a channel by label.
    pub fn write(&mut self, label: &str, data: &[u8]) -> bool {
        let Some(id) = self.channels.iter().find(|(_, l)| l == label).map(|(id, _)| *id) else {
            return false;
        };
        self.rtc.channel(id).is_some_and(|mut c| c.write(true, data).unwrap())
    }
}

/// A participant's client.
pub struct Client {
    pub sid: ParticipantSid,
    pub publisher: Link,
    pub subscriber: Link,
    pub cameras: Vec<Camera>,
    pub microphone: Option<Microphone>,
    pub got: Vec<Got>,
    pub messages: Vec<(String, Vec<u8>)>,
    pub offers: Vec<String>,
    pub pending: Option<SdpPendingOffer>,
    /// Leaves offers unanswered.
    pub ignores_offers: bool,
}

impl Client {
    pub fn new(now: Instant, n: u8, sid: ParticipantSid) -> Self {
        let address = |port| SocketAddr::from(([10, 0, 1, n], port));
        Self {
            sid,
            publisher: Link::new(now, address(1000)),
            subscriber: Link::new(now, address(2000)),
            cameras: Vec::new(),
            microphone: None,
            got: Vec::new(),
            messages: Vec::new(),
            offers: Vec::new(),
            pending: None,
            ignores_offers: false,
        }
    }

    /// An offer that adds a simulcast camera.
    pub fn add_camera(&mut self, cid: &str) -> String {
        let mut simulcast = Simulcast::new();
        for (rid, _) in LAYERS {
            simulcast.add_send_layer(SimulcastLayer::new(rid));
        }
        let mid = self.add_media(MediaKind::Video, cid, Some(simulcast));
        self.cameras.push(Camera::simulcast(mid.0));
        mid.1
    }

    /// An offer that adds a camera with one layer.
    pub fn add_plain_camera(&mut self, cid: &str) -> String {
        let mid = self.add_media(MediaKind::Video, cid, None);
        self.cameras.push(Camera::single(mid.0));
        mid.1
    }

    /// An offer that adds a microphone.
    pub fn add_microphone(&mut self, cid: &str, level: i8) -> String {
        let mid = self.add_media(MediaKind::Audio, cid, None);
        self.microphone = Some(Microphone::new(mid.0, level));
        mid.1
    }

    fn add_media(&mut self, kind: MediaKind, cid: &str, simulcast: Option<Simulcast>) -> (Mid, String) {
        let mut api = self.publisher.rtc.sdp_api();
        let mid = api.add_media(
            kind,
            Direction::SendOnly,
            Some("stream".into()),
            Some(cid.into()),
            simulcast,
        );
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        (mid, offer.to_sdp_string())
    }

    /// An offer with both data channels and one that nobody knows.
    pub fn add_channels(&mut self) -> String {
        let mut api = self.publisher.rtc.sdp_api();
        for (label, reliability) in [
            ("_reliable", Reliability::Reliable),
            ("_lossy", Reliability::MaxRetransmits { retransmits: 0 }),
            ("_data_track", Reliability::Reliable),
        ] {
            api.add_channel_with_config(ChannelConfig {
                label: label.into(),
                reliability,
                ..Default::default()
            });
        }
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// An offer that stops a media section.
    pub fn stop(&mut self, mid: Mid) -> String {
        let mut api = self.publisher.rtc.sdp_api();
        api.set_direction(mid, Direction::Inactive);
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// An offer that restarts ICE.
    pub fn restart(&mut self) -> String {
        let mut api = self.publisher.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Takes the answer to its offer.
    pub fn answered(&mut self, sdp: &str) {
        let answer = SdpAnswer::from_sdp_string(sdp).unwrap();
        self.publisher
            .rtc
            .sdp_api()
            .accept_answer(self.pending.take().unwrap(), answer)
            .unwrap();
    }

    /// Answers an offer of the server.
    pub fn answer(&mut self, sdp: &str) -> String {
        self.offers.push(sdp.to_owned());
        let offer = SdpOffer::from_sdp_string(sdp).unwrap();
        self.subscriber
            .rtc
            .sdp_api()
            .accept_offer(offer)
            .unwrap()
            .to_sdp_string()
    }

    /// Sends what is due: a frame of each camera, 20 ms of sound.
    pub fn send(&mut self, now: Instant, frame: bool) {
        if !self.publisher.connected {
            return;
        }
        for camera in self.cameras.iter_mut().filter(|_| frame) {
            camera.frame(&mut self.publisher.rtc, now);
        }
        if let Some(microphone) = &mut self.microphone {
            microphone.packet(&mut self.publisher.rtc, now);
        }
    }

    /// Handles an event of one of its connections.
    pub fn on_event(&mut self, now: Instant, publisher: bool, event: Event) {
        let link = if publisher {
            &mut self.publisher
        } else {
            &mut self.subscriber
        };
        match event {
            Event::Connected => link.connected = true,
            Event::ChannelOpen(id, label) => link.channels.push((id, label)),
            Event::ChannelData(data) => {
                let label = link
                    .channels
                    .iter()
                    .find(|(id, _)| *id == data.id)
                    .map(|(_, l)| l.clone());
                self.messages.push((label.unwrap_or_default(), data.data));
            }
            Event::KeyframeRequest(request) => {
                for camera in self.cameras.iter_mut().filter(|c| c.mid == request.mid) {
                    camera.on_request(&request);
                }
            }
            Event::RtpPacket(packet) => {
                let mid = link.rtc.direct_api().stream_rx(&packet.header.ssrc).map(|s| s.mid());
                self.got.extend(mid.map(|mid| Got::new(now, mid, &packet)));
            }
            _ => {}
        }
    }

    /// The packets of the track with this sid, by the msid of the m-line.
    pub fn packets_of(&self, track: &str) -> Vec<Got> {
        let Some(mid) = self.mid_of(track) else {
            return Vec::new();
        };
        self.got.iter().filter(|g| *g.mid == *mid).cloned().collect()
    }

    /// The mid of a track in the offers.
    pub fn mid_of(&self, track: &str) -> Option<String> {
        let offer = self.offers.last()?;
        let section = offer.split("m=").find(|s| s.contains(&format!("|{track} {track}")))?;
        section
            .lines()
            .find_map(|l| l.strip_prefix("a=mid:"))
            .map(str::to_owned)
    }
}
