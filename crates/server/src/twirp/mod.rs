//! Twirp (v7): LiveKit's server API as `POST /twirp/livekit.RoomService/Method`, in
//! protobuf and in JSON. Errors are Twirp's JSON in both.

mod room_service;

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use bytes::Bytes;
use confab_control::{ApiGrant, ApiTokenError, RoomError, StorageError};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::http::{App, bearer};

/// Routes of the server API.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/twirp/{service}/{method}", any(call))
}

/// Twirp's codes that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BadRoute,
    Malformed,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    PermissionDenied,
    Unavailable,
    Internal,
}

impl Code {
    fn parts(self) -> (&'static str, StatusCode) {
        match self {
            Self::BadRoute => ("bad_route", StatusCode::NOT_FOUND),
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST),
            Self::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
            Self::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// A Twirp error.
#[derive(Debug)]
pub(super) struct TwirpError(pub Code, pub String);

impl TwirpError {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let (code, status) = self.0.parts();
        (status, Json(json!({ "code": code, "msg": self.1 }))).into_response()
    }
}

impl From<StorageError> for TwirpError {
    fn from(e: StorageError) -> Self {
        tracing::error!(error = ?e, "storage");
        let code = if e.is_unavailable() {
            Code::Unavailable
        } else {
            Code::Internal
        };
        Self::new(code, "the server cannot do this now")
    }
}

impl From<RoomError> for TwirpError {
    fn from(e: RoomError) -> Self {
        match e {
            RoomError::Storage(e) => e.into(),
            _ => Self::new(Code::NotFound, "requested room does not exist"),
        }
    }
}

/// How request and answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// One call, authenticated, not yet decoded.
pub(super) struct Call {
    pub app: Arc<App>,
    pub grant: ApiGrant,
    encoding: Encoding,
    body: Bytes,
}

impl Call {
    /// The request.
    pub fn request<T: Message + Default + DeserializeOwned>(&self) -> Result<T, TwirpError> {
        match self.encoding {
            Encoding::Protobuf => T::decode(self.body.clone()).ok(),
            Encoding::Json => serde_json::from_slice(&self.body).ok(),
        }
        .ok_or_else(|| TwirpError::new(Code::Malformed, "the body could not be read"))
    }

    /// The answer, in the request's encoding.
    pub fn answer<T: Message + Serialize>(&self, answer: &T) -> Response {
        match self.encoding {
            Encoding::Protobuf => {
                ([(header::CONTENT_TYPE, "application/protobuf")], answer.encode_to_vec()).into_response()
            }
            Encoding::Json => Json(answer).into_response(),
        }
    }

    /// Needs `room_admin` for this very room.
    pub fn admin_of(&self, room: &str) -> Result<(), TwirpError> {
        let video = &self.grant.video;
        if video.room_admin && video.room == room {
            Ok(())
        } else {
            Err(denied())
        }
    }

    /// Needs `room_create`.
    pub fn may_create(&self) -> Result<(), TwirpError> {
        if self.grant.video.room_create {
            Ok(())
        } else {
            Err(denied())
        }
    }

    /// Needs `room_list`.
    pub fn may_list(&self) -> Result<(), TwirpError> {
        if self.grant.video.room_list {
            Ok(())
        } else {
            Err(denied())
        }
    }
}

fn denied() -> TwirpError {
    TwirpError::new(Code::PermissionDenied, "permissions denied")
}

async fn call(
    State(app): State<Arc<App>>,
    Path((service, method)): Path<(String, String)>,
    http_method: axum::http::Method,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let outcome = async {
        if service != "livekit.RoomService" {
            return Err(TwirpError::new(Code::BadRoute, format!("no service {service:?}")));
        }
        if http_method != axum::http::Method::POST {
            return Err(TwirpError::new(Code::BadRoute, "only POST is taken"));
        }
        let encoding = encoding(&headers)?;
        let token = bearer(&headers)
            .ok_or_else(|| TwirpError::new(Code::Unauthenticated, "authorization header is missing"))?;
        let grant = app.control.verify_api_token(&token).await.map_err(|e| match e {
            ApiTokenError::Storage(e) => e.into(),
            _ => TwirpError::new(Code::Unauthenticated, "invalid authorization token"),
        })?;
        let body =
            body.map_err(|_| TwirpError::new(Code::Malformed, "the body could not be read, or is over 64 KiB"))?;
        room_service::dispatch(
            &method,
            Call {
                app: app.clone(),
                grant,
                encoding,
                body,
            },
        )
        .await
    };
    outcome.await.unwrap_or_else(IntoResponse::into_response)
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, TwirpError> {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "application/protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        other => Err(TwirpError::new(
            Code::BadRoute,
            format!("unexpected Content-Type: {other:?}"),
        )),
    }
}
