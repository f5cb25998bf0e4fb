//! The life of a session: expiry, rotation, theft, logout.

use confab_control::{AuthError, RefreshError};

use crate::support::{START, World, room_name, secs};

#[tokio::test]
async fn a_session_token_ends_after_fifteen_minutes_to_the_second() {
    let world = World::new().await;
    let signed_in = world.login("publisher1").await;
    world.clock.advance(secs(15 * 60 - 1));
    assert!(world.control.authenticate(&signed_in.session_token).await.is_ok());
    world.clock.advance(secs(1));
    let late = world.control.authenticate(&signed_in.session_token).await;
    assert!(matches!(late, Err(AuthError::NotSignedIn)));
}

#[tokio::test]
async fn a_refresh_gives_a_new_pair_and_keeps_the_session() {
    let world = World::new().await;
    let first = world.login("publisher1").await;
    world.clock.advance(secs(14 * 60));
    let second = world
        .control
        .refresh(&first.refresh_token.clone().unwrap())
        .await
        .unwrap();
    assert_ne!(second.session_token, first.session_token);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(second.session.session, first.session.session);
    assert_eq!(second.session.expires_at, START + secs(29 * 60));
    assert!(
        world.control.authenticate(&first.session_token).await.is_ok(),
        "calls under way still succeed"
    );
    world.clock.advance(secs(60));
    assert!(world.control.authenticate(&first.session_token).await.is_err());
    assert_eq!(
        world.control.authenticate(&second.session_token).await.unwrap(),
        second.session
    );
}

#[tokio::test]
async fn a_lost_answer_is_given_again_for_thirty_seconds() {
    let world = World::new().await;
    let first = world.login("publisher1").await.refresh_token.unwrap();
    let second = world.control.refresh(&first).await.unwrap();
    for _ in 0..2 {
        world.clock.advance(secs(14));
        let again = world.control.refresh(&first).await.unwrap();
        assert_eq!(again.session_token, second.session_token);
        assert_eq!(again.refresh_token, second.refresh_token);
        assert_eq!(again.session, second.session);
    }
    assert!(world.control.refresh(&second.refresh_token.unwrap()).await.is_ok());
}

#[tokio::test]
async fn refreshing_twice_at_once_gives_the_same_pair() {
    let world = World::new().await;
    let token = world.login("publisher1").await.refresh_token.unwrap();
    let (a, b) = tokio::join!(world.control.refresh(&token), world.control.refresh(&token));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.session_token, a.refresh_token), (b.session_token, b.refresh_token));
}

#[tokio::test]
async fn a_refresh_token_spent_thirty_seconds_ago_ends_the_session() {
    let world = World::new().await;
    let first = world.login("publisher1").await.refresh_token.unwrap();
    let second = world.control.refresh(&first).await.unwrap();
    world.clock.advance(secs(30));
    assert!(matches!(
        world.control.refresh(&first).await,
        Err(RefreshError::SessionOver)
    ));
    assert!(
        world.control.authenticate(&second.session_token).await.is_err(),
        "the thief's or the owner's, it is over"
    );
    assert!(matches!(
        world.control.refresh(&second.refresh_token.unwrap()).await,
        Err(RefreshError::SessionOver)
    ));
}

#[tokio::test]
async fn a_refresh_token_whose_successor_was_used_ends_the_session_at_once() {
    let world = World::new().await;
    let first = world.login("publisher1").await.refresh_token.unwrap();
    let second = world.control.refresh(&first).await.unwrap().refresh_token.unwrap();
    let third = world.control.refresh(&second).await.unwrap();
    assert!(matches!(
        world.control.refresh(&first).await,
        Err(RefreshError::SessionOver)
    ));
    assert!(world.control.authenticate(&third.session_token).await.is_err());
}

#[tokio::test]
async fn a_stranger_token_refreshes_nothing_and_ends_nothing() {
    let world = World::new().await;
    let signed_in = world.login("publisher1").await;
    for token in ["", "x", signed_in.session_token.expose()] {
        let answer = world.control.refresh(&confab_types::Secret::new(token)).await;
        assert!(matches!(answer, Err(RefreshError::SessionOver)));
    }
    let as_session = world
        .control
        .authenticate(signed_in.refresh_token.as_ref().unwrap())
        .await;
    assert!(as_session.is_err(), "a refresh token is no session token");
    assert!(world.control.authenticate(&signed_in.session_token).await.is_ok());
}

#[tokio::test]
async fn logging_out_voids_both_tokens_and_that_session_only() {
    let world = World::new().await;
    let (here, there) = (world.login("publisher1").await, world.login("publisher1").await);
    world.control.logout(&here.session_token).await.unwrap();
    assert!(world.control.authenticate(&here.session_token).await.is_err());
    assert!(world.control.refresh(&here.refresh_token.unwrap()).await.is_err());
    let late = world
        .control
        .issue_room_token(&here.session, &room_name("R"), None)
        .await;
    assert!(late.is_err(), "not even a call that was authenticated a moment ago");
    assert!(world.control.room(&room_name("R")).await.unwrap().is_none());
    assert!(matches!(
        world.control.logout(&here.session_token).await,
        Err(AuthError::NotSignedIn)
    ));
    assert!(world.control.authenticate(&there.session_token).await.is_ok());
}

#[tokio::test]
async fn logging_out_with_an_expired_session_token_still_ends_the_session() {
    let world = World::new().await;
    let signed_in = world.login("publisher1").await;
    world.clock.advance(secs(3600));
    world.control.sweep().await.unwrap();
    world.control.logout(&signed_in.session_token).await.unwrap();
    assert!(world.control.refresh(&signed_in.refresh_token.unwrap()).await.is_err());
}

#[tokio::test]
async fn a_session_survives_restarts_and_ends_after_thirty_idle_days() {
    let world = World::new().await;
    let day = secs(24 * 3600);
    let mut token = world.login("publisher1").await.refresh_token.unwrap();
    let mut world = world;
    for _ in 0..4 {
        world.clock.advance(29 * day);
        world.control.sweep().await.unwrap();
        world = world.restart(|_| {}).await;
        token = world.control.refresh(&token).await.unwrap().refresh_token.unwrap();
    }
    world.clock.advance(30 * day);
    assert!(matches!(
        world.control.refresh(&token).await,
        Err(RefreshError::SessionOver)
    ));
    world.control.sweep().await.unwrap();
    assert!(matches!(
        world.control.refresh(&token).await,
        Err(RefreshError::SessionOver)
    ));
}

#[tokio::test]
async fn the_grace_holds_across_a_restart() {
    let world = World::new().await;
    let first = world.login("publisher1").await.refresh_token.unwrap();
    let second = world.control.refresh(&first).await.unwrap();
    let world = world.restart(|_| {}).await;
    let again = world.control.refresh(&first).await.unwrap();
    assert_eq!(again.session_token, second.session_token);
}

#[tokio::test]
async fn no_token_is_stored_as_it_is() {
    let world = World::new().await;
    let first = world.login("publisher1").await;
    let second = world
        .control
        .refresh(first.refresh_token.as_ref().unwrap())
        .await
        .unwrap();
    let world = world.restart(|_| {}).await;
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(&world.config.data_dir).unwrap() {
        stored.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    for signed_in in [first, second] {
        for token in [Some(signed_in.session_token), signed_in.refresh_token]
            .into_iter()
            .flatten()
        {
            let token = token.expose().as_bytes();
            assert!(!stored.windows(token.len()).any(|w| w == token));
        }
    }
}
