//! What the library reports, turned into `ConnectionEvent`s. The library calls from its
//! own loop, which must not wait: everything is handed to tasks.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{PeerConnectionEventHandler, RTCPeerConnectionIceEvent, RTCPeerConnectionState};

use crate::api::{CandidateInit, ConnectionEvent, ConnectionState};
use crate::connection::Core;

/// Events wait here for the client; more than this and data messages wait too.
const EVENTS: usize = 256;

/// Where events go in. Those of the connection itself are few and never wait; data waits for room.
#[derive(Clone)]
pub(crate) struct Events {
    now: mpsc::UnboundedSender<ConnectionEvent>,
    /// Weak: the forwarding task alone keeps the client's channel open, so that it ends with the connection.
    data: mpsc::WeakSender<ConnectionEvent>,
}

impl Events {
    /// The way in, and what the client reads; ends when `token` is cancelled.
    pub(crate) fn new(tasks: &TaskTracker, token: &CancellationToken) -> (Self, mpsc::Receiver<ConnectionEvent>) {
        let (now, mut waiting) = mpsc::unbounded_channel();
        let (out, events) = mpsc::channel(EVENTS);
        let data = out.downgrade();
        let token = token.clone();
        tasks.spawn(async move {
            let forward = async {
                while let Some(event) = waiting.recv().await {
                    if out.send(event).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                () = token.cancelled() => {}
                () = forward => {}
            }
        });
        (Self { now, data }, events)
    }

    /// Tells at once.
    pub(crate) fn tell(&self, event: ConnectionEvent) {
        // Nobody listens any more: the connection is being closed.
        let _ = self.now.send(event);
    }

    /// Tells a data message, waiting for room. False when nobody listens.
    pub(crate) async fn tell_data(&self, event: ConnectionEvent) -> bool {
        match self.data.upgrade() {
            Some(data) => data.send(event).await.is_ok(),
            None => false,
        }
    }
}

/// The library's side of it.
pub(crate) struct Handler(pub(crate) Weak<Core>);

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Some(core) = self.0.upgrade() else { return };
        match event.candidate.to_json() {
            Ok(init) => core.events.tell(ConnectionEvent::LocalCandidate(CandidateInit {
                candidate: init.candidate,
                sdp_mid: init.sdp_mid,
                sdp_mline_index: init.sdp_mline_index,
            })),
            Err(error) => debug!(%error, "a candidate that cannot be written"),
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let Some(core) = self.0.upgrade() else { return };
        let state = match state {
            RTCPeerConnectionState::Connected => ConnectionState::Connected,
            RTCPeerConnectionState::Disconnected => ConnectionState::Disconnected,
            RTCPeerConnectionState::Failed => ConnectionState::Failed,
            RTCPeerConnectionState::Closed => ConnectionState::Closed,
            _ => ConnectionState::Connecting,
        };
        debug!(?state, "connection state");
        core.note_state(state);
        core.events.tell(ConnectionEvent::State(state));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let Some(core) = self.0.upgrade() else { return };
        core.clone().spawn(async move { core.theirs(channel).await });
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let Some(core) = self.0.upgrade() else { return };
        core.clone().spawn(crate::receive::follow(Arc::downgrade(&core), track));
    }
}
