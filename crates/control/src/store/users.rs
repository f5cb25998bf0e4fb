//! Rows of accounts, their identities and passwords.

use confab_types::{Role, UserName};
use sqlx::Row;

use super::{Conn, DbRow, is_duplicate, millis, number, parsed, text, time};
use crate::sessions::UserId;
use crate::{Account, StorageError};

/// The provider of passwords kept here.
const PASSWORD_PROVIDER: &str = "password";

/// An account and its id.
pub(crate) struct UserRow {
    pub(crate) id: UserId,
    pub(crate) account: Account,
}

impl UserRow {
    fn from_row(row: &DbRow) -> Result<Self, StorageError> {
        Ok(Self {
            id: UserId(text(row, "id")?),
            account: Account {
                name: parsed(row, "name")?,
                role: parsed(row, "role")?,
                administrator: row.try_get("administrator")?,
                created_at: time(number(row, "created_at")?)?,
            },
        })
    }
}

/// Adds an account with a hashed password. `false`: the name is taken.
pub(crate) async fn insert(conn: &mut Conn, user: &UserRow, phc: &str) -> Result<bool, StorageError> {
    let account = &user.account;
    let created_at = millis(account.created_at);
    let added = sqlx::query(
        "INSERT INTO users (id, name, name_key, role, administrator, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(user.id.as_str())
    .bind(account.name.as_str())
    .bind(name_key(account.name.as_str()))
    .bind(account.role.as_str())
    .bind(account.administrator)
    .bind(created_at)
    .execute(&mut *conn)
    .await;
    match added {
        Err(error) if is_duplicate(&error) => return Ok(false),
        other => other?,
    };
    sqlx::query("INSERT INTO identities (provider, subject, user_id) VALUES ($1, $2, $3)")
        .bind(PASSWORD_PROVIDER)
        .bind(account.name.as_str())
        .bind(user.id.as_str())
        .execute(&mut *conn)
        .await?;
    sqlx::query("INSERT INTO passwords (user_id, phc, changed_at) VALUES ($1, $2, $3)")
        .bind(user.id.as_str())
        .bind(phc)
        .bind(created_at)
        .execute(&mut *conn)
        .await?;
    Ok(true)
}

/// Every account, by name.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<UserRow>, StorageError> {
    let rows = sqlx::query("SELECT * FROM users ORDER BY name").fetch_all(conn).await?;
    rows.iter().map(UserRow::from_row).collect()
}

/// The account of that name.
pub(crate) async fn find(conn: &mut Conn, name: &UserName) -> Result<Option<UserRow>, StorageError> {
    let row = sqlx::query("SELECT * FROM users WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(UserRow::from_row).transpose()
}

/// An account with what its password is checked against.
pub(crate) struct PasswordRow {
    pub(crate) user: UserRow,
    pub(crate) phc: String,
    pub(crate) changed_at: i64,
}

/// The account that signs in with this name and a password.
pub(crate) async fn find_with_password(conn: &mut Conn, name: &UserName) -> Result<Option<PasswordRow>, StorageError> {
    let row = sqlx::query(
        "SELECT users.*, passwords.phc, passwords.changed_at FROM identities \
         JOIN users ON users.id = identities.user_id JOIN passwords ON passwords.user_id = users.id \
         WHERE identities.provider = $1 AND identities.subject = $2",
    )
    .bind(PASSWORD_PROVIDER)
    .bind(name.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref()
        .map(|row| {
            let (phc, changed_at) = (text(row, "phc")?, number(row, "changed_at")?);
            Ok(PasswordRow {
                user: UserRow::from_row(row)?,
                phc,
                changed_at,
            })
        })
        .transpose()
}

/// Removes an account with everything that hangs on it.
pub(crate) async fn delete(conn: &mut Conn, id: &UserId) -> Result<(), StorageError> {
    sqlx::query("DELETE FROM users WHERE id = $1")
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Changes role and right.
pub(crate) async fn set_role(
    conn: &mut Conn,
    id: &UserId,
    role: Role,
    administrator: bool,
) -> Result<(), StorageError> {
    sqlx::query("UPDATE users SET role = $1, administrator = $2 WHERE id = $3")
        .bind(role.as_str())
        .bind(administrator)
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Changes the password's hash.
pub(crate) async fn set_password(conn: &mut Conn, id: &UserId, phc: &str, now: i64) -> Result<(), StorageError> {
    sqlx::query("UPDATE passwords SET phc = $1, changed_at = $2 WHERE user_id = $3")
        .bind(phc)
        .bind(now)
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Replaces the hash of the same password by a stronger one, unless the password was changed since.
pub(crate) async fn rehash(conn: &mut Conn, id: &UserId, old: &str, new: &str) -> Result<(), StorageError> {
    sqlx::query("UPDATE passwords SET phc = $1 WHERE user_id = $2 AND phc = $3")
        .bind(new)
        .bind(id.as_str())
        .bind(old)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the account is there and nobody changed its password since. (The hash may be another: see [`rehash`].)
pub(crate) async fn is_unchanged(conn: &mut Conn, id: &UserId, changed_at: i64) -> Result<bool, StorageError> {
    let row = sqlx::query("SELECT 1 FROM passwords WHERE user_id = $1 AND changed_at = $2")
        .bind(id.as_str())
        .bind(changed_at)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// What makes two names the same.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}
