//! One signalling WebSocket: frames in, frames out, signs of life. Whatever it does,
//! the room never waits for it.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket};
use confab_wire::livekit as lk;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{Instrument, debug, info_span};

use super::MAX_MESSAGE;
use super::codec::{Encoding, decode, encode};
use super::flow::{Flow, Verdict};
use crate::room::{Attached, LinkReceiver, Outgoing, RoomCommand, RoomHandle, signal_link};

/// How often the socket is asked for a sign of life. Shorter finds dead ones sooner and wakes phones more often.
const PING: Duration = Duration::from_secs(5);
/// Silent for so long, it is dead: LiveKit's ping timeout plus a slow round trip.
const SILENCE: Duration = Duration::from_secs(20);
/// A frame that cannot be written for so long: nobody reads at the other end.
const WRITE: Duration = Duration::from_secs(10);
/// For the other end to answer a close.
const CLOSE: Duration = Duration::from_millis(500);

/// RFC 6455 section 7.4.1.
mod code {
    pub(super) const INVALID: u16 = 1007;
    pub(super) const POLICY: u16 = 1008;
    pub(super) const TOO_BIG: u16 = 1009;
    pub(super) const ERROR: u16 = 1011;
}

/// How a connection came to its end.
enum End {
    /// The other end closed it, or it broke.
    Theirs,
    /// We close it, with a code and a word.
    Ours(u16, &'static str),
    /// It is dropped without a word.
    Cut,
}

/// Runs a socket until it ends. The room learns of it.
pub(super) async fn serve(
    socket: WebSocket,
    room: RoomHandle,
    ticket: u64,
    auto_subscribe: bool,
    client_protocol: i32,
) {
    let (link, receiver) = signal_link();
    let attached = room
        .ask(|reply| RoomCommand::Attach {
            ticket,
            link,
            auto_subscribe,
            client_protocol,
            reply,
        })
        .await;
    let attached = attached.unwrap_or(None);
    let span = match &attached {
        Some(a) => info_span!("signalling", room = %room.sid(), participant = %a.sid),
        None => info_span!("signalling", room = %room.sid()),
    };
    let connection = Connection {
        socket,
        room,
        attached,
        encoding: Encoding::default(),
        probed: false,
    };
    connection.run(receiver).instrument(span).await;
}

struct Connection {
    socket: WebSocket,
    room: RoomHandle,
    /// `None`: it was refused and is told so.
    attached: Option<Attached>,
    encoding: Encoding,
    probed: bool,
}

impl Connection {
    async fn run(mut self, mut link: LinkReceiver) {
        let end = self.talk(&mut link).await;
        if let Some(from) = self.attached.take() {
            let _ = self.room.send(RoomCommand::LinkLost { from }).await;
        }
        match end {
            End::Ours(code, reason) => {
                debug!(code, reason, "closing");
                let frame = Frame::Close(Some(CloseFrame {
                    code,
                    reason: reason.into(),
                }));
                let goodbye = async {
                    if self.socket.send(frame).await.is_ok() {
                        // Until the other end closes too: closing before it has read would lose the last words.
                        while let Some(Ok(_)) = self.socket.recv().await {}
                    }
                };
                let _ = timeout(CLOSE, goodbye).await;
            }
            End::Theirs | End::Cut => {}
        }
    }

    async fn talk(&mut self, link: &mut LinkReceiver) -> End {
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flow = Flow::new(Instant::now());
        let mut heard = Instant::now();
        let mut closed_until = heard;
        loop {
            let now = Instant::now();
            let reading = closed_until <= now;
            let end = tokio::select! {
                () = link.cut.cancelled() => Some(End::Cut),
                out = link.queue.recv() => self.send(out).await,
                frame = self.socket.recv(), if reading => {
                    heard = Instant::now();
                    let (end, pause) = self.receive(frame, &mut flow).await;
                    closed_until = heard + pause;
                    end
                }
                () = tokio::time::sleep_until(closed_until), if !reading => {
                    heard = Instant::now();
                    None
                }
                _ = pings.tick() => self.tick(heard).await,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn tick(&mut self, heard: Instant) -> Option<End> {
        if heard.elapsed() > SILENCE {
            debug!("silent for too long");
            return Some(End::Cut);
        }
        self.write(Frame::Ping(bytes::Bytes::new())).await
    }

    async fn send(&mut self, out: Option<Outgoing>) -> Option<End> {
        match out {
            Some(Outgoing::Message(message)) => self.write(encode(*message, self.encoding)).await,
            Some(Outgoing::Probe) => {
                self.probed = true;
                self.write(Frame::Ping(bytes::Bytes::from_static(b"probe"))).await
            }
            Some(Outgoing::Close { code, reason }) => Some(End::Ours(code, reason)),
            // The room dropped us without a word: it failed. A new join finds a new one.
            None => {
                let leave = lk::signal_response::Message::Leave(lk::LeaveRequest {
                    can_reconnect: true,
                    reason: lk::DisconnectReason::StateMismatch as i32,
                    action: lk::leave_request::Action::Reconnect as i32,
                    regions: None,
                });
                let _ = self.write(encode(leave, self.encoding)).await;
                Some(End::Ours(code::ERROR, "the room failed"))
            }
        }
    }

    async fn write(&mut self, frame: Frame) -> Option<End> {
        match timeout(WRITE, self.socket.send(frame)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(End::Theirs),
            Err(_) => Some(End::Cut),
        }
    }

    /// Handles what came; the time is how long nothing more is read.
    async fn receive(&mut self, frame: Option<Result<Frame, axum::Error>>, flow: &mut Flow) -> (Option<End>, Duration) {
        let frame = match frame {
            None | Some(Ok(Frame::Close(_))) => return (Some(End::Theirs), Duration::ZERO),
            Some(Err(e)) => return (Some(broken(&e)), Duration::ZERO),
            Some(Ok(frame)) => frame,
        };
        if std::mem::take(&mut self.probed)
            && let Some(from) = self.attached.clone()
        {
            let _ = self.room.send(RoomCommand::LinkAlive { from }).await;
        }
        let pause = match flow.take(Instant::now()) {
            Verdict::Go => Duration::ZERO,
            Verdict::GoThenWait(pause) => pause,
            Verdict::Flood => return (Some(End::Ours(code::POLICY, "too many messages")), Duration::ZERO),
        };
        if matches!(frame, Frame::Ping(_) | Frame::Pong(_)) {
            return (None, pause);
        }
        (self.handle(&frame).await, pause)
    }

    async fn handle(&mut self, frame: &Frame) -> Option<End> {
        let length = match frame {
            Frame::Binary(bytes) => bytes.len(),
            Frame::Text(text) => text.len(),
            _ => 0,
        };
        if length > MAX_MESSAGE {
            return Some(End::Ours(code::TOO_BIG, "the message is too big"));
        }
        let Ok((encoding, message)) = decode(frame) else {
            return Some(End::Ours(code::INVALID, "not a signalling message"));
        };
        self.encoding = encoding;
        if let (Some(message), Some(from)) = (message, self.attached.clone())
            && self
                .room
                .send(RoomCommand::Signal {
                    from,
                    message: Box::new(message),
                })
                .await
                .is_err()
        {
            // The room is over; its last words are in the queue.
            self.attached = None;
        }
        None
    }
}

/// Which end a read error means: a frame over the limit is told, all else is a broken connection.
fn broken(error: &axum::Error) -> End {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too big") {
        End::Ours(code::TOO_BIG, "the message is too big")
    } else if text.contains("UTF-8") || text.contains("utf-8") {
        End::Ours(code::INVALID, "not UTF-8")
    } else {
        debug!(error = text, "connection broken");
        End::Theirs
    }
}
