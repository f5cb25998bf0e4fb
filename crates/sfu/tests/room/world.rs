//! Virtual time, the network and everyone in the room.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use confab_sfu::net::{Candidate, IceCreds, Protocol, Receive};
use confab_sfu::{ConnectionId, Event, Input, Output, Room, RoomConfig, TrackAnnouncement};
use confab_types::{ParticipantSid, Role, TrackKind, TrackSid, TrackSource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::Client;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7882);
const STEP: Duration = Duration::from_millis(20);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    number: u64,
    source: SocketAddr,
    destination: SocketAddr,
    data: Vec<u8>,
}

/// The world.
pub struct World {
    pub now: Instant,
    pub room: Room,
    pub clients: Vec<Client>,
    pub events: Vec<Event>,
    /// Real time spent in the room, for the benchmark.
    pub spent: Duration,
    /// Part of packets lost in each direction, and only while the flag is up.
    pub loss: f64,
    pub delay: Duration,
    /// Bits per second that each client's way down carries.
    pub bottleneck: Option<u64>,
    /// Only this client's way down is narrow.
    pub bottleneck_at: Option<SocketAddr>,
    queue_free: HashMap<SocketAddr, Instant>,
    pub cut: bool,
    flying: BinaryHeap<Reverse<Flying>>,
    number: u64,
    rng: StdRng,
    routes: HashMap<SocketAddr, ConnectionId>,
    room_timeout: Instant,
    next_media: Instant,
    frames: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        confab_sfu::install_crypto();
        let now = Instant::now();
        let mut n = 0;
        let config = RoomConfig {
            candidates: vec![Candidate::host(SERVER, "udp").unwrap()],
            certificate: None,
            credentials: Box::new(move |_| {
                n += 1;
                IceCreds {
                    ufrag: format!("ufrag{n:04}"),
                    pass: format!("password-password-{n:06}"),
                }
            }),
        };
        Self {
            now,
            room: Room::new(config, now),
            clients: Vec::new(),
            events: Vec::new(),
            spent: Duration::ZERO,
            loss: 0.0,
            delay: Duration::from_millis(10),
            bottleneck: None,
            bottleneck_at: None,
            queue_free: HashMap::new(),
            cut: false,
            flying: BinaryHeap::new(),
            number: 0,
            rng: StdRng::seed_from_u64(seed),
            routes: HashMap::new(),
            room_timeout: now,
            next_media: now,
            frames: 0,
        }
    }

    /// Somebody joins and gets everything as it comes. Gives the number in `clients`.
    pub fn join(&mut self, role: Role) -> usize {
        let n = self.clients.len();
        let sid = ParticipantSid::from_random([n as u8 + 1; 12]);
        self.clients.push(Client::new(self.now, n as u8 + 1, sid.clone()));
        self.room.add_participant(self.now, &sid, role.grants(), true);
        self.pump();
        n
    }

    /// Announces a track; gives its sid.
    pub fn announce(&mut self, who: usize, cid: &str, source: TrackSource) -> TrackSid {
        self.number += 1;
        let sid = TrackSid::from_random([(self.number % 250) as u8; 12]);
        let kind = match source {
            TrackSource::Microphone | TrackSource::ScreenShareAudio => TrackKind::Audio,
            _ => TrackKind::Video,
        };
        let track = TrackAnnouncement {
            sid: sid.clone(),
            cid: cid.into(),
            kind,
            source,
            muted: false,
        };
        let owner = self.clients[who].sid.clone();
        self.room.announce_track(self.now, &owner, track).unwrap();
        sid
    }

    /// Sends an offer of a client to the room and takes the answer back.
    pub fn offer(&mut self, who: usize, sdp: &str) {
        let sid = self.clients[who].sid.clone();
        let answer = self.room.publisher_offer(self.now, &sid, sdp).unwrap();
        self.clients[who].answered(&answer);
        self.pump();
    }

    /// Announces and publishes a simulcast camera.
    pub fn publish_camera(&mut self, who: usize) -> TrackSid {
        let sid = self.announce(who, "cam", TrackSource::Camera);
        let offer = self.clients[who].add_camera("cam");
        self.offer(who, &offer);
        sid
    }

    /// Announces and publishes a microphone.
    pub fn publish_microphone(&mut self, who: usize, level: i8) -> TrackSid {
        let sid = self.announce(who, "mic", TrackSource::Microphone);
        let offer = self.clients[who].add_microphone("mic", level);
        self.offer(who, &offer);
        sid
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step(end);
        }
    }

    /// Lets time pass until something is so, for 20 s at most.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let from = self.now;
        while !done(self) {
            assert!(self.now < from + Duration::from_secs(20), "never happened: {what}");
            self.step(self.now + STEP);
        }
        self.now - from
    }

    /// Packets lost on the way since the start would be counted here if anything needed it.
    fn step(&mut self, end: Instant) {
        let clients = self
            .clients
            .iter()
            .flat_map(|c| [c.publisher.timeout, c.subscriber.timeout]);
        let flying = self.flying.peek().map(|Reverse(f)| f.at);
        let next = clients
            .chain([self.room_timeout, self.next_media, end])
            .chain(flying)
            .min()
            .unwrap();
        self.now = next.max(self.now).min(end);
        if self.next_media <= self.now {
            self.next_media += STEP;
            self.frames += 1;
            let (now, frame) = (self.now, self.frames.is_multiple_of(2));
            self.clients.iter_mut().for_each(|c| c.send(now, frame));
        }
        while self.flying.peek().is_some_and(|Reverse(f)| f.at <= self.now) {
            let Some(Reverse(packet)) = self.flying.pop() else {
                break;
            };
            self.deliver(&packet);
            // In RTP mode str0m holds one packet: it must be taken before the next.
            self.pump_clients();
        }
        if self.room_timeout <= self.now {
            self.room.handle_input(self.now, Input::Timeout);
        }
        self.pump();
    }

    fn deliver(&mut self, packet: &Flying) {
        let Ok(receive) = Receive::new(Protocol::Udp, packet.source, packet.destination, &packet.data) else {
            return;
        };
        if packet.destination == SERVER {
            self.deliver_to_room(packet, receive);
            return;
        }
        for client in &mut self.clients {
            for link in [&mut client.publisher, &mut client.subscriber] {
                if link.address == packet.destination {
                    let _ = link.rtc.handle_input(str0m::Input::Receive(self.now, receive));
                    link.timeout = self.now;
                    return;
                }
            }
        }
    }

    fn deliver_to_room(&mut self, packet: &Flying, receive: Receive<'_>) {
        let again = || Receive::new(Protocol::Udp, packet.source, packet.destination, &packet.data).unwrap();
        let is_stun = packet.data.first().is_some_and(|b| *b < 2);
        let known = self.routes.get(&packet.source).copied();
        let id = known.filter(|id| !is_stun || self.room.accepts(*id, again()));
        let id = id.or_else(|| {
            (0..64)
                .map(ConnectionId)
                .find(|id| is_stun && self.room.accepts(*id, again()))
        });
        if let Some(id) = id {
            self.routes.insert(packet.source, id);
            let started = Instant::now();
            self.room.handle_input(self.now, Input::Receive(id, receive));
            self.spent += started.elapsed();
        }
    }

    /// Takes everything out of everyone until all is quiet at this moment.
    pub fn pump(&mut self) {
        for _ in 0..50 {
            let mut quiet = self.pump_room();
            quiet &= self.pump_clients();
            if quiet {
                return;
            }
        }
    }

    fn pump_room(&mut self) -> bool {
        let mut quiet = true;
        loop {
            let started = Instant::now();
            let output = self.room.poll_output();
            self.spent += started.elapsed();
            match output {
                Output::Transmit(_, t) => self.send(t.source, t.destination, t.contents.into()),
                Output::Event(event) => {
                    quiet = false;
                    self.on_room_event(event);
                }
                Output::Timeout(at) => {
                    self.room_timeout = at;
                    return quiet;
                }
            }
        }
    }

    fn on_room_event(&mut self, event: Event) {
        if let Event::SubscriberOffer { participant, sdp } = &event
            && let Some(client) = self.clients.iter_mut().find(|c| c.sid == *participant)
            && !client.ignores_offers
        {
            let answer = client.answer(sdp);
            self.room.subscriber_answer(self.now, participant, &answer).unwrap();
        }
        self.events.push(event);
    }

    fn pump_clients(&mut self) -> bool {
        let now = self.now;
        let mut quiet = true;
        let mut sent = Vec::new();
        for client in &mut self.clients {
            for publisher in [true, false] {
                let link = if publisher {
                    &mut client.publisher
                } else {
                    &mut client.subscriber
                };
                let _ = link.rtc.handle_input(str0m::Input::Timeout(now));
                let mut rounds = 0;
                loop {
                    let link = if publisher {
                        &mut client.publisher
                    } else {
                        &mut client.subscriber
                    };
                    match link.rtc.poll_output() {
                        Ok(str0m::Output::Transmit(t)) => sent.push((t.source, t.destination, t.contents.to_vec())),
                        Ok(str0m::Output::Event(event)) => {
                            quiet = false;
                            client.on_event(now, publisher, event);
                        }
                        Ok(str0m::Output::Timeout(at)) if at <= now && rounds < 50 => {
                            rounds += 1;
                            let _ = link.rtc.handle_input(str0m::Input::Timeout(now));
                        }
                        Ok(str0m::Output::Timeout(at)) => {
                            link.timeout = at.max(now + Duration::from_millis(1));
                            break;
                        }
                        Err(_) => {
                            link.timeout = now + Duration::from_secs(3600);
                            break;
                        }
                    }
                }
            }
        }
        for (source, destination, data) in sent {
            self.send(source, destination, data);
        }
        quiet
    }

    fn send(&mut self, source: SocketAddr, destination: SocketAddr, data: Vec<u8>) {
        if self.cut || self.rng.random_bool(self.loss) {
            return;
        }
        let mut at = self.now + self.delay;
        let narrow = source == SERVER && self.bottleneck_at.is_none_or(|at| at == destination);
        if let (Some(rate), true) = (self.bottleneck, narrow) {
            let free = self.queue_free.entry(destination).or_insert(self.now);
            let start = (*free).max(self.now);
            // A queue of 300 ms, then it overflows.
            if start > self.now + Duration::from_millis(300) {
                return;
            }
            *free = start + Duration::from_secs_f64(data.len() as f64 * 8.0 / rate as f64);
            at = *free + self.delay;
        }
        self.number += 1;
        self.flying.push(Reverse(Flying {
            at,
            number: self.number,
            source,
            destination,
            data,
        }));
    }

    /// The longest that a packet sent now would wait at the bottleneck.
    pub fn queue(&self) -> Duration {
        let waits = self
            .queue_free
            .values()
            .map(|free| free.saturating_duration_since(self.now));
        waits.max().unwrap_or_default()
    }

    /// How many of the events are so.
    pub fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|e| is(e)).count()
    }
}
