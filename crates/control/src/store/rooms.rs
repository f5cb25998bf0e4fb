//! Rows of rooms and of the settings of their names.

use std::time::Duration;

use confab_types::{RoomName, RoomSid};
use sqlx::Row;

use super::{Conn, DbRow, millis, number, parsed, parsed_opt, text, time};
use crate::{EndReason, Room, RoomOrigin, RoomSettings, StorageError};

impl RoomOrigin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Service => "service",
        }
    }
}

impl EndReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Deleted => "deleted",
        }
    }
}

const OPEN: &str = "SELECT rooms.*, room_settings.locked, room_settings.size_limit FROM rooms \
     LEFT JOIN room_settings ON room_settings.name = rooms.name WHERE rooms.ended_at IS NULL";

fn limit(stored: Option<i64>) -> Option<u32> {
    stored.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)
}

fn duration(row: &DbRow, column: &'static str) -> Result<Duration, StorageError> {
    let millis = u64::try_from(number(row, column)?).map_err(|_| StorageError::Corrupt { what: column })?;
    Ok(Duration::from_millis(millis))
}

fn settings(row: &DbRow) -> Result<RoomSettings, StorageError> {
    let locked: Option<bool> = row.try_get("locked")?;
    Ok(RoomSettings {
        locked: locked.unwrap_or(false),
        size_limit: limit(row.try_get("size_limit")?),
    })
}

fn room(row: &DbRow) -> Result<Room, StorageError> {
    let settings = settings(row)?;
    let max_participants = limit(row.try_get("max_participants")?);
    Ok(Room {
        sid: parsed(row, "sid")?,
        name: parsed(row, "name")?,
        origin: match text(row, "origin")?.as_str() {
            "rest" => RoomOrigin::Rest,
            "service" => RoomOrigin::Service,
            _ => return Err(StorageError::Corrupt { what: "origin" }),
        },
        creator: parsed_opt(row, "creator")?,
        empty_timeout: duration(row, "empty_timeout_ms")?,
        departure_timeout: duration(row, "departure_timeout_ms")?,
        metadata: text(row, "metadata")?,
        size_limit: [settings.size_limit, max_participants].into_iter().flatten().min(),
        settings,
        max_participants,
        created_at: time(number(row, "created_at")?)?,
    })
}

/// The open room of that name.
pub(crate) async fn find_open(conn: &mut Conn, name: &RoomName) -> Result<Option<Room>, StorageError> {
    const BY_NAME: &str = "SELECT rooms.*, room_settings.locked, room_settings.size_limit FROM rooms \
         LEFT JOIN room_settings ON room_settings.name = rooms.name WHERE rooms.ended_at IS NULL AND rooms.name = $1";
    let row = sqlx::query(BY_NAME).bind(name.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(room).transpose()
}

/// The open room of that sid.
pub(crate) async fn find_open_sid(conn: &mut Conn, sid: &RoomSid) -> Result<Option<Room>, StorageError> {
    const BY_SID: &str = "SELECT rooms.*, room_settings.locked, room_settings.size_limit FROM rooms \
         LEFT JOIN room_settings ON room_settings.name = rooms.name WHERE rooms.ended_at IS NULL AND rooms.sid = $1";
    let row = sqlx::query(BY_SID).bind(sid.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(room).transpose()
}

/// Every open room.
pub(crate) async fn list_open(conn: &mut Conn) -> Result<Vec<Room>, StorageError> {
    let mut rooms = sqlx::query(OPEN)
        .fetch_all(conn)
        .await?
        .iter()
        .map(room)
        .collect::<Result<Vec<_>, _>>()?;
    rooms.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rooms)
}

/// Adds an open room.
pub(crate) async fn insert(conn: &mut Conn, room: &Room) -> Result<(), StorageError> {
    let millis_of = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO rooms (sid, name, origin, creator, empty_timeout_ms, departure_timeout_ms, max_participants, \
         metadata, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(room.sid.as_str())
    .bind(room.name.as_str())
    .bind(room.origin.as_str())
    .bind(room.creator.as_ref().map(|name| name.as_str()))
    .bind(millis_of(room.empty_timeout))
    .bind(millis_of(room.departure_timeout))
    .bind(room.max_participants.map(i64::from))
    .bind(&room.metadata)
    .bind(millis(room.created_at))
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks a room as ended. `false`: it was already.
pub(crate) async fn end(conn: &mut Conn, sid: &RoomSid, reason: EndReason, now: i64) -> Result<bool, StorageError> {
    let done = sqlx::query("UPDATE rooms SET ended_at = $1, end_reason = $2 WHERE sid = $3 AND ended_at IS NULL")
        .bind(now)
        .bind(reason.as_str())
        .bind(sid.as_str())
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Nobody made the rooms of an account that is removed.
pub(crate) async fn forget_creator(conn: &mut Conn, name: &confab_types::UserName) -> Result<(), StorageError> {
    sqlx::query("UPDATE rooms SET creator = NULL WHERE creator = $1")
        .bind(name.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// The settings of a name.
pub(crate) async fn find_settings(conn: &mut Conn, name: &RoomName) -> Result<RoomSettings, StorageError> {
    let row = sqlx::query("SELECT locked, size_limit FROM room_settings WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map_or_else(|| Ok(RoomSettings::default()), settings)
}

/// Keeps the settings of a name.
pub(crate) async fn put_settings(conn: &mut Conn, name: &RoomName, new: RoomSettings) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO room_settings (name, locked, size_limit) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET locked = excluded.locked, size_limit = excluded.size_limit",
    )
    .bind(name.as_str())
    .bind(new.locked)
    .bind(new.size_limit.map(i64::from))
    .execute(conn)
    .await?;
    Ok(())
}
