//! Admissions: one person's right to one seat in one run of a room.
//!
//! ```text
//! issued --admit--> active --mark_departing--> departing --20 s--> void
//!                     ^  <------admit, resume-----'                 ^
//!                     '--- remove_user, remove_participant, end_room '   (from every state)
//! ```

use confab_types::{Identity, ParticipantSid, RoomName, RoomSid, Secret, UserName};
use thiserror::Error;

use crate::{Control, StorageError, VerifiedToken};

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

impl Control {
    /// Lets a join in, as `participant`. Durable when it returns: call it before `JoinResponse`.
    pub async fn admit(&self, token: &VerifiedToken, participant: &ParticipantSid) -> Result<Admitted, AdmitError> {
        todo!("{token:?} {participant}")
    }

    /// The same join goes on after its signalling was lost.
    pub async fn resume(&self, admission: &AdmissionId, participant: &ParticipantSid) -> Result<(), AdmissionError> {
        todo!("{admission:?} {participant}")
    }

    /// The join's connection is lost, or it said `Leave`: its seat is held for 20 s. Nothing happens if another join
    /// holds the admission by now, or if it is void.
    pub async fn mark_departing(
        &self,
        admission: &AdmissionId,
        participant: &ParticipantSid,
    ) -> Result<(), AdmissionError> {
        todo!("{admission:?} {participant}")
    }

    /// Removes a participant by force: voids the admission of this identity and the same user's unused tokens of this
    /// room, and revokes backends' tokens for this identity in this room issued until now.
    pub async fn remove_participant(
        &self,
        room: &RoomSid,
        identity: &Identity,
    ) -> Result<Vec<VoidedAdmission>, AdmissionError> {
        todo!("{room} {identity}")
    }

    /// `remove-user`: voids a room token at once, used or not, expired or not. The last one to leave ends the room.
    pub async fn remove_user(&self, room: &RoomName, token: &Secret) -> Result<RemovedUser, RemoveUserError> {
        todo!("{room} {token:?}")
    }

    /// Voids what has departed for good and forgets what is long over. Call it every few seconds.
    pub async fn sweep(&self) -> Result<Swept, StorageError> {
        todo!()
    }
}
