//! The UDP socket: receiving in batches, and sending in batches to many
//! addresses.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use confab_sfu::net::Protocol;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;

use super::addresses::LocalAddresses;
use super::inbox::Packet;
use super::network::Router;

/// Kernel buffers. A keyframe burst to many subscribers is a few hundred kilobytes; the kernel may grant less.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A datagram on its way out.
pub(super) struct Outgoing {
    pub destination: SocketAddr,
    pub data: Vec<u8>,
}

/// Sends datagrams to many addresses.
pub(super) trait BatchSend: Send {
    /// Sends all of them, or drops what the kernel has no room for: late media is worth nothing.
    fn send(&mut self, batch: &[Outgoing]);
}

/// The best sender of this platform.
pub(super) fn sender(socket: Arc<UdpSocket>, dropped: Arc<AtomicU64>) -> Box<dyn BatchSend> {
    #[cfg(target_os = "linux")]
    return Box::new(linux::MmsgSender::new(socket, dropped));
    #[cfg(not(target_os = "linux"))]
    return Box::new(SingleSender { socket, dropped });
}

/// One system call per datagram, for platforms without `sendmmsg`.
#[cfg_attr(target_os = "linux", allow(dead_code))]
struct SingleSender {
    socket: Arc<UdpSocket>,
    dropped: Arc<AtomicU64>,
}

impl BatchSend for SingleSender {
    fn send(&mut self, batch: &[Outgoing]) {
        for packet in batch {
            if self.socket.send_to(&packet.data, packet.destination).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

    use super::*;

    /// Datagrams per system call.
    const BATCH: usize = 64;

    /// `sendmmsg`: one system call for many addresses.
    pub struct MmsgSender {
        socket: Arc<UdpSocket>,
        dropped: Arc<AtomicU64>,
    }

    impl MmsgSender {
        pub fn new(socket: Arc<UdpSocket>, dropped: Arc<AtomicU64>) -> Self {
            Self { socket, dropped }
        }

        /// Sends what it can in one call, and tells how many.
        fn send_some(&self, batch: &[Outgoing]) -> Result<usize, Errno> {
            let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|p| [IoSlice::new(&p.data)]).collect();
            let addresses: Vec<Option<SockaddrStorage>> = batch
                .iter()
                .map(|p| Some(SockaddrStorage::from(p.destination)))
                .collect();
            let mut headers = MultiHeaders::preallocate(batch.len(), None);
            let sent = sendmmsg(
                self.socket.as_raw_fd(),
                &mut headers,
                &slices,
                &addresses,
                [],
                MsgFlags::MSG_DONTWAIT,
            )?;
            Ok(sent.count())
        }
    }

    impl BatchSend for MmsgSender {
        fn send(&mut self, batch: &[Outgoing]) {
            for chunk in batch.chunks(BATCH) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    match self.send_some(rest) {
                        Ok(sent) if sent > 0 => rest = &rest[sent.min(rest.len())..],
                        Err(Errno::EINTR) => {}
                        _ => {
                            // The first of the rest cannot be sent (no buffer, no route, a firewall): go on behind it.
                            self.dropped.fetch_add(1, Ordering::Relaxed);
                            rest = &rest[1..];
                        }
                    }
                }
            }
        }
    }
}

/// The same moment on both clocks, to turn the kernel's receive times into ours.
struct Clock {
    wall: Duration,
    monotonic: Instant,
}

/// A kernel time further back than this is a clock that was set meanwhile.
const MAX_AGE: Duration = Duration::from_secs(1);

impl Clock {
    fn now() -> Self {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            wall,
            monotonic: Instant::now(),
        }
    }

    /// When the kernel got a datagram; now, where it does not tell.
    fn received(&self, meta: &RecvMeta) -> Instant {
        let age = meta.timestamp.and_then(|at| self.wall.checked_sub(at));
        let age = age.filter(|age| *age <= MAX_AGE).unwrap_or_default();
        self.monotonic.checked_sub(age).unwrap_or(self.monotonic)
    }
}

/// Receives until cancelled.
pub(super) async fn receive(
    socket: tokio::net::UdpSocket,
    local: LocalAddresses,
    mut router: Router,
) -> io::Result<()> {
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // The kernel's maximum decides if these are too much.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
    let size = 2048 * state.gro_segments().max(1);
    let mut buffers = vec![vec![0u8; size]; BATCH_SIZE];
    let mut metas = vec![RecvMeta::default(); BATCH_SIZE];
    loop {
        socket.readable().await?;
        let received = socket.try_io(Interest::READABLE, || {
            let mut slices: Vec<io::IoSliceMut<'_>> = buffers.iter_mut().map(|b| io::IoSliceMut::new(b)).collect();
            state.recv(UdpSockRef::from(&socket), &mut slices, &mut metas)
        });
        let count = match received {
            Ok(count) => count,
            // An ICMP error of an earlier send shows up here; the socket is fine.
            Err(_) => continue,
        };
        let clock = Clock::now();
        for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
            let received = clock.received(meta);
            let destination = local.reached(meta.dst_ip);
            for data in buffer[..meta.len.min(buffer.len())].chunks(meta.stride.max(1)) {
                router.push(Packet {
                    protocol: Protocol::Udp,
                    source: meta.addr,
                    destination,
                    received,
                    data: data.into(),
                });
            }
        }
        router.flush();
    }
}
