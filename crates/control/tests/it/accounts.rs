//! Adding, changing and removing accounts.

use confab_control::{AccountError, AuthError, LoginError, NewAccount, PasswordRule};
use confab_types::{Role, Scope, Secret};

use crate::support::{START, World, room_name, user_name};

fn ada(password: &str) -> NewAccount {
    NewAccount {
        name: user_name("ada"),
        password: Secret::new(password),
        role: Role::Publisher,
        administrator: false,
    }
}

#[tokio::test]
async fn an_added_account_is_listed_and_can_sign_in() {
    let world = World::with(|_| {}).await;
    let added = world.control.add_account(ada("correct horse")).await.unwrap();
    assert_eq!(
        (added.role, added.administrator, added.created_at),
        (Role::Publisher, false, START)
    );
    assert_eq!(
        world.control.list_accounts().await.unwrap(),
        std::slice::from_ref(&added)
    );
    assert_eq!(world.control.account(&user_name("ada")).await.unwrap(), added);
    assert_eq!(
        world.try_login("ada", "correct horse").await.unwrap().session.user,
        user_name("ada")
    );
}

#[tokio::test]
async fn a_name_is_taken_in_every_letter_case() {
    let world = World::with(|_| {}).await;
    world.control.add_account(ada("x")).await.unwrap();
    for name in ["ada", "ADA", "Ada"] {
        let again = NewAccount {
            name: user_name(name),
            ..ada("y")
        };
        assert!(
            matches!(world.control.add_account(again).await, Err(AccountError::Exists(_))),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_password_has_1_to_1024_bytes() {
    let world = World::with(|_| {}).await;
    let add = |password: String| world.control.add_account(ada(&password));
    assert!(matches!(
        add(String::new()).await,
        Err(AccountError::Password(PasswordRule::Empty))
    ));
    assert!(matches!(
        add("x".repeat(1025)).await,
        Err(AccountError::Password(PasswordRule::TooLong))
    ));
    add("ü".repeat(512)).await.unwrap();
    assert!(world.try_login("ada", &"ü".repeat(512)).await.is_ok());
    let empty = Secret::new("");
    let changed = world.control.set_password(&user_name("ada"), &empty).await;
    assert!(matches!(changed, Err(AccountError::Password(PasswordRule::Empty))));
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_and_the_old_one_is_worth_nothing() {
    let world = World::new().await;
    let old = world.login("publisher1").await;
    world
        .control
        .set_password(&user_name("publisher1"), &Secret::new("new"))
        .await
        .unwrap();
    assert!(matches!(
        world.control.authenticate(&old.session_token).await,
        Err(AuthError::NotSignedIn)
    ));
    assert!(world.control.refresh(&old.refresh_token.unwrap()).await.is_err());
    assert!(matches!(
        world.try_login("publisher1", "pass").await,
        Err(LoginError::WrongCredentials)
    ));
    assert!(world.try_login("publisher1", "new").await.is_ok());
}

#[tokio::test]
async fn removing_an_account_ends_its_sessions_and_says_whom_to_disconnect() {
    let world = World::new().await;
    let session = world.login("publisher1").await;
    let (used, unused) = (
        world.token("publisher1", "R").await,
        world.token("publisher1", "R").await,
    );
    let sid = world.join(&used.token).await;
    let removed = world.control.remove_account(&user_name("publisher1")).await.unwrap();
    let mut participants: Vec<_> = removed.voided.iter().map(|v| v.participant.clone()).collect();
    participants.sort();
    assert_eq!(participants, [None, Some(sid)]);
    assert!(world.control.authenticate(&session.session_token).await.is_err());
    for token in [used, unused] {
        assert!(world.control.verify_room_token(&token.token).await.is_err());
    }
    assert!(matches!(
        world.try_login("publisher1", "pass").await,
        Err(LoginError::WrongCredentials)
    ));
    let room = world.control.room(&room_name("R")).await.unwrap().unwrap();
    assert_eq!(room.creator, None, "another account of that name inherits nothing");
    assert!(matches!(
        world.control.remove_account(&user_name("publisher1")).await,
        Err(AccountError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_narrower_role_narrows_open_sessions_at_once() {
    let world = World::new().await;
    let moderator = world.login("moderator").await;
    assert_eq!(moderator.session.scopes, [Scope::Join, Scope::Publish, Scope::Moderate]);
    world
        .control
        .set_role(&user_name("moderator"), Role::Subscriber, None)
        .await
        .unwrap();
    let now = world.control.authenticate(&moderator.session_token).await.unwrap();
    assert_eq!((now.role, now.scopes), (Role::Subscriber, vec![Scope::Join]));
    let token = world
        .control
        .issue_room_token(&moderator.session, &room_name("R"), None)
        .await
        .unwrap();
    let grants = world.verify(&token.token).await.grants;
    assert!(
        grants.can_publish_sources.is_empty() && !grants.room_admin,
        "even if it was authenticated before"
    );
}

#[tokio::test]
async fn the_right_to_administer_is_kept_unless_it_is_named() {
    let world = World::new().await;
    let admin = user_name("admin");
    assert!(
        world
            .control
            .set_role(&admin, Role::Publisher, None)
            .await
            .unwrap()
            .administrator
    );
    assert!(
        !world
            .control
            .set_role(&admin, Role::Publisher, Some(false))
            .await
            .unwrap()
            .administrator
    );
    let nobody = world
        .control
        .set_role(&user_name("nobody"), Role::Publisher, None)
        .await;
    assert!(matches!(nobody, Err(AccountError::NotFound(_))));
}

#[tokio::test]
async fn the_demo_adds_the_samples_accounts_once_and_changes_none() {
    let world = World::new().await;
    world
        .control
        .set_password(&user_name("admin"), &Secret::new("mine"))
        .await
        .unwrap();
    let world = world.restart(|_| {}).await;
    let shown = |a: &confab_control::Account| (a.name.to_string(), a.role, a.administrator);
    let accounts: Vec<_> = world.control.list_accounts().await.unwrap().iter().map(shown).collect();
    let expected = [
        ("admin", Role::Moderator, true),
        ("moderator", Role::Moderator, false),
        ("publisher1", Role::Publisher, false),
        ("publisher2", Role::Publisher, false),
        ("subscriber", Role::Subscriber, false),
    ];
    assert_eq!(
        accounts,
        expected.map(|(name, role, admin)| (name.to_owned(), role, admin))
    );
    assert!(world.try_login("admin", "mine").await.is_ok());
    assert!(world.try_login("subscriber", "pass").await.is_ok());
}
