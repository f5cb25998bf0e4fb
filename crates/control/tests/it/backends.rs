//! Session tokens and server API tokens for backends.

use confab_control::{ApiCredentials, BackendTokenError, BackendTokenRequest, SignedIn, TokenIssuer};
use confab_types::{Claims, Scope, Secret, UserName, VideoGrant};

use crate::support::{World, backend_claims, secs, sign, user_name};

fn basic(secret: &str) -> ApiCredentials {
    ApiCredentials::Basic {
        key: "devkey".to_owned(),
        secret: Secret::new(secret),
    }
}

fn request(user: &UserName) -> BackendTokenRequest<'_> {
    BackendTokenRequest {
        user,
        scopes: None,
        ttl: None,
    }
}

async fn ask(world: &World, credentials: &ApiCredentials) -> Result<SignedIn, BackendTokenError> {
    world
        .control
        .backend_token(credentials, request(&user_name("publisher1")))
        .await
}

#[tokio::test]
async fn a_backend_with_its_key_gets_a_session_without_a_refresh_token() {
    let world = World::new().await;
    let signed_in = ask(&world, &basic("secret")).await.unwrap();
    assert!(signed_in.refresh_token.is_none());
    let session = world.control.authenticate(&signed_in.session_token).await.unwrap();
    assert_eq!(
        (session.user, session.scopes),
        (user_name("publisher1"), vec![Scope::Join, Scope::Publish])
    );
    world.clock.advance(secs(15 * 60));
    assert!(world.control.authenticate(&signed_in.session_token).await.is_err());
}

#[tokio::test]
async fn a_wrong_secret_or_an_unknown_key_gets_nothing() {
    let world = World::new().await;
    let unknown = ApiCredentials::Basic {
        key: "nokey".to_owned(),
        secret: Secret::new("secret"),
    };
    let own = ApiCredentials::Basic {
        key: "confab".to_owned(),
        secret: Secret::new("secret"),
    };
    for credentials in [basic("Secret"), basic(""), basic("secretx"), unknown, own] {
        assert!(matches!(
            ask(&world, &credentials).await,
            Err(BackendTokenError::BadKey)
        ));
    }
}

#[tokio::test]
async fn a_jwt_of_the_key_speaks_for_the_backend_only_if_it_names_nobody() {
    let world = World::new().await;
    let with = |change: fn(&mut Claims)| {
        let mut claims = backend_claims("", "");
        claims.video = VideoGrant::default();
        change(&mut claims);
        ApiCredentials::Jwt(sign(&claims))
    };
    assert!(ask(&world, &with(|_| {})).await.is_ok());
    assert!(ask(&world, &with(|c| c.video.room_create = true)).await.is_ok());
    let participants: [fn(&mut Claims); 6] = [
        |c| c.sub = "publisher1".to_owned(),
        |c| c.video.room_join = true,
        |c| c.video.room_list = true,
        |c| (c.video.room_admin, c.video.room) = (true, "R".to_owned()),
        |c| c.exp = c.nbf - 100,
        |c| c.iss = "nokey".to_owned(),
    ];
    for change in participants {
        assert!(matches!(
            ask(&world, &with(change)).await,
            Err(BackendTokenError::BadKey)
        ));
    }
    let own = ApiCredentials::Jwt(world.token("moderator", "R").await.token);
    assert!(matches!(ask(&world, &own).await, Err(BackendTokenError::BadKey)));
}

#[tokio::test]
async fn a_backend_asks_within_the_role_the_bounds_and_the_accounts() {
    let world = World::new().await;
    let user = user_name("subscriber");
    let wide = BackendTokenRequest {
        scopes: Some(&[Scope::Moderate]),
        ..request(&user)
    };
    let answer = world.control.backend_token(&basic("secret"), wide).await;
    assert!(matches!(
        answer,
        Err(BackendTokenError::ScopeNotAllowed(Scope::Moderate))
    ));
    let nobody = user_name("nobody");
    let answer = world.control.backend_token(&basic("secret"), request(&nobody)).await;
    assert!(matches!(answer, Err(BackendTokenError::UserNotFound(_))));
    for ttl in [0, 24 * 3600 + 1] {
        let odd = BackendTokenRequest {
            ttl: Some(secs(ttl)),
            ..request(&user)
        };
        let answer = world.control.backend_token(&basic("secret"), odd).await;
        assert!(matches!(answer, Err(BackendTokenError::BadTtl { max_seconds: 86400 })));
    }
    let long = BackendTokenRequest {
        ttl: Some(secs(3600)),
        ..request(&user)
    };
    let signed_in = world.control.backend_token(&basic("secret"), long).await.unwrap();
    world.clock.advance(secs(3599));
    world.control.sweep().await.unwrap();
    assert!(world.control.authenticate(&signed_in.session_token).await.is_ok());
}

#[tokio::test]
async fn removing_the_key_ends_the_sessions_begun_with_it() {
    let world = World::new().await;
    let key = world.control.add_key(Some("backend")).await.unwrap();
    let credentials = ApiCredentials::Basic {
        key: key.name.clone(),
        secret: key.secret,
    };
    let signed_in = ask(&world, &credentials).await.unwrap();
    let other = ask(&world, &basic("secret")).await.unwrap();
    world.control.remove_key("backend").await.unwrap();
    assert!(world.control.authenticate(&signed_in.session_token).await.is_err());
    assert!(world.control.authenticate(&other.session_token).await.is_ok());
}

#[tokio::test]
async fn server_api_tokens_say_what_they_allow() {
    let world = World::new().await;
    let mut claims = backend_claims("", "");
    claims.video = VideoGrant {
        room_list: true,
        ..VideoGrant::default()
    };
    let grant = world.control.verify_api_token(&sign(&claims)).await.unwrap();
    assert_eq!(grant.issuer, TokenIssuer::ApiKey("devkey".to_owned()));
    assert!(grant.video.room_list && !grant.video.room_create && !grant.video.room_admin);
    claims.exp = claims.nbf - 100;
    assert!(world.control.verify_api_token(&sign(&claims)).await.is_err());
}

#[tokio::test]
async fn a_moderators_room_token_moderates_its_room_until_it_is_void() {
    let world = World::new().await;
    let token = world.token("moderator", "R").await;
    let grant = world.control.verify_api_token(&token.token).await.unwrap();
    assert_eq!(
        (grant.issuer, grant.video.room.as_str(), grant.video.room_admin),
        (TokenIssuer::Own, "R", true)
    );
    assert!(!grant.video.room_create && !grant.video.room_list);
    let publisher = world.token("publisher1", "R").await;
    assert!(
        !world
            .control
            .verify_api_token(&publisher.token)
            .await
            .unwrap()
            .video
            .room_admin
    );
    world
        .control
        .remove_participant(&token.room.sid, &token.identity)
        .await
        .unwrap();
    assert!(world.control.verify_api_token(&token.token).await.is_err());
}
