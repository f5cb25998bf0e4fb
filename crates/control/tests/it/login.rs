//! Signing in: errors, scopes, the limit on failures, rehashing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use confab_control::{HashCost, LoginError};
use confab_types::{Role, Scope};

use crate::support::{START, World, home, secs};

#[tokio::test]
async fn a_login_says_who_and_what_for_and_until_when() {
    let world = World::new().await;
    let signed_in = world.login("admin").await;
    assert_eq!(
        (signed_in.session.role, signed_in.session.administrator),
        (Role::Moderator, true)
    );
    assert_eq!(signed_in.session.scopes, Scope::ALL);
    assert_eq!(signed_in.session.expires_at, START + secs(15 * 60));
    let again = world.control.authenticate(&signed_in.session_token).await.unwrap();
    assert_eq!(again, signed_in.session);
    assert!(signed_in.session_token.expose().len() >= 43, "256 bits in base64");
    assert!(!format!("{signed_in:?}").contains(signed_in.session_token.expose()));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_apart_by_nobody() {
    let world = World::new().await;
    let wrong = world.try_login("publisher1", "nope").await.unwrap_err();
    let unknown = world.try_login("nobody", "pass").await.unwrap_err();
    let no_name = world
        .try_login("no name, with spaces\u{202e}", "pass")
        .await
        .unwrap_err();
    let empty = world.try_login("publisher1", "").await.unwrap_err();
    for error in [&wrong, &unknown, &no_name, &empty] {
        assert!(matches!(error, LoginError::WrongCredentials), "{error:?}");
    }
    assert_eq!(wrong.to_string(), unknown.to_string());
}

#[tokio::test]
async fn a_password_over_1024_bytes_is_refused_before_any_work() {
    let world = World::new().await;
    for _ in 0..20 {
        let error = world.try_login("publisher1", &"x".repeat(1025)).await.unwrap_err();
        assert!(matches!(error, LoginError::PasswordTooLong));
    }
    assert!(
        world.try_login("publisher1", "pass").await.is_ok(),
        "and counts as no failure"
    );
}

#[tokio::test]
async fn scopes_can_be_narrowed_and_never_widened() {
    let world = World::new().await;
    let narrow = world
        .login_as("moderator", "pass", Some(&[Scope::Publish, Scope::Join]), home())
        .await
        .unwrap();
    assert_eq!(narrow.session.scopes, [Scope::Join, Scope::Publish]);
    assert!(
        world
            .login_as("moderator", "pass", Some(&[]), home())
            .await
            .unwrap()
            .session
            .scopes
            .is_empty()
    );
    let wide = world
        .login_as("subscriber", "pass", Some(&[Scope::Join, Scope::Publish]), home())
        .await;
    assert!(matches!(wide, Err(LoginError::ScopeNotAllowed(Scope::Publish))));
    let admin = world
        .login_as("moderator", "pass", Some(&[Scope::Administer]), home())
        .await;
    assert!(matches!(admin, Err(LoginError::ScopeNotAllowed(Scope::Administer))));
    let wrong = world
        .login_as("moderator", "nope", Some(&[Scope::Administer]), home())
        .await;
    assert!(
        matches!(wrong, Err(LoginError::WrongCredentials)),
        "told only to who knows the password"
    );
}

async fn fail(world: &World, user: &str, address: IpAddr) -> LoginError {
    world.login_as(user, "nope", None, address).await.unwrap_err()
}

fn retry_after(error: LoginError) -> Duration {
    match error {
        LoginError::TooManyAttempts { retry_after } => retry_after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_sixth_failure_in_fifteen_minutes_shuts_the_account_even_for_the_right_password() {
    let world = World::new().await;
    for _ in 0..5 {
        assert!(matches!(
            fail(&world, "publisher1", home()).await,
            LoginError::WrongCredentials
        ));
        world.clock.advance(secs(60));
    }
    assert_eq!(retry_after(fail(&world, "publisher1", home()).await), secs(600));
    let right = world.try_login("publisher1", "pass").await.unwrap_err();
    assert_eq!(retry_after(right), secs(600));
    assert!(
        world.try_login("publisher2", "pass").await.is_ok(),
        "others are not touched"
    );
    world.clock.advance(secs(599));
    assert_eq!(
        retry_after(world.try_login("publisher1", "pass").await.unwrap_err()),
        secs(1)
    );
    world.clock.advance(secs(1));
    assert!(
        world.try_login("publisher1", "pass").await.is_ok(),
        "Retry-After was the truth"
    );
}

#[tokio::test]
async fn five_failures_are_forgiven_to_who_then_knows_the_password() {
    let world = World::new().await;
    for _ in 0..5 {
        fail(&world, "publisher1", home()).await;
    }
    assert!(world.try_login("publisher1", "pass").await.is_ok());
}

#[tokio::test]
async fn an_unknown_user_is_shut_out_like_a_known_one() {
    let world = World::new().await;
    for _ in 0..5 {
        assert!(matches!(
            fail(&world, "nobody", home()).await,
            LoginError::WrongCredentials
        ));
    }
    retry_after(fail(&world, "nobody", home()).await);
    retry_after(fail(&world, "NOBODY", home()).await);
}

#[tokio::test]
async fn fifty_failures_from_one_address_shut_it_out_and_no_other() {
    let world = World::new().await;
    let there = IpAddr::from(Ipv4Addr::new(198, 51, 100, 7));
    for n in 0..49 {
        assert!(matches!(
            fail(&world, &format!("user{n}"), there).await,
            LoginError::WrongCredentials
        ));
    }
    retry_after(fail(&world, "user49", there).await);
    retry_after(world.login_as("publisher1", "pass", None, there).await.unwrap_err());
    assert!(world.login_as("publisher1", "pass", None, home()).await.is_ok());
}

#[tokio::test]
async fn guesses_that_are_made_at_the_same_time_are_counted_all_the_same() {
    let world = World::new().await;
    let guesses = (0..40).map(|_| {
        let control = world.control.clone();
        tokio::spawn(async move {
            let password = confab_types::Secret::new("nope");
            let request = confab_control::LoginRequest {
                user: "publisher1",
                password: &password,
                scopes: None,
                device: None,
                address: home(),
            };
            control.login(request).await.unwrap_err()
        })
    });
    let mut wrong = 0;
    for guess in guesses.collect::<Vec<_>>() {
        wrong += usize::from(matches!(guess.await.unwrap(), LoginError::WrongCredentials));
    }
    assert_eq!(wrong, 5, "the others were answered with too many attempts");
}

#[tokio::test]
async fn many_people_may_sign_in_to_one_account_at_the_same_time() {
    let world = World::new().await;
    let logins: Vec<_> = (0..20)
        .map(|_| {
            let control = world.control.clone();
            tokio::spawn(async move {
                let password = confab_types::Secret::new("pass");
                let request = confab_control::LoginRequest {
                    user: "publisher1",
                    password: &password,
                    scopes: None,
                    device: None,
                    address: home(),
                };
                control.login(request).await.map(drop)
            })
        })
        .collect();
    for login in logins {
        login.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_login_strengthens_a_hash_of_older_parameters_and_ends_no_session() {
    let world = World::new().await;
    let session = world.login("publisher1").await;
    let stronger = HashCost {
        memory_kib: 16,
        passes: 2,
        ..HashCost::default()
    };
    let world = world.restart(|config| config.hash_cost = stronger).await;
    let stored = |world: &World| {
        let file = world.config.data_dir.join("confab.db");
        async move {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            let sql = "SELECT phc FROM passwords JOIN users ON users.id = user_id WHERE name = 'publisher1'";
            let phc: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
            pool.close().await;
            phc
        }
    };
    assert!(stored(&world).await.contains("$m=8,t=1,p=1$"));
    world.login("publisher1").await;
    assert!(stored(&world).await.contains("$m=16,t=2,p=1$"));
    world.login("publisher1").await;
    assert!(world.control.authenticate(&session.session_token).await.is_ok());
}
