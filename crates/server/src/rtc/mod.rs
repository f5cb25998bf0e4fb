//! LiveKit's signalling, version 0: `/rtc` and `/rtc/validate`. Verifies the token,
//! asks the room, and hands the socket over.

mod codec;
mod flow;
mod socket;

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use confab_control::{RoomOptions, RoomOrigin, TokenIssuer, TokenRejected, VerifiedToken};
use confab_types::{ParticipantSid, Secret};
use confab_wire::rest::ErrorCode;
use tracing::debug;

use crate::http::{ApiError, App, bearer};
use crate::room::{AdmitError, Intent, RoomCommand, RoomHandle, intent};

/// No message of a client is larger: the answer of a subscriber in a room of 200 has about 400 KiB.
pub(crate) const MAX_MESSAGE: usize = 512 * 1024;
/// Beyond this the socket does not even read on.
const MAX_FRAME: usize = 2 * 1024 * 1024;

/// Routes of the signalling. Version 1 answers 404 cross-origin, which makes LiveKit's SDKs use version 0.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rtc", any(join))
        .route("/rtc/validate", any(validate))
        .route("/rtc/v1", any(no_version_1))
        .route("/rtc/v1/validate", any(no_version_1))
}

/// What the query of `/rtc` says.
#[derive(Debug, Default)]
struct Params {
    token: Option<Secret>,
    auto_subscribe: bool,
    reconnect: Option<ParticipantSid>,
    protocol: i32,
}

impl Params {
    fn read(query: Option<&str>, headers: &HeaderMap) -> Self {
        let mut params = Self {
            auto_subscribe: true,
            ..Self::default()
        };
        let mut reconnect = false;
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let yes = matches!(&*value, "1" | "true");
            match &*name {
                "access_token" => params.token = Some(Secret::new(value)),
                "auto_subscribe" => params.auto_subscribe = yes,
                "reconnect" => reconnect = yes,
                "sid" => params.reconnect = value.parse().ok(),
                "protocol" => params.protocol = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        if !reconnect {
            params.reconnect = None;
        }
        params.token = bearer(headers).or(params.token);
        params
    }
}

async fn join(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let params = Params::read(query.as_deref(), &headers);
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(_) => {
            return cross_origin(
                ApiError::new(ErrorCode::BadRequest, "This address takes WebSockets.").into_response(),
            );
        }
    };
    let (room, admission) = match let_in(&app, &params, true).await {
        Ok(found) => found,
        Err(e) => return cross_origin(e.into_response()),
    };
    let (auto_subscribe, protocol) = (params.auto_subscribe, params.protocol);
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| socket::serve(socket, room, admission, auto_subscribe, protocol))
}

async fn validate(State(app): State<Arc<App>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let params = Params::read(query.as_deref(), &headers);
    let response = match let_in(&app, &params, false).await {
        Ok(_) => "success".into_response(),
        Err(e) => e.into_response(),
    };
    cross_origin(response)
}

async fn no_version_1() -> Response {
    let text = ApiError::new(
        ErrorCode::NotFound,
        "Version 1 of the signalling is not offered; use /rtc.",
    );
    let mut response = cross_origin(text.into_response());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// SDKs in browsers read these answers from other origins; the token is the protection.
fn cross_origin(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The room and the reservation that this token gets. `reserve` is false for a mere question.
async fn let_in(app: &App, params: &Params, reserve: bool) -> Result<(RoomHandle, u64), ApiError> {
    if app.rooms.is_stopping() {
        return Err(ApiError::new(
            ErrorCode::Unavailable,
            "The server is stopping. Try again in a moment.",
        ));
    }
    let token = params.token.as_ref().ok_or_else(ApiError::token_refused)?;
    let verified = app.control.verify_room_token(token).await.map_err(refused)?;
    // The room may end between our look and our question: then it is looked up once more.
    let mut last = ApiError::token_refused();
    for _ in 0..2 {
        let room = find_room(app, &verified).await?;
        let asked = ask(&room, &verified, intent(&verified, params.reconnect.clone()), reserve).await;
        match asked {
            Ok(ticket) => return Ok((room, ticket)),
            Err(AdmitError::Over) => {
                room.closed().await;
                last = ApiError::token_refused();
            }
            Err(AdmitError::TokenVoid) => return Err(ApiError::token_refused()),
            Err(AdmitError::Full) => return Err(ApiError::new(ErrorCode::RoomFull, "The room is full.")),
            Err(AdmitError::Locked) => return Err(ApiError::new(ErrorCode::RoomLocked, "The room is locked.")),
            Err(AdmitError::Unavailable) => {
                return Err(ApiError::new(
                    ErrorCode::Unavailable,
                    "The server cannot let anyone in right now.",
                ));
            }
        }
    }
    Err(last)
}

async fn ask(room: &RoomHandle, token: &VerifiedToken, intent: Intent, reserve: bool) -> Result<u64, AdmitError> {
    let token = Box::new(token.clone());
    let asked = room
        .ask(|reply| RoomCommand::Admit {
            token,
            intent,
            reserve,
            reply,
        })
        .await;
    asked.unwrap_or(Err(AdmitError::Over)).map(|admission| admission.ticket)
}

/// The room a token is for: a token of the REST call belongs to one run of a room, a backend's opens it.
async fn find_room(app: &App, token: &VerifiedToken) -> Result<RoomHandle, ApiError> {
    match (&token.admission, &token.issuer) {
        (Some(admission), _) => {
            let room = app.rooms.with_sid(&token.room, &admission.room).await?;
            room.ok_or_else(ApiError::token_refused)
        }
        (None, TokenIssuer::ApiKey(_)) => Ok(app
            .rooms
            .open(&token.room, RoomOptions::new(RoomOrigin::Service))
            .await?),
        (None, TokenIssuer::Own) => Err(ApiError::token_refused()),
    }
}

fn refused(e: TokenRejected) -> ApiError {
    debug!(error = %e, "room token refused");
    match e {
        TokenRejected::Storage(e) => e.into(),
        _ => ApiError::token_refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_counts_only_with_reconnect() {
        let none = HeaderMap::new();
        assert!(Params::read(Some("sid=PA_abc"), &none).reconnect.is_none());
        let params = Params::read(
            Some("access_token=t&reconnect=1&sid=PA_abc&auto_subscribe=0&protocol=17"),
            &none,
        );
        assert_eq!(params.reconnect.unwrap().as_str(), "PA_abc");
        assert!(!params.auto_subscribe);
        assert_eq!((params.token.unwrap().expose(), params.protocol), ("t", 17));
    }

    #[test]
    fn the_header_wins_over_the_query() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer good"));
        assert_eq!(
            Params::read(Some("access_token=bad"), &headers).token.unwrap().expose(),
            "good"
        );
    }
}
