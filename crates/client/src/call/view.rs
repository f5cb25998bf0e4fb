//! How a call looks from outside: snapshots for observers, figures for reports.

use super::actor::Actor;
use super::report::{CallReport, ms};
use crate::api::{CallSnapshot, Phase};

impl Actor {
    /// Tells buffers and codecs how the network is.
    pub(super) async fn measure(&mut self) {
        let Some(link) = &self.link else { return };
        let (sent, received) = tokio::join!(link.publisher.stats(), link.subscriber.stats());
        if let Some(round_trip) = received.round_trip.or(sent.round_trip) {
            self.remotes.measured(round_trip);
        }
        self.own.measured(&sent.tracks);
    }

    pub(super) fn publish_snapshot(&mut self) {
        let new = CallSnapshot {
            phase: self.phase.0.clone(),
            phase_since: self.phase.1,
            room: if self.room.name.is_empty() {
                self.snapshot.borrow().room.clone()
            } else {
                self.room.name.clone()
            },
            room_sid: Some(self.room.sid.clone()).filter(|s| !s.is_empty()),
            me: self.people.me().cloned(),
            may_publish: self.people.may_publish().to_vec(),
            moderator: self.people.moderator(),
            participants: self.people.snapshot(),
            microphone: self.own.microphone_view(),
            camera: self.own.camera_view(),
            speaking_while_muted: self.own.speaking_while_muted(),
        };
        // Observers wake up for changes only.
        self.snapshot.send_if_modified(|old| {
            let changed = *old != new;
            if changed {
                *old = new;
            }
            changed
        });
    }

    /// The figures so far.
    pub(super) async fn report(&self) -> CallReport {
        let mut report = CallReport {
            room: self.snapshot.borrow().room.clone(),
            room_sid: Some(self.room.sid.clone()).filter(|s| !s.is_empty()),
            participant_sid: self.people.me().map(ToString::to_string),
            identity: self
                .people
                .snapshot()
                .first()
                .filter(|p| p.is_self)
                .map(|p| p.identity.clone()),
            ended: if let Phase::Ended(reason) = &self.phase.0 {
                Some(reason.to_string())
            } else {
                None
            },
            duration_ms: ms(self.started.elapsed()),
            join: self.times.clone(),
            reconnects: self.reconnects,
            ..CallReport::default()
        };
        report.publish_refused = self.last_refused || self.own.was_refused();
        report.network.signal_round_trip_ms = self.signal_round_trip.map(ms);
        let live = match &self.link {
            Some(link) => Some(tokio::join!(link.publisher.stats(), link.subscriber.stats())),
            None => None,
        };
        let (sent, received) = live.as_ref().unwrap_or(&self.last_stats);
        report.network.protocol = received.protocol.clone().or_else(|| sent.protocol.clone());
        report.network.round_trip_ms = received.round_trip.or(sent.round_trip).map(ms);
        report.network.available_outgoing_kbps = sent.available_outgoing.map(|b| b.as_kbps());
        report.network.bytes_sent = sent.bytes_sent;
        report.network.bytes_received = received.bytes_received;
        report.sent = if live.is_some() {
            self.own.report(&sent.tracks, self.started.elapsed())
        } else {
            self.last_sent.clone()
        };
        report.received = self.remotes.report(&received.tracks);
        report
    }
}
