//! Rooms and the settings of their names.

use confab_control::{EndReason, RoomOptions, RoomOrigin, RoomSettings, RoomSettingsChange};

use crate::support::{START, World, room_name, secs, user_name};

#[tokio::test]
async fn opening_twice_gives_the_same_room_and_says_who_made_it() {
    let world = World::new().await;
    let by_rest = world.token("publisher1", "R").await.room;
    assert_eq!(
        (by_rest.origin, by_rest.creator.clone()),
        (RoomOrigin::Rest, Some(user_name("publisher1")))
    );
    assert_eq!(
        (by_rest.empty_timeout, by_rest.departure_timeout),
        (secs(300), secs(20))
    );
    assert_eq!(by_rest.created_at, START);
    let again = world
        .control
        .open_room(&room_name("R"), RoomOptions::new(RoomOrigin::Service))
        .await
        .unwrap();
    assert!(!again.opened_now);
    assert_eq!(again.room, by_rest);
    assert_eq!(world.control.list_rooms().await.unwrap(), [by_rest]);
}

#[tokio::test]
async fn a_service_room_keeps_what_it_was_made_with() {
    let world = World::new().await;
    let options = RoomOptions {
        empty_timeout: secs(7),
        departure_timeout: secs(8),
        max_participants: Some(9),
        metadata: "{\"a\":1}".to_owned(),
        ..RoomOptions::new(RoomOrigin::Service)
    };
    let made = world.control.open_room(&room_name("R"), options).await.unwrap();
    assert!(made.opened_now);
    let world = world.restart(|_| {}).await;
    let room = world.control.room(&room_name("R")).await.unwrap().unwrap();
    assert_eq!(room, made.room, "a restart ends no room");
    assert_eq!(
        (room.empty_timeout, room.departure_timeout, room.size_limit),
        (secs(7), secs(8), Some(9))
    );
    assert_eq!(room.metadata, "{\"a\":1}");
}

#[tokio::test]
async fn settings_belong_to_the_name_and_outlive_the_room() {
    let world = World::new().await;
    let name = room_name("R");
    assert_eq!(
        world.control.room_settings(&name).await.unwrap(),
        RoomSettings::default()
    );
    let change = RoomSettingsChange {
        locked: None,
        size_limit: Some(Some(4)),
    };
    world.control.set_room_settings(&name, change).await.unwrap();
    let room = world.token("publisher1", "R").await.room;
    assert_eq!(room.size_limit, Some(4));
    world.control.end_room(&room.sid, EndReason::Empty).await.unwrap();
    let change = RoomSettingsChange {
        locked: Some(true),
        size_limit: None,
    };
    let settings = world.control.set_room_settings(&name, change).await.unwrap();
    assert_eq!(
        settings,
        RoomSettings {
            locked: true,
            size_limit: Some(4)
        }
    );
    let change = RoomSettingsChange {
        locked: Some(false),
        size_limit: Some(None),
    };
    world.control.set_room_settings(&name, change).await.unwrap();
    assert_eq!(world.token("publisher1", "R").await.room.size_limit, None);
}

#[tokio::test]
async fn the_smaller_of_two_limits_counts_and_zero_is_none() {
    let world = World::new().await;
    let name = room_name("R");
    let limit = |n| RoomSettingsChange {
        size_limit: Some(Some(n)),
        ..RoomSettingsChange::default()
    };
    let options = RoomOptions {
        max_participants: Some(5),
        ..RoomOptions::new(RoomOrigin::Service)
    };
    world.control.open_room(&name, options).await.unwrap();
    for (set, expected) in [(9, 5), (3, 3), (0, 5)] {
        world.control.set_room_settings(&name, limit(set)).await.unwrap();
        assert_eq!(
            world.control.room(&name).await.unwrap().unwrap().size_limit,
            Some(expected)
        );
    }
}
