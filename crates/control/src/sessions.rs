//! Signed-in sessions: login, refresh with rotation, logout, authentication.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use confab_types::{Role, Scope, Secret, UserName};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;
use time::OffsetDateTime;

use crate::limiter::Attempt;
use crate::store::sessions::{self, NewSession, SessionRow};
use crate::store::users::{self, PasswordRow, UserRow};
use crate::store::{self, Conn, millis};
use crate::{ApiCredentials, Control, PasswordRule, StorageError, passwords};

/// The longest name of a device, in characters.
const MAX_DEVICE: usize = 128;

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
        match passwords::check(request.password) {
            Err(PasswordRule::TooLong) => return Err(LoginError::PasswordTooLong),
            // An empty password is nobody's; it is answered like any other wrong one.
            Ok(()) | Err(PasswordRule::Empty) => {}
        }
        let inner = &self.inner;
        let attempt = Attempt::new(request.user, request.address);
        self.refuse_if_blocked(attempt)?;
        let turn = inner.hasher.turn().await?;
        // Once more: others may have failed while this one waited for its turn.
        self.refuse_if_blocked(attempt)?;

        let known = match request.user.parse::<UserName>() {
            Ok(name) => users::find_with_password(&mut *inner.db.read().await?, &name).await?,
            Err(_) => None,
        };
        let phc = known.as_ref().map(|known| known.phc.clone());
        let right = inner.hasher.verify(turn, phc, request.password).await?;
        let Some(PasswordRow { user, phc, changed_at }) = known.filter(|_| right) else {
            return Err(self.login_failed(attempt));
        };
        let account = &user.account;
        let scopes =
            allowed_scopes(request.scopes, account.role, account.administrator).map_err(LoginError::ScopeNotAllowed)?;
        let stronger = match inner.hasher.is_outdated(&phc) {
            true => Some(inner.hasher.hash(inner.hasher.turn().await?, request.password).await?),
            false => None,
        };

        let mut write = inner.db.write().await?;
        // The password may have been changed, or the account removed, while it was checked.
        if !users::is_unchanged(write.conn(), &user.id, changed_at).await? {
            return Err(LoginError::WrongCredentials);
        }
        if let Some(stronger) = stronger {
            users::rehash(write.conn(), &user.id, &phc, &stronger).await?;
        }
        let device: String = request.device.unwrap_or_default().chars().take(MAX_DEVICE).collect();
        let begin = Begin {
            user: &user,
            scopes,
            device: &device,
            api_key: None,
            ttl: inner.config.limits.session_token,
        };
        let signed_in = self.begin_session(write.conn(), begin).await?;
        write.commit().await?;
        tracing::info!(user = %signed_in.session.user, session = signed_in.session.session.as_str(), "signed in");
        Ok(signed_in)
    }

    /// Gives a new pair for a refresh token. The token before the current one gives the same pair for 30 s; any
    /// other use of a spent one ends the session.
    pub async fn refresh(&self, refresh_token: &Secret) -> Result<SignedIn, RefreshError> {
        let inner = &self.inner;
        let limits = &inner.config.limits;
        let (now, hash) = (inner.now(), hash_of(refresh_token));
        let mut write = inner.db.write().await?;
        let token = sessions::find_refresh_token(write.conn(), &hash)
            .await?
            .ok_or(RefreshError::SessionOver)?;
        let session = sessions::find(write.conn(), &token.session)
            .await?
            .ok_or(RefreshError::SessionOver)?;
        if millis(now) - session.refreshed_at >= as_millis(limits.session_idle) {
            return Err(RefreshError::SessionOver);
        }
        let next_session_token = self.successor(refresh_token, "session");
        let next_refresh_token = self.successor(refresh_token, "refresh");

        let expires_at = match token.spent_at {
            None => {
                let expires_at = store::time(millis(now + limits.session_token))?;
                sessions::spend(write.conn(), &hash, &session.id, millis(now)).await?;
                let (session_hash, refresh_hash) = (hash_of(&next_session_token), hash_of(&next_refresh_token));
                sessions::insert_session_token(write.conn(), &session.id, &session_hash, millis(expires_at)).await?;
                let generation = token.generation + 1;
                sessions::insert_refresh_token(write.conn(), &session.id, &refresh_hash, generation).await?;
                write.commit().await?;
                expires_at
            }
            Some(spent_at) => {
                let previous = token.generation + 1 == session.generation;
                let in_time = millis(now) - spent_at < as_millis(limits.refresh_grace);
                if !(previous && in_time) {
                    sessions::end(write.conn(), &session.id, millis(now)).await?;
                    write.commit().await?;
                    tracing::warn!(user = %session.user, session = session.id.as_str(), "a spent refresh token was used; session ended");
                    return Err(RefreshError::SessionOver);
                }
                store::time(spent_at)? + limits.session_token
            }
        };
        Ok(SignedIn {
            session: auth_session(session, expires_at),
            session_token: next_session_token,
            refresh_token: Some(next_refresh_token),
        })
    }

    /// Ends the session of this session token at once, even if the token itself has expired.
    pub async fn logout(&self, session_token: &Secret) -> Result<(), AuthError> {
        let inner = &self.inner;
        let mut write = inner.db.write().await?;
        let found = sessions::find_by_session_token(write.conn(), &hash_of(session_token)).await?;
        let (session, _) = found.ok_or(AuthError::NotSignedIn)?;
        sessions::end(write.conn(), &session.id, inner.now_millis()).await?;
        write.commit().await?;
        tracing::info!(user = %session.user, session = session.id.as_str(), "signed out");
        Ok(())
    }

    /// Who stands behind this session token.
    pub async fn authenticate(&self, session_token: &Secret) -> Result<AuthSession, AuthError> {
        let mut read = self.inner.db.read().await?;
        match sessions::find_by_session_token(&mut read, &hash_of(session_token)).await? {
            Some((session, expires_at)) if self.inner.now() < expires_at => Ok(auth_session(session, expires_at)),
            _ => Err(AuthError::NotSignedIn),
        }
    }

    /// A session token for an account, for a backend that proves an API key.
    pub async fn backend_token(
        &self,
        credentials: &ApiCredentials,
        request: BackendTokenRequest<'_>,
    ) -> Result<SignedIn, BackendTokenError> {
        let inner = &self.inner;
        let key = self.proven_key(credentials).ok_or(BackendTokenError::BadKey)?;
        let limits = &inner.config.limits;
        let ttl = request.ttl.unwrap_or(limits.session_token);
        if ttl.as_secs() == 0 || ttl > limits.backend_token_max {
            return Err(BackendTokenError::BadTtl {
                max_seconds: limits.backend_token_max.as_secs(),
            });
        }
        let mut write = inner.db.write().await?;
        let user = users::find(write.conn(), request.user).await?;
        let user = user.ok_or_else(|| BackendTokenError::UserNotFound(request.user.clone()))?;
        let scopes = allowed_scopes(request.scopes, user.account.role, user.account.administrator)
            .map_err(BackendTokenError::ScopeNotAllowed)?;
        let begin = Begin {
            user: &user,
            scopes,
            device: "",
            api_key: Some(&key),
            ttl,
        };
        let signed_in = self.begin_session(write.conn(), begin).await?;
        write.commit().await?;
        tracing::info!(user = %signed_in.session.user, key, "session for a backend");
        Ok(signed_in)
    }

    fn refuse_if_blocked(&self, attempt: Attempt) -> Result<(), LoginError> {
        let now = self.inner.config.clock.monotonic();
        match self.inner.limiter.lock().blocked(attempt, now) {
            Some(retry_after) => Err(LoginError::TooManyAttempts { retry_after }),
            None => Ok(()),
        }
    }

    fn login_failed(&self, attempt: Attempt) -> LoginError {
        let now = self.inner.config.clock.monotonic();
        match self.inner.limiter.lock().failed(attempt, now) {
            Some(retry_after) => LoginError::TooManyAttempts { retry_after },
            None => LoginError::WrongCredentials,
        }
    }

    async fn begin_session(&self, conn: &mut Conn, begin: Begin<'_>) -> Result<SignedIn, StorageError> {
        let inner = &self.inner;
        let now = inner.now();
        let (session, user_id) = (SessionId(inner.random_id()), &begin.user.id);
        let Begin {
            scopes,
            device,
            api_key,
            ..
        } = begin;
        let new = NewSession {
            id: &session,
            user_id,
            scopes: &scopes,
            device,
            api_key,
            now: millis(now),
        };
        sessions::insert(conn, &new).await?;
        let session_token = self.fresh_token();
        let expires_at = store::time(millis(now + begin.ttl))?;
        sessions::insert_session_token(conn, &session, &hash_of(&session_token), millis(expires_at)).await?;
        let mut refresh_token = None;
        if api_key.is_none() {
            let fresh = self.fresh_token();
            sessions::insert_refresh_token(conn, &session, &hash_of(&fresh), 0).await?;
            refresh_token = Some(fresh);
        }
        let account = &begin.user.account;
        let session = AuthSession {
            user_id: user_id.clone(),
            user: account.name.clone(),
            role: account.role,
            administrator: account.administrator,
            scopes,
            session,
            expires_at,
        };
        Ok(SignedIn {
            session,
            session_token,
            refresh_token,
        })
    }

    /// 256 random bits.
    fn fresh_token(&self) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(self.inner.random::<32>()))
    }

    /// The token that follows a refresh token: always the same one, known only to who has both the token and the
    /// server's key. So a lost answer can be given again although only hashes are stored.
    fn successor(&self, refresh_token: &Secret, kind: &str) -> Secret {
        let key = self.inner.rotation_key.expose().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(refresh_token.expose().as_bytes());
        Secret::new(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

/// A session to begin.
struct Begin<'a> {
    user: &'a UserRow,
    scopes: Vec<Scope>,
    device: &'a str,
    api_key: Option<&'a str>,
    ttl: Duration,
}

/// What is stored of a token. It has 256 random bits: a plain hash is enough.
fn hash_of(token: &Secret) -> String {
    hex::encode(Sha256::digest(token.expose().as_bytes()))
}

fn as_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The wished scopes in their usual order, all that are allowed if none were named, or the first that is not allowed.
fn allowed_scopes(wished: Option<&[Scope]>, role: Role, administrator: bool) -> Result<Vec<Scope>, Scope> {
    let allowed = |scope: &Scope| scope.allowed_for(role, administrator);
    let Some(wished) = wished else {
        return Ok(Scope::ALL.into_iter().filter(allowed).collect());
    };
    match wished.iter().find(|scope| !allowed(scope)) {
        Some(refused) => Err(*refused),
        None => Ok(Scope::ALL.into_iter().filter(|scope| wished.contains(scope)).collect()),
    }
}

/// The session as it is now: a role that was narrowed since narrows the scopes too.
pub(crate) fn auth_session(row: SessionRow, expires_at: OffsetDateTime) -> AuthSession {
    let mut scopes = row.scopes;
    scopes.retain(|scope| scope.allowed_for(row.role, row.administrator));
    AuthSession {
        user_id: row.user_id,
        user: row.user,
        role: row.role,
        administrator: row.administrator,
        scopes,
        session: row.id,
        expires_at,
    }
}
