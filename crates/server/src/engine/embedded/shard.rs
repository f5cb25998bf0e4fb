//! A shard: one OS thread that owns whole rooms, their timers and their way
//! out. A panic in a room ends that room alone.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_sfu::net::{Candidate, DtlsCert, Protocol, Receive};
use confab_sfu::{ConnectionId, Event, Input, Output, Room, RoomConfig};
use confab_types::RoomSid;
use tokio::sync::mpsc;
use tracing::{error, info, trace, warn};

use super::demux::{AddressTable, Place, place_in_stun};
use super::inbox::{Command, Inbox, Job, Packet};
use super::tcp::TcpPeers;
use super::udp::{BatchSend, Outgoing};
use crate::engine::EngineEvent;

/// Facts kept for a room whose actor is busy. An actor that lets more pile up is stuck, and its room ends.
const MAX_BACKLOG: usize = 8192;

/// Beyond this many facts waiting, data messages are dropped: they may be large, and their senders too fast.
const MAX_DATA_BACKLOG: usize = 256;

/// How soon a full event channel is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// A shard with nothing to do still looks around this often.
const IDLE: Duration = Duration::from_secs(60);

/// Addresses that one connection may have at a time (a client with several interfaces, and its TCP).
const MAX_ROUTES: usize = 16;

/// What a shard shares with the rest of the engine.
pub(super) struct Shared {
    pub index: u8,
    pub inbox: Arc<Inbox>,
    pub addresses: Arc<AddressTable>,
    pub peers: Arc<TcpPeers>,
    pub candidates: Vec<Candidate>,
    pub certificate: Option<DtlsCert>,
}

struct Slot {
    sid: RoomSid,
    room: Room,
    events: mpsc::Sender<EngineEvent>,
    backlog: VecDeque<EngineEvent>,
    deadline: Instant,
    touched: bool,
    failed: bool,
    routes: HashMap<ConnectionId, Vec<(Protocol, SocketAddr)>>,
}

/// One shard.
pub(super) struct Shard {
    shared: Shared,
    sender: Box<dyn BatchSend>,
    rooms: HashMap<u32, Slot>,
    names: HashMap<RoomSid, u32>,
    routes: HashMap<(Protocol, SocketAddr), Place>,
    next_room: u32,
    outgoing: Vec<Outgoing>,
}

impl Shard {
    pub fn new(shared: Shared, sender: Box<dyn BatchSend>) -> Self {
        Self {
            shared,
            sender,
            rooms: HashMap::new(),
            names: HashMap::new(),
            routes: HashMap::new(),
            next_room: 0,
            outgoing: Vec::new(),
        }
    }

    /// Runs until the inbox is closed.
    pub fn run(mut self) {
        let (mut packets, mut commands) = (VecDeque::new(), VecDeque::new());
        let mut deadline = Instant::now() + IDLE;
        let inbox = self.shared.inbox.clone();
        while inbox.take(&mut packets, &mut commands, deadline) {
            let now = Instant::now();
            for command in commands.drain(..) {
                self.command(command, now);
            }
            for packet in packets.drain(..) {
                self.packet(&packet, now);
            }
            deadline = self.serve_rooms(now);
            self.sender.send(&self.outgoing);
            self.outgoing.clear();
        }
        let open: Vec<u32> = self.rooms.keys().copied().collect();
        open.into_iter().for_each(|key| self.close(key));
        self.sender.send(&self.outgoing);
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Open { room, events } => self.open(room, events, now),
            Command::Close { room } => {
                if let Some(key) = self.names.get(&room).copied() {
                    self.close(key);
                }
            }
            Command::Run { room, job } => {
                let key = self.names.get(&room).copied();
                match key.and_then(|key| self.rooms.get_mut(&key)) {
                    Some(slot) => slot.run(job, now),
                    None => job(None, now),
                }
            }
        }
    }

    fn open(&mut self, sid: RoomSid, events: mpsc::Sender<EngineEvent>, now: Instant) {
        if let Some(old) = self.names.get(&sid).copied() {
            self.close(old);
        }
        let key = self.next_room;
        self.next_room = self.next_room.wrapping_add(1);
        let shard = self.shared.index;
        let config = RoomConfig {
            candidates: self.shared.candidates.clone(),
            certificate: self.shared.certificate.clone(),
            credentials: Box::new(move |connection| {
                Place {
                    shard,
                    room: key,
                    connection,
                }
                .credentials()
            }),
        };
        info!(room = %sid, shard, "room opened");
        let room = Room::new(config, now);
        self.names.insert(sid.clone(), key);
        self.rooms.insert(
            key,
            Slot {
                sid,
                room,
                events,
                backlog: VecDeque::new(),
                deadline: now,
                touched: true,
                failed: false,
                routes: HashMap::new(),
            },
        );
    }

    /// Ends a room: everyone's connection closes with it.
    fn close(&mut self, key: u32) {
        let Some(slot) = self.rooms.remove(&key) else { return };
        self.names.remove(&slot.sid);
        for (protocol, address) in slot.routes.values().flatten() {
            self.forget(*protocol, *address);
        }
        info!(room = %slot.sid, "room closed");
    }

    fn forget(&mut self, protocol: Protocol, address: SocketAddr) {
        self.routes.remove(&(protocol, address));
        self.shared.addresses.remove(protocol, address, self.shared.index);
    }

    fn packet(&mut self, packet: &Packet, now: Instant) {
        let place = match place_in_stun(&packet.data) {
            Some(place) => self.admit(place, packet),
            None => self.routes.get(&(packet.protocol, packet.source)).copied(),
        };
        let Some(place) = place else { return };
        let Some(slot) = self.rooms.get_mut(&place.room) else {
            return;
        };
        let Some(receive) = parse(packet) else { return };
        slot.touched = true;
        slot.guard(|room| room.handle_packet(now, packet.received, place.connection, receive));
    }

    /// A STUN request says where it belongs; its password proves it, and from then on its address counts.
    fn admit(&mut self, place: Place, packet: &Packet) -> Option<Place> {
        let key = (packet.protocol, packet.source);
        if self.routes.get(&key) == Some(&place) {
            return Some(place);
        }
        let slot = self.rooms.get_mut(&place.room)?;
        if !slot.room.accepts(place.connection, parse(packet)?) {
            trace!(source = %packet.source, "a STUN request with wrong credentials");
            return None;
        }
        if let Some(old) = self.routes.insert(key, place)
            && let Some(old_slot) = self.rooms.get_mut(&old.room)
            && let Some(routes) = old_slot.routes.get_mut(&old.connection)
        {
            routes.retain(|route| *route != key);
        }
        let slot = self.rooms.get_mut(&place.room)?;
        let routes = slot.routes.entry(place.connection).or_default();
        routes.push(key);
        let surplus = (routes.len() > MAX_ROUTES).then(|| routes.remove(0));
        self.shared
            .addresses
            .insert(packet.protocol, packet.source, self.shared.index);
        if let Some((protocol, address)) = surplus {
            self.forget(protocol, address);
        }
        Some(place)
    }

    /// Gives every room that has something to do its turn; tells when the next one has.
    fn serve_rooms(&mut self, now: Instant) -> Instant {
        let mut next = now + IDLE;
        let mut failed = Vec::new();
        let mut closed = Vec::new();
        for (key, slot) in &mut self.rooms {
            if slot.deadline <= now {
                slot.guard(|room| room.handle_input(now, Input::Timeout));
                slot.touched = true;
            }
            if slot.touched && !slot.failed {
                slot.touched = false;
                slot.drain(&mut self.outgoing, &self.shared.peers, &mut closed);
            }
            slot.flush_events();
            if slot.failed {
                failed.push(*key);
            }
            next = next.min(slot.deadline);
            if !slot.backlog.is_empty() {
                next = next.min(now + RETRY);
            }
        }
        for (protocol, address) in closed {
            self.forget(protocol, address);
        }
        for key in failed {
            if let Some(slot) = self.rooms.get_mut(&key) {
                slot.tell_failure();
            }
            self.close(key);
        }
        next
    }
}

impl Slot {
    fn run(&mut self, job: Job, now: Instant) {
        self.touched = true;
        self.guard(|room| job(Some(room), now));
    }

    /// Runs something on the room. If it panics, the room is over.
    fn guard(&mut self, run: impl FnOnce(&mut Room)) {
        if self.failed {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| run(&mut self.room))).is_err() {
            error!(room = %self.sid, "the room panicked; it ends");
            self.failed = true;
        }
    }

    fn drain(&mut self, outgoing: &mut Vec<Outgoing>, peers: &TcpPeers, closed: &mut Vec<(Protocol, SocketAddr)>) {
        loop {
            let mut output = None;
            self.guard(|room| output = Some(room.poll_output()));
            match output {
                None => return,
                Some(Output::Timeout(at)) => {
                    self.deadline = at;
                    return;
                }
                Some(Output::Transmit(_, transmit)) if transmit.proto == Protocol::Udp => {
                    outgoing.push(Outgoing {
                        destination: transmit.destination,
                        data: transmit.contents.into(),
                    });
                }
                Some(Output::Transmit(_, transmit)) => {
                    peers.send(transmit.destination, transmit.contents.into());
                }
                Some(Output::Event(Event::ConnectionClosed(id))) => {
                    closed.extend(self.routes.remove(&id).into_iter().flatten());
                }
                Some(Output::Event(Event::Data { participant, .. })) if self.backlog.len() >= MAX_DATA_BACKLOG => {
                    warn!(room = %self.sid, %participant, "a data message was dropped: too many at once");
                }
                Some(Output::Event(event)) => self.backlog.extend(translate(event)),
            }
        }
    }

    fn flush_events(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.backlog.push_front(event);
                    break;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.backlog.clear();
                    self.failed = true;
                }
            }
        }
        if self.backlog.len() > MAX_BACKLOG {
            warn!(room = %self.sid, "nobody takes the room's events; it ends");
            self.failed = true;
        }
    }

    fn tell_failure(&mut self) {
        let _ = self.events.try_send(EngineEvent::RoomFailed);
    }
}

fn parse(packet: &Packet) -> Option<Receive<'_>> {
    Receive::new(packet.protocol, packet.source, packet.destination, &packet.data).ok()
}

fn translate(event: Event) -> Option<EngineEvent> {
    Some(match event {
        Event::SubscriberOffer { participant, sdp } => EngineEvent::SubscriberOffer { participant, sdp },
        Event::Link {
            participant,
            target,
            state,
        } => EngineEvent::Link {
            participant,
            target,
            state,
        },
        Event::TrackLive {
            participant,
            track,
            mime,
            mid,
        } => EngineEvent::TrackLive {
            participant,
            track,
            mime,
            mid,
        },
        Event::TrackEnded { participant, track } => EngineEvent::TrackEnded { participant, track },
        Event::Data {
            participant,
            kind,
            payload,
        } => EngineEvent::Data {
            participant,
            kind,
            payload,
        },
        Event::StreamPaused {
            participant,
            track,
            paused,
        } => EngineEvent::StreamPaused {
            participant,
            track,
            paused,
        },
        Event::Speakers(list) => EngineEvent::Speakers(list),
        _ => return None,
    })
}
