//! HTTP: the REST contract, and the routes of signalling and Twirp. No query string
//! and no body is ever logged: tokens are in them.

mod admin;
mod error;
mod extract;
mod login;
mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use confab_control::Control;
use confab_wire::rest::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;

pub(crate) use error::ApiError;
pub(crate) use extract::bearer;

use crate::registry::Rooms;
use crate::{rtc, twirp};

/// No call needs more.
const MAX_BODY: usize = 64 * 1024;

/// What every handler knows.
pub(crate) struct App {
    /// Accounts, sessions, tokens.
    pub control: Control,
    /// Live rooms.
    pub rooms: Rooms,
    /// TLS is on.
    pub secure: bool,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    let rest = Router::new()
        .route("/api-login/login", post(login::login))
        .route("/api-login/refresh", post(login::refresh))
        .route("/api-login/logout", post(login::logout).get(login::logout))
        .route("/api-login/session", get(login::session))
        .route("/api-login/token", post(login::backend_token))
        .route("/api-sessions/get-sessionid-token", post(sessions::room_token))
        .route("/api-sessions/remove-user", post(sessions::remove_user))
        .route("/api-admin/rooms", get(admin::rooms))
        .route("/api-admin/rooms/{room}", delete(admin::end_room))
        .route("/api-admin/users", get(admin::users).post(admin::add_user))
        .route("/api-admin/users/{user}", delete(admin::remove_user))
        .route("/healthz", get(async || Json(serde_json::json!({ "status": "ok" }))))
        .route("/readyz", get(ready));
    rest.merge(rtc::routes())
        .merge(twirp::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(extract::panicked))
        .layer(middleware::from_fn(log))
        .with_state(app)
}

async fn ready(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, ApiError> {
    if app.rooms.is_stopping() {
        return Err(ApiError::new(ErrorCode::Unavailable, "The server is stopping."));
    }
    app.control.list_rooms().await?;
    Ok(Json(serde_json::json!({ "status": "ready" })))
}

async fn no_such_path() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "There is nothing at this address.")
}

async fn no_such_method() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "This address takes other methods.")
}

/// One line a request: the path alone, never the query.
async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let response = next.run(request).await.into_response();
    let status = response.status().as_u16();
    info!(%method, path, status, ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX), "request");
    response
}
