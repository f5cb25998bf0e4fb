//! Errors as the contract writes them.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use confab_control::{
    AccountError, AuthError, BackendTokenError, LoginError, RefreshError, RemoveUserError, RoomError, RoomTokenError,
    StorageError,
};
use confab_wire::rest::{ErrorBody, ErrorCode, ErrorDetail};
use tracing::error;

/// An answer that is no success.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// With a sentence of its own.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 401.
    pub fn not_signed_in() -> Self {
        Self::new(ErrorCode::NotSignedIn, "You are not signed in. Sign in and try again.")
    }

    /// 401 for room tokens.
    pub fn token_refused() -> Self {
        Self::new(
            ErrorCode::NotSignedIn,
            "The room token is not valid, or no longer. Ask for a new one.",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let detail = ErrorDetail {
            code: self.code.as_str().to_owned(),
            message: self.message,
        };
        let mut response = (status, Json(ErrorBody { error: detail })).into_response();
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: an early retry would count again.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl From<StorageError> for ApiError {
    fn from(e: StorageError) -> Self {
        error!(error = ?e, "storage");
        if e.is_unavailable() {
            Self::new(
                ErrorCode::Unavailable,
                "The server cannot do this right now. Try again in a moment.",
            )
        } else {
            Self::new(ErrorCode::Internal, "The server made a mistake. Its log says more.")
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(e: LoginError) -> Self {
        match e {
            LoginError::WrongCredentials => {
                Self::new(ErrorCode::WrongCredentials, "The user name or the password is wrong.")
            }
            LoginError::PasswordTooLong => Self::new(ErrorCode::TooLarge, "The password has more than 1024 bytes."),
            LoginError::ScopeNotAllowed(scope) => Self::scope(scope),
            LoginError::TooManyAttempts { retry_after } => Self {
                code: ErrorCode::TooManyAttempts,
                message: "Too many attempts. Wait a while and try again.".into(),
                retry_after: Some(retry_after),
            },
            LoginError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl ApiError {
    fn scope(scope: confab_types::Scope) -> Self {
        Self::new(
            ErrorCode::ScopeNotAllowed,
            format!("Your role does not allow the scope {scope:?}. Ask for fewer scopes."),
        )
    }

    /// 500.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "The server made a mistake. Its log says more.")
    }
}

impl From<RefreshError> for ApiError {
    fn from(e: RefreshError) -> Self {
        match e {
            RefreshError::SessionOver => Self::new(ErrorCode::SessionOver, "Your session is over. Sign in again."),
            RefreshError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(e: AuthError) -> Self {
        match e {
            AuthError::NotSignedIn => Self::not_signed_in(),
            AuthError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl From<BackendTokenError> for ApiError {
    fn from(e: BackendTokenError) -> Self {
        match e {
            BackendTokenError::BadKey => Self::new(ErrorCode::WrongCredentials, "The API key is not valid."),
            BackendTokenError::UserNotFound(user) => {
                Self::new(ErrorCode::NotFound, format!("There is no user {user}."))
            }
            BackendTokenError::ScopeNotAllowed(scope) => Self::scope(scope),
            e @ BackendTokenError::BadTtl { .. } => Self::new(ErrorCode::BadRequest, e.to_string()),
            BackendTokenError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl From<RoomTokenError> for ApiError {
    fn from(e: RoomTokenError) -> Self {
        match e {
            RoomTokenError::NotAllowed => Self::new(ErrorCode::NotAllowed, "Your session may not join rooms."),
            RoomTokenError::RoomFull => {
                Self::new(ErrorCode::RoomFull, "The room is full. Try again when someone left.")
            }
            RoomTokenError::RoomLocked => Self::new(
                ErrorCode::RoomLocked,
                "The room is locked. Ask someone in it to open it.",
            ),
            RoomTokenError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl From<RemoveUserError> for ApiError {
    fn from(e: RemoveUserError) -> Self {
        match e {
            RemoveUserError::RoomNotFound => Self::new(ErrorCode::RoomNotFound, "There is no such room."),
            RemoveUserError::TokenNotFound => Self::new(
                ErrorCode::TokenNotFound,
                "The token is not one of this room, or void already.",
            ),
            RemoveUserError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl From<RoomError> for ApiError {
    fn from(e: RoomError) -> Self {
        match e {
            RoomError::Storage(e) => e.into(),
            _ => Self::internal(),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(e: AccountError) -> Self {
        match e {
            AccountError::Storage(e) => e.into(),
            AccountError::NotFound(_) => Self::new(ErrorCode::NotFound, e.to_string()),
            other => Self::new(ErrorCode::BadRequest, other.to_string()),
        }
    }
}
