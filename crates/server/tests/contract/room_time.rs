//! What a room does as time passes: the clock is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use confab_control::{Clock, Control, ControlConfig, HashCost, LoginRequest, ManualClock, RoomOptions, RoomOrigin};
use confab_server::engine::fake::FakeEngine;
use confab_server::engine::{EngineEvent, LinkState, Target};
use confab_server::room::{
    Attached, Fact, LinkReceiver, Outgoing, RoomCommand, RoomEnv, RoomEvent, RoomHandle, intent, signal_link,
    spawn_room,
};
use confab_types::{RoomName, Secret};
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// One room on a fake engine, without sockets.
struct Room {
    handle: RoomHandle,
    control: Control,
    clock: Arc<ManualClock>,
    engine: Arc<FakeEngine>,
    events: broadcast::Receiver<Arc<RoomEvent>>,
    _dir: tempfile::TempDir,
}

/// Someone in it.
struct Person {
    attached: Attached,
    link: LinkReceiver,
    token: Secret,
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Room {
    async fn new(origin: RoomOrigin) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(OffsetDateTime::now_utc()));
        let mut config = ControlConfig::new(dir.path());
        config.demo = true;
        config.hash_cost = HashCost {
            memory_kib: 8,
            passes: 1,
            ..HashCost::default()
        };
        config.clock = clock.clone();
        let control = Control::open(config).await.unwrap();
        let engine = Arc::new(FakeEngine::new());
        let (sender, events) = broadcast::channel(256);
        let name: RoomName = "R".parse().unwrap();
        let row = control.open_room(&name, RoomOptions::new(origin)).await.unwrap().room;
        let env = RoomEnv {
            engine: engine.clone(),
            control: control.clone(),
            events: sender,
        };
        let handle = spawn_room(row, false, env, || {});
        // It is open once it answers.
        handle.ask(|reply| RoomCommand::List { reply }).await.unwrap();
        Self {
            handle,
            control,
            clock,
            engine,
            events,
            _dir: dir,
        }
    }

    async fn token(&self, user: &str) -> Secret {
        let password = Secret::new("pass");
        let login = LoginRequest {
            user,
            password: &password,
            scopes: None,
            device: None,
            address: [127, 0, 0, 1].into(),
        };
        let session = self.control.login(login).await.unwrap().session;
        let issued = self
            .control
            .issue_room_token(&session, self.handle.name(), None)
            .await
            .unwrap();
        self.handle.send(RoomCommand::TokenIssued).await.unwrap();
        self.people().await;
        issued.token
    }

    async fn join(&self, user: &str) -> Person {
        let token = self.token(user).await;
        self.join_with(token).await.unwrap()
    }

    /// `None`: refused.
    async fn join_with(&self, token: Secret) -> Option<Person> {
        let verified = self.control.verify_room_token(&token).await.ok()?;
        let intent = intent(&verified, None);
        let verified = Box::new(verified);
        let admitted = self
            .handle
            .ask(|reply| RoomCommand::Admit {
                token: verified,
                intent,
                reserve: true,
                reply,
            })
            .await
            .ok()?;
        let ticket = admitted.ok()?.ticket;
        let (link, receiver) = signal_link();
        let attached = self
            .handle
            .ask(|reply| RoomCommand::Attach {
                ticket,
                link,
                auto_subscribe: true,
                client_protocol: 16,
                reply,
            })
            .await
            .ok()??;
        Some(Person {
            attached,
            link: receiver,
            token,
        })
    }

    /// Moves both clocks; the room is awake again afterwards.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
        let _ = self.control.sweep().await;
        let _ = self.handle.ask(|reply| RoomCommand::List { reply }).await;
    }

    async fn people(&self) -> usize {
        self.handle
            .ask(|reply| RoomCommand::List { reply })
            .await
            .map_or(0, |p| p.len())
    }

    async fn lose(&self, person: &Person) {
        self.handle
            .send(RoomCommand::LinkLost {
                from: person.attached.clone(),
            })
            .await
            .unwrap();
        self.people().await;
    }

    async fn leave(&self, person: &Person) {
        let message = Box::new(lk::signal_request::Message::Leave(lk::LeaveRequest::default()));
        self.handle
            .send(RoomCommand::Signal {
                from: person.attached.clone(),
                message,
            })
            .await
            .unwrap();
        self.people().await;
    }

    async fn is_over(&self) -> bool {
        tokio::time::timeout(secs(5), self.handle.closed()).await.is_ok()
    }
}

impl Person {
    fn hears(&mut self, mut what: impl FnMut(&Message) -> bool) -> bool {
        while let Ok(out) = self.link.queue.try_recv() {
            if let Outgoing::Message(message) = out
                && what(&message)
            {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn a_room_to_which_nobody_came_ends_after_five_minutes() {
    let room = Room::new(RoomOrigin::Rest).await;
    let token = room.token("publisher1").await;
    room.pass(secs(299)).await;
    assert!(!room.handle.is_over());
    room.pass(secs(2)).await;
    assert!(room.is_over().await);
    assert!(
        room.control.verify_room_token(&token).await.is_err(),
        "its tokens are void"
    );
}

#[tokio::test]
async fn who_is_cut_off_stays_for_twenty_seconds_and_the_room_ends_with_the_last_one() {
    let room = Room::new(RoomOrigin::Rest).await;
    let person = room.join("publisher1").await;
    room.lose(&person).await;
    room.pass(secs(19)).await;
    assert_eq!(room.people().await, 1, "may still come back");
    room.pass(secs(2)).await;
    assert!(room.is_over().await);
    assert!(room.control.verify_room_token(&person.token).await.is_err());
}

#[tokio::test]
async fn who_comes_back_in_time_keeps_the_room_open() {
    let room = Room::new(RoomOrigin::Rest).await;
    let person = room.join("publisher1").await;
    room.lose(&person).await;
    room.pass(secs(15)).await;
    let again = room.join_with(person.token.clone()).await.unwrap();
    assert_ne!(again.attached.sid, person.attached.sid);
    room.pass(secs(60)).await;
    assert_eq!(room.people().await, 1);
    assert!(!room.handle.is_over());
}

#[tokio::test]
async fn after_leave_the_seat_is_held_and_then_the_room_ends() {
    let room = Room::new(RoomOrigin::Rest).await;
    let person = room.join("publisher1").await;
    room.leave(&person).await;
    assert_eq!(room.people().await, 0, "gone for the others at once");
    room.pass(secs(19)).await;
    assert!(!room.handle.is_over());
    assert!(
        room.control.verify_room_token(&person.token).await.is_ok(),
        "may come back"
    );
    room.pass(secs(2)).await;
    assert!(room.is_over().await);
}

#[tokio::test]
async fn while_media_flows_a_cut_of_the_signalling_alone_is_forgiven_longer() {
    let room = Room::new(RoomOrigin::Rest).await;
    let person = room.join("publisher1").await;
    let sid = person.attached.sid.clone();
    let link = |state| EngineEvent::Link {
        participant: sid.clone(),
        target: Target::Publisher,
        state,
    };
    room.engine.report(room.handle.sid(), link(LinkState::Connected));
    room.people().await;
    room.lose(&person).await;
    room.pass(secs(35)).await;
    assert_eq!(room.people().await, 1);
    room.pass(secs(6)).await;
    assert_eq!(room.people().await, 0);
}

#[tokio::test]
async fn a_reserved_seat_without_a_socket_is_given_up() {
    let room = Room::new(RoomOrigin::Rest).await;
    let _stays = room.join("publisher2").await;
    let token = room.token("publisher1").await;
    let verified = Box::new(room.control.verify_room_token(&token).await.unwrap());
    let intent = intent(&verified, None);
    let admitted = room
        .handle
        .ask(|reply| RoomCommand::Admit {
            token: verified,
            intent,
            reserve: true,
            reply,
        })
        .await
        .unwrap();
    let ticket = admitted.unwrap().ticket;
    room.pass(secs(11)).await;
    let (link, mut receiver) = signal_link();
    let attach = |reply| RoomCommand::Attach {
        ticket,
        link,
        auto_subscribe: true,
        client_protocol: 16,
        reply,
    };
    assert_eq!(room.handle.ask(attach).await.unwrap(), None);
    assert!(matches!(receiver.queue.try_recv(), Ok(Outgoing::Message(m)) if matches!(*m, Message::Leave(_))));
}

#[tokio::test]
async fn long_calls_get_new_tokens_that_still_name_the_same_seat() {
    let room = Room::new(RoomOrigin::Rest).await;
    let mut person = room.join("publisher1").await;
    room.pass(secs(301)).await;
    let mut fresh = None;
    assert!(person.hears(|m| {
        if let Message::RefreshToken(token) = m {
            fresh = Some(token.clone());
        }
        fresh.is_some()
    }));
    room.pass(secs(400)).await;
    assert!(
        room.control.verify_room_token(&person.token).await.is_err(),
        "the first one is too old by now"
    );
    let verified = room
        .control
        .verify_room_token(&Secret::new(fresh.unwrap()))
        .await
        .unwrap();
    assert_eq!(
        verified.admission.unwrap().participant,
        Some(person.attached.sid.clone())
    );
}

#[tokio::test]
async fn rooms_of_a_backend_follow_their_own_times() {
    let room = Room::new(RoomOrigin::Service).await;
    let person = room.join("publisher1").await;
    room.leave(&person).await;
    room.pass(secs(19)).await;
    assert!(!room.handle.is_over());
    room.pass(secs(2)).await;
    assert!(room.is_over().await);
}

#[tokio::test]
async fn events_are_numbered_and_streams_end_before_their_participants() {
    let mut room = Room::new(RoomOrigin::Rest).await;
    let person = room.join("publisher1").await;
    let request = crate::peer::track_request("c", lk::TrackType::Video, lk::TrackSource::Camera);
    let muted = lk::AddTrackRequest { muted: true, ..request };
    let message = Box::new(lk::signal_request::Message::AddTrack(muted));
    room.handle
        .send(RoomCommand::Signal {
            from: person.attached.clone(),
            message,
        })
        .await
        .unwrap();
    room.leave(&person).await;
    room.pass(secs(21)).await;
    assert!(room.is_over().await);
    let mut facts = Vec::new();
    while let Ok(event) = room.events.try_recv() {
        assert_eq!(event.sequence, facts.len() as u64 + 1);
        facts.push(match event.fact {
            Fact::Joined { .. } => "joined",
            Fact::TrackPublished { .. } => "published",
            Fact::TrackUnpublished { .. } => "unpublished",
            Fact::Left { .. } => "left",
            Fact::RoomEnded => "ended",
            _ => "other",
        });
    }
    assert_eq!(facts, ["joined", "published", "unpublished", "left", "ended"]);
    assert!(!room.engine.is_open(room.handle.sid()));
    let _ = room.clock.now();
}
