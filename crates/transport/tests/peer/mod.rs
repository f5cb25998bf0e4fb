//! The other side for the tests: a `str0m` peer as our server is one (ICE-lite, RTP mode),
//! on real loopback sockets, with a seeded lossy network in between.
#![allow(dead_code)]

pub mod media;
pub mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use str0m::bwe::Bitrate;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Mid, Rid};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

/// What a peer reports.
#[derive(Debug)]
pub enum PeerEvent {
    /// Media, with its place.
    Rtp {
        mid: Mid,
        rid: Option<Rid>,
        packet: RtpPacket,
    },
    /// Anything else.
    Other(Event),
}

type Command = Box<dyn FnOnce(&mut Rtc) + Send>;

/// The network between the two: drops media and feedback at a rate, both ways.
#[derive(Debug, Default)]
pub struct Network {
    /// Of a thousand packets.
    pub loss_permille: AtomicU64,
    /// Bits a second towards the peer, with a queue of 400 ms; 0 is no limit.
    pub capacity: AtomicU64,
    pub dropped_to_peer: AtomicU64,
    pub dropped_from_peer: AtomicU64,
    seed: AtomicU64,
}

impl Network {
    /// A generator good enough for loss (xorshift), the same every run.
    fn drops(&self, packet: &[u8], counter: &AtomicU64) -> bool {
        let is_media = packet.first().is_some_and(|b| (128..192).contains(b));
        let rate = self.loss_permille.load(Ordering::Relaxed);
        if !is_media || rate == 0 {
            return false;
        }
        let mut x = self.seed.load(Ordering::Relaxed).max(0x9e37_79b9);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed.store(x, Ordering::Relaxed);
        let drop = (x >> 11) % 1000 < rate;
        if drop {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        drop
    }
}

/// How a peer is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerConfig {
    /// Listen for ICE-TCP and offer it.
    pub tcp: bool,
    /// No UDP candidate.
    pub no_udp: bool,
    /// VP9 is its only video codec.
    pub only_vp9: bool,
}

/// A peer that runs until dropped.
pub struct Peer {
    commands: mpsc::UnboundedSender<Command>,
    pub events: mpsc::UnboundedReceiver<PeerEvent>,
    pub network: Arc<Network>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub async fn new(config: PeerConfig) -> Self {
        // Logs when asked to: RUST_LOG=rtc_ice=debug.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        str0m::crypto::from_feature_flags().install_process_default();
        let mut builder = Rtc::builder();
        if config.only_vp9 {
            builder = builder.clear_codecs().enable_opus(true, false).enable_vp9(true);
        }
        let mut rtc = builder
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .enable_bwe(Some(Bitrate::kbps(2000)))
            .set_stats_interval(Some(Duration::from_millis(500)))
            .set_sctp_max_message_size(1 << 20)
            .set_sctp_max_buffered_amount(1 << 20)
            .build(Instant::now());
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if !config.no_udp {
            rtc.add_local_candidate(Candidate::host(udp.local_addr().unwrap(), "udp").unwrap());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if config.tcp {
            let address = listener.local_addr().unwrap();
            rtc.add_local_candidate(
                Candidate::builder()
                    .tcp()
                    .host(address)
                    .tcptype(TcpType::Passive)
                    .build()
                    .unwrap(),
            );
        }
        let (commands, orders) = mpsc::unbounded_channel();
        let (told, events) = mpsc::unbounded_channel();
        let network = Arc::new(Network::default());
        let task = tokio::spawn(run(rtc, udp, listener, orders, told, network.clone()));
        Self {
            commands,
            events,
            network,
            task,
        }
    }

    /// Runs `act` with the peer's state.
    pub async fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Rtc) -> T + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        let command: Command = Box::new(move |rtc| {
            let _ = done.send(act(rtc));
        });
        self.commands.send(command).unwrap_or_else(|_| panic!("the peer ended"));
        result.await.unwrap()
    }

    /// Answers an offer.
    pub async fn answer(&self, offer: &str) -> String {
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        self.with(move |rtc| rtc.sdp_api().accept_offer(offer).unwrap().to_sdp_string())
            .await
    }

    /// Offers changes.
    pub async fn offer<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut str0m::change::SdpApi) -> T + Send + 'static,
    ) -> (String, SdpPendingOffer, T) {
        self.with(move |rtc| {
            let mut api = rtc.sdp_api();
            let out = change(&mut api);
            let (offer, pending) = api.apply().unwrap();
            (offer.to_sdp_string(), pending, out)
        })
        .await
    }

    /// Takes the answer.
    pub async fn accept(&self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.with(move |rtc| rtc.sdp_api().accept_answer(pending, answer).unwrap())
            .await;
    }

    /// The next event that `pick` takes.
    pub async fn wait<T>(&mut self, mut pick: impl FnMut(PeerEvent) -> Option<T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let event = self.events.recv().await.expect("the peer ended");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        })
        .await
        .expect("nothing within 10 s")
    }

    /// All events that have come.
    pub fn drain(&mut self) -> Vec<PeerEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

type Frame = (SocketAddr, Vec<u8>);

async fn read_tcp(mut reader: tokio::net::tcp::OwnedReadHalf, from: SocketAddr, frames: mpsc::UnboundedSender<Frame>) {
    while let Ok(length) = reader.read_u16().await {
        let mut frame = vec![0; usize::from(length)];
        if reader.read_exact(&mut frame).await.is_err() || frames.send((from, frame)).is_err() {
            break;
        }
    }
}

struct Sockets {
    udp: UdpSocket,
    tcp: HashMap<SocketAddr, OwnedWriteHalf>,
    listening: SocketAddr,
}

impl Sockets {
    async fn send(&mut self, transmit: str0m::net::Transmit, network: &Network) {
        if network.drops(&transmit.contents, &network.dropped_from_peer) {
            return;
        }
        if transmit.proto == Protocol::Udp {
            let _ = self.udp.send_to(&transmit.contents, transmit.destination).await;
        } else if let Some(writer) = self.tcp.get_mut(&transmit.destination) {
            let mut framed = (transmit.contents.len() as u16).to_be_bytes().to_vec();
            framed.extend_from_slice(&transmit.contents);
            let _ = writer.write_all(&framed).await;
        }
    }

    fn receive(&self, rtc: &mut Rtc, proto: Protocol, source: SocketAddr, data: &[u8], network: &Network) {
        if network.drops(data, &network.dropped_to_peer) {
            return;
        }
        let destination = if proto == Protocol::Udp {
            self.udp.local_addr().unwrap()
        } else {
            self.listening
        };
        if let Ok(contents) = data.try_into() {
            let input = Input::Receive(
                Instant::now(),
                Receive {
                    proto,
                    source,
                    destination,
                    contents,
                },
            );
            if rtc.accepts(&input) {
                rtc.handle_input(input).unwrap();
            }
        }
    }
}

async fn run(
    mut rtc: Rtc,
    udp: UdpSocket,
    listener: TcpListener,
    mut orders: mpsc::UnboundedReceiver<Command>,
    told: mpsc::UnboundedSender<PeerEvent>,
    network: Arc<Network>,
) {
    let (frames, mut framed) = mpsc::unbounded_channel::<Frame>();
    let mut sockets = Sockets {
        udp,
        tcp: HashMap::new(),
        listening: listener.local_addr().unwrap(),
    };
    let mut buffer = vec![0; 2048];
    let mut queue = Bottleneck::default();
    loop {
        let deadline = loop {
            match rtc.poll_output().unwrap() {
                Output::Timeout(at) => break at,
                Output::Transmit(transmit) => sockets.send(transmit, &network).await,
                Output::Event(Event::RtpPacket(packet)) => {
                    let place = rtc
                        .direct_api()
                        .stream_rx(&packet.header.ssrc)
                        .map(|s| (s.mid(), s.rid()));
                    if let Some((mid, rid)) = place {
                        let _ = told.send(PeerEvent::Rtp { mid, rid, packet });
                    }
                }
                Output::Event(event) => {
                    let _ = told.send(PeerEvent::Other(event));
                }
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => order(&mut rtc),
                None => return,
            },
            Ok((length, source)) = sockets.udp.recv_from(&mut buffer) => {
                queue.push(source, &buffer[..length], &network);
            }
            () = tokio::time::sleep_until(queue.due().into()) => {}
            Ok((stream, from)) = listener.accept() => {
                let stream: TcpStream = stream;
                stream.set_nodelay(true).unwrap();
                let (reader, writer) = stream.into_split();
                sockets.tcp.insert(from, writer);
                tokio::spawn(read_tcp(reader, from, frames.clone()));
            }
            Some((source, data)) = framed.recv() => sockets.receive(&mut rtc, Protocol::Tcp, source, &data, &network),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        while let Some((source, data)) = queue.pop() {
            sockets.receive(&mut rtc, Protocol::Udp, source, &data, &network);
        }
        rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
    }
}

/// The narrow part of the path.
#[derive(Default)]
struct Bottleneck {
    waiting: std::collections::VecDeque<(Instant, Frame)>,
    free: Option<Instant>,
}

impl Bottleneck {
    fn push(&mut self, source: SocketAddr, data: &[u8], network: &Network) {
        let now = Instant::now();
        let capacity = network.capacity.load(Ordering::Relaxed);
        let begin = self.free.map_or(now, |free| free.max(now));
        if capacity == 0 {
            self.waiting.push_back((now, (source, data.to_vec())));
        } else if begin - now < Duration::from_millis(400) {
            let done = begin + Duration::from_secs_f64((data.len() + 28) as f64 * 8.0 / capacity as f64);
            self.free = Some(done);
            self.waiting.push_back((done, (source, data.to_vec())));
        } else {
            network.dropped_to_peer.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn due(&self) -> Instant {
        self.waiting
            .front()
            .map_or_else(|| Instant::now() + Duration::from_secs(1), |(at, _)| *at)
    }

    fn pop(&mut self) -> Option<Frame> {
        let ready = self.waiting.front().is_some_and(|(at, _)| *at <= Instant::now());
        if ready {
            self.waiting.pop_front().map(|(_, frame)| frame)
        } else {
            None
        }
    }
}

/// Sends sound and video of the peer for `count` video frames at 30 a second.
pub async fn media_from(peer: &Peer, audio: Mid, video: Mid, count: u32) {
    use str0m::rtp::RtpWrite;
    let mut packetizer = rtc::rtp::codec::vp8::Vp8Payloader::default();
    packetizer.enable_picture_id = true;
    let (mut video_seq, mut audio_seq) = (1u64, 1u64);
    let mut ticks = tokio::time::interval(Duration::from_micros(33_333));
    let mut sounds = 0u32;
    for number in 0..count {
        ticks.tick().await;
        let frame = media::frame(0, number, if number.is_multiple_of(30) { 16_000 } else { 4000 });
        let payloads = rtc::rtp::packetizer::Payloader::payload(&mut packetizer, 1100, &frame).unwrap();
        let mut sound = Vec::new();
        while sounds * 20 <= number * 33 {
            let mut data = vec![31 << 3; 60];
            data[1..5].copy_from_slice(&sounds.to_be_bytes());
            sound.push((audio_seq, sounds * 960, data));
            sounds += 1;
            audio_seq += 1;
        }
        let first = video_seq;
        video_seq += payloads.len() as u64;
        peer.with(move |rtc| {
            let now = Instant::now();
            let last = payloads.len() - 1;
            let pts: Vec<_> = [audio, video]
                .iter()
                .map(|mid| rtc.media(*mid).unwrap().remote_pts()[0])
                .collect();
            let mut api = rtc.direct_api();
            let stream = api.stream_tx_by_mid(video, None).unwrap();
            for (n, payload) in payloads.into_iter().enumerate() {
                let packet = RtpWrite::new(pts[1], (first + n as u64).into(), number * 3000, now, payload.to_vec())
                    .marker(n == last)
                    .nackable(true);
                stream.write_rtp(packet);
            }
            let stream = api.stream_tx_by_mid(audio, None).unwrap();
            for (seq, time, data) in sound {
                stream.write_rtp(RtpWrite::new(pts[0], seq.into(), time, now, data));
            }
        })
        .await;
    }
}

/// Sends sound alone.
pub async fn sound_from(peer: &Peer, audio: Mid, count: u32) {
    use str0m::rtp::RtpWrite;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for number in 0..count {
        ticks.tick().await;
        peer.with(move |rtc| {
            let now = Instant::now();
            let pt = rtc.media(audio).unwrap().remote_pts()[0];
            let mut api = rtc.direct_api();
            let stream = api.stream_tx_by_mid(audio, None).unwrap();
            stream.write_rtp(RtpWrite::new(
                pt,
                u64::from(number + 1).into(),
                number * 960,
                now,
                vec![31 << 3; 60],
            ));
        })
        .await;
    }
}
