//! Takes out what the connections want done, and acts on what happened to
//! them.

use std::time::Duration;

use str0m::{Event as RtcEvent, IceConnectionState, Output as RtcOutput};
use tracing::debug;

use crate::connection::{ConnectionId, Fault};
use crate::room::Room;
use crate::{Event, LinkState, Output, Target};

/// A connection that asks to be called again at once is served this often before others get their turn.
const MAX_ROUNDS: usize = 64;

impl Room {
    /// Closes a connection, telling the other side if it can still be told.
    pub(crate) fn close_connection(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        let _ = connection.guard(|rtc| rtc.close());
        let _ = connection.tick(self.now);
        while let Ok(RtcOutput::Transmit(_) | RtcOutput::Event(_)) = connection.poll().inspect(|output| {
            if let RtcOutput::Transmit(t) = output {
                self.outputs.push_back(Output::Transmit(id, copy(t)));
            }
        }) {}
        self.outputs.push_back(Output::Event(Event::ConnectionClosed(id)));
    }

    pub(crate) fn pump(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.dirty = false;
        if let Err(fault) = connection.tick(now) {
            self.fail(id, &fault);
            return;
        }
        self.drain(id);
    }

    /// Takes everything out of a connection.
    pub(crate) fn drain(&mut self, id: ConnectionId) {
        let now = self.now;
        let mut rounds = 0;
        while let Some(connection) = self.connections.get_mut(&id) {
            match connection.poll() {
                Ok(RtcOutput::Transmit(transmit)) => self.outputs.push_back(Output::Transmit(id, transmit)),
                Ok(RtcOutput::Event(event)) => self.on_event(id, event),
                Ok(RtcOutput::Timeout(at)) if at <= now && rounds < MAX_ROUNDS => {
                    rounds += 1;
                    if let Err(fault) = connection.tick(now) {
                        self.fail(id, &fault);
                        return;
                    }
                }
                Ok(RtcOutput::Timeout(at)) => {
                    connection.timeout = at.max(now + Duration::from_micros(500));
                    if !connection.rtc.is_alive() {
                        self.set_link(id, LinkState::Failed);
                    }
                    return;
                }
                Err(fault) => {
                    self.fail(id, &fault);
                    return;
                }
            }
        }
    }

    fn fail(&mut self, id: ConnectionId, fault: &Fault) {
        debug!(connection = id.0, ?fault, "a connection failed");
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.rtc.disconnect();
            connection.timeout = self.now + Duration::from_secs(3600);
        }
        self.set_link(id, LinkState::Failed);
    }

    fn on_event(&mut self, id: ConnectionId, event: RtcEvent) {
        match event {
            RtcEvent::RtpPacket(packet) => self.forward(id, &packet),
            RtcEvent::KeyframeRequest(request) => self.on_keyframe_request(id, request.mid),
            RtcEvent::EgressBitrateEstimate(estimate) => self.on_estimate(id, &estimate),
            RtcEvent::PeerStats(stats) => self.on_transport_loss(id, stats.egress_loss_fraction),
            RtcEvent::MediaEgressStats(stats) => self.on_reported_loss(id, stats.mid, stats.loss),
            RtcEvent::Connected => self.set_link(id, LinkState::Connected),
            RtcEvent::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.set_link(id, LinkState::Disconnected)
            }
            // The first time it takes DTLS too, which `Connected` tells.
            RtcEvent::IceConnectionStateChange(s) if s.is_connected() && self.is_disconnected(id) => {
                self.set_link(id, LinkState::Connected);
            }
            RtcEvent::Closed => self.set_link(id, LinkState::Failed),
            RtcEvent::ChannelOpen(channel, label) => {
                if let Some(c) = self.connections.get_mut(&id) {
                    c.data.opened(&mut c.rtc, channel, &label);
                }
            }
            RtcEvent::ChannelClose(channel) => {
                if let Some(c) = self.connections.get_mut(&id) {
                    c.data.closed(channel);
                }
            }
            RtcEvent::ChannelBufferedAmountLow(_) => {
                if let Some(c) = self.connections.get_mut(&id) {
                    c.data.flush(&mut c.rtc);
                }
            }
            RtcEvent::ChannelData(data) => self.on_data(id, data.id, data.data),
            _ => {}
        }
    }

    fn is_disconnected(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id)
            .is_some_and(|c| c.link == Some(LinkState::Disconnected))
    }

    fn on_data(&mut self, id: ConnectionId, channel: str0m::channel::ChannelId, payload: Vec<u8>) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(kind) = connection.data.kind_of(channel) else {
            return;
        };
        let participant = connection.owner.clone();
        if !self
            .participants
            .get(&participant)
            .is_some_and(|p| p.grants.can_publish_data)
        {
            self.refused += 1;
            return;
        }
        self.emit(Event::Data {
            participant,
            kind,
            payload,
        });
    }

    pub(crate) fn set_link(&mut self, id: ConnectionId, state: LinkState) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.link == Some(state) || connection.link == Some(LinkState::Failed) {
            return;
        }
        connection.link = Some(state);
        let (participant, target) = (connection.owner.clone(), connection.target);
        match (target, state) {
            (Target::Subscriber, _) => self.refresh_downlinks(&participant),
            (Target::Publisher, LinkState::Failed) => self.end_tracks_of(&participant),
            _ => {}
        }
        self.emit(Event::Link {
            participant,
            target,
            state,
        });
    }
}

/// `Transmit` has no `Clone`.
fn copy(t: &str0m::net::Transmit) -> str0m::net::Transmit {
    str0m::net::Transmit {
        proto: t.proto,
        source: t.source,
        destination: t.destination,
        contents: t.contents.to_vec().into(),
    }
}
