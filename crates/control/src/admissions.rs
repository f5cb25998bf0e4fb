//! Admissions: one person's right to one seat in one run of a room.
//!
//! ```text
//! issued --admit--> active --mark_departing--> departing --20 s--> void
//!                     ^  <------admit, resume-----'                 ^
//!                     '--- remove_user, remove_participant, end_room '   (from every state)
//! ```

use std::time::Duration;

use confab_types::{Identity, ParticipantSid, RoomName, RoomSid, Secret, UserName};
use thiserror::Error;

use crate::room_tokens::{end_of, is_revoked};
use crate::store::admissions::{self, AdmissionRow};
use crate::store::{self, Conn, millis};
use crate::{AdmissionView, Control, EndReason, Room, RoomOrigin, StorageError, TokenIssuer, VerifiedToken};

/// How long a void admission is remembered; nothing asks for it but a person who looks into the database.
const KEEP_VOID: Duration = Duration::from_secs(24 * 3600);

/// An admission's id: the `jti` of the tokens that name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdmissionId(pub(crate) String);

impl AdmissionId {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where an admission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionState {
    /// The token was not used yet. Holds no seat.
    Issued,
    /// Its holder is in the room.
    Active,
    /// Its holder is gone; may come back for a while. Holds its seat.
    Departing,
    /// Over.
    Void,
}

/// What a join with a verified token means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinCheck {
    /// A fresh join: call [`Control::admit`].
    Admit,
    /// A resume of this very join: call [`Control::resume`] if the room still knows it, else answer `STATE_MISMATCH`.
    Resume {
        /// The join to go on with.
        participant: ParticipantSid,
    },
    /// Active in another hand. If its signalling closes or does not answer a ping within 300 ms, call
    /// [`Control::mark_departing`], then [`Control::admit`]; if it answers, 401.
    Held {
        /// Who holds it.
        by: ParticipantSid,
    },
}

/// A join that was let in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The admission; backends' tokens get one here too.
    pub admission: AdmissionId,
    /// The run of the room it belongs to.
    pub room: RoomSid,
    /// The join that held it before (now gone for good), if any: remove it from the room.
    pub replaced: Option<ParticipantSid>,
    /// The account, for tokens of the REST call.
    pub user: Option<UserName>,
}

/// Why a join was not let in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// Void, revoked or over since it was verified: 401.
    #[error("the token has been revoked")]
    Revoked,
    /// Another join holds it: see [`JoinCheck::Held`].
    #[error("the token is in use")]
    Held {
        /// Who holds it.
        by: ParticipantSid,
    },
    /// Every seat is held.
    #[error("the room is full")]
    RoomFull,
    /// The room takes nobody in now.
    #[error("the room is locked")]
    RoomLocked,
    /// The room is not open: open it, then try again. For backends' tokens only.
    #[error("the room is not open")]
    RoomNotOpen,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why an admission was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// No living admission is held by this join.
    #[error("the admission is over or in another hand")]
    NotHeld,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// An admission that was voided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidedAdmission {
    /// Which.
    pub admission: AdmissionId,
    /// Of which run of a room.
    pub room: RoomSid,
    /// The identity.
    pub identity: Identity,
    /// The join to disconnect; `None` if its token was never used.
    pub participant: Option<ParticipantSid>,
}

/// What `remove-user` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedUser {
    /// The room.
    pub room: RoomSid,
    /// What is void now: the token's admission first, then, if the room ended, all others of the room.
    pub voided: Vec<VoidedAdmission>,
    /// That was the last one: the room is over.
    pub room_ended: bool,
}

/// Why `remove-user` removed nobody.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoveUserError {
    /// No open room of that name.
    #[error("there is no such room")]
    RoomNotFound,
    /// Not a token of that room, or void already.
    #[error("there is no such token in the room")]
    TokenNotFound,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a sweep found.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// Departed for good: their 20 s are over.
    pub departed: Vec<VoidedAdmission>,
}

/// Why a room takes nobody new in.
pub(crate) enum Refusal {
    /// Every seat is held.
    Full,
    /// It is locked.
    Locked,
}

impl From<Refusal> for AdmitError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::RoomFull,
            Refusal::Locked => Self::RoomLocked,
        }
    }
}

impl Control {
    /// Lets a join in, as `participant`. Durable when it returns: call it before `JoinResponse`.
    pub async fn admit(&self, token: &VerifiedToken, participant: &ParticipantSid) -> Result<Admitted, AdmitError> {
        let mut write = self.inner.db.write().await?;
        let admitted = match (&token.issuer, &token.admission) {
            (TokenIssuer::Own, Some(view)) => self.admit_own(write.conn(), &view.id, participant).await?,
            (TokenIssuer::Own, None) => return Err(AdmitError::Revoked),
            (TokenIssuer::ApiKey(key), _) => self.admit_backends(write.conn(), token, key, participant).await?,
        };
        write.commit().await?;
        tracing::info!(room = %token.room, identity = %token.identity, %participant, "admitted");
        Ok(admitted)
    }

    /// The same join goes on after its signalling was lost.
    pub async fn resume(&self, admission: &AdmissionId, participant: &ParticipantSid) -> Result<(), AdmissionError> {
        let mut write = self.inner.db.write().await?;
        let row = self
            .living_admission(write.conn(), admission.as_str())
            .await?
            .ok_or(AdmissionError::NotHeld)?;
        if row.participant.as_ref() != Some(participant) {
            return Err(AdmissionError::NotHeld);
        }
        admissions::set_active(write.conn(), admission, participant).await?;
        Ok(write.commit().await?)
    }

    /// The join's connection is lost, or it said `Leave`: its seat is held for 20 s. Nothing happens if another join
    /// holds the admission by now, or if it is void.
    pub async fn mark_departing(
        &self,
        admission: &AdmissionId,
        participant: &ParticipantSid,
    ) -> Result<(), AdmissionError> {
        let until = millis(self.inner.now() + self.inner.config.limits.departing);
        let mut write = self.inner.db.write().await?;
        admissions::set_departing(write.conn(), admission, participant, until).await?;
        Ok(write.commit().await?)
    }

    /// Those who hold, or could take, a seat in this room: issued, active and departing.
    pub async fn living_admissions(&self, room: &RoomSid) -> Result<Vec<AdmissionView>, StorageError> {
        let now = self.inner.now_millis();
        let mut read = self.inner.db.read().await?;
        let rows = admissions::list_living(&mut read, room).await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.state_at(now) != AdmissionState::Void)
            .map(AdmissionRow::view)
            .collect())
    }

    /// Removes a participant by force: voids the admission of this identity and the same user's unused tokens of this
    /// room, and revokes backends' tokens for this identity in this room issued until now.
    pub async fn remove_participant(
        &self,
        room: &RoomSid,
        identity: &Identity,
    ) -> Result<Vec<VoidedAdmission>, AdmissionError> {
        let now = self.inner.now();
        let mut write = self.inner.db.write().await?;
        let Some(open) = store::rooms::find_open_sid(write.conn(), room).await? else {
            return Ok(Vec::new());
        };
        let rows = admissions::list_living(write.conn(), room).await?;
        let user = rows
            .iter()
            .find(|row| row.identity == *identity)
            .and_then(|row| row.user_id.clone());
        let unused = |row: &AdmissionRow| row.state == AdmissionState::Issued && user.is_some() && row.user_id == user;
        let mut voided = Vec::new();
        for row in rows.iter().filter(|row| row.identity == *identity || unused(row)) {
            admissions::set_void(write.conn(), &row.id, millis(now)).await?;
            voided.push(row.voided());
        }
        store::keys::revoke(write.conn(), &open.name, identity.as_str(), now.unix_timestamp()).await?;
        write.commit().await?;
        tracing::info!(room = %open.name, %identity, "participant removed");
        Ok(voided)
    }

    /// `remove-user`: voids a room token at once, used or not, expired or not. The last one to leave ends the room.
    pub async fn remove_user(&self, room: &RoomName, token: &Secret) -> Result<RemovedUser, RemoveUserError> {
        let now = self.inner.now();
        let mut write = self.inner.db.write().await?;
        let open = store::rooms::find_open(write.conn(), room)
            .await?
            .ok_or(RemoveUserError::RoomNotFound)?;
        let (issuer, claims) = self.signed_claims(token).map_err(|_| RemoveUserError::TokenNotFound)?;
        if claims.video.room != room.as_str() {
            return Err(RemoveUserError::TokenNotFound);
        }
        let row = match &issuer {
            TokenIssuer::Own => self.living_admission(write.conn(), &claims.jti).await?,
            TokenIssuer::ApiKey(key) => {
                let identity = claims.sub.parse().map_err(|_| RemoveUserError::TokenNotFound)?;
                if is_revoked(write.conn(), room, &identity, &claims).await? {
                    return Err(RemoveUserError::TokenNotFound);
                }
                let row = admissions::find_living(write.conn(), &open.sid, &identity).await?;
                row.filter(|row| row.api_key.as_ref() == Some(key) && row.state_at(millis(now)) != AdmissionState::Void)
            }
        };
        let row = row
            .filter(|row| row.room == open.sid)
            .ok_or(RemoveUserError::TokenNotFound)?;
        admissions::set_void(write.conn(), &row.id, millis(now)).await?;
        if row.api_key.is_some() {
            store::keys::revoke(write.conn(), room, row.identity.as_str(), now.unix_timestamp()).await?;
        }
        let mut voided = vec![row.voided()];
        let room_ended = open.origin == RoomOrigin::Rest && self.was_last(write.conn(), &row, millis(now)).await?;
        if room_ended {
            voided.extend(self.end_room_in(write.conn(), &open, EndReason::Empty).await?);
        }
        write.commit().await?;
        tracing::info!(room = %room, identity = %row.identity, room_ended, "user removed");
        Ok(RemovedUser {
            room: open.sid,
            voided,
            room_ended,
        })
    }

    /// Voids what has departed for good and forgets what is long over. Call it every few seconds.
    pub async fn sweep(&self) -> Result<Swept, StorageError> {
        let limits = &self.inner.config.limits;
        let now = self.inner.now();
        let mut write = self.inner.db.write().await?;
        let mut departed = Vec::new();
        for row in admissions::list_departed(write.conn(), millis(now)).await? {
            admissions::set_void(write.conn(), &row.id, millis(now)).await?;
            departed.push(row.voided());
        }
        let unused_before = millis(now - limits.leeway);
        admissions::forget(write.conn(), millis(now), unused_before, millis(now - KEEP_VOID)).await?;
        store::sessions::forget(write.conn(), millis(now - limits.session_idle)).await?;
        write.commit().await?;
        Ok(Swept { departed })
    }

    /// Whether the room takes somebody new in.
    pub(crate) async fn refusal(
        &self,
        conn: &mut Conn,
        room: &Room,
        now: i64,
    ) -> Result<Option<Refusal>, StorageError> {
        if room.settings.locked {
            return Ok(Some(Refusal::Locked));
        }
        let Some(limit) = room.size_limit else { return Ok(None) };
        let held = admissions::seats_held(conn, &room.sid, now).await?;
        Ok((held >= limit).then_some(Refusal::Full))
    }

    async fn admit_own(
        &self,
        conn: &mut Conn,
        id: &AdmissionId,
        participant: &ParticipantSid,
    ) -> Result<Admitted, AdmitError> {
        let row = self
            .living_admission(conn, id.as_str())
            .await?
            .ok_or(AdmitError::Revoked)?;
        let room = store::rooms::find_open_sid(conn, &row.room)
            .await?
            .ok_or(AdmitError::Revoked)?;
        match (row.state, &row.participant) {
            (AdmissionState::Active, Some(holder)) => return Err(AdmitError::Held { by: holder.clone() }),
            // A departing one has its seat still.
            (AdmissionState::Departing, _) => {}
            _ => {
                if let Some(refusal) = self.refusal(conn, &room, self.inner.now_millis()).await? {
                    return Err(refusal.into());
                }
            }
        }
        admissions::set_active(conn, id, participant).await?;
        Ok(Admitted {
            admission: row.id,
            room: room.sid,
            replaced: row.participant,
            user: row.user,
        })
    }

    /// A backend's token joins as often as it likes. Its identity has one seat: a later join takes it over.
    async fn admit_backends(
        &self,
        conn: &mut Conn,
        token: &VerifiedToken,
        key: &str,
        participant: &ParticipantSid,
    ) -> Result<Admitted, AdmitError> {
        let now = self.inner.now_millis();
        if is_revoked(conn, &token.room, &token.identity, &token.claims).await? {
            return Err(AdmitError::Revoked);
        }
        let room = store::rooms::find_open(conn, &token.room)
            .await?
            .ok_or(AdmitError::RoomNotOpen)?;
        let old = admissions::find_living(conn, &room.sid, &token.identity).await?;
        let has_seat = old
            .as_ref()
            .is_some_and(|row| matches!(row.state_at(now), AdmissionState::Active | AdmissionState::Departing));
        if !has_seat && let Some(refusal) = self.refusal(conn, &room, now).await? {
            return Err(refusal.into());
        }
        if let Some(old) = &old {
            admissions::set_void(conn, &old.id, now).await?;
        }
        let row = AdmissionRow {
            id: AdmissionId(self.inner.random_id()),
            room: room.sid.clone(),
            user_id: None,
            user: None,
            identity: token.identity.clone(),
            api_key: Some(key.to_owned()),
            claims: token.claims.clone(),
            state: AdmissionState::Active,
            participant: Some(participant.clone()),
            issued_at: now,
            expires_at: end_of(&token.claims).1,
            departing_until: None,
        };
        admissions::insert(conn, &row).await?;
        let replaced = old.and_then(|old| old.participant);
        Ok(Admitted {
            admission: row.id,
            room: room.sid,
            replaced,
            user: None,
        })
    }

    /// Whether nobody is left after `removed`. Unused tokens keep no room open, unless the removed one was unused
    /// itself: then nobody has left.
    async fn was_last(&self, conn: &mut Conn, removed: &AdmissionRow, now: i64) -> Result<bool, StorageError> {
        let left = admissions::list_living(conn, &removed.room).await?;
        Ok(!left.iter().any(|row| match row.state_at(now) {
            AdmissionState::Active | AdmissionState::Departing => true,
            AdmissionState::Issued => removed.state == AdmissionState::Issued,
            AdmissionState::Void => false,
        }))
    }
}
