//! What a call does at the signalling, against a scripted server.
#![allow(clippy::unwrap_used)]

mod fake;

use confab_client::api::{CallCommand, CallEvent, CallSnapshot, EndReason, Phase};
use confab_client::call::{Call, CallHandle};
use confab_types::{Secret, TrackSource};
use confab_wire::livekit::{self as lk, signal_request::Message as Said, signal_response as resp};
use fake::{Fake, PATIENCE, Socket};

async fn until(handle: &CallHandle, what: &str, fits: impl Fn(&CallSnapshot) -> bool) -> CallSnapshot {
    let mut snapshots = handle.snapshot();
    let found = tokio::time::timeout(PATIENCE, snapshots.wait_for(|s| fits(s))).await;
    found
        .unwrap_or_else(|_| panic!("{what}: {:?}", handle.snapshot().borrow()))
        .unwrap()
        .clone()
}

fn ended(snapshot: &CallSnapshot) -> bool {
    matches!(snapshot.phase, Phase::Ended(_))
}

/// A client in the room, media connected, its requests heard so far.
async fn connected(fake: &mut Fake) -> (CallHandle, Socket, Vec<Said>) {
    let handle = Call::join(fake.options().await);
    let mut socket = fake.socket().await;
    socket.join("PA_me", true).await;
    let heard = socket.connect_media().await;
    until(&handle, "connecting", |s| s.phase == Phase::Connected).await;
    (handle, socket, heard)
}

/// The AddTrack of a source, awaited if it was not among `heard`.
async fn add_track(socket: &mut Socket, heard: &[Said], source: lk::TrackSource) -> lk::AddTrackRequest {
    let fits = |m: &Said| matches!(m, Said::AddTrack(t) if t.source == source as i32);
    let found = match heard.iter().find(|m| fits(m)) {
        Some(found) => found.clone(),
        None => socket.hear_until(fits).await.pop().unwrap(),
    };
    let Said::AddTrack(request) = found else { unreachable!() };
    request
}

async fn publish(socket: &mut Socket, request: &lk::AddTrackRequest, sid: &str) {
    let track = lk::TrackInfo {
        sid: sid.to_owned(),
        r#type: request.r#type,
        source: request.source,
        ..Default::default()
    };
    let published = lk::TrackPublishedResponse {
        cid: request.cid.clone(),
        track: Some(track),
    };
    socket.say(resp::Message::TrackPublished(published)).await;
}

#[tokio::test]
async fn tracks_are_announced_before_the_offer_that_carries_them() {
    let mut fake = Fake::start().await;
    let mut options = fake.options().await;
    options.microphone_on = false;
    let handle = Call::join(options);
    let mut socket = fake.socket().await;
    assert!(!socket.query.contains("access_token"), "{}", socket.query);
    socket.join("PA_me", true).await;
    let heard = socket
        .hear_until(|m| matches!(m, Said::Offer(o) if o.sdp.contains("m=video")))
        .await;
    let Some(Said::Offer(offer)) = heard.last() else {
        unreachable!()
    };
    let camera = add_track(&mut socket, &heard, lk::TrackSource::Camera).await;
    assert!(offer.sdp.contains(&camera.cid), "the cid is the track half of msid");
    assert_eq!(camera.layers.len(), 1);
    publish(&mut socket, &camera, "TR_cam").await;
    let snapshot = until(&handle, "the camera", |s| s.camera.on).await;
    assert_eq!(snapshot.participants[0].tracks[0].sid.as_str(), "TR_cam");
}

#[tokio::test]
async fn a_subscriber_announces_nothing_whatever_it_was_told_to_send() {
    let mut fake = Fake::start().await;
    let handle = Call::join(fake.options().await);
    let mut socket = fake.socket().await;
    socket.join("PA_me", false).await;
    let heard = socket.connect_media().await;
    let snapshot = until(&handle, "connecting", |s| s.phase == Phase::Connected).await;
    assert!(!heard.iter().any(|m| matches!(m, Said::AddTrack(_))), "{heard:?}");
    assert!(snapshot.may_publish.is_empty() && !snapshot.camera.on && !snapshot.camera.busy);
}

#[tokio::test]
async fn a_moderators_mute_stops_the_capture_and_is_answered() {
    let mut fake = Fake::start().await;
    let (handle, mut socket, heard) = connected(&mut fake).await;
    let mut events = handle.events();
    let camera = add_track(&mut socket, &heard, lk::TrackSource::Camera).await;
    publish(&mut socket, &camera, "TR_cam").await;
    until(&handle, "the camera", |s| s.camera.on).await;
    socket
        .say(resp::Message::Mute(lk::MuteTrackRequest {
            sid: "TR_cam".to_owned(),
            muted: true,
        }))
        .await;
    let answer = socket.hear_until(|m| matches!(m, Said::Mute(_))).await.pop();
    let expected = lk::MuteTrackRequest {
        sid: "TR_cam".to_owned(),
        muted: true,
    };
    assert!(matches!(answer, Some(Said::Mute(mute)) if mute == expected));
    until(&handle, "the camera off", |s| {
        !s.camera.on && s.participants[0].tracks[0].muted
    })
    .await;
    loop {
        match tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            CallEvent::MutedByModerator(source) => break assert_eq!(source, TrackSource::Camera),
            _ => continue,
        }
    }
    // Only the person turns it on again.
    handle.send(CallCommand::Camera(true));
    let answer = socket.hear_until(|m| matches!(m, Said::Mute(_))).await.pop();
    assert!(matches!(answer, Some(Said::Mute(mute)) if !mute.muted));
    until(&handle, "the camera on", |s| s.camera.on).await;
}

#[tokio::test]
async fn leaving_tells_the_server_and_voids_the_token() {
    let mut fake = Fake::start().await;
    let (handle, mut socket, _) = connected(&mut fake).await;
    handle.send(CallCommand::Leave);
    socket.hear_until(|m| matches!(m, Said::Leave(_))).await;
    handle.closed().await;
    assert!(matches!(
        handle.snapshot().borrow().phase,
        Phase::Ended(EndReason::Left)
    ));
    let seen = fake.seen.lock();
    assert_eq!(seen.removed.len(), 1);
    assert_eq!(
        seen.removed[0]["token"].as_str(),
        seen.tokens.first().map(String::as_str)
    );
    assert_eq!(seen.removed[0]["sessionName"], "TUTORIAL");
}

#[tokio::test]
async fn dropping_the_handle_leaves() {
    let mut fake = Fake::start().await;
    let (handle, mut socket, _) = connected(&mut fake).await;
    drop(handle);
    socket.hear_until(|m| matches!(m, Said::Leave(_))).await;
}

#[tokio::test]
async fn a_void_token_is_replaced_by_one_new_one() {
    let mut fake = Fake::start().await;
    *fake.refuse.lock() = 1;
    let handle = Call::join(fake.options().await);
    let mut socket = fake.socket().await;
    assert_eq!(fake.seen.lock().tokens.len(), 2);
    assert_eq!(socket.token, fake.seen.lock().tokens[1]);
    socket.join("PA_me", true).await;
    socket.connect_media().await;
    until(&handle, "connecting", |s| s.phase == Phase::Connected).await;
}

#[tokio::test]
async fn a_token_refused_twice_ends_the_call_with_a_code() {
    let fake = Fake::start().await;
    *fake.refuse.lock() = 2;
    let handle = Call::join(fake.options().await);
    let snapshot = until(&handle, "the end", ended).await;
    assert!(matches!(snapshot.phase, Phase::Ended(EndReason::Failed { code, .. }) if code == "token_refused"));
    assert_eq!(fake.seen.lock().tokens.len(), 2);
}

#[tokio::test]
async fn being_removed_ends_the_call_for_good() {
    let mut fake = Fake::start().await;
    let (handle, mut socket, _) = connected(&mut fake).await;
    socket
        .say(resp::Message::Leave(lk::LeaveRequest {
            reason: lk::DisconnectReason::ParticipantRemoved as i32,
            action: lk::leave_request::Action::Disconnect as i32,
            ..Default::default()
        }))
        .await;
    let snapshot = until(&handle, "the end", ended).await;
    assert_eq!(snapshot.phase, Phase::Ended(EndReason::Removed));
    handle.closed().await;
    assert!(fake.seen.lock().removed.is_empty(), "the server knows already");
}

#[tokio::test]
async fn broken_signalling_is_resumed_with_the_newest_token_and_the_same_participant() {
    let mut fake = Fake::start().await;
    let (handle, mut socket, _) = connected(&mut fake).await;
    socket.say(resp::Message::RefreshToken("newer".to_owned())).await;
    // Heard for sure: answered after the token.
    handle.send(CallCommand::Attributes([("hand".to_owned(), "1".to_owned())].into()));
    socket.hear_until(|m| matches!(m, Said::UpdateMetadata(_))).await;
    socket.say_raw(&[]).await;
    drop(socket);
    let mut socket = fake.socket().await;
    assert!(socket.query.contains("reconnect=1&sid=PA_me"), "{}", socket.query);
    assert_eq!(socket.token, "newer");
    socket
        .say(resp::Message::Reconnect(lk::ReconnectResponse::default()))
        .await;
    socket.hear_until(|m| matches!(m, Said::SyncState(_))).await;
    let phase = handle.snapshot().borrow().phase.clone();
    assert!(
        matches!(phase, Phase::Reconnecting { .. } | Phase::Connected),
        "{phase:?}"
    );
}

#[tokio::test]
async fn a_resume_that_the_server_cannot_do_becomes_a_rejoin() {
    let mut fake = Fake::start().await;
    let (handle, socket, _) = connected(&mut fake).await;
    drop(socket);
    let mut socket = fake.socket().await;
    socket
        .say(resp::Message::Leave(lk::LeaveRequest {
            reason: lk::DisconnectReason::StateMismatch as i32,
            action: lk::leave_request::Action::Reconnect as i32,
            ..Default::default()
        }))
        .await;
    let mut socket = fake.socket().await;
    assert!(!socket.query.contains("reconnect"), "{}", socket.query);
    assert_eq!(fake.seen.lock().tokens.len(), 1, "a rejoin reuses its token");
    socket.join("PA_again", true).await;
    socket.connect_media().await;
    let snapshot = until(&handle, "rejoining", |s| s.phase == Phase::Connected).await;
    assert_eq!(snapshot.me.unwrap().as_str(), "PA_again");
    assert_eq!(handle.report().await.reconnects, 1);
}

#[tokio::test]
async fn unknown_and_broken_messages_are_passed_over() {
    let mut fake = Fake::start().await;
    let (handle, mut socket, _) = connected(&mut fake).await;
    socket.say_raw(&[0xff, 0xff, 0xff]).await;
    // Field 999, which no version knows.
    socket.say_raw(&[0xba, 0x3e, 0x01, 0x00]).await;
    let other = lk::ParticipantInfo {
        sid: "PA_b".to_owned(),
        name: "Bo".to_owned(),
        ..Default::default()
    };
    socket
        .say(resp::Message::Update(lk::ParticipantUpdate {
            participants: vec![other],
        }))
        .await;
    let snapshot = until(&handle, "the other", |s| s.participants.len() == 2).await;
    assert_eq!(snapshot.participants[1].nickname, "Bo");
    assert_eq!(snapshot.phase, Phase::Connected);
}

#[tokio::test]
async fn a_camera_that_is_not_there_leaves_a_call_with_a_problem_and_sound() {
    let mut fake = Fake::start().await;
    let mut options = fake.options().await;
    options.camera = confab_media::VideoSourceSpec::Y4m("/nowhere/at/all.y4m".into());
    let handle = Call::join(options);
    let mut socket = fake.socket().await;
    socket.join("PA_me", true).await;
    let heard = socket.connect_media().await;
    let microphone = add_track(&mut socket, &heard, lk::TrackSource::Microphone).await;
    publish(&mut socket, &microphone, "TR_mic").await;
    let snapshot = until(&handle, "the sound", |s| s.microphone.on && s.camera.problem.is_some()).await;
    assert!(!snapshot.camera.on && !snapshot.camera.busy);
    assert_eq!(snapshot.phase, Phase::Connected);
}

#[tokio::test]
async fn a_given_token_is_used_as_it_is_at_any_server() {
    let mut fake = Fake::start().await;
    let mut options = fake.options().await;
    let url = fake.url.clone();
    options.with = confab_client::api::JoinWith::Token {
        url,
        token: Secret::new("given"),
    };
    let _handle = Call::join(options);
    let socket = fake.socket().await;
    assert_eq!(socket.token, "given");
    assert!(fake.seen.lock().tokens.is_empty());
}
