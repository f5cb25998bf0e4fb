//! ICE-TCP (RFC 6544): passive TCP candidates on the port after the media port,
//! with RFC 4571 framing, a two-byte length before each packet.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sfu::net::Protocol;
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::addresses::LocalAddresses;
use super::demux::place_in_stun;
use super::inbox::Packet;
use super::network::Router;

/// Frames waiting for a slow connection: about a second of video. Past it new ones are dropped, as UDP would.
const MAX_QUEUE: usize = 256;

/// Connections at a time. Each costs two tasks and a buffer.
const MAX_CONNECTIONS: usize = 1024;

/// A connection must prove itself with a STUN request of ours within this time.
const FIRST_FRAME: Duration = Duration::from_secs(5);

/// A connection that says nothing for this long is gone: ICE sends consent checks every 5 s (RFC 7675).
const IDLE: Duration = Duration::from_secs(60);

/// Larger frames are no RTP, STUN or DTLS.
const MAX_FRAME: usize = 8192;

/// The ways out to TCP peers.
#[derive(Default)]
pub(super) struct TcpPeers {
    peers: RwLock<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>,
}

impl TcpPeers {
    /// Queues a packet; false if the peer is gone or too slow.
    pub fn send(&self, to: SocketAddr, packet: Vec<u8>) -> bool {
        self.peers
            .read()
            .get(&to)
            .is_some_and(|peer| peer.try_send(packet).is_ok())
    }
}

/// Accepts connections until cancelled.
pub(super) async fn serve(
    listener: TcpListener,
    peers: Arc<TcpPeers>,
    local: LocalAddresses,
    router: Router,
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file handles: those that end free some.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= MAX_CONNECTIONS {
            continue;
        }
        let (peers, local, router) = (peers.clone(), local.clone(), router.clone());
        tasks.spawn(async move { connection(stream, source, &peers, &local, router).await });
    }
}

async fn connection(stream: TcpStream, source: SocketAddr, peers: &TcpPeers, local: &LocalAddresses, router: Router) {
    let _ = stream.set_nodelay(true);
    let destination = local.reached_by_tcp(stream.local_addr().ok().map(|a| a.ip()));
    let (read, write) = stream.into_split();
    let (sender, frames) = mpsc::channel(MAX_QUEUE);
    peers.peers.write().insert(source, sender);
    tokio::select! {
        _ = read_frames(read, source, destination, router) => {}
        _ = write_frames(write, frames) => {}
    }
    peers.peers.write().remove(&source);
}

async fn read_frames(
    read: OwnedReadHalf,
    source: SocketAddr,
    destination: SocketAddr,
    mut router: Router,
) -> io::Result<()> {
    let mut read = BufReader::with_capacity(16 * 1024, read);
    let mut frame = vec![0u8; MAX_FRAME];
    let mut known = false;
    loop {
        let limit = if known { IDLE } else { FIRST_FRAME };
        let length = tokio::time::timeout(limit, read.read_u16()).await??;
        let length = usize::from(length);
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        tokio::time::timeout(limit, read.read_exact(&mut frame[..length])).await??;
        if !known {
            if place_in_stun(&frame[..length]).is_none() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            known = true;
        }
        router.push(Packet {
            protocol: Protocol::Tcp,
            source,
            destination,
            received: Instant::now(),
            data: frame[..length].into(),
        });
        // What is already here goes in the same batch.
        if read.buffer().len() < 2 {
            router.flush();
        }
    }
}

async fn write_frames(mut write: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut batch = Vec::new();
    let mut buffer = Vec::new();
    while frames.recv_many(&mut batch, 64).await > 0 {
        buffer.clear();
        for frame in batch.drain(..) {
            let Ok(length) = u16::try_from(frame.len()) else {
                continue;
            };
            buffer.extend(length.to_be_bytes());
            buffer.extend(frame);
        }
        write.write_all(&buffer).await?;
    }
    Ok(())
}
