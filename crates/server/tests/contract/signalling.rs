//! What a participant gets over `/rtc`.

use confab_server::engine::fake::Told;
use confab_server::engine::{DataKind, EngineEvent, LinkState, Target};
use confab_types::TrackKind;
use confab_wire::livekit as lk;
use futures::SinkExt;
use lk::signal_request::Message as Request;
use lk::signal_response::Message;
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::peer::{join, track_request};
use crate::support::{World, eventually};

fn sdp(text: &str, id: u32) -> lk::SessionDescription {
    lk::SessionDescription {
        sdp: text.into(),
        id,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_join_tells_who_is_there_and_an_offer_follows_at_once() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    assert!(one.join.subscriber_primary && one.join.fast_publish);
    assert_eq!((one.join.ping_interval, one.join.ping_timeout), (5, 15));
    assert_eq!(one.join.room.as_ref().unwrap().sid, token.room.as_str());
    assert_eq!(one.me().name, "publisher1 nick");
    let metadata: serde_json::Value = serde_json::from_str(&one.me().metadata).unwrap();
    assert_eq!(
        metadata,
        serde_json::json!({ "clientData": "publisher1 nick", "serverData": "publisher1" })
    );
    assert!(one.me().identity.starts_with("publisher1-"));
    let offer = one
        .expect("Offer", |m| {
            if let Message::Offer(o) = m {
                Some(o.clone())
            } else {
                None
            }
        })
        .await;
    assert!(offer.sdp.starts_with("v=0") && offer.id > 0);
    one.send(Request::Answer(sdp("v=0 mine", offer.id))).await;
    eventually("the answer", async || {
        world
            .engine
            .told(&token.room)
            .contains(&Told::Answer(one.sid(), "v=0 mine".into()))
            .then_some(())
    })
    .await;
    let (two, _) = join(&world, "publisher2", "R").await;
    let others: Vec<_> = two
        .join
        .other_participants
        .iter()
        .map(|p| p.identity.as_str())
        .collect();
    assert_eq!(others, [one.me().identity.as_str()]);
    one.update(&two.me().identity, |p| {
        p.state != lk::participant_info::State::Disconnected as i32
    })
    .await;
}

#[tokio::test]
async fn an_offer_is_answered_with_its_own_id() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    one.send(Request::Offer(sdp("v=0 publisher", 77))).await;
    let answer = one
        .expect("Answer", |m| {
            if let Message::Answer(a) = m {
                Some(a.clone())
            } else {
                None
            }
        })
        .await;
    assert_eq!((answer.id, answer.r#type.as_str()), (77, "answer"));
}

#[tokio::test]
async fn candidates_reach_the_engine_as_it_reads_them() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let init = r#"{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}"#;
    for text in ["{", "{}", r#"{"candidate":""}"#, init] {
        let trickle = lk::TrickleRequest {
            candidate_init: text.into(),
            target: lk::SignalTarget::Subscriber as i32,
            r#final: false,
        };
        one.send(Request::Trickle(trickle)).await;
    }
    eventually("the candidate", async || {
        let told = world.engine.told(&token.room);
        let found: Vec<_> = told.iter().filter(|t| matches!(t, Told::Trickle(..))).collect();
        let wanted = Told::Trickle(
            one.sid(),
            Target::Subscriber,
            "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
        );
        (found == [&wanted]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_published_track_shows_to_others_once_its_media_arrives() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let (mut two, _) = join(&world, "subscriber", "R").await;
    let track = one
        .add_track("cid-1", lk::TrackType::Video, lk::TrackSource::Camera)
        .await;
    assert!(track.sid.starts_with("TR_") && track.simulcast && track.layers.len() == 3);
    assert_eq!(
        (track.stream.as_str(), track.mime_type.as_str()),
        ("camera", "video/VP8")
    );
    assert!(
        two.hears_nothing(|m| matches!(m, Message::Update(u) if u.participants.iter().any(|p| !p.tracks.is_empty())))
            .await
    );
    let live = EngineEvent::TrackLive {
        participant: one.sid(),
        track: track.sid.parse().unwrap(),
        mime: "video/VP8".into(),
        mid: "4".into(),
    };
    assert!(world.engine.report(&token.room, live));
    let identity = one.me().identity.clone();
    let seen = two.update(&identity, |p| !p.tracks.is_empty()).await;
    assert_eq!(
        (
            seen.tracks[0].sid.as_str(),
            seen.tracks[0].mid.as_str(),
            seen.is_publisher
        ),
        (track.sid.as_str(), "4", true)
    );
    // Who joins later sees it in Join.
    let (three, _) = join(&world, "publisher2", "R").await;
    let seen = three
        .join
        .other_participants
        .iter()
        .find(|p| p.identity == identity)
        .unwrap();
    assert_eq!(seen.tracks.len(), 1);
    // Muting shows, ending shows.
    one.send(Request::Mute(lk::MuteTrackRequest {
        sid: track.sid.clone(),
        muted: true,
    }))
    .await;
    two.update(&identity, |p| p.tracks.first().is_some_and(|t| t.muted))
        .await;
    assert!(
        world
            .engine
            .told(&token.room)
            .contains(&Told::Muted(track.sid.parse().unwrap(), true))
    );
    let ended = EngineEvent::TrackEnded {
        participant: one.sid(),
        track: track.sid.parse().unwrap(),
    };
    world.engine.report(&token.room, ended);
    two.update(&identity, |p| p.tracks.is_empty() && p.version > seen.version)
        .await;
    one.expect("TrackUnpublished", |m| {
        matches!(m, Message::TrackUnpublished(u) if u.track_sid == track.sid).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_subscriber_cannot_publish_whatever_it_sends() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "subscriber", "R").await;
    let permission = one.me().permission.clone().unwrap();
    assert!(!permission.can_publish && permission.can_subscribe && permission.can_publish_data);
    for (cid, kind, source) in [
        ("a", lk::TrackType::Video, lk::TrackSource::Camera),
        ("b", lk::TrackType::Audio, lk::TrackSource::Microphone),
        ("c", lk::TrackType::Video, lk::TrackSource::Unknown),
        ("d", lk::TrackType::Video, lk::TrackSource::ScreenShare),
    ] {
        one.send(Request::AddTrack(track_request(cid, kind, source))).await;
        let refused = one
            .expect("RequestResponse", |m| {
                if let Message::RequestResponse(r) = m {
                    Some(r.clone())
                } else {
                    None
                }
            })
            .await;
        assert_eq!(refused.reason, lk::request_response::Reason::NotAllowed as i32);
        match refused.request {
            Some(lk::request_response::Request::AddTrack(request)) => assert_eq!(request.cid, cid),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_source_must_go_with_its_kind_and_tracks_are_bounded() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    let refusal = |m: &Message| {
        if let Message::RequestResponse(r) = m {
            Some(r.reason)
        } else {
            None
        }
    };
    one.send(Request::AddTrack(track_request(
        "x",
        lk::TrackType::Audio,
        lk::TrackSource::Camera,
    )))
    .await;
    assert_eq!(
        one.expect("refusal", refusal).await,
        lk::request_response::Reason::UnsupportedType as i32
    );
    for n in 0..16 {
        one.add_track(&format!("t{n}"), lk::TrackType::Audio, lk::TrackSource::Microphone)
            .await;
    }
    one.send(Request::AddTrack(track_request(
        "t16",
        lk::TrackType::Audio,
        lk::TrackSource::Microphone,
    )))
    .await;
    assert_eq!(
        one.expect("refusal", refusal).await,
        lk::request_response::Reason::LimitExceeded as i32
    );
    // Asked twice, the same answer twice.
    let first = one
        .add_track("t0", lk::TrackType::Audio, lk::TrackSource::Microphone)
        .await;
    assert!(first.sid.starts_with("TR_"));
}

#[tokio::test]
async fn data_carries_its_true_sender_and_reaches_whom_it_is_for() {
    let world = World::new().await;
    let (one, token) = join(&world, "publisher1", "R").await;
    let (two, _) = join(&world, "publisher2", "R").await;
    let (three, _) = join(&world, "subscriber", "R").await;
    let packet = |to: Vec<String>| lk::DataPacket {
        participant_identity: "somebody else".into(),
        destination_identities: to,
        value: Some(lk::data_packet::Value::StreamHeader(lk::data_stream::Header {
            topic: "lk.chat".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let send = |payload: Vec<u8>| {
        world.engine.report(
            &token.room,
            EngineEvent::Data {
                participant: one.sid(),
                kind: DataKind::Reliable,
                payload,
            },
        )
    };
    send(packet(Vec::new()).encode_to_vec());
    send(packet(vec![three.me().identity.clone()]).encode_to_vec());
    send(b"\xff\xff not a packet".to_vec());
    let speaker = lk::DataPacket {
        value: Some(lk::data_packet::Value::Speaker(Default::default())),
        ..Default::default()
    };
    send(speaker.encode_to_vec());
    let sent = eventually("data", async || {
        let told = world.engine.told(&token.room);
        let data: Vec<_> = told
            .into_iter()
            .filter_map(|t| {
                if let Told::Data(to, _, bytes) = t {
                    Some((to, bytes))
                } else {
                    None
                }
            })
            .collect();
        (data.len() == 2).then_some(data)
    })
    .await;
    assert_eq!(sent[0].0, [two.sid(), three.sid()]);
    assert_eq!(sent[1].0, [three.sid()]);
    let told = lk::DataPacket::decode(&*sent[0].1).unwrap();
    assert_eq!(
        (told.participant_identity, told.participant_sid),
        (one.me().identity.clone(), one.me().sid.clone())
    );
}

#[tokio::test]
async fn speakers_and_connection_quality_are_told() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let me = one.sid();
    world.engine.report(
        &token.room,
        EngineEvent::Link {
            participant: me.clone(),
            target: Target::Subscriber,
            state: LinkState::Connected,
        },
    );
    let identity = one.me().identity.clone();
    one.update(&identity, |p| p.state == lk::participant_info::State::Active as i32)
        .await;
    let excellent = lk::ConnectionQuality::Excellent as i32;
    one.expect("quality", |m| {
        matches!(m, Message::ConnectionQuality(q) if q.updates.iter().any(|u| u.quality == excellent)).then_some(())
    })
    .await;
    let speakers = |m: &Message| {
        if let Message::SpeakersChanged(s) = m {
            Some(s.speakers.clone())
        } else {
            None
        }
    };
    world
        .engine
        .report(&token.room, EngineEvent::Speakers(vec![(me.clone(), 0.5)]));
    let loud = one.expect("speakers", speakers).await;
    assert!(loud[0].active && loud[0].sid == me.as_str());
    world.engine.report(&token.room, EngineEvent::Speakers(Vec::new()));
    assert!(!one.expect("silence", speakers).await[0].active);
}

#[tokio::test]
async fn senders_learn_which_layers_are_watched() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let (mut two, _) = join(&world, "subscriber", "R").await;
    let track = one
        .add_track("cid", lk::TrackType::Video, lk::TrackSource::Camera)
        .await;
    let live = EngineEvent::TrackLive {
        participant: one.sid(),
        track: track.sid.parse().unwrap(),
        mime: "video/VP8".into(),
        mid: "1".into(),
    };
    world.engine.report(&token.room, live);
    let on = |m: &Message| match m {
        Message::SubscribedQualityUpdate(u) => {
            Some(u.subscribed_qualities.iter().map(|q| q.enabled).collect::<Vec<_>>())
        }
        _ => None,
    };
    assert_eq!(one.expect("all layers", on).await, [true, true, true]);
    let setting = lk::UpdateTrackSettings {
        track_sids: vec![track.sid.clone()],
        width: 150,
        height: 110,
        ..Default::default()
    };
    two.send(Request::TrackSetting(setting)).await;
    assert_eq!(one.expect("the lowest layer", on).await, [true, false, false]);
    let setting = lk::UpdateTrackSettings {
        track_sids: vec![track.sid.clone()],
        quality: lk::VideoQuality::High as i32,
        ..Default::default()
    };
    two.send(Request::TrackSetting(setting)).await;
    assert_eq!(one.expect("all layers again", on).await, [true, true, true]);
    two.send(Request::Subscription(lk::UpdateSubscription {
        track_sids: vec![track.sid.clone()],
        subscribe: false,
        ..Default::default()
    }))
    .await;
    assert_eq!(one.expect("nothing", on).await, [false, false, false]);
    let told = world.engine.told(&token.room);
    assert!(told.contains(&Told::Subscribe(two.sid(), track.sid.parse().unwrap(), false)));
    assert_eq!(TrackKind::Video, TrackKind::Video);
}

#[tokio::test]
async fn pings_are_answered_in_both_forms_and_json_in_json() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    one.send(Request::Ping(1)).await;
    one.expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
    one.send(Request::PingReq(lk::Ping { timestamp: 42, rtt: 3 })).await;
    one.expect("PongResp", |m| {
        matches!(m, Message::PongResp(p) if p.last_ping_timestamp == 42).then_some(())
    })
    .await;
    one.ws
        .send(Frame::Text(r#"{"pingReq":{"timestamp":"43"}}"#.into()))
        .await
        .unwrap();
    one.expect("PongResp", |m| {
        matches!(m, Message::PongResp(p) if p.last_ping_timestamp == 43).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hand_can_be_raised_but_nobody_takes_another_name() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "subscriber", "R").await;
    let (mut two, _) = join(&world, "publisher1", "R").await;
    let identity = one.me().identity.clone();
    let hand = lk::UpdateParticipantMetadata {
        attributes: [("hand".to_owned(), "1".to_owned())].into(),
        request_id: 5,
        ..Default::default()
    };
    one.send(Request::UpdateMetadata(hand)).await;
    let seen = two.update(&identity, |p| p.attributes.contains_key("hand")).await;
    assert_eq!(seen.attributes["hand"], "1");
    let fake = lk::UpdateParticipantMetadata {
        metadata: r#"{"serverData":"admin"}"#.into(),
        name: "admin".into(),
        request_id: 6,
        ..Default::default()
    };
    one.send(Request::UpdateMetadata(fake)).await;
    let refused = one
        .expect("refusal", |m| {
            matches!(m, Message::RequestResponse(r) if r.request_id == 6).then_some(m.clone())
        })
        .await;
    assert!(
        matches!(refused, Message::RequestResponse(r) if r.reason == lk::request_response::Reason::NotAllowed as i32)
    );
    assert!(
        two.hears_nothing(|m| matches!(m, Message::Update(u) if u.participants.iter().any(|p| p.name == "admin")))
            .await
    );
}

#[tokio::test]
async fn who_leaves_is_gone_for_the_others_at_once() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let (mut two, _) = join(&world, "publisher2", "R").await;
    let sid = one.sid();
    one.send(Request::Leave(lk::LeaveRequest::default())).await;
    let gone = two
        .update(&one.me().identity.clone(), |p| {
            p.state == lk::participant_info::State::Disconnected as i32
        })
        .await;
    assert_eq!(gone.disconnect_reason, lk::DisconnectReason::ClientInitiated as i32);
    assert!(!world.engine.has(&token.room, &sid));
    assert_eq!(one.close_code().await, Some(1000));
}

#[tokio::test]
async fn a_failed_room_sends_everyone_to_a_new_one() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let (mut bystander, _) = join(&world, "publisher2", "Other").await;
    world.engine.report(&token.room, EngineEvent::RoomFailed);
    let leave = one.leave().await;
    assert_eq!(leave.action, lk::leave_request::Action::Reconnect as i32);
    let next = world.room_token("publisher1", "R").await;
    assert_ne!(next.room, token.room);
    bystander.send(Request::Ping(1)).await;
    bystander
        .expect("Pong", |m| matches!(m, Message::Pong(_)).then_some(()))
        .await;
}

#[tokio::test]
async fn a_stopping_server_tells_everyone_to_come_back() {
    let world = World::new().await;
    let (mut one, token) = join(&world, "publisher1", "R").await;
    let World {
        server,
        engine,
        clock,
        http,
        data,
    } = world;
    let stopped = tokio::spawn(server.shutdown());
    let leave = one.leave().await;
    assert_eq!(leave.reason, lk::DisconnectReason::ServerShutdown as i32);
    assert_eq!(leave.action, lk::leave_request::Action::Reconnect as i32);
    drop(one);
    stopped.await.unwrap();
    // After the restart the same token comes in again, into the same room.
    drop(engine);
    let engine = std::sync::Arc::new(confab_server::engine::fake::FakeEngine::new());
    let config = confab_server::ServerConfig {
        demo: true,
        engine: Some(engine.clone()),
        control: Some(crate::support::test_control(clock.clone())),
        ..confab_server::ServerConfig::new(data.path())
    };
    let server = confab_server::Server::start(config).await.unwrap();
    let world = World {
        server,
        engine,
        clock,
        http,
        data,
    };
    let back = crate::peer::try_join(&world, &token.token).await.unwrap();
    assert_eq!(back.join.room.as_ref().unwrap().sid, token.room.as_str());
}
