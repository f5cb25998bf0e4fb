//! Faults of our own: a bug in one room ends that room alone.

use std::sync::Arc;

use async_trait::async_trait;
use confab_server::engine::fake::FakeEngine;
use confab_server::engine::{
    DataKind, EngineError, EngineEvent, MediaEngine, RoomCounters, Target, TrackAnnouncement, TrackWish,
};
use confab_types::{Grants, ParticipantSid, RoomSid, TrackSid};
use confab_wire::livekit as lk;
use lk::signal_request::Message as Request;
use lk::signal_response::Message;
use tokio::sync::mpsc;

use crate::peer::{join, try_join};
use crate::support::World;

/// A fake engine with a bug: an offer that says `panic` makes it panic in the room's task.
struct Buggy(FakeEngine);

#[async_trait]
impl MediaEngine for Buggy {
    async fn open_room(&self, room: &RoomSid) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
        self.0.open_room(room).await
    }
    async fn close_room(&self, room: &RoomSid) {
        self.0.close_room(room).await;
    }
    async fn add_participant(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        grants: Grants,
        auto: bool,
    ) -> Result<(), EngineError> {
        self.0.add_participant(room, who, grants, auto).await
    }
    async fn remove_participant(&self, room: &RoomSid, who: &ParticipantSid) {
        self.0.remove_participant(room, who).await;
    }
    async fn set_grants(&self, room: &RoomSid, who: &ParticipantSid, grants: Grants) -> Result<(), EngineError> {
        self.0.set_grants(room, who, grants).await
    }
    async fn announce_track(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: TrackAnnouncement,
    ) -> Result<(), EngineError> {
        self.0.announce_track(room, who, track).await
    }
    async fn remove_track(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid) {
        self.0.remove_track(room, who, track).await;
    }
    async fn set_muted(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, muted: bool) {
        self.0.set_muted(room, who, track, muted).await;
    }
    async fn publisher_offer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<String, EngineError> {
        assert!(!sdp.contains("panic"), "the bug");
        if sdp.contains("stuck") {
            std::future::pending::<()>().await;
        }
        self.0.publisher_offer(room, who, sdp).await
    }
    async fn subscriber_answer(&self, room: &RoomSid, who: &ParticipantSid, sdp: String) -> Result<(), EngineError> {
        self.0.subscriber_answer(room, who, sdp).await
    }
    async fn trickle(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        target: Target,
        candidate: String,
    ) -> Result<(), EngineError> {
        self.0.trickle(room, who, target, candidate).await
    }
    async fn restart_subscriber(&self, room: &RoomSid, who: &ParticipantSid) -> Result<(), EngineError> {
        self.0.restart_subscriber(room, who).await
    }
    async fn subscribe(
        &self,
        room: &RoomSid,
        who: &ParticipantSid,
        track: &TrackSid,
        on: bool,
    ) -> Result<(), EngineError> {
        self.0.subscribe(room, who, track, on).await
    }
    async fn track_wish(&self, room: &RoomSid, who: &ParticipantSid, track: &TrackSid, wish: TrackWish) {
        self.0.track_wish(room, who, track, wish).await;
    }
    async fn send_data(&self, room: &RoomSid, to: &[ParticipantSid], kind: DataKind, payload: Vec<u8>) {
        self.0.send_data(room, to, kind, payload).await;
    }
    async fn counters(&self, room: &RoomSid) -> Result<RoomCounters, EngineError> {
        self.0.counters(room).await
    }
}

async fn buggy_world() -> World {
    World::with(|config| config.engine = Some(Arc::new(Buggy(FakeEngine::new())))).await
}

fn offer(sdp: &str) -> Request {
    Request::Offer(lk::SessionDescription {
        sdp: sdp.into(),
        id: 1,
        ..Default::default()
    })
}

#[tokio::test]
async fn a_panic_in_one_room_ends_that_room_alone() {
    let world = buggy_world().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let (mut witness, _) = join(&world, "publisher2", "R").await;
    let (mut bystander, _) = join(&world, "moderator", "Other").await;
    one.send(offer("v=0 panic")).await;
    for peer in [&mut one, &mut witness] {
        let leave = peer.leave().await;
        assert_eq!(leave.action, lk::leave_request::Action::Reconnect as i32);
    }
    bystander.send(Request::Ping(1)).await;
    bystander
        .expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
    // The old token is void, a new one leads into a new run of the room.
    crate::support::eventually("the failed room's tokens to be void", async || {
        (try_join(&world, &token.token).await.err() == Some(401)).then_some(())
    })
    .await;
    let next = world.room_token("publisher1", "R").await;
    assert_ne!(next.room, token.room);
    try_join(&world, &next.token).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_answers_nothing_does_not_hold_the_room_for_ever() {
    let world = buggy_world().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    one.send(offer("v=0 stuck")).await;
    assert_eq!(one.leave().await.reason, lk::DisconnectReason::MediaFailure as i32);
}
