//! Room tokens: issuing, verifying, refreshing them.

use confab_types::{
    Claims, Grants, Identity, Nickname, ParticipantSid, RoomName, RoomSid, Secret, UserName, VideoGrant,
};
use thiserror::Error;
use time::OffsetDateTime;

use crate::admissions::JoinCheck;
use crate::{AdmissionId, AdmissionState, AuthSession, Control, Room, StorageError};

/// A room token for one person to join one room.
#[derive(Debug, Clone)]
pub struct IssuedRoomToken {
    /// The room, opened if it was not.
    pub room: Room,
    /// Opened just now: its time-out when nobody comes starts.
    pub room_opened_now: bool,
    /// The person's identity in it: user, `-`, random suffix.
    pub identity: Identity,
    /// The admission that the token names.
    pub admission: AdmissionId,
    /// The JWT.
    pub token: Secret,
    /// Until when it can be used to join.
    pub expires_at: OffsetDateTime,
}

/// A refreshed room token: the same admission, a later end.
#[derive(Debug, Clone)]
pub struct RefreshedRoomToken {
    /// The JWT.
    pub token: Secret,
    /// Its end.
    pub expires_at: OffsetDateTime,
}

/// Why no room token was issued.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RoomTokenError {
    /// The session lacks the scope `join`.
    #[error("the session may not join rooms")]
    NotAllowed,
    /// Every seat is held.
    #[error("the room is full")]
    RoomFull,
    /// The room takes nobody in now.
    #[error("the room is locked")]
    RoomLocked,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Who signed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenIssuer {
    /// This server, for the REST call.
    Own,
    /// A backend, with the API key of this name.
    ApiKey(String),
}

/// The state of an admission when its token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionView {
    /// Which.
    pub id: AdmissionId,
    /// Issued, active or departing; a void one is rejected before.
    pub state: AdmissionState,
    /// The run of the room it belongs to.
    pub room: RoomSid,
    /// The join that holds it, or held it last.
    pub participant: Option<ParticipantSid>,
    /// The account.
    pub user: Option<UserName>,
}

/// A room token that is good now.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    /// Who signed it.
    pub issuer: TokenIssuer,
    /// The room's name.
    pub room: RoomName,
    /// The participant's identity.
    pub identity: Identity,
    /// What the participant may do.
    pub grants: Grants,
    /// All its claims.
    pub claims: Claims,
    /// The admission it names; `None` for a backend's token.
    pub admission: Option<AdmissionView>,
}

impl VerifiedToken {
    /// What a join with it means. `reconnect` is the sid of `reconnect=1&sid=...`.
    pub fn join_check(&self, reconnect: Option<&ParticipantSid>) -> JoinCheck {
        todo!("{reconnect:?}")
    }
}

/// Why a room token is worth nothing. Each is answered with the same 401, but for the last two.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenRejected {
    /// No JWT of the one algorithm, signed by a key known here, with readable claims.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Voided, revoked, or its admission is over.
    #[error("the token has been revoked")]
    Revoked,
    /// Genuine, but it does not let anyone join a room.
    #[error("the token does not allow to join")]
    NoJoin,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a caller of the server API may do.
#[derive(Debug, Clone)]
pub struct ApiGrant {
    /// Who signed the token.
    pub issuer: TokenIssuer,
    /// The `sub`, empty for a backend.
    pub identity: String,
    /// What it allows: `room_create`, `room_list`, `room_admin` of `room`.
    pub video: VideoGrant,
}

/// Why a server API token is worth nothing: all 401 but for storage.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApiTokenError {
    /// Not valid, expired, not valid yet, or revoked.
    #[error("the token is not valid")]
    Invalid,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Control {
    /// A token to join `room` (opened if need be) as `nickname` (absent: the user name).
    pub async fn issue_room_token(
        &self,
        session: &AuthSession,
        room: &RoomName,
        nickname: Option<&Nickname>,
    ) -> Result<IssuedRoomToken, RoomTokenError> {
        todo!("{session:?} {room} {nickname:?}")
    }

    /// Checks a room token; uses nothing up. For `/rtc` and `/rtc/validate` alike.
    pub async fn verify_room_token(&self, token: &Secret) -> Result<VerifiedToken, TokenRejected> {
        todo!("{token:?}")
    }

    /// A token with the same claims and a later end, for the holder of a living admission.
    pub async fn refresh_room_token(&self, admission: &AdmissionId) -> Result<RefreshedRoomToken, TokenRejected> {
        todo!("{admission:?}")
    }

    /// Checks a token of the server API: a backend's, or a moderator's room token (`room_admin` of its own room).
    pub async fn verify_api_token(&self, token: &Secret) -> Result<ApiGrant, ApiTokenError> {
        todo!("{token:?}")
    }
}
