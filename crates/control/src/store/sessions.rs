//! Rows of signed-in sessions and their tokens' hashes.

use confab_types::{Role, Scope, UserName};
use sqlx::Row;
use time::OffsetDateTime;

use super::{Conn, DbRow, number, parsed, text, time};
use crate::StorageError;
use crate::sessions::{SessionId, UserId};

/// A session to add.
pub(crate) struct NewSession<'a> {
    pub(crate) id: &'a SessionId,
    pub(crate) user_id: &'a UserId,
    pub(crate) scopes: &'a [Scope],
    pub(crate) device: &'a str,
    pub(crate) api_key: Option<&'a str>,
    pub(crate) now: i64,
}

/// A living session with its account as it is now.
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    pub(crate) user_id: UserId,
    pub(crate) user: UserName,
    pub(crate) role: Role,
    pub(crate) administrator: bool,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) generation: i64,
    pub(crate) refreshed_at: i64,
}

impl SessionRow {
    fn from_row(row: &DbRow) -> Result<Self, StorageError> {
        Ok(Self {
            id: SessionId(text(row, "session_id")?),
            user_id: UserId(text(row, "user_id")?),
            user: parsed(row, "name")?,
            role: parsed(row, "role")?,
            administrator: row.try_get("administrator")?,
            scopes: read_scopes(&text(row, "scopes")?)?,
            generation: number(row, "generation")?,
            refreshed_at: number(row, "refreshed_at")?,
        })
    }
}

/// A refresh token's row.
pub(crate) struct RefreshRow {
    pub(crate) session: SessionId,
    pub(crate) generation: i64,
    pub(crate) spent_at: Option<i64>,
}

fn write_scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Join => "join",
        Scope::Publish => "publish",
        Scope::Moderate => "moderate",
        Scope::Administer => "administer",
    }
}

fn write_scopes(scopes: &[Scope]) -> String {
    scopes.iter().map(|s| write_scope(*s)).collect::<Vec<_>>().join(" ")
}

fn read_scopes(stored: &str) -> Result<Vec<Scope>, StorageError> {
    let scope = |word| Scope::ALL.into_iter().find(|s| write_scope(*s) == word);
    stored
        .split_whitespace()
        .map(|word| scope(word).ok_or(StorageError::Corrupt { what: "scope" }))
        .collect()
}

/// Adds a session.
pub(crate) async fn insert(conn: &mut Conn, new: &NewSession<'_>) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO sessions (id, user_id, scopes, device, api_key, generation, created_at, refreshed_at) \
         VALUES ($1, $2, $3, $4, $5, 0, $6, $6)",
    )
    .bind(new.id.as_str())
    .bind(new.user_id.as_str())
    .bind(write_scopes(new.scopes))
    .bind(new.device)
    .bind(new.api_key)
    .bind(new.now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds a session token's hash.
pub(crate) async fn insert_session_token(
    conn: &mut Conn,
    session: &SessionId,
    hash: &str,
    expires_at: i64,
) -> Result<(), StorageError> {
    sqlx::query("INSERT INTO session_tokens (hash, session_id, expires_at) VALUES ($1, $2, $3)")
        .bind(hash)
        .bind(session.as_str())
        .bind(expires_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds a refresh token's hash.
pub(crate) async fn insert_refresh_token(
    conn: &mut Conn,
    session: &SessionId,
    hash: &str,
    generation: i64,
) -> Result<(), StorageError> {
    sqlx::query("INSERT INTO refresh_tokens (hash, session_id, generation) VALUES ($1, $2, $3)")
        .bind(hash)
        .bind(session.as_str())
        .bind(generation)
        .execute(conn)
        .await?;
    Ok(())
}

const LIVING: &str = "SELECT sessions.id AS session_id, sessions.user_id, sessions.scopes, sessions.generation, \
     sessions.refreshed_at, users.name, users.role, users.administrator, session_tokens.expires_at \
     FROM session_tokens JOIN sessions ON sessions.id = session_tokens.session_id \
     JOIN users ON users.id = sessions.user_id \
     WHERE session_tokens.hash = $1 AND sessions.ended_at IS NULL";

/// The living session of a session token, expired or not, and the token's end.
pub(crate) async fn find_by_session_token(
    conn: &mut Conn,
    hash: &str,
) -> Result<Option<(SessionRow, OffsetDateTime)>, StorageError> {
    let row = sqlx::query(LIVING).bind(hash).fetch_optional(conn).await?;
    row.as_ref()
        .map(|row| Ok((SessionRow::from_row(row)?, time(number(row, "expires_at")?)?)))
        .transpose()
}

/// The living session of that id.
pub(crate) async fn find(conn: &mut Conn, id: &SessionId) -> Result<Option<SessionRow>, StorageError> {
    let row = sqlx::query(
        "SELECT sessions.id AS session_id, sessions.user_id, sessions.scopes, sessions.generation, \
         sessions.refreshed_at, users.name, users.role, users.administrator \
         FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.id = $1 AND sessions.ended_at IS NULL",
    )
    .bind(id.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(SessionRow::from_row).transpose()
}

/// A refresh token's row, spent or not.
pub(crate) async fn find_refresh_token(conn: &mut Conn, hash: &str) -> Result<Option<RefreshRow>, StorageError> {
    let row = sqlx::query("SELECT session_id, generation, spent_at FROM refresh_tokens WHERE hash = $1")
        .bind(hash)
        .fetch_optional(conn)
        .await?;
    row.as_ref()
        .map(|row| {
            Ok(RefreshRow {
                session: SessionId(text(row, "session_id")?),
                generation: number(row, "generation")?,
                spent_at: row.try_get("spent_at")?,
            })
        })
        .transpose()
}

/// Spends a refresh token and moves its session to the next generation.
pub(crate) async fn spend(conn: &mut Conn, hash: &str, session: &SessionId, now: i64) -> Result<(), StorageError> {
    sqlx::query("UPDATE refresh_tokens SET spent_at = $1 WHERE hash = $2")
        .bind(now)
        .bind(hash)
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE sessions SET generation = generation + 1, refreshed_at = $1 WHERE id = $2")
        .bind(now)
        .bind(session.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends one session.
pub(crate) async fn end(conn: &mut Conn, id: &SessionId, now: i64) -> Result<(), StorageError> {
    sqlx::query("UPDATE sessions SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL")
        .bind(now)
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends every session of an account.
pub(crate) async fn end_all_of_user(conn: &mut Conn, user: &UserId, now: i64) -> Result<(), StorageError> {
    sqlx::query("UPDATE sessions SET ended_at = $1 WHERE user_id = $2 AND ended_at IS NULL")
        .bind(now)
        .bind(user.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends every session that a backend began with this key.
pub(crate) async fn end_all_of_key(conn: &mut Conn, key: &str, now: i64) -> Result<(), StorageError> {
    sqlx::query("UPDATE sessions SET ended_at = $1 WHERE api_key = $2 AND ended_at IS NULL")
        .bind(now)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets sessions that ended, or that nobody used, before `before`, and tokens that ended before it.
pub(crate) async fn forget(conn: &mut Conn, before: i64) -> Result<(), StorageError> {
    sqlx::query("DELETE FROM session_tokens WHERE expires_at < $1")
        .bind(before)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM refresh_tokens WHERE spent_at < $1")
        .bind(before)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM sessions WHERE ended_at < $1 OR (refreshed_at < $1 AND NOT EXISTS \
         (SELECT 1 FROM session_tokens WHERE session_tokens.session_id = sessions.id))",
    )
    .bind(before)
    .execute(conn)
    .await?;
    Ok(())
}
