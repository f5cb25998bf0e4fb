//! Media and data through an engine, from client to client.

use std::net::SocketAddr;
use std::time::Duration;

use confab_types::{ParticipantSid, Role, RoomSid, TrackSid, TrackSource};
use tokio::sync::mpsc;

use super::peer::Link;
use super::rules::announcement;
use super::{next_event, participant_sid, room_sid};
use crate::engine::{DataKind, EngineEvent, MediaEngine};

/// A participant with both connections.
pub(super) struct Member {
    sid: ParticipantSid,
    pub publisher: Link,
    subscriber: Link,
}

/// A room with its members; answers the engine's offers.
pub(super) struct Call<'a> {
    engine: &'a dyn MediaEngine,
    pub room: RoomSid,
    events: mpsc::Receiver<EngineEvent>,
    pub members: Vec<Member>,
    tcp: bool,
}

impl<'a> Call<'a> {
    pub async fn new(engine: &'a dyn MediaEngine, tcp: bool) -> Self {
        let room = room_sid();
        let events = engine.open_room(&room).await.unwrap();
        Self {
            engine,
            room,
            events,
            members: Vec::new(),
            tcp,
        }
    }

    /// Somebody joins and answers the first offer.
    pub async fn join(&mut self, role: Role) -> usize {
        let sid = participant_sid();
        self.engine
            .add_participant(&self.room, &sid, role.grants(), true)
            .await
            .unwrap();
        let sdp = next_event(&mut self.events, "the first offer", |e| match e {
            EngineEvent::SubscriberOffer { participant, sdp } if participant == sid => Some(sdp),
            _ => None,
        })
        .await;
        let server = self.tcp.then(|| media_port(&sdp));
        let subscriber = Link::new(server).await;
        let answer = subscriber.answer(&sdp);
        self.engine.subscriber_answer(&self.room, &sid, answer).await.unwrap();
        self.members.push(Member {
            sid,
            publisher: Link::new(server).await,
            subscriber,
        });
        self.members.len() - 1
    }

    pub async fn publish(&mut self, who: usize, source: TrackSource) -> TrackSid {
        let track = announcement(source, "cid");
        let sid = track.sid.clone();
        let member = &self.members[who];
        self.engine
            .announce_track(&self.room, &member.sid, track)
            .await
            .unwrap();
        let offer = member.publisher.with(|s| match source {
            TrackSource::Microphone => s.add_microphone("cid"),
            _ => s.add_camera("cid"),
        });
        member
            .publisher
            .offer(self.engine, &self.room, &member.sid, offer)
            .await;
        sid
    }

    /// Answers offers until something else happens that is looked for.
    async fn until<T>(&mut self, what: &str, mut is: impl FnMut(&EngineEvent) -> Option<T>) -> T {
        loop {
            let event = next_event(&mut self.events, what, Some).await;
            if let EngineEvent::SubscriberOffer { participant, sdp } = &event {
                let member = self.members.iter().find(|m| m.sid == *participant).unwrap();
                let answer = member.subscriber.answer(sdp);
                self.engine
                    .subscriber_answer(&self.room, participant, answer)
                    .await
                    .unwrap();
            }
            if let Some(found) = is(&event) {
                return found;
            }
        }
    }

    /// Answers the next offer, whosever it is.
    pub async fn answer_next(&mut self) {
        self.until("an offer", |e| {
            matches!(e, EngineEvent::SubscriberOffer { .. }).then_some(())
        })
        .await;
    }

    /// Answers the next offer to somebody.
    async fn renegotiated(&mut self, who: usize) {
        let sid = self.members[who].sid.clone();
        self.until("an offer", |e| match e {
            EngineEvent::SubscriberOffer { participant, .. } if *participant == sid => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn flows(&self, who: usize, packets: usize) {
        self.members[who]
            .subscriber
            .until("media", |s| s.got.len() >= packets)
            .await;
    }
}

/// The address of the passive TCP candidate.
fn media_port(sdp: &str) -> SocketAddr {
    let line = sdp
        .lines()
        .find(|l| l.contains("tcptype passive"))
        .expect("a TCP candidate");
    let words: Vec<&str> = line.split_whitespace().collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

async fn picture_and_sound_flow(engine: &dyn MediaEngine, tcp: bool) {
    let mut call = Call::new(engine, tcp).await;
    let talker = call.join(Role::Publisher).await;
    let watcher = call.join(Role::Subscriber).await;
    let camera = call.publish(talker, TrackSource::Camera).await;
    call.renegotiated(watcher).await;
    let microphone = call.publish(talker, TrackSource::Microphone).await;
    call.renegotiated(watcher).await;
    call.flows(watcher, 100).await;
    let mids: std::collections::HashSet<_> = call.members[watcher]
        .subscriber
        .state
        .lock()
        .got
        .iter()
        .map(|(mid, _)| *mid)
        .collect();
    assert_eq!(mids.len(), 2, "picture and sound");
    let counters = engine.counters(&call.room).await.unwrap();
    for track in [camera, microphone] {
        let of = counters.tracks.iter().find(|t| t.sid == track.as_str()).unwrap();
        assert!(
            of.packets_in > 0 && of.packets_out > 0 && of.bytes_in > of.packets_in,
            "{of:?}"
        );
    }
    assert_eq!(counters.refused_packets, 0);
}

pub(super) async fn picture_and_sound_flow_over_udp(engine: &dyn MediaEngine) {
    picture_and_sound_flow(engine, false).await;
}

pub(super) async fn picture_and_sound_flow_over_tcp(engine: &dyn MediaEngine) {
    picture_and_sound_flow(engine, true).await;
}

pub(super) async fn what_was_not_announced_reaches_nobody(engine: &dyn MediaEngine) {
    let mut call = Call::new(engine, false).await;
    let intruder = call.join(Role::Subscriber).await;
    let watcher = call.join(Role::Subscriber).await;
    let member = &call.members[intruder];
    let offer = member.publisher.with(|s| s.add_camera("cid"));
    member.publisher.offer(engine, &call.room, &member.sid, offer).await;
    let end = std::time::Instant::now() + super::PATIENCE;
    while engine.counters(&call.room).await.unwrap().refused_packets < 30 {
        assert!(std::time::Instant::now() < end, "nothing was refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(call.members[watcher].subscriber.state.lock().got.is_empty());
    assert!(engine.counters(&call.room).await.unwrap().tracks.is_empty());
}

pub(super) async fn a_muted_track_is_not_forwarded(engine: &dyn MediaEngine) {
    let mut call = Call::new(engine, false).await;
    let talker = call.join(Role::Publisher).await;
    let watcher = call.join(Role::Subscriber).await;
    let track = call.publish(talker, TrackSource::Microphone).await;
    call.renegotiated(watcher).await;
    call.flows(watcher, 10).await;
    let sid = call.members[talker].sid.clone();
    engine.set_muted(&call.room, &sid, &track, true).await;
    let (out, received) = {
        let counters = engine.counters(&call.room).await.unwrap();
        (counters.tracks[0].packets_out, counters.tracks[0].packets_in)
    };
    let end = std::time::Instant::now() + super::PATIENCE;
    while engine.counters(&call.room).await.unwrap().tracks[0].packets_in < received + 10 {
        assert!(std::time::Instant::now() < end, "the sender stopped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(engine.counters(&call.room).await.unwrap().tracks[0].packets_out, out);
    engine.set_muted(&call.room, &sid, &track, false).await;
    let before = call.members[watcher].subscriber.state.lock().got.len();
    call.flows(watcher, before + 10).await;
}

pub(super) async fn data_goes_both_ways(engine: &dyn MediaEngine) {
    let mut call = Call::new(engine, false).await;
    let who = call.join(Role::Publisher).await;
    let member = &call.members[who];
    let offer = member.publisher.with(|s| s.add_channels());
    member.publisher.offer(engine, &call.room, &member.sid, offer).await;
    member
        .publisher
        .until("an open channel", |s| !s.channels.is_empty())
        .await;
    member.publisher.with(|s| s.write("_reliable", b"up"));
    let sid = member.sid.clone();
    let payload = call
        .until("data", |e| match e {
            EngineEvent::Data {
                participant,
                kind: DataKind::Reliable,
                payload,
            } if *participant == sid => Some(payload.clone()),
            _ => None,
        })
        .await;
    assert_eq!(payload, b"up");
    engine
        .send_data(
            &call.room,
            std::slice::from_ref(&sid),
            DataKind::Reliable,
            b"down".to_vec(),
        )
        .await;
    let wanted = vec![("_reliable".to_owned(), b"down".to_vec())];
    call.members[who]
        .subscriber
        .until("the message", |s| s.messages == wanted)
        .await;
}

pub(super) async fn rooms_do_not_hear_each_other(engine: &dyn MediaEngine) {
    let mut one = Call::new(engine, false).await;
    let mut other = Call::new(engine, false).await;
    let talker = one.join(Role::Publisher).await;
    let listener = one.join(Role::Subscriber).await;
    let stranger = other.join(Role::Subscriber).await;
    one.publish(talker, TrackSource::Microphone).await;
    one.renegotiated(listener).await;
    one.flows(listener, 30).await;
    other.members[stranger]
        .subscriber
        .until("a connection", |s| s.connected)
        .await;
    assert!(other.members[stranger].subscriber.state.lock().got.is_empty());
}

pub(super) async fn an_ice_restart_keeps_the_media_flowing(engine: &dyn MediaEngine) {
    let mut call = Call::new(engine, false).await;
    let talker = call.join(Role::Publisher).await;
    let watcher = call.join(Role::Publisher).await;
    call.publish(talker, TrackSource::Camera).await;
    call.renegotiated(watcher).await;
    call.flows(watcher, 30).await;
    let member = &call.members[talker];
    let offer = member.publisher.with(|s| s.restart());
    member.publisher.offer(engine, &call.room, &member.sid, offer).await;
    let sid = call.members[watcher].sid.clone();
    engine.restart_subscriber(&call.room, &sid).await.unwrap();
    call.renegotiated(watcher).await;
    let before = call.members[watcher].subscriber.state.lock().got.len();
    call.flows(watcher, before + 100).await;
    // The new credentials lead to the room too: a link that stays up proves it.
    call.members[talker]
        .publisher
        .until("a connection", |s| s.connected && s.rtc.is_connected())
        .await;
}
