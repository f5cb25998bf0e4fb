//! What a restart keeps, and who may use a data folder.

use confab_control::{Control, JoinCheck, OpenError};

use crate::support::{World, participant, secs};

#[tokio::test]
async fn those_in_a_call_when_the_server_stops_may_come_back_for_sixty_seconds() {
    let world = World::new().await;
    let (a, b) = (
        world.token("publisher1", "R").await,
        world.token("publisher2", "R").await,
    );
    let unused = world.token("subscriber", "R").await;
    let first = world.join(&a.token).await;
    let leaving = world.join(&b.token).await;
    world.control.mark_departing(&b.admission, &leaving).await.unwrap();
    let world = world.restart(|_| {}).await;
    assert_eq!(
        world.control.list_rooms().await.unwrap().len(),
        1,
        "the room is open still"
    );
    world.clock.advance(secs(59));
    let verified = world.verify(&a.token).await;
    assert_eq!(verified.join_check(None), JoinCheck::Admit);
    assert_eq!(
        world.control.admit(&verified, &participant()).await.unwrap().replaced,
        Some(first)
    );
    assert_eq!(world.verify(&b.token).await.join_check(None), JoinCheck::Admit);
    assert_eq!(world.verify(&unused.token).await.join_check(None), JoinCheck::Admit);
    world.clock.advance(secs(1));
    let swept = world.control.sweep().await.unwrap().departed;
    assert_eq!(
        swept.iter().map(|v| v.identity.clone()).collect::<Vec<_>>(),
        [b.identity]
    );
    assert!(world.control.verify_room_token(&a.token).await.is_ok());
}

#[tokio::test]
async fn a_voided_token_stays_void_over_a_restart() {
    let world = World::new().await;
    let a = world.token("publisher1", "R").await;
    world.join(&a.token).await;
    world
        .control
        .remove_participant(&a.room.sid, &a.identity)
        .await
        .unwrap();
    let world = world.restart(|_| {}).await;
    assert!(world.control.verify_room_token(&a.token).await.is_err());
}

#[tokio::test]
async fn a_folder_has_one_user_at_a_time() {
    let world = World::new().await;
    for _ in 0..2 {
        assert!(matches!(
            Control::open(world.config.clone()).await,
            Err(OpenError::InUse(_))
        ));
        assert!(matches!(
            Control::open_for_commands(world.config.clone()).await,
            Err(OpenError::InUse(_))
        ));
    }
    let clone = world.control.clone();
    let World {
        control, config, dir, ..
    } = world;
    control.close().await;
    drop(control);
    drop(clone);
    Control::open(config).await.unwrap();
    drop(dir);
}

#[tokio::test]
async fn a_command_without_a_server_touches_no_admission() {
    let world = World::new().await;
    let a = world.token("publisher1", "R").await;
    let sid = world.join(&a.token).await;
    let World {
        control, config, dir, ..
    } = world;
    control.close().await;
    drop(control);
    let control = Control::open_for_commands(config).await.unwrap();
    let verified = control.verify_room_token(&a.token).await.unwrap();
    assert_eq!(verified.join_check(None), JoinCheck::Held { by: sid });
    drop(dir);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_folder_or_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    world.token("publisher1", "R").await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.config.data_dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&world.config.data_dir)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert!(files.len() >= 3, "database, log, lock: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(world.dir);
}
