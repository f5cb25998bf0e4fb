//! The REST contract, row by row and error by error.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{KEY, SECRET, World, answer, claims, code, join_grant, ok, sign, text};

#[tokio::test]
async fn signing_in_tells_who_and_what_for() {
    let world = World::new().await;
    let answer = world.login("moderator").await;
    assert_eq!(answer["user"], "moderator");
    assert_eq!(answer["role"], "moderator");
    assert_eq!(answer["administrator"], false);
    assert_eq!(answer["scopes"], json!(["join", "publish", "moderate"]));
    assert!(answer["expiresAt"].as_str().unwrap().ends_with('Z'));
    let session = ok(world
        .get("/api-login/session")
        .bearer_auth(text(&answer, "sessionToken")))
    .await;
    for field in ["user", "role", "administrator", "scopes", "expiresAt"] {
        assert_eq!(session[field], answer[field], "{field}");
    }
}

#[tokio::test]
async fn a_session_can_be_narrower_than_the_role_and_never_wider() {
    let world = World::new().await;
    let login = |user: &str, scopes: Value| {
        world
            .post("/api-login/login")
            .json(&json!({ "user": user, "pass": "pass", "scopes": scopes }))
    };
    assert_eq!(
        ok(login("publisher1", json!(["join"]))).await["scopes"],
        json!(["join"])
    );
    assert_eq!(
        code(login("publisher1", json!(["moderate"]))).await,
        (403, "scope_not_allowed".into())
    );
    assert_eq!(
        code(login("subscriber", json!(["publish"]))).await,
        (403, "scope_not_allowed".into())
    );
    assert_eq!(
        code(login("admin", json!(["flying"]))).await,
        (400, "bad_request".into())
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let world = World::new().await;
    let login = |user: &str| {
        world
            .post("/api-login/login")
            .json(&json!({ "user": user, "pass": "wrong" }))
    };
    let wrong = answer(login("publisher1")).await;
    assert_eq!(wrong, answer(login("nobody")).await);
    assert_eq!(
        (wrong.0, wrong.1["error"]["code"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("wrong_credentials"))
    );
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down_even_when_the_last_guess_is_right() {
    let world = World::new().await;
    let login = |pass: &str| {
        world
            .post("/api-login/login")
            .json(&json!({ "user": "publisher1", "pass": pass }))
            .send()
    };
    let mut limited = None;
    for _ in 0..6 {
        let response = login("wrong").await.unwrap();
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            limited = Some(response);
            break;
        }
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let limited = limited.expect("the sixth failure is too many");
    let after: u64 = limited.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(after >= 1);
    assert_eq!(
        crate::support::code_of(login("pass").await.unwrap()).await,
        (429, "too_many_attempts".into())
    );
    world.clock.advance(Duration::from_secs(after + 1));
    assert_eq!(login("pass").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_refused_with_a_code() {
    let world = World::new().await;
    let session = world.session("publisher1").await;
    for (path, body) in [
        ("/api-login/login", "{"),
        ("/api-login/login", r#"{"user":1,"pass":"x"}"#),
        ("/api-login/login", "[]"),
        ("/api-login/refresh", "nonsense"),
        ("/api-sessions/get-sessionid-token", r#"{"session":""}"#),
        ("/api-sessions/get-sessionid-token", "{\"session\":\"evil\u{202e}gnp\"}"),
        (
            "/api-sessions/get-sessionid-token",
            r#"{"session":"R","nickname":"  "}"#,
        ),
        ("/api-sessions/remove-user", r#"{"sessionName":"R"}"#),
    ] {
        let request = world
            .post(path)
            .bearer_auth(&session)
            .header("content-type", "application/json")
            .body(body);
        assert_eq!(code(request).await, (400, "bad_request".into()), "{path} {body}");
    }
    let long = "x".repeat(65);
    let request = world
        .post("/api-sessions/get-sessionid-token")
        .bearer_auth(&session)
        .json(&json!({ "session": "R", "nickname": long }));
    assert_eq!(code(request).await, (400, "bad_request".into()));
}

#[tokio::test]
async fn bodies_over_64_kib_are_refused_before_any_work() {
    let world = World::new().await;
    let session = world.session("publisher1").await;
    let huge = "x".repeat(70 * 1024);
    for path in [
        "/api-login/login",
        "/api-login/refresh",
        "/api-login/token",
        "/api-sessions/get-sessionid-token",
        "/api-sessions/remove-user",
    ] {
        let request = world.post(path).bearer_auth(&session).body(huge.clone());
        let got = code(request).await;
        // The backend call looks at the key before the body.
        if path != "/api-login/token" {
            assert_eq!(got, (413, "too_large".into()), "{path}");
        }
    }
    let million = json!({ "user": "publisher1", "pass": "x".repeat(1_000_000) });
    assert_eq!(
        code(world.post("/api-login/login").json(&million)).await,
        (413, "too_large".into())
    );
    let long = json!({ "user": "publisher1", "pass": "x".repeat(2000) });
    assert_eq!(
        code(world.post("/api-login/login").json(&long)).await,
        (413, "too_large".into())
    );
}

#[tokio::test]
async fn refreshing_gives_a_new_pair_and_a_lost_answer_is_no_theft() {
    let world = World::new().await;
    let first = world.login("publisher1").await;
    let refresh = |token: String| world.post("/api-login/refresh").json(&json!({ "refreshToken": token }));
    let second = ok(refresh(text(&first, "refreshToken"))).await;
    assert_ne!(first["sessionToken"], second["sessionToken"]);
    let again = ok(refresh(text(&first, "refreshToken"))).await;
    assert_eq!(
        again["refreshToken"], second["refreshToken"],
        "the same successor within 30 s"
    );
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(
        code(refresh(text(&first, "refreshToken"))).await,
        (401, "session_over".into())
    );
    assert_eq!(
        code(refresh(text(&second, "refreshToken"))).await,
        (401, "session_over".into()),
        "reuse ends the session"
    );
    let session = world
        .get("/api-login/session")
        .bearer_auth(text(&second, "sessionToken"));
    assert_eq!(code(session).await, (401, "not_signed_in".into()));
    assert_eq!(code(refresh("nonsense".into())).await, (401, "session_over".into()));
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once() {
    let world = World::new().await;
    for by_get in [false, true] {
        let session = world.session("publisher1").await;
        let request = if by_get {
            world.get("/api-login/logout")
        } else {
            world.post("/api-login/logout")
        };
        ok(request.bearer_auth(&session)).await;
        assert_eq!(
            code(world.get("/api-login/session").bearer_auth(&session)).await,
            (401, "not_signed_in".into())
        );
    }
}

#[tokio::test]
async fn calls_without_a_session_are_refused() {
    let world = World::new().await;
    for (method, path) in [
        ("GET", "/api-login/session"),
        ("POST", "/api-login/logout"),
        ("GET", "/api-login/logout"),
        ("POST", "/api-sessions/get-sessionid-token"),
        ("POST", "/api-sessions/remove-user"),
        ("GET", "/api-admin/rooms"),
        ("GET", "/api-admin/users"),
    ] {
        let url = format!("{}{path}", world.server.url());
        let request = || {
            world
                .http
                .request(method.parse().unwrap(), &url)
                .json(&json!({ "session": "R" }))
        };
        assert_eq!(code(request()).await, (401, "not_signed_in".into()), "{path}");
        assert_eq!(
            code(request().bearer_auth("made-up")).await,
            (401, "not_signed_in".into()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_session_token_ends_at_its_time() {
    let world = World::new().await;
    let session = world.session("publisher1").await;
    world.clock.advance(Duration::from_secs(16 * 60));
    assert_eq!(
        code(world.get("/api-login/session").bearer_auth(&session)).await,
        (401, "not_signed_in".into())
    );
}

#[tokio::test]
async fn backends_get_session_tokens_with_their_key() {
    let world = World::new().await;
    let body = json!({ "user": "publisher1", "scopes": ["join"], "ttlSeconds": 60 });
    let basic = ok(world.post("/api-login/token").basic_auth(KEY, Some(SECRET)).json(&body)).await;
    assert_eq!(
        (basic["user"].as_str(), &basic["scopes"]),
        (Some("publisher1"), &json!(["join"]))
    );
    assert!(basic.get("refreshToken").is_none());
    ok(world
        .get("/api-login/session")
        .bearer_auth(text(&basic, "sessionToken")))
    .await;
    let signed = sign(&claims(&world, "", confab_types::VideoGrant::default()), SECRET);
    ok(world.post("/api-login/token").bearer_auth(signed).json(&body)).await;
    for request in [
        world.post("/api-login/token"),
        world.post("/api-login/token").basic_auth(KEY, Some("wrong")),
        world.post("/api-login/token").basic_auth("other", Some(SECRET)),
        world
            .post("/api-login/token")
            .bearer_auth(world.backend_token("ada", join_grant("R"))),
    ] {
        assert_eq!(code(request.json(&body)).await, (401, "wrong_credentials".into()));
    }
    let with_key = |body: Value| world.post("/api-login/token").basic_auth(KEY, Some(SECRET)).json(&body);
    assert_eq!(
        code(with_key(json!({ "user": "nobody" }))).await,
        (404, "not_found".into())
    );
    assert_eq!(
        code(with_key(json!({ "user": "subscriber", "scopes": ["publish"] }))).await,
        (403, "scope_not_allowed".into())
    );
    assert_eq!(
        code(with_key(json!({ "user": "subscriber", "ttlSeconds": 0 }))).await,
        (400, "bad_request".into())
    );
}

#[tokio::test]
async fn a_room_token_comes_in_openvidus_shape_with_a_url_the_caller_can_reach() {
    let world = World::new().await;
    let session = world.session("publisher1").await;
    let request = || {
        world
            .post("/api-sessions/get-sessionid-token")
            .bearer_auth(&session)
            .json(&json!({ "session": "TUTORIAL" }))
    };
    let answer = ok(request()).await;
    assert!(text(&answer, "0").starts_with("RM_"));
    assert_eq!(text(&answer, "1").split('.').count(), 3);
    assert_eq!(text(&answer, "url"), format!("ws://{}", world.server.address()));
    assert!(answer["expiresAt"].is_string());
    let named = ok(request().header("host", "calls.example:7880")).await;
    assert_eq!(text(&named, "url"), "ws://calls.example:7880");
    let spoofed = ok(request().header("host", "evil@host/path")).await;
    assert_eq!(text(&spoofed, "url"), format!("ws://{}", world.server.address()));
}

#[tokio::test]
async fn a_session_without_the_scope_to_join_gets_no_room_token() {
    let world = World::new().await;
    let login = world
        .post("/api-login/login")
        .json(&json!({ "user": "publisher1", "pass": "pass", "scopes": ["publish"] }));
    let session = text(&ok(login).await, "sessionToken");
    let request = world
        .post("/api-sessions/get-sessionid-token")
        .bearer_auth(session)
        .json(&json!({ "session": "R" }));
    assert_eq!(code(request).await, (403, "not_allowed".into()));
}

#[tokio::test]
async fn full_and_locked_rooms_give_no_tokens() {
    use confab_control::RoomSettingsChange;
    let world = World::new().await;
    let session = world.session("publisher1").await;
    let token = || {
        world
            .post("/api-sessions/get-sessionid-token")
            .bearer_auth(&session)
            .json(&json!({ "session": "R" }))
    };
    let change = RoomSettingsChange {
        size_limit: Some(Some(1)),
        ..Default::default()
    };
    world
        .server
        .control()
        .set_room_settings(&"R".parse().unwrap(), change)
        .await
        .unwrap();
    let (_peer, _) = crate::peer::join(&world, "publisher2", "R").await;
    assert_eq!(code(token()).await, (409, "room_full".into()));
    let change = RoomSettingsChange {
        locked: Some(true),
        size_limit: Some(None),
    };
    world
        .server
        .control()
        .set_room_settings(&"R".parse().unwrap(), change)
        .await
        .unwrap();
    assert_eq!(code(token()).await, (423, "room_locked".into()));
}

#[tokio::test]
async fn removing_voids_the_token_and_the_last_one_ends_the_room() {
    let world = World::new().await;
    let (one, two) = (
        world.room_token("publisher1", "R").await,
        world.room_token("publisher2", "R").await,
    );
    assert_eq!(one.room, two.room);
    let (status, body) = world.remove_user(&one, "Other").await;
    assert_eq!(
        (status.as_u16(), body["error"]["code"].as_str()),
        (404, Some("room_not_found"))
    );
    assert_eq!(world.remove_user(&one, "R").await.0, StatusCode::OK);
    let (status, body) = world.remove_user(&one, "R").await;
    assert_eq!(
        (status.as_u16(), body["error"]["code"].as_str()),
        (404, Some("token_not_found"))
    );
    assert_eq!(
        world
            .get(&format!("/rtc/validate?access_token={}", one.token))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(world.remove_user(&two, "R").await.0, StatusCode::OK);
    let admin = world.session("admin").await;
    crate::support::eventually("the room's end", async || {
        let rooms = ok(world.get("/api-admin/rooms").bearer_auth(&admin)).await;
        rooms["rooms"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    let next = world.room_token("publisher1", "R").await;
    assert_ne!(next.room, one.room, "a new run of the room");
}

#[tokio::test]
async fn unknown_addresses_and_methods_answer_in_the_same_shape() {
    let world = World::new().await;
    assert_eq!(code(world.get("/nothing/here")).await, (404, "not_found".into()));
    assert_eq!(
        code(world.get("/api-login/login")).await,
        (405, "method_not_allowed".into())
    );
    assert_eq!(world.get("/healthz").send().await.unwrap().status(), 200);
    assert_eq!(world.get("/readyz").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn only_administrators_administer() {
    let world = World::new().await;
    let moderator = world.session("moderator").await;
    for path in ["/api-admin/rooms", "/api-admin/users"] {
        assert_eq!(
            code(world.get(path).bearer_auth(&moderator)).await,
            (403, "not_allowed".into()),
            "{path}"
        );
    }
    let narrow = json!({ "user": "admin", "pass": "pass", "scopes": ["join"] });
    let narrow = text(&ok(world.post("/api-login/login").json(&narrow)).await, "sessionToken");
    assert_eq!(
        code(world.get("/api-admin/rooms").bearer_auth(narrow)).await,
        (403, "not_allowed".into())
    );
    let admin = world.session("admin").await;
    let new = json!({ "user": "ada", "pass": "long enough", "role": "publisher" });
    ok(world.post("/api-admin/users").bearer_auth(&admin).json(&new)).await;
    assert_eq!(
        code(world.post("/api-admin/users").bearer_auth(&admin).json(&new)).await,
        (400, "bad_request".into())
    );
    let users = ok(world.get("/api-admin/users").bearer_auth(&admin)).await;
    assert!(users.as_array().unwrap().iter().any(|u| u["user"] == "ada"));
    let delete = |user: &str| {
        world
            .http
            .delete(format!("{}/api-admin/users/{user}", world.server.url()))
            .bearer_auth(&admin)
    };
    ok(delete("ada")).await;
    assert_eq!(code(delete("ada")).await, (404, "not_found".into()));
    let end = world
        .http
        .delete(format!("{}/api-admin/rooms/None", world.server.url()))
        .bearer_auth(&admin);
    assert_eq!(code(end).await, (404, "room_not_found".into()));
}
