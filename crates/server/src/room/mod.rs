//! One room: who is in it, what they may do, what they are told. A task owns
//! everything; the rest of the server talks to it through [`RoomHandle`]. Knows no
//! sockets and no HTTP: media goes to a [`MediaEngine`], admissions to [`Control`].

mod actor;
mod admit;
mod command;
mod data;
mod events;
mod info;
mod link;
mod media;
mod member;
mod moderate;
mod quality;
mod resume;
mod signal;
mod tracks;

use std::sync::Arc;

use confab_control::{Control, Room};
use confab_types::{RoomName, RoomSid};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info};

pub use admit::intent;
pub use command::{
    Admission, AdmitError, Attached, EndReason, Intent, ParticipantView, RoomCommand, RoomView, TrackView,
};
pub use events::{Fact, LeftReason, RoomEvent};
pub use link::{LinkBroken, LinkReceiver, Outgoing, SignalLink, signal_link};

use crate::engine::MediaEngine;

/// Commands waiting for one room. Sockets wait when it is full, so a busy room slows its own talkers only.
const MAILBOX: usize = 1024;

/// What every room of a server shares.
#[derive(Clone)]
pub struct RoomEnv {
    /// Carries the media.
    pub engine: Arc<dyn MediaEngine>,
    /// Keeps admissions and rooms.
    pub control: Control,
    /// Observers; nobody need listen.
    pub events: broadcast::Sender<Arc<RoomEvent>>,
}

/// The room ended or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room is over")]
pub struct RoomGone;

/// Talks to a room. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    name: RoomName,
    sid: RoomSid,
    mailbox: mpsc::Sender<RoomCommand>,
    over: CancellationToken,
}

impl RoomHandle {
    /// Its name.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// Its sid, new for each run.
    pub fn sid(&self) -> &RoomSid {
        &self.sid
    }

    /// Whether it takes no commands any more.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled() || self.mailbox.is_closed()
    }

    /// Returns when the room is over.
    pub async fn closed(&self) {
        self.over.cancelled().await;
    }

    /// Sends a command, waiting for space in the mailbox.
    pub async fn send(&self, command: RoomCommand) -> Result<(), RoomGone> {
        self.mailbox.send(command).await.map_err(|_| RoomGone)
    }

    /// Sends a command that carries a reply, and waits for it.
    pub async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> RoomCommand) -> Result<T, RoomGone> {
        let (tx, rx) = oneshot::channel();
        self.send(make(tx)).await?;
        rx.await.map_err(|_| RoomGone)
    }
}

/// Starts a room whose row is open already. It opens itself in the engine before it takes its first
/// command; if that fails it is over at once. `restored`: from an older run of the server, so its
/// people get time to come back. `on_over` runs when it ended, failed or panicked.
pub fn spawn_room(room: Room, restored: bool, env: RoomEnv, on_over: impl FnOnce() + Send + 'static) -> RoomHandle {
    let (tx, rx) = mpsc::channel(MAILBOX);
    let over = CancellationToken::new();
    let handle = RoomHandle {
        name: room.name.clone(),
        sid: room.sid.clone(),
        mailbox: tx,
        over: over.clone(),
    };
    let span = tracing::info_span!("room", name = %room.name, sid = %room.sid);
    let sid = room.sid.clone();
    tokio::spawn(
        async move {
            let actor = actor::RoomActor::new(room, restored, env.clone());
            // A task of its own, so that a bug in one room ends that room only.
            let outcome = tokio::spawn(actor.run(rx).in_current_span()).await;
            if let Err(e) = outcome {
                error!(error = %e, "the room failed");
                env.engine.close_room(&sid).await;
                // Its tokens are void; people fetch new ones.
                if let Err(e) = env.control.end_room(&sid, confab_control::EndReason::Empty).await {
                    error!(error = %e, "the failed room's end was not written");
                }
            }
            over.cancel();
            on_over();
            info!("room over");
        }
        .instrument(span),
    );
    handle
}
