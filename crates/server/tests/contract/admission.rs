//! Who is let in, and with which token how often.

use confab_server::engine::fake::Told;
use confab_types::VideoGrant;
use confab_wire::livekit as lk;
use lk::signal_request::Message as Request;
use lk::signal_response::Message;

use crate::peer::{join, open, try_join};
use crate::support::{World, eventually, join_grant};

async fn validate(world: &World, token: &str, more: &str) -> u16 {
    world
        .get(&format!("/rtc/validate?access_token={token}{more}"))
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn validating_uses_nothing_up() {
    let world = World::new().await;
    let token = world.room_token("publisher1", "R").await;
    for _ in 0..3 {
        assert_eq!(validate(&world, &token.token, "").await, 200);
    }
    try_join(&world, &token.token).await.unwrap();
}

#[tokio::test]
async fn answers_of_the_signalling_can_be_read_from_other_origins() {
    let world = World::new().await;
    for path in ["/rtc/v1", "/rtc/v1/validate", "/rtc/validate", "/rtc"] {
        let response = world.get(path).send().await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
        if path.contains("v1") {
            assert_eq!(response.status(), 404, "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_in_use_lets_nobody_else_in() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    // The holder must be reading to answer the server's question.
    let holder = tokio::spawn(async move {
        one.expect("nothing", |m| matches!(m, Message::Leave(_)).then_some(()))
            .await;
    });
    assert_eq!(try_join(&world, &token.token).await.err(), Some(401));
    assert_eq!(validate(&world, &token.token, "").await, 401);
    holder.abort();
}

#[tokio::test]
async fn a_full_reconnect_comes_in_as_a_new_participant() {
    let world = World::new().await;
    let (one, token) = join(&world, "publisher1", "R").await;
    let (mut two, _) = join(&world, "publisher2", "R").await;
    let (old, identity) = (one.sid(), one.me().identity.clone());
    drop(one);
    let again = try_join(&world, &token.token).await.unwrap();
    assert_ne!(again.sid(), old);
    assert_eq!(again.me().identity, identity);
    two.update(&identity, |p| {
        p.sid == old.as_str() && p.state == lk::participant_info::State::Disconnected as i32
    })
    .await;
    two.update(&identity, |p| p.sid == again.me().sid).await;
    assert!(!world.engine.has(&token.room, &old));
}

#[tokio::test]
async fn a_holder_that_does_not_answer_within_300_ms_counts_as_gone() {
    let world = World::new().await;
    // Connected but never read: its pings stay unanswered, like those of a machine that lost its network.
    let (silent, token) = join(&world, "publisher1", "R").await;
    let start = std::time::Instant::now();
    let again = try_join(&world, &token.token).await.unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_millis(280));
    assert_ne!(again.sid(), silent.sid());
}

#[tokio::test]
async fn after_leave_the_same_token_comes_in_again() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    one.send(Request::Leave(lk::LeaveRequest::default())).await;
    assert_eq!(one.close_code().await, Some(1000));
    let again = try_join(&world, &token.token).await.unwrap();
    assert_ne!(again.sid(), one.sid());
}

#[tokio::test]
async fn a_removed_user_is_out_at_once_and_stays_out() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let (_two, _) = join(&world, "publisher2", "R").await;
    assert_eq!(world.remove_user(&token, "R").await.0, 200);
    one.leave().await;
    assert_eq!(try_join(&world, &token.token).await.err(), Some(401));
}

#[tokio::test]
async fn ending_the_room_voids_every_token_of_it() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    let unused = world.room_token("publisher2", "R").await;
    assert!(world.server.rooms().end("R").await);
    let leave = one.leave().await;
    assert_eq!(
        (leave.reason, leave.action),
        (
            lk::DisconnectReason::RoomDeleted as i32,
            lk::leave_request::Action::Disconnect as i32
        )
    );
    assert_eq!(validate(&world, &unused.token, "").await, 401);
    assert_eq!(try_join(&world, &unused.token).await.err(), Some(401));
}

#[tokio::test]
async fn a_resume_keeps_the_participant_and_tells_what_was_missed() {
    let world = World::new().await;
    let (one, token) = join(&world, "publisher1", "R").await;
    let (mut two, _) = join(&world, "publisher2", "R").await;
    let (sid, identity) = (one.sid(), one.me().identity.clone());
    drop(one);
    // Someone leaves while it is away.
    two.send(Request::Leave(lk::LeaveRequest::default())).await;
    assert_eq!(two.close_code().await, Some(1000));
    let query = format!("&reconnect=1&sid={sid}");
    assert_eq!(validate(&world, &token.token, &query).await, 200);
    let mut back = open(&world, &token.token, &query).await.unwrap();
    assert!(
        matches!(back.next().await, Some(Message::Reconnect(_))),
        "Reconnect is the first message"
    );
    let Some(Message::Update(update)) = back.next().await else {
        panic!("then the state of everyone")
    };
    assert!(update.participants.iter().any(|p| p.sid == sid.as_str()));
    let gone = update
        .participants
        .iter()
        .find(|p| p.identity == two.me().identity)
        .unwrap();
    assert_eq!(gone.state, lk::participant_info::State::Disconnected as i32);
    back.expect("an ICE restart", |m| matches!(m, Message::Offer(_)).then_some(()))
        .await;
    assert!(world.engine.told(&token.room).contains(&Told::Restart(sid.clone())));
    back.send(Request::Ping(1)).await;
    back.expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
    assert!(world.engine.has(&token.room, &sid), "{identity} never left");
}

#[tokio::test]
async fn a_resume_of_nobody_is_told_to_start_anew() {
    let world = World::new().await;
    let token = world.room_token("publisher1", "R").await;
    let mut peer = open(&world, &token.token, "&reconnect=1&sid=PA_neverwas")
        .await
        .unwrap();
    let leave = peer.leave().await;
    assert_eq!(leave.reason, lk::DisconnectReason::StateMismatch as i32);
    assert_eq!(leave.action, lk::leave_request::Action::Reconnect as i32);
    // Someone else's sid is nobody too.
    let (victim, _) = join(&world, "publisher2", "R").await;
    let mut thief = open(&world, &token.token, &format!("&reconnect=1&sid={}", victim.sid()))
        .await
        .unwrap();
    assert_eq!(thief.leave().await.reason, lk::DisconnectReason::StateMismatch as i32);
    assert!(world.engine.has(&token.room, &victim.sid()));
}

#[tokio::test]
async fn backends_tokens_open_rooms_and_the_newer_join_of_an_identity_wins() {
    let world = World::new().await;
    let token = world.backend_token("ada", join_grant("Backend room"));
    let mut one = try_join(&world, &token).await.unwrap();
    assert_eq!((one.me().identity.as_str(), one.me().name.as_str()), ("ada", "ada"));
    let two = try_join(&world, &token).await.unwrap();
    let leave = one.leave().await;
    assert_eq!(leave.reason, lk::DisconnectReason::DuplicateIdentity as i32);
    assert_eq!(leave.action, lk::leave_request::Action::Disconnect as i32);
    assert_ne!(two.sid(), one.sid());
    assert!(two.join.other_participants.is_empty());
}

#[tokio::test]
async fn a_backend_limits_what_its_tokens_may_send() {
    let world = World::new().await;
    let only_sound = VideoGrant {
        can_publish_sources: vec!["microphone".into()],
        ..join_grant("R")
    };
    let mut one = try_join(&world, &world.backend_token("ada", only_sound)).await.unwrap();
    one.add_track("m", lk::TrackType::Audio, lk::TrackSource::Microphone)
        .await;
    for source in [lk::TrackSource::Camera, lk::TrackSource::Unknown] {
        one.send(Request::AddTrack(crate::peer::track_request(
            "c",
            lk::TrackType::Video,
            source,
        )))
        .await;
        one.expect("refusal", |m| matches!(m, Message::RequestResponse(_)).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn a_seat_is_held_for_who_was_cut_off() {
    use confab_control::RoomSettingsChange;
    let world = World::new().await;
    let change = RoomSettingsChange {
        size_limit: Some(Some(2)),
        ..Default::default()
    };
    world
        .server
        .control()
        .set_room_settings(&"R".parse().unwrap(), change)
        .await
        .unwrap();
    let late = world.room_token("moderator", "R").await;
    let (one, first) = join(&world, "publisher1", "R").await;
    let (_two, _) = join(&world, "publisher2", "R").await;
    drop(one);
    eventually("the loss to be seen", async || {
        let admin = world.session("admin").await;
        let rooms = crate::support::ok(world.get("/api-admin/rooms").bearer_auth(admin)).await;
        let people = rooms["rooms"][0]["participants"].as_array().unwrap().clone();
        people.iter().any(|p| p["connected"] == false).then_some(())
    })
    .await;
    assert_eq!(try_join(&world, &late.token).await.err(), Some(409));
    try_join(&world, &first.token).await.unwrap();
}

#[tokio::test]
async fn who_may_only_send_is_not_told_to_wait_for_an_offer() {
    let world = World::new().await;
    let deaf = VideoGrant {
        can_subscribe: Some(false),
        ..join_grant("R")
    };
    let mut one = try_join(&world, &world.backend_token("sender", deaf)).await.unwrap();
    assert!(!one.join.subscriber_primary);
    assert!(one.hears_nothing(|m| matches!(m, Message::Offer(_))).await);
    one.add_track("m", lk::TrackType::Audio, lk::TrackSource::Microphone)
        .await;
}
