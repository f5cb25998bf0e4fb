//! A call: joining a room, staying in it, publishing and subscribing. `Call::join` starts an
//! actor on the current tokio runtime and gives a handle; the snapshot tells the rest.

mod actor;
mod commands;
mod data;
mod hearing;
mod joining;
mod link;
mod machine;
mod messages;
mod own;
mod own_audio;
mod own_video;
mod people;
mod publication;
mod publish;
mod record;
mod remote_audio;
mod remote_video;
mod report;
mod subscribe;
mod view;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use data::{CHAT_TOPIC, LONGEST_PAYLOAD, LONGEST_TEXT};
pub use report::{
    AudioFigures, CallReport, JoinTimes, NetworkReport, Percentiles, ReceivedTrack, SentLayer, SentTrack, VideoFigures,
};

use crate::api::{CallCommand, CallEvent, CallSnapshot, JoinOptions, JoinWith, OwnTrack, Phase};

/// Commands that may wait; a person makes few, `Show` comes with every layout change.
const COMMANDS: usize = 64;
/// Events an observer may be behind before it must reread the snapshot.
const EVENTS: usize = 256;

/// Joins calls.
pub struct Call;

impl Call {
    /// Joins; returns at once. Must be called inside a tokio runtime, which carries the call.
    pub fn join(options: JoinOptions) -> CallHandle {
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (requests, request_queue) = mpsc::channel(8);
        let snapshot = watch::Sender::new(first_snapshot(&options));
        let events = broadcast::Sender::new(EVENTS);
        let handle = CallHandle {
            commands,
            requests,
            snapshot: snapshot.subscribe(),
            events: events.clone(),
            last_report: Arc::default(),
            done: CancellationToken::new(),
        };
        let (done, last_report) = (handle.done.clone(), handle.last_report.clone());
        let actor = actor::Actor::new(options, snapshot, events);
        tokio::spawn(async move {
            // Cancels even if the actor panics: whoever waits is told.
            let _done = done.drop_guard();
            let report = actor.run(command_queue, request_queue).await;
            *last_report.lock() = report;
        });
        handle
    }
}

fn first_snapshot(options: &JoinOptions) -> CallSnapshot {
    CallSnapshot {
        phase: Phase::Connecting,
        phase_since: Instant::now(),
        room: match options.with {
            JoinWith::Session(_) => options.room.to_string(),
            JoinWith::Token { .. } => String::new(),
        },
        room_sid: None,
        me: None,
        may_publish: Vec::new(),
        moderator: false,
        participants: Vec::new(),
        microphone: OwnTrack {
            busy: options.microphone_on,
            ..OwnTrack::default()
        },
        camera: OwnTrack {
            busy: options.camera_on,
            ..OwnTrack::default()
        },
        speaking_while_muted: false,
    }
}

/// A call that runs, or ran. Dropping it leaves the call.
pub struct CallHandle {
    commands: mpsc::Sender<CallCommand>,
    requests: mpsc::Sender<oneshot::Sender<CallReport>>,
    snapshot: watch::Receiver<CallSnapshot>,
    events: broadcast::Sender<CallEvent>,
    last_report: Arc<Mutex<CallReport>>,
    done: CancellationToken,
}

impl CallHandle {
    /// The call as it is, and each change.
    pub fn snapshot(&self) -> watch::Receiver<CallSnapshot> {
        self.snapshot.clone()
    }

    /// What happens from now on. On `Lagged` reread the snapshot.
    pub fn events(&self) -> broadcast::Receiver<CallEvent> {
        self.events.subscribe()
    }

    /// Does something; effects show in the snapshot. Never blocks: when 64 commands wait already, it is dropped.
    pub fn send(&self, command: CallCommand) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command) {
            tracing::warn!(?command, "the call is behind; the command was dropped");
        }
    }

    /// The figures so far; after the end, the last ones.
    pub async fn report(&self) -> CallReport {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(reply).await.is_ok()
            && let Ok(report) = answer.await
        {
            return report;
        }
        self.done.cancelled().await;
        self.last_report.lock().clone()
    }

    /// Waits until the call is over and the server was told.
    pub async fn closed(&self) {
        self.done.cancelled().await;
    }
}
