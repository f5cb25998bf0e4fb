//! What a room token holds, who gets one, and how it is refreshed.

use confab_control::{AdmissionState, RoomSettingsChange, RoomTokenError, TokenIssuer, TokenRejected};
use confab_types::{ParticipantMetadata, Scope, TrackSource};

use crate::support::{START, World, backend_claims, claims_of, home, room_name, secs, sign, user_name};

#[tokio::test]
async fn a_room_token_carries_user_nickname_and_the_roles_grants_for_ten_minutes() {
    let world = World::new().await;
    let session = world.login("publisher1").await.session;
    let nickname = "Ada".parse().unwrap();
    let issued = world
        .control
        .issue_room_token(&session, &room_name("TUTORIAL"), Some(&nickname))
        .await
        .unwrap();
    assert!(issued.room_opened_now && issued.room.sid.as_str().starts_with("RM_"));
    assert_eq!(issued.expires_at, START + secs(600));
    let verified = world.verify(&issued.token).await;
    assert_eq!(verified.issuer, TokenIssuer::Own);
    assert_eq!(
        (verified.room.as_str(), &verified.identity),
        ("TUTORIAL", &issued.identity)
    );
    assert!(issued.identity.as_str().starts_with("publisher1-"));
    assert_eq!(verified.claims.name, "Ada");
    let metadata: ParticipantMetadata = serde_json::from_str(&verified.claims.metadata).unwrap();
    assert_eq!(
        (metadata.client_data.as_str(), metadata.server_data.as_str()),
        ("Ada", "publisher1")
    );
    assert!(verified.grants.can_publish(TrackSource::Camera) && !verified.grants.room_admin);
    let admission = verified.admission.unwrap();
    assert_eq!(admission.id, issued.admission);
    assert_eq!(verified.claims.jti, issued.admission.as_str());
    assert_eq!(
        (admission.state, admission.room),
        (AdmissionState::Issued, issued.room.sid)
    );
    assert_eq!(admission.user, Some(user_name("publisher1")));
}

#[tokio::test]
async fn one_user_has_two_identities_on_two_devices_in_one_room() {
    let world = World::new().await;
    let (a, b) = (
        world.token("publisher1", "R").await,
        world.token("publisher1", "R").await,
    );
    assert_ne!(a.identity, b.identity);
    assert_eq!(a.room.sid, b.room.sid);
    assert!(a.room_opened_now && !b.room_opened_now);
    assert_eq!(
        claims_of(&a.token).name,
        "publisher1",
        "without a nickname, the user name"
    );
}

#[tokio::test]
async fn grants_are_the_role_cut_down_to_the_sessions_scopes() {
    let world = World::new().await;
    let cases: [(&str, &[Scope], bool, bool); 5] = [
        ("subscriber", &[Scope::Join], false, false),
        ("publisher1", &[Scope::Join, Scope::Publish], true, false),
        ("moderator", &[Scope::Join, Scope::Publish, Scope::Moderate], true, true),
        ("moderator", &[Scope::Join], false, false),
        ("moderator", &[Scope::Join, Scope::Moderate], false, true),
    ];
    for (user, scopes, publishes, moderates) in cases {
        let session = world
            .login_as(user, "pass", Some(scopes), home())
            .await
            .unwrap()
            .session;
        let issued = world
            .control
            .issue_room_token(&session, &room_name("R"), None)
            .await
            .unwrap();
        let verified = world.verify(&issued.token).await;
        assert_eq!(
            !verified.grants.can_publish_sources.is_empty(),
            publishes,
            "{user} {scopes:?}"
        );
        assert_eq!(verified.grants.room_admin, moderates, "{user} {scopes:?}");
        assert!(verified.grants.can_subscribe && verified.grants.can_publish_data);
    }
}

#[tokio::test]
async fn a_session_without_the_scope_to_join_gets_no_room_token_and_opens_no_room() {
    let world = World::new().await;
    let session = world
        .login_as("publisher1", "pass", Some(&[Scope::Publish]), home())
        .await
        .unwrap()
        .session;
    let answer = world.control.issue_room_token(&session, &room_name("R"), None).await;
    assert!(matches!(answer, Err(RoomTokenError::NotAllowed)));
    assert!(world.control.room(&room_name("R")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_locked_room_gives_no_tokens() {
    let world = World::new().await;
    let session = world.login("publisher1").await.session;
    let lock = |locked| RoomSettingsChange {
        locked: Some(locked),
        ..RoomSettingsChange::default()
    };
    world
        .control
        .set_room_settings(&room_name("R"), lock(true))
        .await
        .unwrap();
    let answer = world.control.issue_room_token(&session, &room_name("R"), None).await;
    assert!(matches!(answer, Err(RoomTokenError::RoomLocked)));
    assert!(world.control.list_rooms().await.unwrap().is_empty(), "nor does it open");
    world
        .control
        .set_room_settings(&room_name("R"), lock(false))
        .await
        .unwrap();
    assert!(
        world
            .control
            .issue_room_token(&session, &room_name("R"), None)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_full_room_gives_no_tokens_until_a_seat_is_free() {
    let world = World::new().await;
    let limit = RoomSettingsChange {
        size_limit: Some(Some(1)),
        ..RoomSettingsChange::default()
    };
    world.control.set_room_settings(&room_name("R"), limit).await.unwrap();
    let first = world.token("publisher1", "R").await;
    let spare = world.token("publisher2", "R").await;
    let sid = world.join(&first.token).await;
    let session = world.login("subscriber").await.session;
    let ask = || world.control.issue_room_token(&session, &first.room.name, None);
    assert!(matches!(ask().await, Err(RoomTokenError::RoomFull)));
    world.control.mark_departing(&first.admission, &sid).await.unwrap();
    assert!(
        matches!(ask().await, Err(RoomTokenError::RoomFull)),
        "the seat is held for 20 s and counts"
    );
    world.clock.advance(secs(20));
    assert!(ask().await.is_ok());
    drop(spare);
}

#[tokio::test]
async fn a_token_ends_to_the_second_but_for_a_small_leeway() {
    let world = World::new().await;
    let token = world.token("publisher1", "R").await.token;
    world.clock.advance(secs(601));
    assert!(world.control.verify_room_token(&token).await.is_ok());
    world.clock.advance(secs(1));
    assert!(matches!(
        world.control.verify_room_token(&token).await,
        Err(TokenRejected::Expired)
    ));
}

#[tokio::test]
async fn a_refreshed_token_keeps_the_admission_and_moves_the_end() {
    let world = World::new().await;
    let issued = world.token("publisher1", "R").await;
    let sid = world.join(&issued.token).await;
    world.clock.advance(secs(300));
    let refreshed = world.control.refresh_room_token(&issued.admission).await.unwrap();
    assert_eq!(refreshed.expires_at, START + secs(900));
    let (old, new) = (claims_of(&issued.token), claims_of(&refreshed.token));
    assert_eq!(
        (&old.jti, &old.sub, &old.video, &old.metadata),
        (&new.jti, &new.sub, &new.video, &new.metadata)
    );
    world.clock.advance(secs(500));
    assert!(world.control.verify_room_token(&issued.token).await.is_err());
    let verified = world.verify(&refreshed.token).await;
    assert_eq!(verified.admission.unwrap().participant, Some(sid));
    world
        .control
        .end_room(&issued.room.sid, confab_control::EndReason::Empty)
        .await
        .unwrap();
    assert!(world.control.verify_room_token(&refreshed.token).await.is_err());
    assert!(matches!(
        world.control.refresh_room_token(&issued.admission).await,
        Err(TokenRejected::Revoked)
    ));
}

#[tokio::test]
async fn a_backends_token_is_refreshed_under_its_own_key_and_never_shortened() {
    let world = World::new().await;
    let mut claims = backend_claims("R", "bot");
    claims.exp += 3600;
    claims.jti = "whatever".to_owned();
    let options = confab_control::RoomOptions::new(confab_control::RoomOrigin::Service);
    world.control.open_room(&room_name("R"), options).await.unwrap();
    let verified = world.verify(&sign(&claims)).await;
    let admitted = world
        .control
        .admit(&verified, &crate::support::participant())
        .await
        .unwrap();
    let refreshed = world.control.refresh_room_token(&admitted.admission).await.unwrap();
    let new = claims_of(&refreshed.token);
    assert_eq!(
        (new.exp, new.iss.as_str(), new.jti.as_str()),
        (claims.exp, "devkey", "whatever")
    );
    assert_eq!(
        world.verify(&refreshed.token).await.issuer,
        TokenIssuer::ApiKey("devkey".to_owned())
    );
}

#[tokio::test]
async fn a_token_without_the_right_to_join_is_told_from_a_bad_one() {
    let world = World::new().await;
    let mut claims = backend_claims("R", "bot");
    claims.video.room_join = false;
    assert!(matches!(
        world.control.verify_room_token(&sign(&claims)).await,
        Err(TokenRejected::NoJoin)
    ));
    for (room, identity) in [("", "bot"), ("R", ""), ("a\u{202e}b", "bot"), ("R", "a\nb")] {
        let token = sign(&backend_claims(room, identity));
        assert!(
            matches!(
                world.control.verify_room_token(&token).await,
                Err(TokenRejected::NoJoin)
            ),
            "{room:?}"
        );
    }
}
