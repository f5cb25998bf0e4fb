//! LiveKit's server API, in JSON and in protobuf.

use confab_server::engine::fake::Told;
use confab_types::VideoGrant;
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use prost::Message as _;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::peer::{join, try_join};
use crate::support::{World, answer, join_grant};

fn api(world: &World) -> String {
    world.backend_token(
        "",
        VideoGrant {
            room_create: true,
            room_list: true,
            ..VideoGrant::default()
        },
    )
}

fn admin(world: &World, room: &str) -> String {
    world.backend_token(
        "",
        VideoGrant {
            room_admin: true,
            room: room.into(),
            ..VideoGrant::default()
        },
    )
}

async fn json_call(world: &World, token: &str, method: &str, body: Value) -> (StatusCode, Value) {
    answer(
        world
            .post(&format!("/twirp/livekit.RoomService/{method}"))
            .bearer_auth(token)
            .json(&body),
    )
    .await
}

async fn proto_call<T: prost::Message + Default>(
    world: &World,
    token: &str,
    method: &str,
    body: impl prost::Message,
) -> Result<T, StatusCode> {
    let request = world
        .post(&format!("/twirp/livekit.RoomService/{method}"))
        .bearer_auth(token);
    let response = request
        .header("content-type", "application/protobuf")
        .body(body.encode_to_vec())
        .send()
        .await
        .unwrap();
    if response.status() != 200 {
        return Err(response.status());
    }
    assert_eq!(response.headers()["content-type"], "application/protobuf");
    Ok(T::decode(response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn rooms_are_made_listed_and_deleted_in_both_encodings() {
    let world = World::new().await;
    let token = api(&world);
    let (status, room) = json_call(
        &world,
        &token,
        "CreateRoom",
        json!({ "name": "one", "emptyTimeout": 60, "maxParticipants": 3 }),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(
        (
            room["name"].as_str(),
            room["emptyTimeout"].as_u64(),
            room["maxParticipants"].as_u64()
        ),
        (Some("one"), Some(60), Some(3))
    );
    let request = lk::CreateRoomRequest {
        name: "two".into(),
        metadata: "m".into(),
        ..Default::default()
    };
    let two: lk::Room = proto_call(&world, &token, "CreateRoom", request).await.unwrap();
    assert!(two.sid.starts_with("RM_") && two.metadata == "m" && two.departure_timeout == 20);
    let list: lk::ListRoomsResponse = proto_call(&world, &token, "ListRooms", lk::ListRoomsRequest::default())
        .await
        .unwrap();
    assert_eq!(list.rooms.len(), 2);
    let (_, list) = json_call(&world, &token, "ListRooms", json!({ "names": ["two"] })).await;
    assert_eq!(list["rooms"].as_array().unwrap().len(), 1);
    let (status, _) = json_call(&world, &token, "DeleteRoom", json!({ "room": "one" })).await;
    assert_eq!(status, 200);
    let (status, body) = json_call(&world, &token, "DeleteRoom", json!({ "room": "one" })).await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (404, Some("not_found")));
}

#[tokio::test]
async fn making_a_room_twice_gives_the_same_room() {
    let world = World::new().await;
    let token = api(&world);
    let (_, first) = json_call(&world, &token, "CreateRoom", json!({ "name": "R" })).await;
    let (_, second) = json_call(&world, &token, "CreateRoom", json!({ "name": "R" })).await;
    assert_eq!(first["sid"], second["sid"]);
}

#[tokio::test]
async fn participants_are_listed_and_removed_for_good() {
    let world = World::new().await;
    let (mut one, room_token) = join(&world, "publisher1", "R").await;
    let (two, _) = join(&world, "publisher2", "R").await;
    let token = admin(&world, "R");
    let request = lk::ListParticipantsRequest { room: "R".into() };
    let list: lk::ListParticipantsResponse = proto_call(&world, &token, "ListParticipants", request).await.unwrap();
    assert_eq!(list.participants.len(), 2);
    let identity = one.me().identity.clone();
    let (status, _) = json_call(
        &world,
        &token,
        "RemoveParticipant",
        json!({ "room": "R", "identity": identity }),
    )
    .await;
    assert_eq!(status, 200);
    let leave = one.leave().await;
    assert_eq!(
        (leave.reason, leave.action),
        (
            lk::DisconnectReason::ParticipantRemoved as i32,
            lk::leave_request::Action::Disconnect as i32
        )
    );
    assert_eq!(try_join(&world, &room_token.token).await.err(), Some(401));
    // By sid too (connection.id in the monitoring's words).
    let (status, _) = json_call(
        &world,
        &token,
        "RemoveParticipant",
        json!({ "room": "R", "identity": two.me().sid }),
    )
    .await;
    assert_eq!(status, 200);
    let (status, _) = json_call(
        &world,
        &token,
        "RemoveParticipant",
        json!({ "room": "R", "identity": "nobody" }),
    )
    .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_removed_backend_participant_comes_in_with_a_newer_token_only() {
    let world = World::new().await;
    let old = world.backend_token("ada", join_grant("R"));
    let mut one = try_join(&world, &old).await.unwrap();
    let (status, _) = json_call(
        &world,
        &admin(&world, "R"),
        "RemoveParticipant",
        json!({ "room": "R", "identity": "ada" }),
    )
    .await;
    assert_eq!(status, 200);
    one.leave().await;
    assert_eq!(try_join(&world, &old).await.err(), Some(401));
    world.clock.advance(std::time::Duration::from_secs(2));
    try_join(&world, &world.backend_token("ada", join_grant("R")))
        .await
        .unwrap();
}

#[tokio::test]
async fn moderators_mute_and_limit_what_is_sent() {
    let world = World::new().await;
    let (mut one, room) = join(&world, "publisher1", "R").await;
    let track = one
        .add_track("m", lk::TrackType::Audio, lk::TrackSource::Microphone)
        .await;
    let token = admin(&world, "R");
    let identity = one.me().identity.clone();
    let mute = json!({ "room": "R", "identity": identity, "trackSid": track.sid, "muted": true });
    let (status, body) = json_call(&world, &token, "MutePublishedTrack", mute).await;
    assert_eq!((status.as_u16(), body["track"]["muted"].as_bool()), (200, Some(true)));
    one.expect("Mute", |m| {
        matches!(m, Message::Mute(x) if x.muted && x.sid == track.sid).then_some(())
    })
    .await;
    assert!(
        world
            .engine
            .told(&room.room)
            .contains(&Told::Muted(track.sid.parse().unwrap(), true))
    );
    let unmute = json!({ "room": "R", "identity": identity, "trackSid": track.sid, "muted": false });
    assert_eq!(
        json_call(&world, &token, "MutePublishedTrack", unmute).await.0,
        400,
        "nobody is unmuted from afar"
    );
    let permission =
        json!({ "canSubscribe": true, "canPublish": true, "canPublishData": true, "canPublishSources": ["CAMERA"] });
    let change = json!({ "room": "R", "identity": identity, "permission": permission });
    assert_eq!(json_call(&world, &token, "UpdateParticipant", change).await.0, 200);
    one.expect("TrackUnpublished", |m| {
        matches!(m, Message::TrackUnpublished(u) if u.track_sid == track.sid).then_some(())
    })
    .await;
    let told = one
        .update(&identity, |p| {
            p.permission
                .as_ref()
                .is_some_and(|x| x.can_publish_sources == [lk::TrackSource::Camera as i32])
        })
        .await;
    assert!(told.tracks.is_empty());
}

#[tokio::test]
async fn backends_send_data_into_a_room() {
    let world = World::new().await;
    let (one, room) = join(&world, "publisher1", "R").await;
    let request = lk::SendDataRequest {
        room: "R".into(),
        data: b"hello".to_vec(),
        topic: Some("t".into()),
        ..Default::default()
    };
    let _: lk::SendDataResponse = proto_call(&world, &admin(&world, "R"), "SendData", request)
        .await
        .unwrap();
    let told = world.engine.told(&room.room);
    let (to, bytes) = told
        .iter()
        .find_map(|t| {
            if let Told::Data(to, _, b) = t {
                Some((to, b))
            } else {
                None
            }
        })
        .unwrap();
    assert_eq!(to, &[one.sid()]);
    match lk::DataPacket::decode(&**bytes).unwrap().value {
        Some(lk::data_packet::Value::User(user)) => assert_eq!(
            (user.payload.as_slice(), user.topic.as_deref()),
            (&b"hello"[..], Some("t"))
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn calls_need_the_right_grant() {
    let world = World::new().await;
    let (_one, token) = join(&world, "moderator", "R").await;
    let (_two, publisher) = join(&world, "publisher1", "R").await;
    let list = json!({ "room": "R" });
    assert_eq!(
        json_call(&world, &api(&world), "ListParticipants", list.clone())
            .await
            .0,
        403
    );
    assert_eq!(
        json_call(&world, &admin(&world, "Other"), "ListParticipants", list.clone())
            .await
            .0,
        403
    );
    assert_eq!(
        json_call(&world, &admin(&world, "R"), "CreateRoom", json!({ "name": "x" }))
            .await
            .0,
        403
    );
    assert_eq!(
        json_call(&world, &admin(&world, "R"), "ListRooms", json!({})).await.0,
        403
    );
    assert_eq!(
        json_call(&world, &publisher.token, "ListParticipants", list.clone())
            .await
            .0,
        403
    );
    // A moderator's own room token moderates its own room.
    assert_eq!(
        json_call(&world, &token.token, "ListParticipants", list.clone())
            .await
            .0,
        200
    );
    let (status, body) = json_call(&world, "nonsense", "ListParticipants", list).await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (401, Some("unauthenticated")));
}

#[tokio::test]
async fn unknown_routes_and_bad_bodies_get_twirps_errors() {
    let world = World::new().await;
    let token = api(&world);
    let (status, body) = json_call(&world, &token, "Dance", json!({})).await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (404, Some("bad_route")));
    let (status, body) = answer(
        world
            .post("/twirp/livekit.Egress/List")
            .bearer_auth(&token)
            .json(&json!({})),
    )
    .await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (404, Some("bad_route")));
    let (status, body) = answer(world.get("/twirp/livekit.RoomService/ListRooms").bearer_auth(&token)).await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (404, Some("bad_route")));
    let malformed = world
        .post("/twirp/livekit.RoomService/ListRooms")
        .bearer_auth(&token)
        .header("content-type", "application/json")
        .body("{");
    let (status, body) = answer(malformed).await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (400, Some("malformed")));
    let (status, body) = json_call(&world, &token, "CreateRoom", json!({ "name": "" })).await;
    assert_eq!(
        (status.as_u16(), body["code"].as_str()),
        (400, Some("invalid_argument"))
    );
}
