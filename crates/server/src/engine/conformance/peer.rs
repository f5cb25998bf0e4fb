//! A client for the suite: str0m over real sockets on loopback, UDP or TCP,
//! with a camera of three layers and a microphone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sfu::net::{Candidate, Protocol, Receive, TcpType};
use confab_types::{ParticipantSid, RoomSid};
use parking_lot::Mutex;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::ChannelId;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::RtpWrite;
use str0m::{Event, Input, Output, Rtc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::engine::MediaEngine;

const LAYERS: [&str; 3] = ["q", "h", "f"];

/// What the test looks at and the task works on.
pub(super) struct State {
    pub rtc: Rtc,
    pub connected: bool,
    /// Packets by the m-line's mid.
    pub got: Vec<(Mid, u64)>,
    pub channels: Vec<(ChannelId, String)>,
    pub messages: Vec<(String, Vec<u8>)>,
    pending: Option<SdpPendingOffer>,
    camera: Option<(Mid, [u64; 3])>,
    microphone: Option<(Mid, u64)>,
    keyframe: bool,
    frame: u16,
    /// Packets that a frame of the top layer is cut into.
    pub burst: usize,
}

/// One peer connection.
pub(super) struct Link {
    pub state: Arc<Mutex<State>>,
    kick: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream, SocketAddr),
}

impl Link {
    /// A connection over UDP, or over TCP to the server's media port.
    pub async fn new(tcp: Option<SocketAddr>) -> Self {
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(Instant::now());
        let socket = match tcp {
            None => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap());
                Socket::Udp(socket)
            }
            Some(server) => {
                let stream = TcpStream::connect(server).await.unwrap();
                let local = stream.local_addr().unwrap();
                let candidate = Candidate::builder()
                    .tcp()
                    .host(local)
                    .tcptype(TcpType::Active)
                    .build()
                    .unwrap();
                rtc.add_local_candidate(candidate);
                Socket::Tcp(stream, server)
            }
        };
        let state = Arc::new(Mutex::new(State {
            rtc,
            connected: false,
            got: Vec::new(),
            channels: Vec::new(),
            messages: Vec::new(),
            pending: None,
            camera: None,
            microphone: None,
            keyframe: true,
            frame: 0,
            burst: 1,
        }));
        let kick = Arc::new(Notify::new());
        let task = tokio::spawn(run(state.clone(), socket, kick.clone()));
        Self { state, kick, task }
    }

    /// Changes something and lets the task act on it.
    pub fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        let result = run(&mut self.state.lock());
        self.kick.notify_one();
        result
    }

    /// Sends its offer to the engine and takes the answer.
    pub async fn offer(&self, engine: &dyn MediaEngine, room: &RoomSid, who: &ParticipantSid, sdp: String) {
        let answer = engine.publisher_offer(room, who, sdp).await.unwrap();
        let answer = SdpAnswer::from_sdp_string(&answer).unwrap();
        self.with(|s| {
            let pending = s.pending.take().unwrap();
            s.rtc.sdp_api().accept_answer(pending, answer).unwrap();
        });
    }

    /// Answers the engine's offer.
    pub fn answer(&self, sdp: &str) -> String {
        let offer = SdpOffer::from_sdp_string(sdp).unwrap();
        self.with(|s| s.rtc.sdp_api().accept_offer(offer).unwrap().to_sdp_string())
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is: impl Fn(&State) -> bool) {
        let end = Instant::now() + super::PATIENCE;
        while !is(&self.state.lock()) {
            assert!(Instant::now() < end, "never happened: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl State {
    /// An offer with a camera.
    pub fn add_camera(&mut self, cid: &str) -> String {
        let mut simulcast = Simulcast::new();
        LAYERS
            .iter()
            .for_each(|rid| simulcast.add_send_layer(SimulcastLayer::new(rid)));
        let mut api = self.rtc.sdp_api();
        let mid = api.add_media(
            MediaKind::Video,
            Direction::SendOnly,
            Some("s".into()),
            Some(cid.into()),
            Some(simulcast),
        );
        let (offer, pending) = api.apply().unwrap();
        self.camera = Some((mid, [1, 1, 1]));
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// An offer with a microphone.
    pub fn add_microphone(&mut self, cid: &str) -> String {
        let mut api = self.rtc.sdp_api();
        let mid = api.add_media(
            MediaKind::Audio,
            Direction::SendOnly,
            Some("s".into()),
            Some(cid.into()),
            None,
        );
        let (offer, pending) = api.apply().unwrap();
        self.microphone = Some((mid, 1));
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// An offer with the data channels.
    pub fn add_channels(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        api.add_channel("_reliable".into());
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// An offer that restarts ICE.
    pub fn restart(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Writes to a data channel.
    pub fn write(&mut self, label: &str, data: &[u8]) {
        let id = self.channels.iter().find(|(_, l)| l == label).unwrap().0;
        assert!(self.rtc.channel(id).unwrap().write(true, data).unwrap());
    }

    /// Sends 20 ms of sound and a frame.
    fn media(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        self.frame = self.frame.wrapping_add(1);
        let keyframe = std::mem::take(&mut self.keyframe);
        let params = self.rtc.codec_config().params();
        let pt = |codec| params.iter().find(|p| p.spec().codec == codec).map(|p| p.pt()).unwrap();
        let (vp8, opus) = (pt(Codec::Vp8), pt(Codec::Opus));
        let (frame, mut direct) = (self.frame, self.rtc.direct_api());
        if let Some((mid, seqs)) = &mut self.camera {
            for (rid, seq) in LAYERS.iter().zip(seqs) {
                let packets = if *rid == "f" { self.burst } else { 1 };
                for n in 0..packets {
                    let [high, low] = frame.to_be_bytes();
                    let start = if n == 0 { 0x90 } else { 0x80 };
                    let mut payload = vec![start, 0xe0, 0x80 | high, low, low, 0, u8::from(!keyframe)];
                    payload.resize(1000, 7);
                    let Some(stream) = direct.stream_tx_by_mid(*mid, Some(Rid::from(*rid))) else {
                        continue;
                    };
                    let time = u32::from(frame) * 1800;
                    let write = RtpWrite::new(vp8, (*seq).into(), time, now, payload);
                    stream.write_rtp(write.marker(n + 1 == packets).nackable(true));
                    *seq += 1;
                }
            }
        }
        if let Some((mid, seq)) = &mut self.microphone
            && let Some(stream) = direct.stream_tx_by_mid(*mid, None)
        {
            stream.write_rtp(RtpWrite::new(
                opus,
                (*seq).into(),
                u32::from(frame) * 960,
                now,
                vec![0xfc; 60],
            ));
            *seq += 1;
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected = true,
            Event::KeyframeRequest(_) => self.keyframe = true,
            Event::ChannelOpen(id, label) => self.channels.push((id, label)),
            Event::ChannelData(data) => {
                let label = self
                    .channels
                    .iter()
                    .find(|(id, _)| *id == data.id)
                    .map(|(_, l)| l.clone());
                self.messages.push((label.unwrap_or_default(), data.data));
            }
            Event::RtpPacket(packet) => {
                let mid = self.rtc.direct_api().stream_rx(&packet.header.ssrc).map(|s| s.mid());
                self.got.extend(mid.map(|mid| (mid, *packet.seq_no)));
            }
            _ => {}
        }
    }

    /// Takes everything out; gives the packets and when to come back.
    fn drain(&mut self, now: Instant) -> (Vec<(SocketAddr, Vec<u8>)>, Instant) {
        let mut packets = Vec::new();
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Transmit(t) => packets.push((t.destination, t.contents.into())),
                Output::Event(event) => self.on_event(event),
                Output::Timeout(at) if at <= now => self.rtc.handle_input(Input::Timeout(now)).unwrap(),
                Output::Timeout(at) => return (packets, at),
            }
        }
    }
}

async fn run(state: Arc<Mutex<State>>, mut socket: Socket, kick: Arc<Notify>) {
    let mut buffer = vec![0; 4096];
    let mut next_media = Instant::now();
    loop {
        let now = Instant::now();
        if next_media <= now {
            next_media = now + Duration::from_millis(20);
            state.lock().media(now);
        }
        let (packets, wake) = state.lock().drain(now);
        for (destination, data) in packets {
            // A packet that cannot be sent is a lost one.
            let _ = socket.send(destination, &data).await;
        }
        let wake = wake.min(next_media);
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            () = kick.notified() => {}
            received = socket.receive(&mut buffer) => {
                let Ok((length, source, protocol, local)) = received else { return };
                if let Ok(packet) = Receive::new(protocol, source, local, &buffer[..length]) {
                    let _ = state.lock().rtc.handle_input(Input::Receive(Instant::now(), packet));
                }
            }
        }
    }
}

impl Socket {
    async fn send(&mut self, destination: SocketAddr, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send_to(data, destination).await.map(|_| ()),
            Self::Tcp(stream, _) => {
                stream.write_all(&(data.len() as u16).to_be_bytes()).await?;
                stream.write_all(data).await
            }
        }
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Protocol, SocketAddr)> {
        match self {
            Self::Udp(socket) => {
                let (length, source) = socket.recv_from(buffer).await?;
                Ok((length, source, Protocol::Udp, socket.local_addr()?))
            }
            Self::Tcp(stream, server) => {
                // Cancelled between the bytes it would lose them: look before taking.
                let length = loop {
                    let mut head = [0; 2];
                    let seen = stream.peek(&mut head).await?;
                    if seen == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    if seen == 2 {
                        break usize::from(u16::from_be_bytes(head));
                    }
                };
                while stream.peek(&mut buffer[..length + 2]).await? < length + 2 {
                    tokio::task::yield_now().await;
                }
                stream.read_exact(&mut buffer[..length + 2]).await?;
                buffer.copy_within(2..length + 2, 0);
                Ok((length, *server, Protocol::Tcp, stream.local_addr()?))
            }
        }
    }
}
