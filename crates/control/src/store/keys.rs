//! Rows of API keys, of the server's own keys, and of revocations.

use confab_types::{RoomName, Secret};
use sqlx::Row;
use time::OffsetDateTime;

use super::{Conn, is_duplicate, millis, number, text, time};
use crate::StorageError;

/// A stored API key.
pub(crate) struct KeyRow {
    pub(crate) name: String,
    pub(crate) secret: Secret,
    pub(crate) is_default: bool,
    pub(crate) created_at: OffsetDateTime,
}

/// Every stored key.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<KeyRow>, StorageError> {
    let rows = sqlx::query("SELECT * FROM api_keys ORDER BY created_at, name")
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(KeyRow {
                name: text(row, "name")?,
                secret: Secret::from(text(row, "secret")?),
                is_default: row.try_get("is_default")?,
                created_at: time(number(row, "created_at")?)?,
            })
        })
        .collect()
}

/// Adds a key. `false`: the name is taken.
pub(crate) async fn insert(conn: &mut Conn, key: &KeyRow) -> Result<bool, StorageError> {
    let added = sqlx::query("INSERT INTO api_keys (name, secret, is_default, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&key.name)
        .bind(key.secret.expose())
        .bind(key.is_default)
        .bind(millis(key.created_at))
        .execute(conn)
        .await;
    match added {
        Err(error) if is_duplicate(&error) => Ok(false),
        other => Ok(other.map(|_| true)?),
    }
}

/// Removes a key. `false`: there was none.
pub(crate) async fn delete(conn: &mut Conn, name: &str) -> Result<bool, StorageError> {
    let done = sqlx::query("DELETE FROM api_keys WHERE name = $1")
        .bind(name)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// One of the server's own keys, kept from now on if there was none.
pub(crate) async fn own_secret(conn: &mut Conn, name: &str, fresh: &str) -> Result<Secret, StorageError> {
    sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(fresh)
        .execute(&mut *conn)
        .await?;
    let row = sqlx::query("SELECT value FROM secrets WHERE name = $1")
        .bind(name)
        .fetch_one(conn)
        .await?;
    Ok(Secret::from(text(&row, "value")?))
}

/// Revokes backends' tokens for this room and identity (`""`: everyone) issued until this second.
pub(crate) async fn revoke(
    conn: &mut Conn,
    room: &RoomName,
    identity: &str,
    issued_until: i64,
) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO revocations (room, identity, issued_until) VALUES ($1, $2, $3) \
         ON CONFLICT (room, identity) DO UPDATE SET issued_until = excluded.issued_until \
         WHERE excluded.issued_until > revocations.issued_until",
    )
    .bind(room.as_str())
    .bind(identity)
    .bind(issued_until)
    .execute(conn)
    .await?;
    Ok(())
}

/// Until which second tokens for this room and identity are revoked.
pub(crate) async fn revoked_until(
    conn: &mut Conn,
    room: &RoomName,
    identity: &str,
) -> Result<Option<i64>, StorageError> {
    let row = sqlx::query(
        "SELECT MAX(issued_until) AS until FROM revocations WHERE room = $1 AND (identity = '' OR identity = $2)",
    )
    .bind(room.as_str())
    .bind(identity)
    .fetch_one(conn)
    .await?;
    Ok(row.try_get("until")?)
}
