//! API keys: the default pair, configured ones, added ones.

use confab_control::{Control, KeyError, KeySource, OpenError};
use confab_types::Secret;

use crate::support::{World, backend_claims, parts, sign, sign_raw};

fn pair(name: &str, secret: &str) -> (String, Secret) {
    (name.to_owned(), Secret::new(secret))
}

#[tokio::test]
async fn a_pair_is_made_at_the_first_run_and_kept() {
    let world = World::with(|_| {}).await;
    let made = world.control.default_key().unwrap();
    assert!(made.name.starts_with("API") && made.secret.expose().len() >= 43);
    let world = world.restart(|_| {}).await;
    assert_eq!(world.control.default_key().unwrap(), made);
    let keys = world.control.list_keys().await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        (keys[0].name.as_str(), keys[0].source),
        (made.name.as_str(), KeySource::Default)
    );
}

#[tokio::test]
async fn configured_keys_take_the_place_of_the_default_pair_for_that_run() {
    let world = World::with(|_| {}).await;
    let made = world.control.default_key().unwrap();
    let mut claims = backend_claims("R", "bot");
    claims.iss.clone_from(&made.name);
    let payload = serde_json::to_string(&claims).unwrap();
    let token = sign_raw(r#"{"alg":"HS256"}"#, &payload, made.secret.expose().as_bytes());
    assert!(world.control.verify_room_token(&token).await.is_ok());
    let world = world
        .restart(|config| config.keys = vec![pair("devkey", "secret")])
        .await;
    assert!(world.control.verify_room_token(&token).await.is_err());
    assert!(
        world
            .control
            .verify_room_token(&sign(&backend_claims("R", "bot")))
            .await
            .is_ok()
    );
    assert!(world.control.default_key().is_none());
    let world = world.restart(|config| config.keys.clear()).await;
    assert!(world.control.verify_room_token(&token).await.is_ok());
}

#[tokio::test]
async fn an_added_key_is_good_at_once_and_a_removed_one_worth_nothing_at_once() {
    let world = World::new().await;
    let key = world.control.add_key(Some("backend")).await.unwrap();
    let mut claims = backend_claims("R", "bot");
    claims.iss = "backend".to_owned();
    let payload = serde_json::to_string(&claims).unwrap();
    let token = sign_raw(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        &payload,
        key.secret.expose().as_bytes(),
    );
    assert!(world.control.verify_room_token(&token).await.is_ok());
    let world = world.restart(|_| {}).await;
    assert!(world.control.verify_room_token(&token).await.is_ok(), "kept");
    let sources: Vec<_> = world
        .control
        .list_keys()
        .await
        .unwrap()
        .into_iter()
        .map(|k| (k.name, k.source))
        .collect();
    let expected = [
        ("devkey".to_owned(), KeySource::Configured),
        ("backend".to_owned(), KeySource::Added),
    ];
    assert_eq!(sources, expected);
    world.control.remove_key("backend").await.unwrap();
    assert!(world.control.verify_room_token(&token).await.is_err());
    assert!(matches!(
        world.control.remove_key("backend").await,
        Err(KeyError::NotFound(_))
    ));
}

#[tokio::test]
async fn keys_that_would_confuse_are_refused() {
    let world = World::new().await;
    for name in [
        "",
        "confab",
        "a b",
        "../key",
        "x'; DROP TABLE api_keys",
        &"k".repeat(65),
    ] {
        assert!(
            matches!(world.control.add_key(Some(name)).await, Err(KeyError::BadName(_))),
            "{name}"
        );
    }
    assert!(matches!(
        world.control.add_key(Some("devkey")).await,
        Err(KeyError::Exists(_))
    ));
    assert!(matches!(
        world.control.remove_key("devkey").await,
        Err(KeyError::Configured(_))
    ));
    let made_up = world.control.add_key(None).await.unwrap();
    assert!(made_up.name.starts_with("API"));
}

#[tokio::test]
async fn a_configuration_with_unusable_keys_does_not_open() {
    let world = World::with(|_| {}).await;
    let World {
        control, config, dir, ..
    } = world;
    control.close().await;
    drop(control);
    for keys in [
        vec![pair("confab", "s")],
        vec![pair("a", "")],
        vec![pair("a", "s"), pair("a", "t")],
    ] {
        let mut config = config.clone();
        config.keys = keys;
        assert!(matches!(Control::open(config).await, Err(OpenError::Key(_))));
    }
    drop(dir);
}

#[tokio::test]
async fn room_tokens_are_not_signed_with_an_api_key() {
    let world = World::new().await;
    let token = world.token("publisher1", "R").await.token;
    let (header, payload, signature) = parts(&token);
    let forged = sign_raw(&header, &payload, b"secret");
    assert_ne!(forged.expose().rsplit('.').next().unwrap(), signature);
    assert!(world.control.verify_room_token(&forged).await.is_err());
}
