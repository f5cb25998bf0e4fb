//! The receiver: one thread with the media port's UDP socket and TCP listener,
//! which hands packets to the shards.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::addresses::LocalAddresses;
use super::demux::AddressTable;
use super::inbox::{Inbox, Packet};
use super::tcp::{self, TcpPeers};
use super::udp;

/// How often a pair of free ports is looked for.
const PORT_ATTEMPTS: usize = 64;

/// The bound media ports: UDP, and TCP on the next one. They differ because `webrtc` (0.21) finds a remote candidate by
/// address alone: of a UDP and a TCP candidate with the same one it would never use the second.
pub(super) struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
    pub port: u16,
}

impl Sockets {
    /// Binds UDP to the port and TCP to the next; port 0 finds two that are free.
    pub fn bind(ip: IpAddr, port: u16) -> io::Result<Self> {
        let mut last = io::ErrorKind::AddrInUse.into();
        for _ in 0..if port == 0 { PORT_ATTEMPTS } else { 1 } {
            let udp = UdpSocket::bind((ip, port))?;
            let found = udp.local_addr()?.port();
            let tcp = tcp_port(found).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into());
            match tcp.and_then(|next| TcpListener::bind((ip, next))) {
                Ok(tcp) => {
                    udp.set_nonblocking(true)?;
                    tcp.set_nonblocking(true)?;
                    return Ok(Self { udp, tcp, port: found });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The TCP port that belongs to a UDP media port.
pub(super) fn tcp_port(media_port: u16) -> Option<u16> {
    media_port.checked_add(1)
}

/// Gives packets to shards, a batch at a time.
pub(super) struct Router {
    shards: Arc<[Arc<Inbox>]>,
    addresses: Arc<AddressTable>,
    strangers: Arc<AtomicU64>,
    batches: Vec<Vec<Packet>>,
}

impl Router {
    pub fn new(shards: Arc<[Arc<Inbox>]>, addresses: Arc<AddressTable>, strangers: Arc<AtomicU64>) -> Self {
        let batches = shards.iter().map(|_| Vec::new()).collect();
        Self {
            shards,
            addresses,
            strangers,
            batches,
        }
    }

    /// Adds a packet to its shard's batch, or drops it if nobody knows its sender.
    pub fn push(&mut self, packet: Packet) {
        let shard = self.addresses.shard_of(packet.protocol, packet.source, &packet.data);
        match shard.and_then(|shard| self.batches.get_mut(usize::from(shard))) {
            Some(batch) => batch.push(packet),
            None => {
                self.strangers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Hands the batches over.
    pub fn flush(&mut self) {
        for (shard, batch) in self.shards.iter().zip(&mut self.batches) {
            shard.push_packets(batch);
        }
    }
}

impl Clone for Router {
    fn clone(&self) -> Self {
        Self::new(self.shards.clone(), self.addresses.clone(), self.strangers.clone())
    }
}

/// Runs the receiver until cancelled.
pub(super) fn run(
    udp: UdpSocket,
    tcp: TcpListener,
    local: LocalAddresses,
    router: Router,
    peers: Arc<TcpPeers>,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let ended = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            ended = udp::receive(udp, local.clone(), router.clone()) => ended,
            ended = tcp::serve(tcp, peers, local, router) => ended,
        };
        if let Err(error) = &ended {
            error!(%error, "the media port failed");
        }
        ended
    })
}
