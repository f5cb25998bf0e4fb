//! The way into a shard: commands, and a bounded ring of packets that drops
//! the oldest. One lock per batch, not per packet.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use confab_sfu::Room;
use confab_sfu::net::Protocol;
use confab_types::RoomSid;
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use crate::engine::EngineEvent;

/// Packets waiting for a shard: about 100 ms of a shard at full load. More would add delay where it is already late.
const MAX_PACKETS: usize = 4096;

/// Commands waiting for a shard. Past it the engine is overloaded and says so.
const MAX_COMMANDS: usize = 4096;

/// A datagram, or a frame of a TCP connection.
#[derive(Debug)]
pub(super) struct Packet {
    pub protocol: Protocol,
    pub source: SocketAddr,
    /// The candidate that it came to.
    pub destination: SocketAddr,
    /// When it reached this machine. Senders judge the path by it, so it must not hold the time spent in queues here.
    pub received: Instant,
    pub data: Box<[u8]>,
}

/// A job on a room; `None` if the room is not open.
pub(super) type Job = Box<dyn FnOnce(Option<&mut Room>, Instant) + Send>;

/// What a shard is told.
pub(super) enum Command {
    Open {
        room: RoomSid,
        events: mpsc::Sender<EngineEvent>,
    },
    Close {
        room: RoomSid,
    },
    Run {
        room: RoomSid,
        job: Job,
    },
}

#[derive(Default)]
struct State {
    packets: VecDeque<Packet>,
    commands: VecDeque<Command>,
    closed: bool,
}

/// The way into a shard.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
    dropped: AtomicU64,
}

impl Inbox {
    /// Hands in packets, all of them taken out of `batch`. The oldest go if there is no room.
    pub fn push_packets(&self, batch: &mut Vec<Packet>) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.packets.extend(batch.drain(..));
        let excess = state.packets.len().saturating_sub(MAX_PACKETS);
        if excess > 0 {
            state.packets.drain(..excess);
            self.dropped.fetch_add(excess as u64, Ordering::Relaxed);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Hands in a command; false if the shard is gone or overloaded.
    pub fn push_command(&self, command: Command) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.commands.len() >= MAX_COMMANDS {
            return false;
        }
        state.commands.push_back(command);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Waits for something or for the time, and takes everything there is. False once closed.
    pub fn take(&self, packets: &mut VecDeque<Packet>, commands: &mut VecDeque<Command>, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.closed && state.packets.is_empty() && state.commands.is_empty() {
            if self.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        std::mem::swap(packets, &mut state.packets);
        std::mem::swap(commands, &mut state.commands);
        !state.closed
    }

    /// Ends the shard.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }

    /// Packets that had to go because the shard did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(n: u16) -> Packet {
        let address = SocketAddr::from(([127, 0, 0, 1], n));
        Packet {
            protocol: Protocol::Udp,
            source: address,
            destination: address,
            received: Instant::now(),
            data: Box::new([]),
        }
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts_it() {
        let inbox = Inbox::default();
        let mut batch: Vec<Packet> = (0..MAX_PACKETS as u16 + 3).map(packet).collect();
        inbox.push_packets(&mut batch);
        let (mut packets, mut commands) = Default::default();
        assert!(inbox.take(&mut packets, &mut commands, Instant::now()));
        assert_eq!(packets.len(), MAX_PACKETS);
        assert_eq!(packets[0].source.port(), 3);
        assert_eq!(inbox.dropped(), 3);
    }

    #[test]
    fn a_closed_inbox_wakes_its_shard_and_takes_no_commands() {
        let inbox = Inbox::default();
        inbox.close();
        let (mut packets, mut commands) = Default::default();
        assert!(!inbox.take(&mut packets, &mut commands, Instant::now() + Duration::from_secs(60)));
        let room = RoomSid::from_random([1; 12]);
        assert!(!inbox.push_command(Command::Close { room }));
    }
}
