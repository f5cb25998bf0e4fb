//! Signed-in sessions: login, refresh with rotation, logout, authentication.

use std::net::IpAddr;
use std::time::Duration;

use confab_types::{Role, Scope, Secret, UserName};
use thiserror::Error;
use time::OffsetDateTime;

use crate::{ApiCredentials, Control, StorageError};

/// An account's id; never given to another account, even of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(pub(crate) String);

/// A signed-in session's id. No secret: it signs nobody in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) String);

impl UserId {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SessionId {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who stands behind a session token. `GET /api-login/session` shows exactly this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSession {
    /// The account.
    pub user_id: UserId,
    /// Its name.
    pub user: UserName,
    /// Its role now.
    pub role: Role,
    /// Whether it administers the server now.
    pub administrator: bool,
    /// What the session may be used for, never wider than the role is now.
    pub scopes: Vec<Scope>,
    /// The session.
    pub session: SessionId,
    /// When the session token ends.
    pub expires_at: OffsetDateTime,
}

impl AuthSession {
    /// Whether the session may be used for this.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The outcome of login, refresh and backend tokens.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who, and until when.
    pub session: AuthSession,
    /// The bearer token.
    pub session_token: Secret,
    /// Good for one refresh. Backends get none.
    pub refresh_token: Option<Secret>,
}

/// A try to sign in.
#[derive(Debug, Clone)]
pub struct LoginRequest<'a> {
    /// Any text: an unknown name is answered like a wrong password.
    pub user: &'a str,
    /// The password.
    pub password: &'a Secret,
    /// What for; `None` means all that the role allows.
    pub scopes: Option<&'a [Scope]>,
    /// A name for the list of sessions; cut at 128 characters.
    pub device: Option<&'a str>,
    /// Where the request comes from.
    pub address: IpAddr,
}

/// A backend's request for a session token.
#[derive(Debug, Clone)]
pub struct BackendTokenRequest<'a> {
    /// For whom.
    pub user: &'a UserName,
    /// What for; `None` means all that the role allows.
    pub scopes: Option<&'a [Scope]>,
    /// How long; `None` means as long as after a login.
    pub ttl: Option<Duration>,
}

/// Why nobody was signed in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Wrong password or unknown user; which of them is told to nobody.
    #[error("the user name or the password is wrong")]
    WrongCredentials,
    /// Over 1024 bytes; refused before any work.
    #[error("the password has more than 1024 bytes")]
    PasswordTooLong,
    /// A scope that the account's role does not allow. The password was right.
    #[error("the account's role does not allow {0:?}")]
    ScopeNotAllowed(Scope),
    /// Too many failures for this account or from this address.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When to try again; at least one second.
        retry_after: Duration,
    },
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why there is no new pair.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The refresh token is unknown, too old, spent, or of an ended session.
    #[error("the session is over")]
    SessionOver,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a session token proves nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Unknown, expired, or of an ended session.
    #[error("not signed in")]
    NotSignedIn,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a backend got no session token.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackendTokenError {
    /// The API key, its secret or the JWT is wrong, or the JWT is a participant's.
    #[error("the API key is not valid")]
    BadKey,
    /// There is no such account.
    #[error("there is no user {0}")]
    UserNotFound(UserName),
    /// A scope that the account's role does not allow.
    #[error("the account's role does not allow {0:?}")]
    ScopeNotAllowed(Scope),
    /// Zero, or longer than allowed.
    #[error("the time to live must be between 1 and {max_seconds} seconds")]
    BadTtl {
        /// The bound.
        max_seconds: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Control {
    /// Signs in. Takes the same time for an unknown user as for a wrong password.
    pub async fn login(&self, request: LoginRequest<'_>) -> Result<SignedIn, LoginError> {
        todo!("{request:?}")
    }

    /// Gives a new pair for a refresh token. The token before the current one gives the same pair for 30 s; any
    /// other use of a spent one ends the session.
    pub async fn refresh(&self, refresh_token: &Secret) -> Result<SignedIn, RefreshError> {
        todo!("{refresh_token:?}")
    }

    /// Ends the session of this session token at once.
    pub async fn logout(&self, session_token: &Secret) -> Result<(), AuthError> {
        todo!("{session_token:?}")
    }

    /// Who stands behind this session token.
    pub async fn authenticate(&self, session_token: &Secret) -> Result<AuthSession, AuthError> {
        todo!("{session_token:?}")
    }

    /// A session token for an account, for a backend that proves an API key.
    pub async fn backend_token(
        &self,
        credentials: &ApiCredentials,
        request: BackendTokenRequest<'_>,
    ) -> Result<SignedIn, BackendTokenError> {
        todo!("{credentials:?} {request:?}")
    }
}
