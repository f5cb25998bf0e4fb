//! A server in a folder of its own, and shorthands.

use std::sync::Arc;
use std::time::Duration;

use confab_control::{ControlConfig, HashCost, ManualClock};
use confab_server::engine::fake::FakeEngine;
use confab_server::{ControlChange, RunningServer, Server, ServerConfig};
use confab_types::{Claims, RoomSid, Secret, VideoGrant};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// The API key of every test.
pub const KEY: &str = "devkey";
/// Its secret.
pub const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";
/// How long a test waits for what must happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// A running server with the demo accounts.
pub struct World {
    pub server: RunningServer,
    pub engine: Arc<FakeEngine>,
    pub clock: Arc<ManualClock>,
    pub http: Client,
    pub data: tempfile::TempDir,
}

/// Cheap hashing and a clock that stands still.
pub fn test_control(clock: Arc<ManualClock>) -> ControlChange {
    Arc::new(move |control: &mut ControlConfig| {
        control.hash_cost = HashCost {
            memory_kib: 8,
            passes: 1,
            ..HashCost::default()
        };
        control.clock = clock.clone();
    })
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(OffsetDateTime::now_utc()));
        let engine = Arc::new(FakeEngine::new());
        let mut config = ServerConfig {
            demo: true,
            keys: vec![(KEY.into(), Secret::new(SECRET))],
            engine: Some(engine.clone()),
            control: Some(test_control(clock.clone())),
            ..ServerConfig::new(data.path())
        };
        change(&mut config);
        let server = Server::start(config).await.unwrap();
        Self {
            server,
            engine,
            clock,
            http: Client::new(),
            data,
        }
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.server.url()))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.server.url()))
    }

    /// The answer to a login.
    pub async fn login(&self, user: &str) -> Value {
        ok(self
            .post("/api-login/login")
            .json(&json!({ "user": user, "pass": "pass" })))
        .await
    }

    /// A session token.
    pub async fn session(&self, user: &str) -> String {
        text(&self.login(user).await, "sessionToken")
    }

    /// The answer to get-sessionid-token, for a user who signs in first.
    pub async fn room_token(&self, user: &str, room: &str) -> RoomToken {
        let session = self.session(user).await;
        let request = self.post("/api-sessions/get-sessionid-token").bearer_auth(&session);
        let answer = ok(request.json(&json!({ "session": room, "nickname": format!("{user} nick") }))).await;
        RoomToken {
            session,
            room: text(&answer, "0").parse().unwrap(),
            token: text(&answer, "1"),
            url: text(&answer, "url"),
        }
    }

    /// Leaves for good.
    pub async fn remove_user(&self, who: &RoomToken, room: &str) -> (StatusCode, Value) {
        let request = self.post("/api-sessions/remove-user").bearer_auth(&who.session);
        answer(request.json(&json!({ "sessionName": room, "token": who.token }))).await
    }

    /// A token that a backend signs with its API key.
    pub fn backend_token(&self, identity: &str, video: VideoGrant) -> String {
        sign(&claims(self, identity, video), SECRET)
    }
}

/// What get-sessionid-token gave.
pub struct RoomToken {
    pub session: String,
    pub room: RoomSid,
    pub token: String,
    pub url: String,
}

/// Claims as LiveKit's SDKs write them.
pub fn claims(world: &World, identity: &str, video: VideoGrant) -> Claims {
    use confab_control::Clock;
    let now = u64::try_from(world.clock.now().unix_timestamp()).unwrap();
    Claims {
        iss: KEY.into(),
        sub: identity.into(),
        nbf: now,
        exp: now + 600,
        name: identity.into(),
        video,
        ..Claims::default()
    }
}

/// A grant to join.
pub fn join_grant(room: &str) -> VideoGrant {
    VideoGrant {
        room_join: true,
        room: room.into(),
        ..VideoGrant::default()
    }
}

/// An HS256 JWT.
pub fn sign(claims: &Claims, secret: &str) -> String {
    sign_with_header(&json!({ "alg": "HS256", "typ": "JWT" }), claims, secret)
}

/// With another header.
pub fn sign_with_header(header: &Value, claims: &Claims, secret: &str) -> String {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
    let body = format!(
        "{}.{}",
        B64.encode(header.to_string()),
        B64.encode(serde_json::to_string(claims).unwrap())
    );
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("{body}.{}", B64.encode(mac.finalize().into_bytes()))
}

/// Sends, demands success, gives the JSON.
pub async fn ok(request: RequestBuilder) -> Value {
    let (status, body) = answer(request).await;
    assert!(status.is_success(), "{status} {body}");
    body
}

/// Status and JSON.
pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap_or(Value::Null))
}

/// Status and the contract's error code.
pub async fn code(request: RequestBuilder) -> (u16, String) {
    code_of(request.send().await.unwrap()).await
}

/// The same, of an answer.
pub async fn code_of(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or(Value::Null);
    assert!(body["error"]["message"].as_str().is_none_or(|m| !m.is_empty()));
    (status, body["error"]["code"].as_str().unwrap_or("").to_owned())
}

/// A text field.
pub fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
        .to_owned()
}

/// Waits until a condition gives something.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + SOON;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(std::time::Instant::now() < end, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
