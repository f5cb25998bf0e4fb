//! A bad network between a participant and a server, on loopback: a signalling
//! proxy that puts a UDP relay in the way of the media, and the relay, which loses,
//! delays and reorders packets by a seed. Without netem, and the same every time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use confab_wire::livekit::{SignalResponse, signal_response::Message as Signal};
use futures::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// What the network does to packets, in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Impairment {
    /// Chance of losing a packet, 0 to 1.
    pub loss: f64,
    /// Every packet is late by up to this much.
    pub jitter: Duration,
    /// The same seed gives the same losses for the same packets.
    pub seed: u64,
}

/// The way through the bad network. Ends when dropped.
pub struct BadNetwork {
    /// Signalling URL for the participant.
    pub url: String,
    /// Packets lost so far.
    pub lost: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl BadNetwork {
    /// In front of a server whose signalling is at `url` (ws://) and whose media port is `media_port`.
    pub async fn before(url: &str, media_port: u16, impairment: Impairment) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let lost = Arc::new(AtomicU64::new(0));
        let relay = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let relay_port = relay.local_addr()?.port();
        tasks.spawn(run_relay(
            relay,
            SocketAddr::from(([127, 0, 0, 1], media_port)),
            impairment,
            lost.clone(),
        ));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let upstream = url::Url::parse(url)?
            .socket_addrs(|| Some(80))?
            .first()
            .copied()
            .context("no address")?;
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Err(error) = proxy(stream, upstream, media_port, relay_port).await {
                        tracing::debug!(%error, "the signalling proxy ended");
                    }
                });
            }
        });
        Ok(Self {
            url: format!("ws://{address}"),
            lost,
            _tasks: tasks,
        })
    }
}

/// Passes signalling on; in descriptions from the server, the media port is the relay's and TCP is not offered.
async fn proxy(stream: TcpStream, upstream: SocketAddr, media_port: u16, relay_port: u16) -> anyhow::Result<()> {
    let mut asked = String::new();
    let mut bearer = None;
    #[expect(clippy::result_large_err, reason = "the callback's shape is the library's")]
    let note = |request: &Request, response: Response| {
        asked = request.uri().to_string();
        bearer = request.headers().get("authorization").cloned();
        Ok(response)
    };
    let mut near = tokio_tungstenite::accept_hdr_async(stream, note).await?;
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!(
        "ws://{upstream}{asked}"
    ))?;
    if let Some(bearer) = bearer {
        request.headers_mut().insert("authorization", bearer);
    }
    let (mut far, _) = tokio_tungstenite::connect_async(request).await?;
    loop {
        tokio::select! {
            message = near.next() => far.send(message.context("gone")??).await?,
            message = far.next() => {
                let message = match message.context("gone")?? {
                    Message::Binary(bytes) => Message::Binary(reroute(&bytes, media_port, relay_port).into()),
                    other => other,
                };
                near.send(message).await?;
            }
        }
    }
}

fn reroute(bytes: &[u8], media_port: u16, relay_port: u16) -> Vec<u8> {
    let Ok(mut response) = SignalResponse::decode(bytes) else {
        return bytes.to_vec();
    };
    if let Some(Signal::Offer(description) | Signal::Answer(description)) = &mut response.message {
        let keep = |line: &&str| !(line.starts_with("a=candidate:") && line.to_lowercase().contains(" tcp "));
        let lines: Vec<_> = description
            .sdp
            .lines()
            .filter(keep)
            .map(|line| match line.starts_with("a=candidate:") {
                true => line.replace(&format!(" {media_port} "), &format!(" {relay_port} ")),
                false => line.to_owned(),
            })
            .collect();
        description.sdp = lines.join("\r\n") + "\r\n";
    }
    response.encode_to_vec()
}

/// One upstream socket for each of the participant's sockets, so that the server tells them apart.
async fn run_relay(near: UdpSocket, server: SocketAddr, impairment: Impairment, lost: Arc<AtomicU64>) {
    let near = Arc::new(near);
    let mut upstreams: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut up = Fate::new(impairment, 1);
    let mut buffer = vec![0; 2048];
    while let Ok((length, from)) = near.recv_from(&mut buffer).await {
        let far = match upstreams.get(&from) {
            Some(far) => far.clone(),
            None => {
                let Ok(far) = UdpSocket::bind(("127.0.0.1", 0)).await else {
                    return;
                };
                let far = Arc::new(far);
                upstreams.insert(from, far.clone());
                let (back, near, lost) = (far.clone(), near.clone(), lost.clone());
                let mut down = Fate::new(impairment, 2 + upstreams.len() as u64);
                tasks.spawn(async move {
                    let mut buffer = vec![0; 2048];
                    while let Ok(length) = back.recv(&mut buffer).await {
                        pass(&mut down, &lost, &near, from, &buffer[..length]);
                    }
                });
                if far.connect(server).await.is_err() {
                    return;
                }
                far
            }
        };
        pass(&mut up, &lost, &far, server, &buffer[..length]);
    }
}

/// Sends a packet on, now or later or never.
fn pass(fate: &mut Fate, lost: &AtomicU64, socket: &Arc<UdpSocket>, to: SocketAddr, packet: &[u8]) {
    let Some(delay) = fate.of_next(packet) else {
        lost.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (socket, packet) = (socket.clone(), packet.to_vec());
    tokio::spawn(async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let connected = socket.peer_addr().is_ok();
        let _ = if connected {
            socket.send(&packet).await
        } else {
            socket.send_to(&packet, to).await
        };
    });
}

/// Decides what happens to each packet.
struct Fate {
    rng: StdRng,
    impairment: Impairment,
}

impl Fate {
    fn new(impairment: Impairment, direction: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(impairment.seed ^ (direction << 32)),
            impairment,
        }
    }

    /// The delay, or `None` if it is lost. Connecting (STUN, DTLS) is spared: the subject is media under loss.
    fn of_next(&mut self, packet: &[u8]) -> Option<Duration> {
        let media = packet.first().is_some_and(|b| (128..192).contains(b));
        if media && self.rng.random_bool(self.impairment.loss) {
            return None;
        }
        Some(self.impairment.jitter.mul_f64(self.rng.random_range(0.0..1.0)))
    }
}
