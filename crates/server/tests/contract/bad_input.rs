//! Hostile and broken input: refused, never a panic, never an effect on others.

use confab_server::engine::EngineEvent;
use confab_types::VideoGrant;
use confab_wire::livekit as lk;
use futures::SinkExt;
use lk::signal_request::Message as Request;
use lk::signal_response::Message;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::peer::{join, try_join};
use crate::support::{SECRET, World, claims, code, join_grant, sign, sign_with_header};

async fn refused(world: &World, token: &str) {
    assert_eq!(try_join(world, token).await.err(), Some(401));
    let path = format!("/rtc/validate?access_token={token}");
    assert_eq!(code(world.get(&path)).await, (401, "not_signed_in".into()));
}

#[tokio::test]
async fn forged_and_stale_room_tokens_are_refused() {
    let world = World::new().await;
    let good = claims(&world, "ada", join_grant("R"));
    try_join(&world, &sign(&good, SECRET)).await.unwrap();
    let unsigned = sign_with_header(&json!({ "alg": "none" }), &good, SECRET);
    let (head, _) = unsigned.rsplit_once('.').unwrap();
    refused(&world, &format!("{head}.")).await;
    refused(&world, &sign_with_header(&json!({ "alg": "HS512" }), &good, SECRET)).await;
    refused(&world, &sign(&good, "another secret, just as long as it")).await;
    for kid in ["../../etc/passwd", "' OR 1=1 --"] {
        let hostile = sign_with_header(
            &json!({ "alg": "HS256", "kid": kid }),
            &good,
            "another secret, just as long as it",
        );
        refused(&world, &hostile).await;
    }
    let mut other = good.clone();
    other.iss = "nobody".into();
    refused(&world, &sign(&other, SECRET)).await;
    let mut expired = good.clone();
    (expired.nbf, expired.exp) = (good.nbf - 100, good.nbf - 50);
    refused(&world, &sign(&expired, SECRET)).await;
    let mut early = good.clone();
    early.nbf += 100;
    refused(&world, &sign(&early, SECRET)).await;
    let mut no_join = good.clone();
    no_join.video = VideoGrant {
        room: "R".into(),
        ..VideoGrant::default()
    };
    refused(&world, &sign(&no_join, SECRET)).await;
    for rubbish in ["", "a.b.c", "....", "%00"] {
        refused(&world, rubbish).await;
    }
}

#[tokio::test]
async fn a_room_token_opens_no_rest_call_and_a_session_token_no_room() {
    let world = World::new().await;
    let token = world.room_token("moderator", "R").await;
    assert_eq!(
        code(world.get("/api-login/session").bearer_auth(&token.token)).await,
        (401, "not_signed_in".into())
    );
    refused(&world, &token.session).await;
}

#[tokio::test]
async fn frames_that_are_no_messages_end_the_connection_with_1007() {
    let world = World::new().await;
    let (mut bystander, _) = join(&world, "publisher2", "R").await;
    for frame in [
        Frame::Binary(b"\xff\xff\xff\xff".to_vec().into()),
        Frame::Text("{".into()),
    ] {
        let (mut one, _) = join(&world, "publisher1", "R").await;
        one.ws.send(frame).await.unwrap();
        assert_eq!(one.close_code().await, Some(1007));
    }
    bystander.send(Request::Ping(1)).await;
    bystander
        .expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
}

#[tokio::test]
async fn oversized_frames_end_the_connection_with_1009() {
    let world = World::new().await;
    for size in [600 * 1024, 3 * 1024 * 1024] {
        let (mut one, _) = join(&world, "publisher1", "R").await;
        // The server may close before it read everything.
        let _ = one.ws.send(Frame::Binary(vec![0; size].into())).await;
        assert!(matches!(one.close_code().await, Some(1009) | None), "{size}");
    }
}

#[tokio::test]
async fn a_flood_is_slowed_down_and_then_ended_while_others_go_on() {
    let world = World::new().await;
    let (mut bystander, _) = join(&world, "publisher2", "R").await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    for _ in 0..10_000 {
        if one.ws.send(Frame::Binary(vec![0x70, 0x01].into())).await.is_err() {
            break;
        }
    }
    let start = std::time::Instant::now();
    bystander.send(Request::Ping(1)).await;
    bystander
        .expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
    assert!(start.elapsed() < std::time::Duration::from_secs(2));
    assert!(matches!(one.close_code().await, Some(1008) | None));
}

#[tokio::test]
async fn sdp_that_cannot_be_used_ends_its_sender_alone() {
    let world = World::new().await;
    let (mut bystander, token) = join(&world, "publisher2", "R").await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    one.send(Request::Offer(lk::SessionDescription {
        sdp: "nonsense".into(),
        id: 1,
        ..Default::default()
    }))
    .await;
    assert_eq!(one.leave().await.reason, lk::DisconnectReason::MediaFailure as i32);
    bystander
        .update(&one.me().identity.clone(), |p| {
            p.state == lk::participant_info::State::Disconnected as i32
        })
        .await;
    assert!(world.engine.has(&token.room, &bystander.sid()));
}

#[tokio::test]
async fn facts_about_strangers_do_no_harm() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let stranger: confab_types::ParticipantSid = "PA_stranger".parse().unwrap();
    let track: confab_types::TrackSid = "TR_stranger".parse().unwrap();
    for fact in [
        EngineEvent::SubscriberOffer {
            participant: stranger.clone(),
            sdp: "v=0".into(),
        },
        EngineEvent::TrackLive {
            participant: one.sid(),
            track: track.clone(),
            mime: String::new(),
            mid: String::new(),
        },
        EngineEvent::TrackEnded {
            participant: stranger.clone(),
            track,
        },
        EngineEvent::Speakers(vec![(stranger, 1.0)]),
    ] {
        world.engine.report(&token.room, fact);
    }
    one.send(Request::Ping(1)).await;
    one.expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
}

#[tokio::test]
async fn messages_out_of_order_do_no_harm() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    for message in [
        Request::Answer(lk::SessionDescription {
            sdp: "v=0".into(),
            id: 99,
            ..Default::default()
        }),
        Request::Mute(lk::MuteTrackRequest {
            sid: "TR_none".into(),
            muted: true,
        }),
        Request::Subscription(lk::UpdateSubscription {
            track_sids: vec!["TR_none".into()],
            subscribe: true,
            ..Default::default()
        }),
        Request::TrackSetting(lk::UpdateTrackSettings {
            track_sids: vec!["TR_none".into()],
            ..Default::default()
        }),
        Request::SyncState(lk::SyncState::default()),
        Request::SubscriptionPermission(lk::SubscriptionPermission::default()),
        Request::Simulate(lk::SimulateScenario::default()),
    ] {
        one.send(message).await;
    }
    one.send(Request::Ping(1)).await;
    one.expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
}
