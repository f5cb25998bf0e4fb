//! `remove-user`: who leaves, and when that ends the room.

use confab_control::{RemoveUserError, RoomOptions, RoomOrigin};
use confab_types::Secret;

use crate::support::{World, backend_claims, participant, room_name, secs, sign};

#[tokio::test]
async fn the_last_one_to_leave_ends_the_room_with_all_its_tokens() {
    let world = World::new().await;
    let name = room_name("R");
    let (a, b, unused) = (
        world.token("publisher1", "R").await,
        world.token("publisher2", "R").await,
        world.token("subscriber", "R").await,
    );
    let sid = world.join(&a.token).await;
    world.join(&b.token).await;
    let removed = world.control.remove_user(&name, &a.token).await.unwrap();
    assert!(!removed.room_ended);
    assert_eq!(removed.room, a.room.sid);
    assert_eq!(removed.voided.len(), 1);
    assert_eq!(removed.voided[0].participant, Some(sid));
    assert!(world.control.verify_room_token(&a.token).await.is_err());
    assert!(world.control.verify_room_token(&unused.token).await.is_ok());

    let removed = world.control.remove_user(&name, &b.token).await.unwrap();
    assert!(removed.room_ended);
    assert_eq!(removed.voided.len(), 2, "the unused token too");
    assert!(world.control.verify_room_token(&unused.token).await.is_err());
    assert!(world.control.room(&name).await.unwrap().is_none());
    assert!(matches!(
        world.control.remove_user(&name, &b.token).await,
        Err(RemoveUserError::RoomNotFound)
    ));
}

#[tokio::test]
async fn who_may_come_back_still_keeps_the_room() {
    let world = World::new().await;
    let (a, b) = (
        world.token("publisher1", "R").await,
        world.token("publisher2", "R").await,
    );
    let sid = world.join(&a.token).await;
    world.join(&b.token).await;
    world.control.mark_departing(&a.admission, &sid).await.unwrap();
    assert!(
        !world
            .control
            .remove_user(&b.room.name, &b.token)
            .await
            .unwrap()
            .room_ended
    );
    world.clock.advance(secs(20));
    assert!(
        world.control.room(&a.room.name).await.unwrap().is_some(),
        "its time-out ends it, not the clock alone"
    );
}

#[tokio::test]
async fn a_token_that_was_never_used_can_be_given_back_without_ending_the_others() {
    let world = World::new().await;
    let (a, b) = (
        world.token("publisher1", "R").await,
        world.token("publisher2", "R").await,
    );
    assert!(
        !world
            .control
            .remove_user(&a.room.name, &a.token)
            .await
            .unwrap()
            .room_ended
    );
    assert!(world.control.verify_room_token(&b.token).await.is_ok());
    assert!(
        world
            .control
            .remove_user(&b.room.name, &b.token)
            .await
            .unwrap()
            .room_ended
    );
}

#[tokio::test]
async fn an_expired_or_refreshed_token_of_someone_inside_still_removes_them() {
    let world = World::new().await;
    let a = world.token("publisher1", "R").await;
    world.join(&a.token).await;
    world.clock.advance(secs(3600));
    world.control.sweep().await.unwrap();
    assert!(
        world
            .control
            .remove_user(&a.room.name, &a.token)
            .await
            .unwrap()
            .room_ended
    );

    let b = world.token("publisher1", "R").await;
    world.join(&b.token).await;
    let refreshed = world.control.refresh_room_token(&b.admission).await.unwrap();
    assert!(
        world
            .control
            .remove_user(&b.room.name, &refreshed.token)
            .await
            .unwrap()
            .room_ended
    );
}

#[tokio::test]
async fn a_room_or_token_that_is_not_there_is_told_so() {
    let world = World::new().await;
    let a = world.token("publisher1", "R").await;
    let elsewhere = world.token("publisher1", "S").await;
    let nowhere = world.control.remove_user(&room_name("T"), &a.token).await;
    assert!(matches!(nowhere, Err(RemoveUserError::RoomNotFound)));
    for token in [
        &elsewhere.token,
        &Secret::new("nonsense"),
        &sign(&backend_claims("R", "never joined")),
    ] {
        let answer = world.control.remove_user(&a.room.name, token).await;
        assert!(matches!(answer, Err(RemoveUserError::TokenNotFound)));
    }
    world.token("publisher2", "R").await;
    world.control.remove_user(&a.room.name, &a.token).await.unwrap();
    let again = world.control.remove_user(&a.room.name, &a.token).await;
    assert!(matches!(again, Err(RemoveUserError::TokenNotFound)), "void already");
}

#[tokio::test]
async fn a_token_of_an_earlier_run_is_not_one_of_this_room() {
    let world = World::new().await;
    let old = world.token("publisher1", "R").await;
    world
        .control
        .end_room(&old.room.sid, confab_control::EndReason::Empty)
        .await
        .unwrap();
    let new = world.token("publisher2", "R").await;
    let answer = world.control.remove_user(&new.room.name, &old.token).await;
    assert!(matches!(answer, Err(RemoveUserError::TokenNotFound)));
    assert!(world.control.verify_room_token(&new.token).await.is_ok());
}

#[tokio::test]
async fn a_backends_participant_can_be_removed_and_its_room_keeps_its_own_time_outs() {
    let world = World::new().await;
    let name = room_name("R");
    let room = world
        .control
        .open_room(&name, RoomOptions::new(RoomOrigin::Service))
        .await
        .unwrap()
        .room;
    let token = sign(&backend_claims("R", "bot"));
    let verified = world.verify(&token).await;
    let sid = participant();
    world.control.admit(&verified, &sid).await.unwrap();
    let removed = world.control.remove_user(&name, &token).await.unwrap();
    assert_eq!(removed.voided[0].participant, Some(sid));
    assert!(!removed.room_ended);
    assert!(world.control.verify_room_token(&token).await.is_err());
    assert!(matches!(
        world.control.remove_user(&name, &token).await,
        Err(RemoveUserError::TokenNotFound)
    ));
    assert_eq!(world.control.room(&name).await.unwrap().unwrap().sid, room.sid);
}
