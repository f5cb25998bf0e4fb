//! The embedded engine: rooms of `confab-sfu` on shards, behind one UDP socket
//! (the media port) and one TCP listener (the port after it).
//!
//! ```text
//! media port --> receiver thread --bounded rings--> shard threads (rooms) --sendmmsg--> media port
//!                                        ^ commands, answered by oneshot
//! ```

mod addresses;
mod demux;
mod inbox;
mod network;
mod shard;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use confab_sfu::{Room, SfuError};
use confab_types::{Grants, ParticipantSid, RoomSid, TrackSid};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::addresses::LocalAddresses;
use self::demux::AddressTable;
use self::inbox::{Command, Inbox};
use self::network::{Router, Sockets};
use self::shard::{Shard, Shared};
use self::tcp::TcpPeers;
use super::{
    DataKind, EngineError, EngineEvent, MediaEngine, RoomCounters, Target, TrackAnnouncement, TrackCounters, TrackWish,
};

/// Facts on their way to a room's actor. A room of 100 that loses its network reports about 400.
const EVENTS: usize = 512;

/// Most shards: the ufrag has two digits for them.
const MAX_SHARDS: usize = 255;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The address of the media port. `0.0.0.0` takes every interface.
    pub bind: IpAddr,
    /// UDP port for all media; ICE-TCP takes the next one. 0 picks two that are free.
    pub media_port: u16,
    /// The address that the outside sees, if a NAT stands before this machine.
    pub public_address: Option<IpAddr>,
    /// Threads that forward. 0 takes one per core.
    pub shards: usize,
}

impl Default for EngineConfig {
    /// Loopback, any port, a shard per core.
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::LOCALHOST.into(),
            media_port: 0,
            public_address: None,
            shards: 0,
        }
    }
}

/// Why the engine did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The media port is taken or not ours to take.
    #[error("the media port {port} on {bind} cannot be opened")]
    Port {
        /// The address.
        bind: IpAddr,
        /// The port asked for.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No more threads.
    #[error("a thread for the media engine cannot be started")]
    Thread(#[source] io::Error),
}

/// Counters of the whole engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct EngineCounters {
    /// Packets dropped because a shard did not keep up.
    pub overflow_packets: u64,
    /// Packets from addresses that no connection knows.
    pub stranger_packets: u64,
    /// Packets that the kernel would not send.
    pub unsent_packets: u64,
}

/// Starts engines.
pub struct EngineHandle;

impl EngineHandle {
    /// Opens the media port and starts the threads; gives the engine and the port.
    pub fn start(config: EngineConfig) -> Result<(EmbeddedEngine, u16), StartError> {
        EmbeddedEngine::start(&config)
    }
}

/// The embedded engine. Dropping it ends its rooms and joins its threads.
pub struct EmbeddedEngine {
    shards: Arc<[Arc<Inbox>]>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cancel: CancellationToken,
    strangers: Arc<AtomicU64>,
    unsent: Arc<AtomicU64>,
}

impl EmbeddedEngine {
    /// Opens the media port and starts the threads; gives the engine and the port.
    pub fn start(config: &EngineConfig) -> Result<(Self, u16), StartError> {
        confab_sfu::install_crypto();
        let port_error = |source| StartError::Port {
            bind: config.bind,
            port: config.media_port,
            source,
        };
        let sockets = Sockets::bind(config.bind, config.media_port).map_err(port_error)?;
        let port = sockets.port;
        let local = LocalAddresses::new(config.bind, config.public_address, port);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if config.shards == 0 { cores } else { config.shards }.clamp(1, MAX_SHARDS);
        let shards: Arc<[Arc<Inbox>]> = (0..count).map(|_| Arc::new(Inbox::default())).collect();
        let engine = Self {
            shards: shards.clone(),
            threads: Mutex::default(),
            cancel: CancellationToken::new(),
            strangers: Arc::default(),
            unsent: Arc::default(),
        };
        let (addresses, peers) = (Arc::new(AddressTable::default()), Arc::new(TcpPeers::default()));
        let out = Arc::new(sockets.udp.try_clone().map_err(port_error)?);
        let certificate = confab_sfu::new_certificate();
        for (index, inbox) in shards.iter().enumerate() {
            let shared = Shared {
                index: index as u8,
                inbox: inbox.clone(),
                addresses: addresses.clone(),
                peers: peers.clone(),
                candidates: local.candidates(),
                certificate: certificate.clone(),
            };
            let sender = udp::sender(out.clone(), engine.unsent.clone());
            engine.spawn(format!("media-{index}"), move || Shard::new(shared, sender).run())?;
        }
        let router = Router::new(shards, addresses, engine.strangers.clone());
        let cancel = engine.cancel.clone();
        engine.spawn("media-in".into(), move || {
            // Its errors are logged where they occur.
            let _ = network::run(sockets.udp, sockets.tcp, local, router, peers, &cancel);
        })?;
        Ok((engine, port))
    }

    /// Ends all rooms and waits for the threads, which takes milliseconds.
    pub fn shutdown(&self) {
        self.cancel.cancel();
        self.shards.iter().for_each(|shard| shard.close());
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }

    /// The port for ICE-TCP: the one after the media port.
    pub fn tcp_port(media_port: u16) -> Option<u16> {
        network::tcp_port(media_port)
    }

    /// Counters of the whole engine.
    pub fn engine_counters(&self) -> EngineCounters {
        EngineCounters {
            overflow_packets: self.shards.iter().map(|s| s.dropped()).sum(),
            stranger_packets: self.strangers.load(Ordering::Relaxed),
            unsent_packets: self.unsent.load(Ordering::Relaxed),
        }
    }

    fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(StartError::Thread)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Rooms are spread by their random sids.
    fn shard(&self, room: &RoomSid) -> &Inbox {
        let hash = room
            .as_str()
            .bytes()
            .fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b)));
        &self.shards[hash % self.shards.len()]
    }

    /// Runs something in the room's shard and waits for its answer.
    async fn call<T: Send + 'static>(
        &self,
        room: &RoomSid,
        run: impl FnOnce(&mut Room, Instant) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |room: Option<&mut Room>, now: Instant| {
            let _ = answer.send(room.map(|room| run(room, now)));
        });
        if !self.shard(room).push_command(Command::Run {
            room: room.clone(),
            job,
        }) {
            return Err(EngineError::Gone);
        }
        answered
            .await
            .map_err(|_| EngineError::Gone)?
            .ok_or(EngineError::NoRoom)
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl From<SfuError> for EngineError {
    fn from(error: SfuError) -> Self {
        match error {
            SfuError::NoParticipant => Self::NoParticipant,
            SfuError::NotAllowed | SfuError::NoTrack | SfuError::TooManyTracks => Self::NotAllowed,
            SfuError::UnusableSdp(cause) => Self::BadSdp(cause.to_string()),
            other => Self::BadSdp(other.to_string()),
        }
    }
}

#[async_trait]
impl MediaEngine for EmbeddedEngine {
    async fn open_room(&self, room: &RoomSid) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
        let (events, receiver) = mpsc::channel(EVENTS);
        if !self.shard(room).push_command(Command::Open {
            room: room.clone(),
            events,
        }) {
            return Err(EngineError::Gone);
        }
        Ok(receiver)
    }

    async fn close_room(&self, room: &RoomSid) {
        self.shard(room).push_command(Command::Close { room: room.clone() });
    }

    async fn add_participant(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        grants: Grants,
        auto_subscribe: bool,
    ) -> Result<(), EngineError> {
        let who = who.clone();
        self.call(room, move |room, now| {
            room.add_participant(now, &who, grants, auto_subscribe)
        })
        .await
    }

    async fn remove_participant(&self, room: &RoomSid, who: &ParticipantSid) {
        let who = who.clone();
        let _ = self
            .call(room, move |room, now| room.remove_participant(now, &who))
            .await;
    }

    async fn set_grants(&self, room: &RoomSid, who: &ParticipantSid, grants: Grants) -> Result<(), EngineError> {
        let who = who.clone();
        Ok(self
            .call(room, move |room, now| room.set_grants(now, &who, grants))
            .await??)
    }

    async fn announce_track(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: TrackAnnouncement,
    ) -> Result<(), EngineError> {
        let who = who.clone();
        Ok(self
            .call(room, move |room, now| room.announce_track(now, &who, track))
            .await??)
    }

    async fn remove_track(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid) {
        let (who, track) = (who.clone(), track.clone());
        let _ = self
            .call(room, move |room, now| room.remove_track(now, &who, &track))
            .await;
    }

    async fn set_muted(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, muted: bool) {
        let (who, track) = (who.clone(), track.clone());
        let _ = self
            .call(room, move |room, now| room.set_muted(now, &who, &track, muted))
            .await;
    }

    async fn publisher_offer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<String, EngineError> {
        let who = who.clone();
        Ok(self
            .call(room, move |room, now| room.publisher_offer(now, &who, &sdp))
            .await??)
    }

    async fn subscriber_answer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<(), EngineError> {
        let who = who.clone();
        Ok(self
            .call(room, move |room, now| room.subscriber_answer(now, &who, &sdp))
            .await??)
    }

    /// The engine is ICE-lite: it answers checks from wherever they come, and needs no remote candidates.
    async fn trickle(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        _target: Target,
        _candidate: String,
    ) -> Result<(), EngineError> {
        let who = who.clone();
        if self.call(room, move |room, _| room.has_participant(&who)).await? {
            Ok(())
        } else {
            Err(EngineError::NoParticipant)
        }
    }

    async fn restart_subscriber(&self, room: &RoomSid, who: &ParticipantSid) -> Result<(), EngineError> {
        let who = who.clone();
        Ok(self
            .call(room, move |room, now| room.restart_subscriber(now, &who))
            .await??)
    }

    async fn subscribe(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: &TrackSid,
        on: bool,
    ) -> Result<(), EngineError> {
        let (who, track) = (who.clone(), track.clone());
        Ok(self
            .call(room, move |room, now| room.subscribe(now, &who, &track, on))
            .await??)
    }

    async fn track_wish(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, wish: TrackWish) {
        let (who, track) = (who.clone(), track.clone());
        let _ = self
            .call(room, move |room, now| room.set_wish(now, &who, &track, wish))
            .await;
    }

    async fn send_data(&self, room: &RoomSid, to: &[ParticipantSid], kind: DataKind, payload: Vec<u8>) {
        let to = to.to_vec();
        let _ = self
            .call(room, move |room, now| room.send_data(now, &to, kind, &payload))
            .await;
    }

    async fn counters(&self, room: &RoomSid) -> Result<RoomCounters, EngineError> {
        let counters = self.call(room, |room, _| room.counters()).await?;
        let track = |t: confab_sfu::TrackCounters| TrackCounters {
            sid: t.sid.into(),
            participant: t.participant.into(),
            packets_in: t.packets_in,
            bytes_in: t.bytes_in,
            packets_out: t.packets_out,
            keyframe_requests: t.keyframe_requests,
        };
        Ok(RoomCounters {
            tracks: counters.tracks.into_iter().map(track).collect(),
            refused_packets: counters.refused_packets,
        })
    }
}

#[cfg(test)]
mod tests {
    use confab_types::Role;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_room_alone_and_is_reported() {
        let config = EngineConfig {
            shards: 1,
            ..Default::default()
        };
        let (engine, _) = EmbeddedEngine::start(&config).unwrap();
        let (bad, good) = (RoomSid::from_random([1; 12]), RoomSid::from_random([2; 12]));
        let mut events = engine.open_room(&bad).await.unwrap();
        let _good_events = engine.open_room(&good).await.unwrap();
        let broken = engine.call(&bad, |_, _| panic!("a bug")).await;
        assert!(matches!(broken, Err::<(), _>(EngineError::Gone)));
        assert!(matches!(events.recv().await, Some(EngineEvent::RoomFailed)));
        assert!(events.recv().await.is_none());
        assert!(matches!(engine.counters(&bad).await, Err(EngineError::NoRoom)));
        assert!(engine.counters(&good).await.is_ok());
        // The room may be opened anew.
        let _events = engine.open_room(&bad).await.unwrap();
        let who = ParticipantSid::from_random([3; 12]);
        assert!(
            engine
                .add_participant(&bad, &who, Role::Publisher.grants(), true)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn the_port_asked_for_is_taken_and_a_taken_one_is_an_error() {
        let (engine, port) = EngineHandle::start(EngineConfig::default()).unwrap();
        let config = EngineConfig {
            media_port: port,
            ..Default::default()
        };
        let taken = EmbeddedEngine::start(&config);
        assert!(matches!(taken, Err(StartError::Port { port: p, .. }) if p == port));
        engine.shutdown();
        let (_, again) = EmbeddedEngine::start(&config).unwrap();
        assert_eq!(again, port);
        assert!(matches!(
            engine.open_room(&RoomSid::from_random([1; 12])).await,
            Err(EngineError::Gone)
        ));
    }
}
