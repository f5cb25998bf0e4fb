//! One room: who is in it, what is announced, and the commands that change
//! that. What a connection puts out is taken in `pump`, the packets' way is in `forwarding`, the negotiations are in
//! `publisher` and `subscriber`, what happens by the clock in `ticks`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use confab_types::{Grants, ParticipantSid, TrackKind, TrackSid};
use str0m::net::Receive;
use str0m::{Candidate, IceCreds};
use tracing::debug;

use crate::connection::{Connection, ConnectionId};
use crate::participant::Participant;
use crate::speakers::Speakers;
use crate::track::Track;
use crate::{
    DataKind, Event, Input, Output, RoomCounters, SfuError, Target, TrackAnnouncement, TrackCounters, TrackWish,
};

/// Tracks that one participant may have announced at a time.
const MAX_TRACKS: usize = 32;

/// What a room is made of.
pub struct RoomConfig {
    /// The addresses that clients are told.
    pub candidates: Vec<Candidate>,
    /// The certificate of every connection; without one each makes its own.
    pub certificate: Option<crate::net::DtlsCert>,
    /// Draws ICE credentials. The ufrag may tell the driver to which room and connection a packet belongs.
    pub credentials: Box<dyn FnMut(ConnectionId) -> IceCreds + Send>,
}

/// A room.
pub struct Room {
    pub(crate) config: RoomConfig,
    pub(crate) now: Instant,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) participants: BTreeMap<ParticipantSid, Participant>,
    pub(crate) tracks: BTreeMap<TrackSid, Track>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) dirty: Vec<ConnectionId>,
    pub(crate) speakers: Speakers,
    pub(crate) next_tick: Option<Instant>,
    pub(crate) keyframes_wanted: bool,
    pub(crate) refused: u64,
    next_connection: u32,
}

impl Room {
    /// An empty room.
    pub fn new(config: RoomConfig, now: Instant) -> Self {
        Self {
            config,
            now,
            connections: BTreeMap::new(),
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
            outputs: VecDeque::new(),
            dirty: Vec::new(),
            speakers: Speakers::default(),
            next_tick: None,
            keyframes_wanted: false,
            refused: 0,
            next_connection: 0,
        }
    }

    /// Whether a packet from an unknown address is for this connection (a STUN request with its credentials).
    pub fn accepts(&self, id: ConnectionId, packet: Receive<'_>) -> bool {
        let input = str0m::Input::Receive(self.now, packet);
        self.connections.get(&id).is_some_and(|c| c.rtc.accepts(&input))
    }

    /// Hands in a packet, or that time has passed.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::Receive(id, packet) => self.handle_packet(now, now, id, packet),
            Input::Timeout => {
                let due: Vec<ConnectionId> = self
                    .connections
                    .iter()
                    .filter(|(_, c)| c.timeout <= self.now)
                    .map(|(id, _)| *id)
                    .collect();
                due.into_iter().for_each(|id| self.touch(id));
                if self.next_tick.is_some_and(|at| at <= self.now) {
                    self.tick();
                }
            }
        }
    }

    /// Hands in a packet that reached the machine at `received`, earlier than now if it waited since.
    pub fn handle_packet(&mut self, now: Instant, received: Instant, id: ConnectionId, packet: Receive<'_>) {
        self.advance(now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        // str0m counts its own time forward only; the arrival is what it reports to the sender.
        let received = received.clamp(connection.received, self.now);
        connection.received = received;
        if let Err(fault) = connection.receive(received, packet) {
            debug!(connection = id.0, ?fault, "a packet could not be used");
        }
        self.drain(id);
    }

    /// The next thing to do. Call until it gives a timeout, after every input and command.
    pub fn poll_output(&mut self) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if self.keyframes_wanted {
                self.keyframes_wanted = false;
                self.ask_keyframes();
            }
            let Some(id) = self.dirty.pop() else { break };
            self.pump(id);
        }
        let connections = self.connections.values().map(|c| c.timeout);
        let next = connections.chain(self.next_tick).min();
        Output::Timeout(next.unwrap_or(self.now + Duration::from_secs(3600)))
    }

    /// Adds a participant. With `can_subscribe` its first offer comes at once, tracks or none.
    pub fn add_participant(&mut self, now: Instant, who: &ParticipantSid, grants: Grants, auto_subscribe: bool) {
        self.advance(now);
        self.remove_participant(now, who);
        let can_subscribe = grants.can_subscribe;
        self.participants
            .insert(who.clone(), Participant::new(grants, auto_subscribe));
        if can_subscribe {
            self.open_subscriber(who);
        }
    }

    /// Whether somebody is in the room.
    pub fn has_participant(&self, who: &ParticipantSid) -> bool {
        self.participants.contains_key(who)
    }

    /// Removes a participant, its tracks and its connections.
    pub fn remove_participant(&mut self, now: Instant, who: &ParticipantSid) {
        self.advance(now);
        let Some(participant) = self.participants.remove(who) else {
            return;
        };
        let own: Vec<TrackSid> = self
            .tracks
            .iter()
            .filter(|(_, t)| t.owner == *who)
            .map(|(sid, _)| sid.clone())
            .collect();
        own.iter().for_each(|track| self.drop_track(track));
        for track in self.tracks.values_mut() {
            track.downlinks.retain(|d| d.subscriber != *who);
        }
        for id in [participant.publisher, participant.subscriber].into_iter().flatten() {
            self.close_connection(id);
        }
    }

    /// New grants, in force at once. Tracks no longer allowed end.
    pub fn set_grants(&mut self, now: Instant, who: &ParticipantSid, grants: Grants) -> Result<(), SfuError> {
        self.advance(now);
        let participant = self.participants.get_mut(who).ok_or(SfuError::NoParticipant)?;
        let gained = grants.can_subscribe && !participant.grants.can_subscribe;
        let lost = !grants.can_subscribe && participant.grants.can_subscribe;
        participant.grants = grants;
        if lost {
            let tracks: Vec<TrackSid> = participant.lines.keys().cloned().collect();
            tracks.iter().for_each(|track| self.set_wanted(who, track, false));
            self.renegotiate(who);
        } else if gained {
            if participant.subscriber.is_none() {
                self.open_subscriber(who);
            } else {
                self.subscribe_to_all(who);
            }
        }
        self.bind_tracks(who);
        Ok(())
    }

    /// A track that may now arrive.
    pub fn announce_track(
        &mut self,
        now: Instant,
        who: &ParticipantSid,
        track: TrackAnnouncement,
    ) -> Result<(), SfuError> {
        self.advance(now);
        let participant = self.participants.get(who).ok_or(SfuError::NoParticipant)?;
        if !participant.grants.can_publish(track.source) {
            return Err(SfuError::NotAllowed);
        }
        if self.tracks.values().filter(|t| t.owner == *who).count() >= MAX_TRACKS {
            return Err(SfuError::TooManyTracks);
        }
        if self.tracks.contains_key(&track.sid) {
            return Err(SfuError::NotAllowed);
        }
        self.tracks.insert(track.sid.clone(), Track::new(who.clone(), track));
        self.bind_tracks(who);
        Ok(())
    }

    /// Stops and forgets a track.
    pub fn remove_track(&mut self, now: Instant, who: &ParticipantSid, sid: &TrackSid) {
        self.advance(now);
        if self.tracks.get(sid).is_some_and(|t| t.owner == *who) {
            self.drop_track(sid);
        }
    }

    /// Muted tracks are not forwarded.
    pub fn set_muted(&mut self, now: Instant, who: &ParticipantSid, sid: &TrackSid, muted: bool) {
        self.advance(now);
        let Some(track) = self.tracks.get_mut(sid).filter(|t| t.owner == *who) else {
            return;
        };
        if track.announcement.muted == muted {
            return;
        }
        track.announcement.muted = muted;
        if muted {
            track.pause_downlinks();
        } else {
            track.want_keyframes_for_waiting();
            self.keyframes_wanted = true;
        }
    }

    /// Subscribes to or unsubscribes from a track.
    pub fn subscribe(&mut self, now: Instant, who: &ParticipantSid, sid: &TrackSid, on: bool) -> Result<(), SfuError> {
        self.advance(now);
        let participant = self.participants.get(who).ok_or(SfuError::NoParticipant)?;
        let track = self.tracks.get(sid).ok_or(SfuError::NoTrack)?;
        if on && (!participant.grants.can_subscribe || track.owner == *who) {
            return Err(SfuError::NotAllowed);
        }
        self.set_wanted(who, sid, on);
        self.renegotiate(who);
        Ok(())
    }

    /// What a subscriber wants of a track.
    pub fn set_wish(&mut self, now: Instant, who: &ParticipantSid, sid: &TrackSid, wish: TrackWish) {
        self.advance(now);
        let Some(line) = self.participants.get_mut(who).and_then(|p| p.lines.get_mut(sid)) else {
            return;
        };
        line.wish = wish;
        if let Some(downlink) = self.tracks.get_mut(sid).and_then(|t| t.downlink_to(who)) {
            downlink.wish = wish;
            if !wish.enabled {
                downlink.rewriter.pause();
            }
        }
        self.allocate(who);
    }

    /// Sends a data packet down the subscriber connections of `to`.
    pub fn send_data(&mut self, now: Instant, to: &[ParticipantSid], kind: DataKind, payload: &[u8]) {
        self.advance(now);
        for who in to {
            let Some(id) = self.participants.get(who).and_then(|p| p.subscriber) else {
                continue;
            };
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            if !connection.data.send(&mut connection.rtc, kind, payload.to_vec()) {
                debug!(%who, ?kind, "a data message was dropped: the receiver is too slow");
            }
            self.touch(id);
        }
    }

    /// The counters now.
    pub fn counters(&self) -> RoomCounters {
        let counters = |(sid, track): (&TrackSid, &Track)| TrackCounters {
            sid: sid.clone(),
            participant: track.owner.clone(),
            packets_in: track.packets_in,
            bytes_in: track.bytes_in,
            packets_out: track.packets_out,
            keyframe_requests: track.keyframe_requests,
        };
        RoomCounters {
            tracks: self.tracks.iter().map(counters).collect(),
            refused_packets: self.refused,
        }
    }

    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Marks a connection as changed: it is pumped before the next timeout is told.
    pub(crate) fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }

    pub(crate) fn open_connection(&mut self, who: &ParticipantSid, target: Target) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let credentials = (self.config.credentials)(id);
        let connection = Connection::new(&self.config, self.now, who.clone(), target, credentials);
        self.connections.insert(id, connection);
        self.touch(id);
        id
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Removes a track and everyone's m-line of it.
    fn drop_track(&mut self, sid: &TrackSid) {
        let Some(track) = self.tracks.remove(sid) else { return };
        self.unbind(&track, sid);
        let mut changed = Vec::new();
        for (who, participant) in &mut self.participants {
            if let Some(line) = participant.lines.get_mut(sid) {
                line.wanted = false;
                line.orphaned = true;
                changed.push(who.clone());
            }
        }
        changed.iter().for_each(|who| self.renegotiate(who));
        if track.announcement.kind == TrackKind::Audio {
            self.update_speakers();
        }
    }
}
