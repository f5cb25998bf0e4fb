//! An engine without media, for tests of what stands on it. It keeps the
//! contract's rules (who is in, what the grants allow, one offer at a time),
//! remembers what it was told, and reports the facts that a test hands it.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use confab_types::{Grants, ParticipantSid, RoomSid, TrackSid};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    DataKind, EngineError, EngineEvent, MediaEngine, RoomCounters, Target, TrackAnnouncement, TrackCounters, TrackWish,
};

/// Facts that a test may let pile up.
const EVENTS: usize = 1024;

/// Something that the fake was told and only remembers.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A publisher offer.
    Offer(ParticipantSid, String),
    /// A subscriber answer.
    Answer(ParticipantSid, String),
    /// A candidate.
    Trickle(ParticipantSid, Target, String),
    /// An ICE restart of the subscriber connection.
    Restart(ParticipantSid),
    /// A mute or unmute.
    Muted(TrackSid, bool),
    /// A subscription.
    Subscribe(ParticipantSid, TrackSid, bool),
    /// A wish.
    Wish(ParticipantSid, TrackSid, TrackWish),
    /// Data on its way down.
    Data(Vec<ParticipantSid>, DataKind, Vec<u8>),
}

#[derive(Default)]
struct FakeParticipant {
    grants: Option<Grants>,
    tracks: BTreeMap<TrackSid, TrackAnnouncement>,
    offers: u32,
}

struct FakeRoom {
    events: mpsc::Sender<EngineEvent>,
    participants: HashMap<ParticipantSid, FakeParticipant>,
    told: Vec<Told>,
}

/// The fake.
#[derive(Default)]
pub struct FakeEngine {
    rooms: Mutex<HashMap<RoomSid, FakeRoom>>,
}

impl FakeEngine {
    /// A fake without rooms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports a fact, as if it had happened. False if the room is not open or nobody takes its events.
    pub fn report(&self, room: &RoomSid, event: EngineEvent) -> bool {
        self.rooms
            .lock()
            .get(room)
            .is_some_and(|r| r.events.try_send(event).is_ok())
    }

    /// Everything a room was told, in order.
    pub fn told(&self, room: &RoomSid) -> Vec<Told> {
        self.rooms.lock().get(room).map(|r| r.told.clone()).unwrap_or_default()
    }

    /// Whether a room is open.
    pub fn is_open(&self, room: &RoomSid) -> bool {
        self.rooms.lock().contains_key(room)
    }

    /// Whether somebody is in a room.
    pub fn has(&self, room: &RoomSid, who: &ParticipantSid) -> bool {
        self.rooms
            .lock()
            .get(room)
            .is_some_and(|r| r.participants.contains_key(who))
    }

    fn with<T>(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        run: impl FnOnce(&mut FakeParticipant, &mut Vec<Told>, &mpsc::Sender<EngineEvent>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut rooms = self.rooms.lock();
        let room = rooms.get_mut(room).ok_or(EngineError::NoRoom)?;
        let participant = room.participants.get_mut(who).ok_or(EngineError::NoParticipant)?;
        run(participant, &mut room.told, &room.events)
    }
}

/// An offer that is none; enough for an actor that only passes it on.
fn offer(who: &ParticipantSid, number: u32) -> EngineEvent {
    EngineEvent::SubscriberOffer {
        participant: who.clone(),
        sdp: format!("v=0\r\ns=fake offer {number}\r\n"),
    }
}

#[async_trait]
impl MediaEngine for FakeEngine {
    async fn open_room(&self, room: &RoomSid) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
        let (events, receiver) = mpsc::channel(EVENTS);
        self.rooms.lock().insert(
            room.clone(),
            FakeRoom {
                events,
                participants: HashMap::new(),
                told: Vec::new(),
            },
        );
        Ok(receiver)
    }

    async fn close_room(&self, room: &RoomSid) {
        self.rooms.lock().remove(room);
    }

    async fn add_participant(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        grants: Grants,
        _auto: bool,
    ) -> Result<(), EngineError> {
        let mut rooms = self.rooms.lock();
        let room = rooms.get_mut(room).ok_or(EngineError::NoRoom)?;
        let first = u32::from(grants.can_subscribe);
        if grants.can_subscribe {
            let _ = room.events.try_send(offer(who, 1));
        }
        room.participants.insert(
            who.clone(),
            FakeParticipant {
                grants: Some(grants),
                offers: first,
                ..Default::default()
            },
        );
        Ok(())
    }

    async fn remove_participant(&self, room: &RoomSid, who: &ParticipantSid) {
        if let Some(room) = self.rooms.lock().get_mut(room) {
            room.participants.remove(who);
        }
    }

    async fn set_grants(&self, room: &RoomSid, who: &ParticipantSid, grants: Grants) -> Result<(), EngineError> {
        self.with(room, who, |participant, _, events| {
            let lost: Vec<TrackSid> = participant
                .tracks
                .values()
                .filter(|t| !grants.can_publish(t.source))
                .map(|t| t.sid.clone())
                .collect();
            for track in lost {
                let _ = events.try_send(EngineEvent::TrackEnded {
                    participant: who.clone(),
                    track,
                });
            }
            participant.grants = Some(grants);
            Ok(())
        })
    }

    async fn announce_track(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: TrackAnnouncement,
    ) -> Result<(), EngineError> {
        self.with(room, who, |participant, _, _| {
            if !participant.grants.as_ref().is_some_and(|g| g.can_publish(track.source)) {
                return Err(EngineError::NotAllowed);
            }
            participant.tracks.insert(track.sid.clone(), track);
            Ok(())
        })
    }

    async fn remove_track(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid) {
        let _ = self.with(room, who, |participant, _, _| Ok(participant.tracks.remove(track)));
    }

    async fn set_muted(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, muted: bool) {
        let _ = self.with(room, who, |_, told, _| {
            told.push(Told::Muted(track.clone(), muted));
            Ok(())
        });
    }

    async fn publisher_offer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<String, EngineError> {
        self.with(room, who, |_, told, _| {
            if !sdp.starts_with("v=0") {
                return Err(EngineError::BadSdp("no session description".into()));
            }
            told.push(Told::Offer(who.clone(), sdp));
            Ok("v=0\r\ns=fake answer\r\n".into())
        })
    }

    async fn subscriber_answer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<(), EngineError> {
        self.with(room, who, |_, told, _| {
            if !sdp.starts_with("v=0") {
                return Err(EngineError::BadSdp("no session description".into()));
            }
            told.push(Told::Answer(who.clone(), sdp));
            Ok(())
        })
    }

    async fn trickle(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        target: Target,
        candidate: String,
    ) -> Result<(), EngineError> {
        self.with(room, who, |_, told, _| {
            told.push(Told::Trickle(who.clone(), target, candidate));
            Ok(())
        })
    }

    async fn restart_subscriber(&self, room: &RoomSid, who: &ParticipantSid) -> Result<(), EngineError> {
        self.with(room, who, |participant, told, events| {
            told.push(Told::Restart(who.clone()));
            participant.offers += 1;
            let _ = events.try_send(offer(who, participant.offers));
            Ok(())
        })
    }

    async fn subscribe(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: &TrackSid,
        on: bool,
    ) -> Result<(), EngineError> {
        self.with(room, who, |participant, told, _| {
            let may = participant.grants.as_ref().is_some_and(|g| g.can_subscribe);
            if on && (!may || participant.tracks.contains_key(track)) {
                return Err(EngineError::NotAllowed);
            }
            told.push(Told::Subscribe(who.clone(), track.clone(), on));
            Ok(())
        })
    }

    async fn track_wish(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, wish: TrackWish) {
        let _ = self.with(room, who, |_, told, _| {
            told.push(Told::Wish(who.clone(), track.clone(), wish));
            Ok(())
        });
    }

    async fn send_data(&self, room: &RoomSid, to: &[ParticipantSid], kind: DataKind, payload: Vec<u8>) {
        if let Some(room) = self.rooms.lock().get_mut(room) {
            room.told.push(Told::Data(to.to_vec(), kind, payload));
        }
    }

    async fn counters(&self, room: &RoomSid) -> Result<RoomCounters, EngineError> {
        let rooms = self.rooms.lock();
        let room = rooms.get(room).ok_or(EngineError::NoRoom)?;
        let mut tracks = Vec::new();
        for (who, participant) in &room.participants {
            tracks.extend(participant.tracks.keys().map(|sid| TrackCounters {
                sid: sid.to_string(),
                participant: who.to_string(),
                ..Default::default()
            }));
        }
        Ok(RoomCounters {
            tracks,
            refused_packets: 0,
        })
    }
}
