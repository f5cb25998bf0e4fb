//! Signing in and out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use confab_control::{BackendTokenRequest as BackendRequest, LoginRequest as Login, SignedIn};
use confab_types::Secret;
use confab_wire::rest::{BackendTokenRequest, ErrorCode, LoginRequest, RefreshRequest, SessionAnswer, SessionInfo};
use serde_json::json;

use super::extract::{
    Body, Caller, REFRESH_COOKIE, SESSION_COOKIE, api_credentials, check_same_site, cookie, refused_body,
};
use super::{ApiError, App};

/// Cookies end with the session of 30 idle days; the server decides, not the cookie.
const COOKIE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
const REFRESH_PATH: &str = "/api-login/refresh";

pub(super) async fn login(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Body(request): Body<LoginRequest>,
) -> Result<Response, ApiError> {
    let login = Login {
        user: &request.user,
        password: &request.pass,
        scopes: request.scopes.as_deref(),
        device: request.device.as_deref(),
        address: from.ip(),
    };
    let signed_in = app.control.login(login).await?;
    // The header cannot be sent by a form of another site.
    let browser = headers
        .get("x-confab-client")
        .is_some_and(|v| v.as_bytes() == b"browser");
    Ok(answer(&app, signed_in, browser))
}

pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<bytes::Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|e| refused_body(&e))?;
    let request: RefreshRequest = if body.is_empty() {
        RefreshRequest { refresh_token: None }
    } else {
        serde_json::from_slice(&body)
            .map_err(|_| ApiError::new(ErrorCode::BadRequest, "The body is not what this call takes."))?
    };
    let (token, browser) = match request.refresh_token {
        Some(token) => (token, false),
        None => {
            let over = || ApiError::new(ErrorCode::SessionOver, "Your session is over. Sign in again.");
            let token = cookie(&headers, REFRESH_COOKIE).ok_or_else(over)?;
            check_same_site(&headers)?;
            (token, true)
        }
    };
    let signed_in = app.control.refresh(&token).await?;
    Ok(answer(&app, signed_in, browser))
}

pub(super) async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, ApiError> {
    app.control.logout(&caller.token).await?;
    let mut response = Json(json!({})).into_response();
    for (name, path) in [(SESSION_COOKIE, "/"), (REFRESH_COOKIE, REFRESH_PATH)] {
        set_cookie(&mut response, &app, name, &Secret::new(""), path, Duration::ZERO);
    }
    Ok(response)
}

pub(super) async fn session(caller: Caller) -> Json<SessionInfo> {
    let session = caller.session;
    Json(SessionInfo {
        user: session.user,
        role: session.role,
        administrator: session.administrator,
        scopes: session.scopes,
        expires_at: session.expires_at,
    })
}

pub(super) async fn backend_token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Body(request): Body<BackendTokenRequest>,
) -> Result<Response, ApiError> {
    let bad_key = || {
        ApiError::new(
            ErrorCode::WrongCredentials,
            "The API key is missing: send it as Basic or as a signed token.",
        )
    };
    let credentials = api_credentials(&headers).ok_or_else(bad_key)?;
    let wanted = BackendRequest {
        user: &request.user,
        scopes: request.scopes.as_deref(),
        ttl: request.ttl_seconds.map(Duration::from_secs),
    };
    let signed_in = app.control.backend_token(&credentials, wanted).await?;
    Ok(answer(&app, signed_in, false))
}

fn answer(app: &App, signed_in: SignedIn, browser: bool) -> Response {
    let SignedIn {
        session,
        session_token,
        refresh_token,
    } = signed_in;
    let body = SessionAnswer {
        user: session.user,
        role: session.role,
        administrator: session.administrator,
        scopes: session.scopes,
        session_token: (!browser).then(|| session_token.clone()),
        refresh_token: if browser { None } else { refresh_token.clone() },
        expires_at: session.expires_at,
    };
    let mut response = ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response();
    if browser {
        set_cookie(&mut response, app, SESSION_COOKIE, &session_token, "/", COOKIE_AGE);
        if let Some(refresh) = &refresh_token {
            set_cookie(&mut response, app, REFRESH_COOKIE, refresh, REFRESH_PATH, COOKIE_AGE);
        }
    }
    response
}

fn set_cookie(response: &mut Response, app: &App, name: &str, value: &Secret, path: &str, age: Duration) {
    let secure = if app.secure { "; Secure" } else { "" };
    let text = format!(
        "{name}={}; Path={path}; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
        value.expose(),
        age.as_secs()
    );
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}
