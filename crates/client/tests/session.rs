//! The session manager against a real HTTP server: what Video.io's manager promised.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use confab_client::api::{Session, SessionLoader, SessionStart};
use confab_client::session::{SessionConfig, SessionError, SessionManager};
use confab_types::{Role, RoomName, Scope, Secret};
use parking_lot::Mutex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Barrier;
use url::Url;

/// What the server saw and which tokens it takes.
#[derive(Default)]
struct Backend {
    logins: AtomicU32,
    refreshes: AtomicU32,
    room_tokens: AtomicU32,
    logouts: AtomicU32,
    good: Mutex<HashSet<String>>,
    refresh_works: Mutex<bool>,
    lifetime: Mutex<Duration>,
}

type Shared = State<Arc<Backend>>;
type Answer = (StatusCode, Json<Value>);

fn bearer(headers: &HeaderMap) -> String {
    headers["authorization"]
        .to_str()
        .unwrap()
        .trim_start_matches("Bearer ")
        .to_owned()
}

fn error(status: u16, code: &str) -> Answer {
    let body = json!({"error": {"code": code, "message": "no"}});
    (StatusCode::from_u16(status).unwrap(), Json(body))
}

impl Backend {
    fn new_session(&self, number: u32, kind: &str) -> Answer {
        let token = format!("{kind}-{number}");
        self.good.lock().insert(token.clone());
        let end = OffsetDateTime::now_utc() + *self.lifetime.lock();
        let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();
        let body = json!({
            "user": "ada", "role": "publisher", "administrator": false, "scopes": ["join"],
            "sessionToken": token, "refreshToken": format!("refresh-of-{token}"), "expiresAt": end,
        });
        (StatusCode::OK, Json(body))
    }
}

async fn login(State(backend): Shared, Json(body): Json<Value>) -> Answer {
    let number = backend.logins.fetch_add(1, Ordering::SeqCst);
    match body["pass"].as_str() {
        Some("right") => backend.new_session(number, "login"),
        _ => error(401, "wrong_credentials"),
    }
}

async fn refresh(State(backend): Shared) -> Answer {
    let number = backend.refreshes.fetch_add(1, Ordering::SeqCst);
    // Long enough for all callers to wait for this one.
    tokio::time::sleep(Duration::from_millis(50)).await;
    if *backend.refresh_works.lock() {
        backend.new_session(number, "refresh")
    } else {
        error(401, "session_over")
    }
}

async fn room_token(State(backend): Shared, headers: HeaderMap) -> Answer {
    backend.room_tokens.fetch_add(1, Ordering::SeqCst);
    if !backend.good.lock().contains(&bearer(&headers)) {
        return error(401, "not_signed_in");
    }
    let body = json!({"0": "RM_x", "1": "jwt", "url": "ws://x", "expiresAt": "2030-01-01T00:00:00Z"});
    (StatusCode::OK, Json(body))
}

async fn logout(State(backend): Shared, headers: HeaderMap) -> Answer {
    backend.logouts.fetch_add(1, Ordering::SeqCst);
    backend.good.lock().remove(&bearer(&headers));
    (StatusCode::OK, Json(json!({})))
}

async fn serve() -> (Arc<Backend>, Url) {
    let backend = Arc::new(Backend::default());
    *backend.lifetime.lock() = Duration::from_secs(3600);
    let app = Router::new()
        .route("/api-login/login", post(login))
        .route("/api-login/refresh", post(refresh))
        .route("/api-login/logout", post(logout))
        .route("/api-login/session", get(|| async { error(401, "not_signed_in") }))
        .route("/api-sessions/get-sessionid-token", post(room_token))
        .with_state(backend.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (backend, url)
}

fn manager() -> SessionManager {
    SessionManager::new(SessionConfig::default())
}

fn credentials(server: &Url, password: &str) -> SessionStart {
    SessionStart::Credentials {
        server: server.clone(),
        user: "ada".to_owned(),
        password: Secret::new(password),
        scopes: Some(vec![Scope::Join]),
        device: None,
    }
}

fn session(server: &Url, token: &str, refresh: Option<&str>) -> Session {
    Session {
        server: server.clone(),
        user: "ada".parse().unwrap(),
        role: Role::Publisher,
        administrator: false,
        scopes: vec![Scope::Join],
        token: Secret::new(token),
        refresh: refresh.map(Secret::new),
        expires_at: OffsetDateTime::now_utc() + Duration::from_secs(3600),
    }
}

fn room() -> RoomName {
    "TUTORIAL".parse().unwrap()
}

/// Gives credentials, remembers what it was called with.
struct Loader {
    server: Url,
    calls: Mutex<Vec<Option<String>>>,
    gives: bool,
}

#[async_trait]
impl SessionLoader for Loader {
    async fn load(&self, expired: Option<Session>) -> Option<SessionStart> {
        self.calls.lock().push(expired.map(|s| s.token.expose().to_owned()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.gives.then(|| credentials(&self.server, "right"))
    }
}

fn with_loader(manager: &SessionManager, server: &Url, gives: bool) -> Arc<Loader> {
    let loader = Arc::new(Loader {
        server: server.clone(),
        calls: Mutex::default(),
        gives,
    });
    manager.set_loader(loader.clone());
    loader
}

/// `count` calls that begin together.
async fn together(manager: &SessionManager, count: usize) -> Vec<Result<(), SessionError>> {
    let barrier = Arc::new(Barrier::new(count));
    let calls = (0..count).map(|_| {
        let (manager, barrier) = (manager.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            manager.room_token(&room(), None).await.map(drop)
        })
    });
    let mut outcomes = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn signing_in_with_credentials_gives_a_session_that_observers_see() {
    let (backend, server) = serve().await;
    let manager = manager();
    let mut observer = manager.observe();
    assert!(observer.borrow_and_update().is_none());
    let session = manager.start(credentials(&server, "right")).await.unwrap();
    assert_eq!(
        (session.user.as_str(), session.role, &session.scopes[..]),
        ("ada", Role::Publisher, &[Scope::Join][..])
    );
    assert_eq!(observer.borrow_and_update().as_ref().unwrap().token, session.token);
    manager.stop().await.unwrap();
    assert!(observer.borrow_and_update().is_none() && manager.get().is_none());
    assert_eq!(backend.logouts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_plainly_and_leaves_no_session() {
    let (_, server) = serve().await;
    let manager = manager();
    let error = manager.start(credentials(&server, "wrong")).await.unwrap_err();
    assert_eq!(error.code(), "wrong_credentials");
    assert!(error.to_string().contains("try again"), "{error}");
    assert!(manager.get().is_none());
}

#[tokio::test]
async fn starting_with_a_token_makes_no_request() {
    let (backend, server) = serve().await;
    let manager = manager();
    manager
        .start(SessionStart::Token(session(&server, "from-a-backend", None)))
        .await
        .unwrap();
    assert_eq!(manager.get().unwrap().token.expose(), "from-a-backend");
    assert_eq!(backend.logins.load(Ordering::SeqCst), 0);
    assert_eq!(backend.refreshes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn without_a_session_the_loader_is_called_once_for_all_waiting_calls_with_none() {
    let (backend, server) = serve().await;
    let manager = manager();
    let loader = with_loader(&manager, &server, true);
    let outcomes = together(&manager, 8).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(*loader.calls.lock(), [None]);
    assert_eq!(backend.logins.load(Ordering::SeqCst), 1);
    assert_eq!(backend.room_tokens.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn an_expired_session_is_handed_to_the_loader_and_each_call_is_repeated_once() {
    let (backend, server) = serve().await;
    let manager = manager();
    manager
        .start(SessionStart::Token(session(&server, "old", None)))
        .await
        .unwrap();
    let loader = with_loader(&manager, &server, true);
    let outcomes = together(&manager, 8).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(*loader.calls.lock(), [Some("old".to_owned())]);
    // Each was refused once and repeated once; a late starter may have met the new session at once.
    let made = backend.room_tokens.load(Ordering::SeqCst);
    assert!((9..=16).contains(&made), "{made}");
}

#[tokio::test]
async fn the_refresh_token_is_used_once_before_any_loader() {
    let (backend, server) = serve().await;
    *backend.refresh_works.lock() = true;
    let manager = manager();
    manager
        .start(SessionStart::Token(session(&server, "old", Some("r"))))
        .await
        .unwrap();
    let loader = with_loader(&manager, &server, true);
    let outcomes = together(&manager, 8).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(backend.refreshes.load(Ordering::SeqCst), 1);
    assert!(loader.calls.lock().is_empty());
    assert_eq!(manager.get().unwrap().token.expose(), "refresh-0");
}

#[tokio::test]
async fn when_nobody_gives_a_session_every_waiting_call_fails_and_the_old_one_is_over() {
    let (backend, server) = serve().await;
    let manager = manager();
    manager
        .start(SessionStart::Token(session(&server, "old", Some("spent"))))
        .await
        .unwrap();
    let loader = with_loader(&manager, &server, false);
    let outcomes = together(&manager, 5).await;
    assert!(
        outcomes.iter().all(|o| matches!(o, Err(SessionError::NotSignedIn))),
        "{outcomes:?}"
    );
    assert_eq!(*loader.calls.lock(), [Some("old".to_owned())]);
    assert_eq!(backend.refreshes.load(Ordering::SeqCst), 1);
    assert!(manager.get().is_none());
}

#[tokio::test]
async fn a_call_that_is_refused_after_the_renewal_fails_and_is_not_repeated_again() {
    let (backend, server) = serve().await;
    let manager = manager();
    manager
        .start(SessionStart::Token(session(&server, "old", None)))
        .await
        .unwrap();
    struct Useless(Url);
    #[async_trait]
    impl SessionLoader for Useless {
        async fn load(&self, _: Option<Session>) -> Option<SessionStart> {
            Some(SessionStart::Token(session(&self.0, "no-better", None)))
        }
    }
    manager.set_loader(Arc::new(Useless(server.clone())));
    let error = manager.room_token(&room(), None).await.unwrap_err();
    assert_eq!(error.code(), "not_signed_in");
    assert_eq!(backend.room_tokens.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_session_is_refreshed_before_its_end() {
    let (backend, server) = serve().await;
    *backend.refresh_works.lock() = true;
    *backend.lifetime.lock() = Duration::from_millis(500);
    let manager = manager();
    let first = manager.start(credentials(&server, "right")).await.unwrap();
    *backend.lifetime.lock() = Duration::from_secs(3600);
    let mut observer = manager.observe();
    let changed = observer.wait_for(|s| s.as_ref().is_some_and(|s| s.token != first.token));
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(backend.refreshes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_unreachable_server_does_not_end_the_session() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let manager = manager();
    manager
        .start(SessionStart::Token(session(&server, "t", Some("r"))))
        .await
        .unwrap();
    let error = manager.room_token(&room(), None).await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
    assert!(manager.get().is_some());
    // Logging out is over here at once, whatever the network says.
    assert!(manager.stop().await.is_err());
    assert!(manager.get().is_none());
}
