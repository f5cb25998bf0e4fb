//! Forged, altered and odd tokens: all worth nothing, whatever they try.

use confab_control::TokenRejected;
use confab_types::Secret;
use hmac::{Hmac, KeyInit, Mac};

use crate::support::{World, backend_claims, base64url, parts, secs, sign, sign_raw};

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

async fn rejected(world: &World, token: Secret) -> TokenRejected {
    let api = world.control.verify_api_token(&token).await;
    let room = world.control.verify_room_token(&token).await.unwrap_err();
    assert!(api.is_err(), "the server API takes what the room does not: {room:?}");
    room
}

fn payload() -> String {
    serde_json::to_string(&backend_claims("R", "bot")).unwrap()
}

#[tokio::test]
async fn a_well_made_token_is_good() {
    let world = World::new().await;
    assert!(
        world
            .control
            .verify_room_token(&sign_raw(HS256, &payload(), b"secret"))
            .await
            .is_ok()
    );
    let named = sign_raw(r#"{"alg":"HS256","kid":"devkey"}"#, &payload(), b"secret");
    assert!(world.control.verify_room_token(&named).await.is_ok());
}

#[tokio::test]
async fn no_algorithm_is_no_token() {
    let world = World::new().await;
    let own = parts(&world.token("publisher1", "R").await.token).1;
    for payload in [payload(), own] {
        for alg in ["none", "None", "NONE", "", "hs256"] {
            let header = format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#);
            let body = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
            for token in [
                format!("{body}."),
                body.clone(),
                sign_raw(&header, &payload, b"secret").expose().to_owned(),
            ] {
                assert!(
                    matches!(rejected(&world, Secret::new(token)).await, TokenRejected::Invalid),
                    "{alg}"
                );
            }
        }
    }
}

#[tokio::test]
async fn another_algorithm_is_refused_even_with_the_right_key() {
    let world = World::new().await;
    let body = format!(
        "{}.{}",
        base64url(br#"{"alg":"HS512","typ":"JWT"}"#),
        base64url(payload().as_bytes())
    );
    let mut mac = Hmac::<sha2::Sha512>::new_from_slice(b"secret").unwrap();
    mac.update(body.as_bytes());
    let token = format!("{body}.{}", base64url(&mac.finalize().into_bytes()));
    assert!(matches!(
        rejected(&world, Secret::new(token)).await,
        TokenRejected::Invalid
    ));
    for alg in ["HS384", "RS256", "ES256", "EdDSA", "PS256"] {
        let token = sign_raw(&format!(r#"{{"alg":"{alg}"}}"#), &payload(), b"secret");
        assert!(matches!(rejected(&world, token).await, TokenRejected::Invalid), "{alg}");
    }
}

#[tokio::test]
async fn expired_and_not_yet_valid_tokens_are_refused() {
    let world = World::new().await;
    let mut claims = backend_claims("R", "bot");
    claims.nbf += 3;
    assert!(matches!(
        rejected(&world, sign(&claims)).await,
        TokenRejected::NotYetValid
    ));
    world.clock.advance(secs(1));
    assert!(
        world.control.verify_room_token(&sign(&claims)).await.is_ok(),
        "two seconds are forgiven"
    );
    world.clock.advance(secs(601));
    assert!(matches!(rejected(&world, sign(&claims)).await, TokenRejected::Expired));
    claims.nbf = u64::MAX;
    claims.exp = u64::MAX;
    assert!(matches!(
        rejected(&world, sign(&claims)).await,
        TokenRejected::NotYetValid
    ));
}

#[tokio::test]
async fn a_token_needs_an_end() {
    let world = World::new().await;
    let endless = r#"{"iss":"devkey","sub":"bot","video":{"roomJoin":true,"room":"R"}}"#;
    assert!(matches!(
        rejected(&world, sign_raw(HS256, endless, b"secret")).await,
        TokenRejected::Invalid
    ));
    for exp in ["-1", "\"9999999999\"", "1e99", "null"] {
        let odd = format!(r#"{{"iss":"devkey","exp":{exp},"sub":"bot","video":{{"roomJoin":true,"room":"R"}}}}"#);
        assert!(
            matches!(
                rejected(&world, sign_raw(HS256, &odd, b"secret")).await,
                TokenRejected::Invalid
            ),
            "{exp}"
        );
    }
}

#[tokio::test]
async fn an_end_beyond_the_calendar_breaks_nothing() {
    let world = World::new().await;
    let mut claims = backend_claims("R", "bot");
    claims.exp = u64::MAX;
    let verified = world.verify(&sign(&claims)).await;
    let options = confab_control::RoomOptions::new(confab_control::RoomOrigin::Service);
    world.control.open_room(&verified.room, options).await.unwrap();
    let admitted = world
        .control
        .admit(&verified, &crate::support::participant())
        .await
        .unwrap();
    assert!(world.control.refresh_room_token(&admitted.admission).await.is_ok());
}

#[tokio::test]
async fn another_issuer_is_unknown_whoever_signs() {
    let world = World::new().await;
    for issuer in ["nokey", "", "DEVKEY", "devkey ", "../devkey", "' OR 1=1 --", "confab"] {
        let mut claims = backend_claims("R", "bot");
        claims.iss = issuer.to_owned();
        assert!(
            matches!(rejected(&world, sign(&claims)).await, TokenRejected::Invalid),
            "{issuer}"
        );
    }
    for payload in [
        "{}",
        "[]",
        "null",
        "7",
        "",
        "{\"iss\":7}",
        "{\"iss\":[\"devkey\"],\"exp\":9999999999}",
    ] {
        assert!(matches!(
            rejected(&world, sign_raw(HS256, payload, b"secret")).await,
            TokenRejected::Invalid
        ));
    }
}

#[tokio::test]
async fn a_key_id_selects_nothing() {
    let world = World::new().await;
    for kid in [
        "/dev/null",
        "../../etc/passwd",
        "' UNION SELECT 'x' --",
        "http://127.0.0.1/key",
        "confab",
        "",
    ] {
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        for key in [b"secret".as_slice(), b"", b"x"] {
            assert!(
                matches!(
                    rejected(&world, sign_raw(&header, &payload(), key)).await,
                    TokenRejected::Invalid
                ),
                "{kid}"
            );
        }
    }
    let headers = [
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","jku":"http://127.0.0.1/keys"}"#,
        r#"{"alg":"HS256","x5u":"http://127.0.0.1/keys"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"eA"}}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
    ];
    for header in headers {
        for key in [b"secret".as_slice(), b"x"] {
            assert!(
                matches!(
                    rejected(&world, sign_raw(header, &payload(), key)).await,
                    TokenRejected::Invalid
                ),
                "{header}"
            );
        }
    }
}

#[tokio::test]
async fn an_altered_token_is_worth_nothing() {
    let world = World::new().await;
    let token = world.token("subscriber", "R").await.token;
    let (header, payload, signature) = parts(&token);
    let better = payload.replace("\"canPublish\":false", "\"canPublish\":true");
    assert_ne!(better, payload);
    let forged = format!(
        "{}.{}.{signature}",
        base64url(header.as_bytes()),
        base64url(better.as_bytes())
    );
    assert!(matches!(
        rejected(&world, Secret::new(forged)).await,
        TokenRejected::Invalid
    ));
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b.c".into(),
        format!("{}x", token.expose()),
    ] {
        assert!(matches!(
            rejected(&world, Secret::new(text)).await,
            TokenRejected::Invalid
        ));
    }
    let huge = sign_raw(
        HS256,
        &format!("{{\"iss\":\"devkey\",\"pad\":\"{}\"}}", "x".repeat(20_000)),
        b"secret",
    );
    assert!(matches!(rejected(&world, huge).await, TokenRejected::Invalid));
}

#[tokio::test]
async fn random_bytes_are_never_a_token_and_never_a_panic() {
    let world = World::new().await;
    let good = world.token("publisher1", "R").await.token.expose().to_owned();
    for seed in 0..300u64 {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut bytes = good.clone().into_bytes();
        let at = rng.random_range(0..bytes.len() - 1);
        bytes[at] = match rng.random_range(0x21..0x7f) {
            byte if byte == bytes[at] => b'!',
            byte => byte,
        };
        let token = String::from_utf8(bytes).unwrap();
        assert!(
            world
                .control
                .verify_room_token(&Secret::new(token.clone()))
                .await
                .is_err(),
            "{seed}: {token}"
        );
    }
}
