//! The way from a room to one participant's signalling socket: a bounded queue
//! that never blocks the room. Knows no sockets.

use confab_wire::livekit::signal_response::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages waiting for one socket. A join into a room of 200 with two tracks each sends about 10; a client
/// that reads nothing is cut off after this many, which bounds its memory to about a megabyte.
const QUEUE: usize = 512;

/// What the room hands to a socket.
#[derive(Debug)]
pub enum Outgoing {
    /// A signalling message.
    Message(Box<Message>),
    /// Ask for a sign of life (a WebSocket ping).
    Probe,
    /// Close with this code, after all that was queued before.
    Close {
        /// RFC 6455 section 7.4.
        code: u16,
        /// For people who read logs.
        reason: &'static str,
    },
}

/// The socket is gone or reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signalling connection is gone or too slow")]
pub struct LinkBroken;

/// The room's end.
#[derive(Debug, Clone)]
pub struct SignalLink {
    queue: mpsc::Sender<Outgoing>,
    cut: CancellationToken,
}

/// The socket's end.
#[derive(Debug)]
pub struct LinkReceiver {
    /// What to send.
    pub queue: mpsc::Receiver<Outgoing>,
    /// Cancelled: drop the connection at once.
    pub cut: CancellationToken,
}

/// A new pair.
pub fn signal_link() -> (SignalLink, LinkReceiver) {
    let (tx, rx) = mpsc::channel(QUEUE);
    let cut = CancellationToken::new();
    (
        SignalLink {
            queue: tx,
            cut: cut.clone(),
        },
        LinkReceiver { queue: rx, cut },
    )
}

impl SignalLink {
    /// Queues; a full queue cuts the connection.
    pub fn send(&self, what: Outgoing) -> Result<(), LinkBroken> {
        self.queue.try_send(what).map_err(|_| {
            self.cut.cancel();
            LinkBroken
        })
    }

    /// Queues a message.
    pub fn message(&self, message: Message) -> Result<(), LinkBroken> {
        self.send(Outgoing::Message(Box::new(message)))
    }

    /// Whether the socket's end is gone.
    pub fn is_closed(&self) -> bool {
        self.cut.is_cancelled() || self.queue.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_reads_nothing_is_cut_off_and_blocks_nobody() {
        let (link, receiver) = signal_link();
        for _ in 0..QUEUE {
            link.message(Message::Pong(1)).unwrap();
        }
        assert_eq!(link.message(Message::Pong(1)), Err(LinkBroken));
        assert!(receiver.cut.is_cancelled() && link.is_closed());
    }
}
