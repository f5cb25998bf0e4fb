//! The life of an admission: used once, held, departing, taken back, void.

use confab_control::{
    AdmissionState, AdmitError, EndReason, JoinCheck, RoomOptions, RoomOrigin, RoomSettingsChange, TokenRejected,
};

use crate::support::{World, backend_claims, participant, room_name, secs, sign};

fn size_limit(limit: u32) -> RoomSettingsChange {
    RoomSettingsChange {
        size_limit: Some(Some(limit)),
        ..RoomSettingsChange::default()
    }
}

#[tokio::test]
async fn a_token_is_used_once_while_its_holder_is_in() {
    let world = World::new().await;
    let token = world.token("publisher1", "R").await.token;
    let first = world.verify(&token).await;
    assert_eq!(first.join_check(None), JoinCheck::Admit);
    let sid = world.join(&token).await;
    let second = world.verify(&token).await;
    assert_eq!(second.join_check(None), JoinCheck::Held { by: sid.clone() });
    assert_eq!(
        second.join_check(Some(&participant())),
        JoinCheck::Held { by: sid.clone() }
    );
    assert_eq!(
        second.join_check(Some(&sid)),
        JoinCheck::Resume {
            participant: sid.clone()
        }
    );
    // Both had verified it before either was admitted: still only one gets in.
    let late = world.control.admit(&first, &participant()).await;
    assert!(matches!(late, Err(AdmitError::Held { by }) if by == sid));
}

#[tokio::test]
async fn verifying_uses_nothing_up() {
    let world = World::new().await;
    let token = world.token("publisher1", "R").await.token;
    for _ in 0..5 {
        assert_eq!(world.verify(&token).await.join_check(None), JoinCheck::Admit);
    }
    world.join(&token).await;
}

#[tokio::test]
async fn a_lost_connection_may_come_back_as_a_new_participant_for_twenty_seconds() {
    let world = World::new().await;
    let issued = world.token("publisher1", "R").await;
    let first = world.join(&issued.token).await;
    world.control.mark_departing(&issued.admission, &first).await.unwrap();
    world.clock.advance(secs(19));
    let verified = world.verify(&issued.token).await;
    assert_eq!(verified.admission.as_ref().unwrap().state, AdmissionState::Departing);
    assert_eq!(verified.join_check(None), JoinCheck::Admit);
    let second = participant();
    let admitted = world.control.admit(&verified, &second).await.unwrap();
    assert_eq!(admitted.replaced, Some(first.clone()));
    assert_eq!(admitted.admission, issued.admission);
    assert_eq!(admitted.room, issued.room.sid);

    // The old connection's end, noticed late, takes nothing from the new one.
    world.control.mark_departing(&issued.admission, &first).await.unwrap();
    world.clock.advance(secs(60));
    assert!(world.control.sweep().await.unwrap().departed.is_empty());
    assert_eq!(
        world.verify(&issued.token).await.join_check(None),
        JoinCheck::Held { by: second }
    );
}

#[tokio::test]
async fn after_twenty_seconds_the_departed_is_gone_for_good() {
    let world = World::new().await;
    let issued = world.token("publisher1", "R").await;
    let sid = world.join(&issued.token).await;
    let before = world.verify(&issued.token).await;
    world.control.mark_departing(&issued.admission, &sid).await.unwrap();
    world.clock.advance(secs(20));
    let rejected = world.control.verify_room_token(&issued.token).await;
    assert!(matches!(rejected, Err(TokenRejected::Revoked)), "even before a sweep");
    assert!(matches!(
        world.control.admit(&before, &participant()).await,
        Err(AdmitError::Revoked)
    ));
    assert!(world.control.resume(&issued.admission, &sid).await.is_err());
    let swept = world.control.sweep().await.unwrap().departed;
    assert_eq!(
        swept.iter().map(|v| v.participant.clone()).collect::<Vec<_>>(),
        [Some(sid)]
    );
    assert!(world.control.sweep().await.unwrap().departed.is_empty(), "told once");
}

#[tokio::test]
async fn a_resume_goes_on_as_the_same_participant() {
    let world = World::new().await;
    let issued = world.token("publisher1", "R").await;
    let sid = world.join(&issued.token).await;
    world.control.mark_departing(&issued.admission, &sid).await.unwrap();
    let verified = world.verify(&issued.token).await;
    assert_eq!(
        verified.join_check(Some(&sid)),
        JoinCheck::Resume {
            participant: sid.clone()
        }
    );
    assert!(world.control.resume(&issued.admission, &participant()).await.is_err());
    world.control.resume(&issued.admission, &sid).await.unwrap();
    world.clock.advance(secs(60));
    assert!(world.control.sweep().await.unwrap().departed.is_empty());
    assert_eq!(
        world.verify_state(&issued.token).await,
        None,
        "the token's ten minutes are not over"
    );
}

impl World {
    /// Why the token is rejected, if it is.
    async fn verify_state(&self, token: &confab_types::Secret) -> Option<String> {
        self.control.verify_room_token(token).await.err().map(|e| e.to_string())
    }
}

#[tokio::test]
async fn a_join_that_finds_a_dead_holder_takes_over() {
    let world = World::new().await;
    let issued = world.token("publisher1", "R").await;
    let dead = world.join(&issued.token).await;
    let verified = world.verify(&issued.token).await;
    assert_eq!(verified.join_check(None), JoinCheck::Held { by: dead.clone() });
    // No answer within 300 ms, says the server.
    world.control.mark_departing(&issued.admission, &dead).await.unwrap();
    assert_eq!(
        world.control.admit(&verified, &participant()).await.unwrap().replaced,
        Some(dead)
    );
}

#[tokio::test]
async fn removal_by_a_moderator_voids_the_seat_and_the_persons_unused_tokens() {
    let world = World::new().await;
    let used = world.token("publisher1", "R").await;
    let unused = world.token("publisher1", "R").await;
    let elsewhere = world.token("publisher1", "S").await;
    let second_device = world.token("publisher1", "R").await;
    let other = world.token("publisher2", "R").await;
    let sid = world.join(&used.token).await;
    world.join(&second_device.token).await;
    let voided = world
        .control
        .remove_participant(&used.room.sid, &used.identity)
        .await
        .unwrap();
    assert_eq!(voided.len(), 2);
    assert!(
        voided
            .iter()
            .any(|v| v.participant == Some(sid.clone()) && v.identity == used.identity)
    );
    assert!(
        voided
            .iter()
            .any(|v| v.admission == unused.admission && v.participant.is_none())
    );
    assert!(world.verify_state(&used.token).await.is_some());
    assert!(world.verify_state(&unused.token).await.is_some());
    for token in [&elsewhere, &second_device, &other] {
        assert_eq!(world.verify_state(&token.token).await, None);
    }
    assert!(
        world.control.mark_departing(&used.admission, &sid).await.is_ok(),
        "the socket's end changes nothing"
    );
    assert!(world.verify_state(&used.token).await.is_some());
}

#[tokio::test]
async fn a_full_or_locked_room_is_found_out_at_the_door_too() {
    let world = World::new().await;
    world
        .control
        .set_room_settings(&room_name("R"), size_limit(1))
        .await
        .unwrap();
    let (a, b) = (
        world.token("publisher1", "R").await,
        world.token("publisher2", "R").await,
    );
    let (va, vb) = (world.verify(&a.token).await, world.verify(&b.token).await);
    let (first, second) = (participant(), participant());
    let (ra, rb) = tokio::join!(world.control.admit(&va, &first), world.control.admit(&vb, &second));
    assert!(ra.is_ok() != rb.is_ok(), "one seat, one join");
    assert!(matches!(ra.and(rb), Err(AdmitError::RoomFull)));

    let c = world.token("publisher1", "S").await;
    let lock = RoomSettingsChange {
        locked: Some(true),
        ..RoomSettingsChange::default()
    };
    let d = world.token("publisher2", "S").await;
    let sid = world.join(&d.token).await;
    world.control.set_room_settings(&room_name("S"), lock).await.unwrap();
    let vc = world.verify(&c.token).await;
    assert!(matches!(
        world.control.admit(&vc, &participant()).await,
        Err(AdmitError::RoomLocked)
    ));
    world.control.mark_departing(&d.admission, &sid).await.unwrap();
    let vd = world.verify(&d.token).await;
    assert!(
        world.control.admit(&vd, &participant()).await.is_ok(),
        "who has a seat comes back to it"
    );
}

#[tokio::test]
async fn a_backends_token_joins_again_and_again_and_its_identity_has_one_seat() {
    let world = World::new().await;
    world
        .control
        .set_room_settings(&room_name("R"), size_limit(1))
        .await
        .unwrap();
    let token = sign(&backend_claims("R", "bot"));
    let verified = world.verify(&token).await;
    assert!(verified.admission.is_none());
    let early = world.control.admit(&verified, &participant()).await;
    assert!(matches!(early, Err(AdmitError::RoomNotOpen)));
    let room = world
        .control
        .open_room(&room_name("R"), RoomOptions::new(RoomOrigin::Service))
        .await
        .unwrap()
        .room;
    let first = participant();
    assert_eq!(world.control.admit(&verified, &first).await.unwrap().replaced, None);
    let second = participant();
    let admitted = world.control.admit(&verified, &second).await.unwrap();
    assert_eq!(admitted.replaced, Some(first));
    assert_eq!((admitted.room, admitted.user), (room.sid.clone(), None));
    let other = world.verify(&sign(&backend_claims("R", "other"))).await;
    assert!(matches!(
        world.control.admit(&other, &participant()).await,
        Err(AdmitError::RoomFull)
    ));
    world
        .control
        .mark_departing(&admitted.admission, &second)
        .await
        .unwrap();
    assert!(matches!(
        world.control.admit(&other, &participant()).await,
        Err(AdmitError::RoomFull)
    ));
    world.clock.advance(secs(20));
    assert!(world.control.admit(&other, &participant()).await.is_ok());
    assert_eq!(world.control.living_admissions(&room.sid).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_removed_participants_backend_tokens_are_revoked_up_to_that_time() {
    let world = World::new().await;
    let room = world
        .control
        .open_room(&room_name("R"), RoomOptions::new(RoomOrigin::Service))
        .await
        .unwrap()
        .room;
    let token = sign(&backend_claims("R", "bot"));
    let verified = world.verify(&token).await;
    world.control.admit(&verified, &participant()).await.unwrap();
    world.clock.advance(secs(5));
    world
        .control
        .remove_participant(&room.sid, &verified.identity)
        .await
        .unwrap();
    assert!(matches!(
        world.control.verify_room_token(&token).await,
        Err(TokenRejected::Revoked)
    ));
    assert!(matches!(
        world.control.admit(&verified, &participant()).await,
        Err(AdmitError::Revoked)
    ));
    let timeless = {
        let mut claims = backend_claims("R", "bot");
        claims.nbf = 0;
        sign(&claims)
    };
    assert!(
        world.verify_state(&timeless).await.is_some(),
        "no time of issue is an old one"
    );
    assert_eq!(world.verify_state(&sign(&backend_claims("R", "other"))).await, None);
    assert_eq!(world.verify_state(&sign(&backend_claims("S", "bot"))).await, None);
    world.clock.advance(secs(1));
    let mut later = backend_claims("R", "bot");
    later.iat = later.nbf + 6;
    assert_eq!(world.verify_state(&sign(&later)).await, None, "iat counts before nbf");
}

#[tokio::test]
async fn ending_a_room_voids_all_its_tokens_and_no_others() {
    let world = World::new().await;
    let (used, unused) = (
        world.token("publisher1", "R").await,
        world.token("publisher2", "R").await,
    );
    let elsewhere = world.token("publisher1", "S").await;
    let backend = sign(&backend_claims("R", "bot"));
    let sid = world.join(&used.token).await;
    let voided = world.control.end_room(&used.room.sid, EndReason::Empty).await.unwrap();
    assert_eq!(voided.len(), 2);
    assert_eq!(
        voided.iter().filter_map(|v| v.participant.clone()).collect::<Vec<_>>(),
        [sid]
    );
    assert!(world.verify_state(&used.token).await.is_some());
    assert!(world.verify_state(&unused.token).await.is_some());
    assert_eq!(world.verify_state(&elsewhere.token).await, None);
    assert_eq!(world.verify_state(&backend).await, None, "good until it expires");
    assert!(
        world
            .control
            .end_room(&used.room.sid, EndReason::Empty)
            .await
            .unwrap()
            .is_empty()
    );

    let again = world.token("publisher1", "R").await;
    assert_ne!(again.room.sid, used.room.sid, "a new run is a new sid");
    world.clock.advance(secs(2));
    world
        .control
        .end_room(&again.room.sid, EndReason::Deleted)
        .await
        .unwrap();
    assert!(
        world.verify_state(&backend).await.is_some(),
        "unless someone ends the room"
    );
    assert_eq!(world.verify_state(&sign(&backend_claims("S", "bot"))).await, None);
}

#[tokio::test]
async fn unused_tokens_are_forgotten_after_their_time() {
    let world = World::new().await;
    let issued = world.token("publisher1", "R").await;
    assert_eq!(
        world.control.living_admissions(&issued.room.sid).await.unwrap().len(),
        1
    );
    world.clock.advance(secs(603));
    world.control.sweep().await.unwrap();
    assert!(
        world
            .control
            .living_admissions(&issued.room.sid)
            .await
            .unwrap()
            .is_empty()
    );
}
