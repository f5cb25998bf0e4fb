//! The bodies of the REST contract. Times are RFC 3339 in UTC.

use confab_types::{Nickname, Role, RoomName, Scope, Secret, UserName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `POST /api-login/login`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginRequest {
    /// The account's name. Any text: an unknown one is answered like a wrong password.
    pub user: String,
    /// Its password.
    pub pass: Secret,
    /// What the session is for; absent means all that the role allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// A name for the list of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// The answer to login, refresh and `/api-login/token`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAnswer {
    /// Who.
    pub user: UserName,
    /// The account's role.
    pub role: Role,
    /// Whether the account administers the server.
    pub administrator: bool,
    /// What the session may be used for.
    pub scopes: Vec<Scope>,
    /// Bearer token. Absent for browsers, which get cookies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// Good for one refresh. Absent for browsers and backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// When the session token ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// `POST /api-login/refresh`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshRequest {
    /// The refresh token of the last answer. Browsers send a cookie in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
}

/// `GET /api-login/session`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Who.
    pub user: UserName,
    /// The account's role.
    pub role: Role,
    /// Whether the account administers the server.
    pub administrator: bool,
    /// What the session may be used for.
    pub scopes: Vec<Scope>,
    /// When the session token ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// `POST /api-login/token`, for backends with an API key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTokenRequest {
    /// For whom.
    pub user: UserName,
    /// What for; absent means all that the role allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// How long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// `POST /api-sessions/get-sessionid-token`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoomTokenRequest {
    /// The room's name. (OpenVidu calls a room a session.)
    pub session: RoomName,
    /// The name others see; absent means the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<Nickname>,
}

/// Its answer, in OpenVidu's shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomTokenAnswer {
    /// The room's sid.
    #[serde(rename = "0")]
    pub session_id: String,
    /// The room token.
    #[serde(rename = "1")]
    pub token: Secret,
    /// Where the signalling is: `ws://` or `wss://`.
    pub url: String,
    /// Until when the token can be used to join.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// `POST /api-sessions/remove-user`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveUserRequest {
    /// The room's name.
    pub session_name: RoomName,
    /// The room token to void.
    pub token: Secret,
}

/// Every error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// A code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// One of [`ErrorCode`], as text, so that a newer server's code is no parse error.
    pub code: String,
    /// A sentence that names the next step.
    pub message: String,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal;)*) => {
        /// The codes of the REST contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As written in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// From JSON; `None` for a code that this version does not know.
            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|c| c.as_str() == code)
            }
        }
    };
}

error_codes! {
    /// Malformed body, missing or invalid field.
    BadRequest = "bad_request", 400;
    /// Wrong password or unknown user.
    WrongCredentials = "wrong_credentials", 401;
    /// The refresh token is spent, ended or unknown.
    SessionOver = "session_over", 401;
    /// No valid session token.
    NotSignedIn = "not_signed_in", 401;
    /// Wider than the role.
    ScopeNotAllowed = "scope_not_allowed", 403;
    /// The role, a rule or a missing scope forbids it.
    NotAllowed = "not_allowed", 403;
    /// A cookie call from another site.
    CrossSite = "cross_site", 403;
    /// No room of that name.
    RoomNotFound = "room_not_found", 404;
    /// The token is not one of that room, or void already.
    TokenNotFound = "token_not_found", 404;
    /// No such path.
    NotFound = "not_found", 404;
    /// The path is there, the method is not.
    MethodNotAllowed = "method_not_allowed", 405;
    /// No seat is left.
    RoomFull = "room_full", 409;
    /// The body is over 64 KiB.
    TooLarge = "too_large", 413;
    /// The room takes nobody in now.
    RoomLocked = "room_locked", 423;
    /// Too many attempts; see Retry-After.
    TooManyAttempts = "too_many_attempts", 429;
    /// A fault of the server's own.
    Internal = "internal", 500;
    /// It cannot write (the disk is full) or is stopping.
    Unavailable = "unavailable", 503;
}
