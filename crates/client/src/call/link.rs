//! The two peer connections of one join: offers and answers, candidates, data channels.
//! Knows LiveKit's rules of negotiation (we offer on the publisher, the server on the
//! subscriber, one of each at a time) and nothing of tracks' contents.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use confab_transport::{
    CandidateInit, Connection, ConnectionConfig, ConnectionEvent, ConnectionState, TransportError, WebRtcConnection,
};
use confab_wire::livekit::{self as lk, signal_request as req};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::signal::SignalSender;

/// LiveKit's label of the ordered channel.
pub const RELIABLE: &str = "_reliable";
/// LiveKit's label of the channel without retransmissions.
pub const LOSSY: &str = "_lossy";
/// Messages kept until a channel opens; chat typed while connecting, no more.
const OUTBOX: usize = 256;

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// From us to the server.
    Publisher,
    /// From the server to us.
    Subscriber,
}

impl Target {
    fn number(self) -> i32 {
        match self {
            Self::Publisher => lk::SignalTarget::Publisher as i32,
            Self::Subscriber => lk::SignalTarget::Subscriber as i32,
        }
    }
}

/// A connection's event with its origin. `generation` tells late events of a former join apart.
#[derive(Debug)]
pub struct LinkEvent {
    /// The join it belongs to.
    pub generation: u64,
    /// Which connection.
    pub target: Target,
    /// What happened.
    pub event: ConnectionEvent,
}

/// `RTCIceCandidateInit` as browsers write it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CandidateJson {
    candidate: String,
    #[serde(default)]
    sdp_mid: Option<String>,
    #[serde(default)]
    sdp_m_line_index: Option<u16>,
}

/// The connections of one join.
pub struct Link {
    /// From us to the server.
    pub publisher: Arc<dyn Connection>,
    /// From the server to us.
    pub subscriber: Arc<dyn Connection>,
    /// The join it belongs to.
    pub generation: u64,
    /// Which one must be up for the call to count as connected.
    pub primary: Target,
    states: [ConnectionState; 2],
    offer_id: u32,
    offer_outstanding: bool,
    offer_wanted: Option<bool>,
    publisher_used: bool,
    outboxes: HashMap<&'static str, Outbox>,
    forwarders: Vec<AbortHandle>,
}

enum Outbox {
    Waiting(VecDeque<Bytes>),
    Open(mpsc::Sender<Bytes>),
}

impl Link {
    /// Makes both connections; their events go to `events`.
    pub async fn open(
        config: ConnectionConfig,
        generation: u64,
        primary: Target,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, TransportError> {
        let subscriber_config = ConnectionConfig {
            passive_setup: false,
            ..config.clone()
        };
        let (publisher, subscriber) =
            tokio::try_join!(WebRtcConnection::new(config), WebRtcConnection::new(subscriber_config))?;
        let mut forwarders = Vec::new();
        let mut forward = |target, mut from: mpsc::Receiver<ConnectionEvent>| {
            let to = events.clone();
            let task = tokio::spawn(async move {
                while let Some(event) = from.recv().await {
                    if to
                        .send(LinkEvent {
                            generation,
                            target,
                            event,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
            forwarders.push(task.abort_handle());
        };
        forward(Target::Publisher, publisher.1);
        forward(Target::Subscriber, subscriber.1);
        let (publisher, subscriber) = (publisher.0, subscriber.0);
        publisher.open_data_channel(RELIABLE, true, None).await?;
        publisher.open_data_channel(LOSSY, false, Some(0)).await?;
        let waiting = || Outbox::Waiting(VecDeque::new());
        Ok(Self {
            publisher,
            subscriber,
            generation,
            primary,
            states: [ConnectionState::Connecting; 2],
            offer_id: 0,
            offer_outstanding: false,
            offer_wanted: None,
            publisher_used: false,
            outboxes: HashMap::from([(RELIABLE, waiting()), (LOSSY, waiting())]),
            forwarders,
        })
    }

    /// Offers on the publisher, or notes that another offer is due once the outstanding one is answered.
    pub async fn negotiate(&mut self, signal: &SignalSender, ice_restart: bool) {
        self.publisher_used = true;
        if self.offer_outstanding {
            self.offer_wanted = Some(ice_restart || self.offer_wanted == Some(true));
            return;
        }
        match self.publisher.create_offer(ice_restart).await {
            Ok(sdp) => {
                self.offer_id += 1;
                self.offer_outstanding = true;
                signal.send(req::Message::Offer(description("offer", sdp, self.offer_id)));
            }
            Err(e) => tracing::warn!("no offer could be made: {e}"),
        }
    }

    /// The server answered the publisher's offer.
    pub async fn answered(&mut self, signal: &SignalSender, answer: lk::SessionDescription) {
        // Zero: a server that does not echo ids.
        if answer.id != 0 && answer.id != self.offer_id {
            return;
        }
        if let Err(e) = self.publisher.set_answer(&answer.sdp).await {
            tracing::warn!("the server's answer could not be used: {e}");
        }
        self.offer_outstanding = false;
        if let Some(ice_restart) = self.offer_wanted.take() {
            self.negotiate(signal, ice_restart).await;
        }
    }

    /// The server offers on the subscriber: answered at once, candidates trickle.
    pub async fn offered(&mut self, signal: &SignalSender, offer: lk::SessionDescription) {
        match self.subscriber.answer_offer(&offer.sdp).await {
            Ok(sdp) => {
                signal.send(req::Message::Answer(description("answer", sdp, offer.id)));
            }
            Err(e) => tracing::warn!("the server's offer could not be answered: {e}"),
        }
    }

    /// After a resume: an unanswered offer is lost, ICE restarts where anything was sent.
    pub async fn restart_ice(&mut self, signal: &SignalSender) {
        self.offer_outstanding = false;
        self.offer_wanted = None;
        if self.publisher_used {
            self.negotiate(signal, true).await;
        }
    }

    /// A candidate of the server's.
    pub async fn candidate(&self, trickle: &lk::TrickleRequest) {
        let Ok(json) = serde_json::from_str::<CandidateJson>(&trickle.candidate_init) else {
            return;
        };
        let connection = match lk::SignalTarget::try_from(trickle.target) {
            Ok(lk::SignalTarget::Publisher) => &self.publisher,
            Ok(lk::SignalTarget::Subscriber) => &self.subscriber,
            Err(_) => return,
        };
        let candidate = CandidateInit {
            candidate: json.candidate,
            sdp_mid: json.sdp_mid,
            sdp_mline_index: json.sdp_m_line_index,
        };
        if let Err(e) = connection.add_candidate(candidate).await {
            tracing::debug!("a candidate was not taken: {e}");
        }
    }

    /// An own candidate, told to the server.
    pub fn trickle(&self, signal: &SignalSender, target: Target, candidate: CandidateInit) {
        let json = CandidateJson {
            candidate: candidate.candidate,
            sdp_mid: candidate.sdp_mid,
            sdp_m_line_index: candidate.sdp_mline_index,
        };
        let Ok(candidate_init) = serde_json::to_string(&json) else {
            return;
        };
        let trickle = lk::TrickleRequest {
            candidate_init,
            target: target.number(),
            r#final: false,
        };
        signal.send(req::Message::Trickle(trickle));
    }

    /// A connection changed. Gives what it means for the call: the primary's state, or a failure of the other.
    pub fn state(&mut self, target: Target, state: ConnectionState) -> Option<ConnectionState> {
        self.states[target as usize] = state;
        let in_use = target == Target::Subscriber || self.publisher_used;
        match state {
            _ if !in_use => None,
            ConnectionState::Failed => Some(state),
            _ if target == self.primary => Some(state),
            // Back again, both of them.
            ConnectionState::Connected if self.states[self.primary as usize] == ConnectionState::Connected => {
                Some(state)
            }
            ConnectionState::Disconnected => Some(state),
            _ => None,
        }
    }

    /// Sends on a data channel; kept until it is open. The publisher connection is made for it if need be.
    pub async fn send_data(&mut self, signal: &SignalSender, label: &'static str, payload: Bytes) {
        if !self.publisher_used {
            self.negotiate(signal, false).await;
        }
        match self.outboxes.get_mut(label) {
            Some(Outbox::Waiting(queue)) if queue.len() < OUTBOX => queue.push_back(payload),
            Some(Outbox::Open(sender)) if sender.try_send(payload).is_err() => {
                tracing::warn!(label, "a data message was dropped: the channel is behind");
            }
            _ => {}
        }
    }

    /// A data channel of the publisher opened: what waited goes out.
    pub fn data_open(&mut self, label: &str) {
        let Some((&label, outbox)) = self.outboxes.iter_mut().find(|(l, _)| **l == label) else {
            return;
        };
        let Outbox::Waiting(queue) = outbox else { return };
        let (sender, mut receiver) = mpsc::channel(OUTBOX);
        for payload in queue.drain(..) {
            let _ = sender.try_send(payload);
        }
        *outbox = Outbox::Open(sender);
        let publisher = self.publisher.clone();
        let task = tokio::spawn(async move {
            while let Some(payload) = receiver.recv().await {
                if let Err(e) = publisher.send_data(label, payload).await {
                    tracing::debug!(label, "a data message was not sent: {e}");
                }
            }
        });
        self.forwarders.push(task.abort_handle());
    }

    /// Closes both connections in the background.
    pub fn close(self) {
        for task in &self.forwarders {
            task.abort();
        }
        tokio::spawn(async move {
            tokio::join!(self.publisher.close(), self.subscriber.close());
        });
    }
}

fn description(kind: &str, sdp: String, id: u32) -> lk::SessionDescription {
    lk::SessionDescription {
        r#type: kind.to_owned(),
        sdp,
        id,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_and_written_as_browsers_do() {
        let text = r#"{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}"#;
        let json: CandidateJson = serde_json::from_str(text).unwrap();
        assert_eq!((json.sdp_mid.as_deref(), json.sdp_m_line_index), (Some("0"), Some(0)));
        assert!(serde_json::to_string(&json).unwrap().contains("\"sdpMLineIndex\":0"));
    }
}
