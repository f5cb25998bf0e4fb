//! Room tokens: issuing and voiding them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use confab_wire::rest::{ErrorCode, RemoveUserRequest, RoomTokenAnswer, RoomTokenRequest};
use serde_json::json;

use super::extract::{Body, Caller};
use super::{ApiError, App};
use crate::room::{LeftReason, RoomCommand};

pub(super) async fn room_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Body(request): Body<RoomTokenRequest>,
) -> Result<impl IntoResponse, ApiError> {
    if app.rooms.is_stopping() {
        return Err(ApiError::new(
            ErrorCode::Unavailable,
            "The server is stopping. Try again in a moment.",
        ));
    }
    let issued = app
        .control
        .issue_room_token(&caller.session, &request.session, request.nickname.as_ref())
        .await?;
    let session_id = issued.room.sid.to_string();
    let room = app.rooms.ensure(issued.room);
    let _ = room.send(RoomCommand::TokenIssued).await;
    let answer = RoomTokenAnswer {
        session_id,
        token: issued.token,
        url: signalling_url(&app, &headers),
        expires_at: issued.expires_at,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)))
}

pub(super) async fn remove_user(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Body(request): Body<RemoveUserRequest>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let removed = app.control.remove_user(&request.session_name, &request.token).await?;
    // The first is the token's own holder, the others were in the room when it ended.
    let (own, others) = removed.voided.split_at(1.min(removed.voided.len()));
    app.rooms.disconnect(own, LeftReason::ClientDisconnected).await;
    app.rooms.disconnect(others, LeftReason::ForceDisconnected).await;
    if removed.room_ended {
        app.rooms.end(removed.room.as_str()).await;
    }
    Ok(Json(json!({})))
}

/// Where this client reaches the signalling: the host it called, if that is one.
pub(crate) fn signalling_url(app: &App, headers: &HeaderMap) -> String {
    let scheme = if app.secure { "wss" } else { "ws" };
    let host = headers
        .get(header::HOST)
        .and_then(|v| v.to_str().ok())
        .filter(|h| is_authority(h));
    match host {
        Some(host) => format!("{scheme}://{host}"),
        None => format!("{scheme}://{}", app.address),
    }
}

/// A host and perhaps a port, nothing else: it goes into a URL.
fn is_authority(text: &str) -> bool {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_'));
    plain && !text.is_empty() && text.len() <= 255 && url::Url::parse(&format!("http://{text}")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_go_into_the_url() {
        for good in ["127.0.0.1:7880", "calls.example", "[::1]:7880"] {
            assert!(is_authority(good), "{good}");
        }
        for bad in ["", "user@host", "host/path", "host?x", "a b", "host:99999", "[::1"] {
            assert!(!is_authority(bad), "{bad}");
        }
    }
}
