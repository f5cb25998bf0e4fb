//! Rows of admissions.

use confab_types::{Claims, Identity, ParticipantSid, RoomSid, UserName};
use sqlx::Row;

use super::{Conn, DbRow, number, parsed, parsed_opt, text};
use crate::sessions::UserId;
use crate::{AdmissionId, AdmissionState, StorageError, VoidedAdmission};

impl AdmissionState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Active => "active",
            Self::Departing => "departing",
            Self::Void => "void",
        }
    }
}

/// An admission.
#[derive(Clone)]
pub(crate) struct AdmissionRow {
    pub(crate) id: AdmissionId,
    pub(crate) room: RoomSid,
    pub(crate) user_id: Option<UserId>,
    pub(crate) user: Option<UserName>,
    pub(crate) identity: Identity,
    pub(crate) api_key: Option<String>,
    pub(crate) claims: Claims,
    pub(crate) state: AdmissionState,
    pub(crate) participant: Option<ParticipantSid>,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) departing_until: Option<i64>,
}

impl AdmissionRow {
    fn from_row(row: &DbRow) -> Result<Self, StorageError> {
        let state = match text(row, "state")?.as_str() {
            "issued" => AdmissionState::Issued,
            "active" => AdmissionState::Active,
            "departing" => AdmissionState::Departing,
            "void" => AdmissionState::Void,
            _ => return Err(StorageError::Corrupt { what: "state" }),
        };
        let user_id: Option<String> = row.try_get("user_id")?;
        let claims = text(row, "claims")?;
        Ok(Self {
            id: AdmissionId(text(row, "id")?),
            room: parsed(row, "room_sid")?,
            user_id: user_id.map(UserId),
            user: parsed_opt(row, "user_name")?,
            identity: parsed(row, "identity")?,
            api_key: row.try_get("api_key")?,
            claims: serde_json::from_str(&claims).map_err(|_| StorageError::Corrupt { what: "claims" })?,
            state,
            participant: parsed_opt(row, "participant_sid")?,
            issued_at: number(row, "issued_at")?,
            expires_at: number(row, "expires_at")?,
            departing_until: row.try_get("departing_until")?,
        })
    }

    /// The state now: a departure that took too long is over even before a sweep says so.
    pub(crate) fn state_at(&self, now: i64) -> AdmissionState {
        let gone = self.state == AdmissionState::Departing && self.departing_until.is_none_or(|until| until <= now);
        if gone { AdmissionState::Void } else { self.state }
    }

    /// As told to the caller once it is void.
    pub(crate) fn voided(&self) -> VoidedAdmission {
        VoidedAdmission {
            admission: self.id.clone(),
            room: self.room.clone(),
            identity: self.identity.clone(),
            participant: self.participant.clone(),
        }
    }
}

fn write_claims(claims: &Claims) -> String {
    serde_json::to_string(claims).expect("claims are plain data")
}

/// Adds an admission.
pub(crate) async fn insert(conn: &mut Conn, row: &AdmissionRow) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO admissions (id, room_sid, user_id, user_name, identity, api_key, claims, state, \
         participant_sid, issued_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(row.id.as_str())
    .bind(row.room.as_str())
    .bind(row.user_id.as_ref().map(UserId::as_str))
    .bind(row.user.as_ref().map(UserName::as_str))
    .bind(row.identity.as_str())
    .bind(row.api_key.as_deref())
    .bind(write_claims(&row.claims))
    .bind(row.state.as_str())
    .bind(row.participant.as_ref().map(ParticipantSid::as_str))
    .bind(row.issued_at)
    .bind(row.expires_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// One admission, void or not.
pub(crate) async fn find(conn: &mut Conn, id: &str) -> Result<Option<AdmissionRow>, StorageError> {
    let row = sqlx::query("SELECT * FROM admissions WHERE id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(AdmissionRow::from_row).transpose()
}

/// The admission of this identity in this room that is not marked void.
pub(crate) async fn find_living(
    conn: &mut Conn,
    room: &RoomSid,
    identity: &Identity,
) -> Result<Option<AdmissionRow>, StorageError> {
    let row = sqlx::query("SELECT * FROM admissions WHERE room_sid = $1 AND identity = $2 AND state <> 'void'")
        .bind(room.as_str())
        .bind(identity.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(AdmissionRow::from_row).transpose()
}

/// The admissions of a room that are not marked void, oldest first.
pub(crate) async fn list_living(conn: &mut Conn, room: &RoomSid) -> Result<Vec<AdmissionRow>, StorageError> {
    let rows = sqlx::query("SELECT * FROM admissions WHERE room_sid = $1 AND state <> 'void' ORDER BY issued_at, id")
        .bind(room.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(AdmissionRow::from_row).collect()
}

/// An account's admissions that are not marked void, in all rooms.
pub(crate) async fn list_living_of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<AdmissionRow>, StorageError> {
    let rows = sqlx::query("SELECT * FROM admissions WHERE user_id = $1 AND state <> 'void' ORDER BY issued_at, id")
        .bind(user.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(AdmissionRow::from_row).collect()
}

/// How many seats of a room are held.
pub(crate) async fn seats_held(conn: &mut Conn, room: &RoomSid, now: i64) -> Result<u32, StorageError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS seats FROM admissions WHERE room_sid = $1 \
         AND (state = 'active' OR (state = 'departing' AND departing_until > $2))",
    )
    .bind(room.as_str())
    .bind(now)
    .fetch_one(conn)
    .await?;
    u32::try_from(number(&row, "seats")?).map_err(|_| StorageError::Corrupt { what: "seats" })
}

/// A join holds it now.
pub(crate) async fn set_active(
    conn: &mut Conn,
    id: &AdmissionId,
    participant: &ParticipantSid,
) -> Result<(), StorageError> {
    sqlx::query("UPDATE admissions SET state = 'active', participant_sid = $1, departing_until = NULL WHERE id = $2")
        .bind(participant.as_str())
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// The join that holds it is gone, its seat is held until then. `false`: that join does not hold it.
pub(crate) async fn set_departing(
    conn: &mut Conn,
    id: &AdmissionId,
    participant: &ParticipantSid,
    until: i64,
) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "UPDATE admissions SET state = 'departing', departing_until = $1 \
         WHERE id = $2 AND participant_sid = $3 AND state = 'active'",
    )
    .bind(until)
    .bind(id.as_str())
    .bind(participant.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Another token, or another end of the same, for this admission.
pub(crate) async fn set_claims(
    conn: &mut Conn,
    id: &AdmissionId,
    claims: &Claims,
    expires_at: i64,
) -> Result<(), StorageError> {
    sqlx::query("UPDATE admissions SET claims = $1, expires_at = $2 WHERE id = $3")
        .bind(write_claims(claims))
        .bind(expires_at)
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Over.
pub(crate) async fn set_void(conn: &mut Conn, id: &AdmissionId, now: i64) -> Result<(), StorageError> {
    sqlx::query("UPDATE admissions SET state = 'void', voided_at = $1 WHERE id = $2 AND state <> 'void'")
        .bind(now)
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Those who were in a call when an older run of the server stopped may come back until then.
pub(crate) async fn depart_all(conn: &mut Conn, until: i64) -> Result<u64, StorageError> {
    let done = sqlx::query(
        "UPDATE admissions SET state = 'departing', departing_until = $1 WHERE state = 'active' OR state = 'departing'",
    )
    .bind(until)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Departures that took too long.
pub(crate) async fn list_departed(conn: &mut Conn, now: i64) -> Result<Vec<AdmissionRow>, StorageError> {
    let rows = sqlx::query("SELECT * FROM admissions WHERE state = 'departing' AND departing_until <= $1")
        .bind(now)
        .fetch_all(conn)
        .await?;
    rows.iter().map(AdmissionRow::from_row).collect()
}

/// Voids tokens that nobody used in time, and forgets admissions that have long been void.
pub(crate) async fn forget(
    conn: &mut Conn,
    now: i64,
    unused_before: i64,
    void_before: i64,
) -> Result<(), StorageError> {
    sqlx::query("UPDATE admissions SET state = 'void', voided_at = $1 WHERE state = 'issued' AND expires_at < $2")
        .bind(now)
        .bind(unused_before)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM admissions WHERE state = 'void' AND voided_at < $1")
        .bind(void_before)
        .execute(conn)
        .await?;
    Ok(())
}
