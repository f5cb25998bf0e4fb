//! Room tokens: issuing, verifying, refreshing them.

use confab_types::{
    Claims, Grants, Identity, Nickname, ParticipantMetadata, ParticipantSid, RoomName, RoomSid, Scope, Secret,
    UserName, VideoGrant,
};
use thiserror::Error;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::admissions::{JoinCheck, Refusal};
use crate::jwt::{self, BadJwt, OWN_ISSUER};
use crate::rooms::log_opened;
use crate::sessions::auth_session;
use crate::store::admissions::{self, AdmissionRow};
use crate::store::{Conn, keys, millis, sessions};
use crate::{AdmissionId, AdmissionState, AuthSession, Control, Room, RoomOptions, RoomOrigin, StorageError};

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
    /// The session ended since it was authenticated.
    #[error("not signed in")]
    NotSignedIn,
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
    /// The identity in it.
    pub identity: Identity,
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
    /// What a join with it means. `reconnect` is the sid of `reconnect=1&sid=...`. `/rtc/validate` asks this too.
    pub fn join_check(&self, reconnect: Option<&ParticipantSid>) -> JoinCheck {
        let Some(AdmissionView {
            state,
            participant: Some(holder),
            ..
        }) = &self.admission
        else {
            return JoinCheck::Admit;
        };
        match state {
            _ if reconnect == Some(holder) => JoinCheck::Resume {
                participant: holder.clone(),
            },
            AdmissionState::Active => JoinCheck::Held { by: holder.clone() },
            _ => JoinCheck::Admit,
        }
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

impl From<BadJwt> for TokenRejected {
    fn from(bad: BadJwt) -> Self {
        match bad {
            BadJwt::Invalid => Self::Invalid,
            BadJwt::Expired => Self::Expired,
            BadJwt::NotYetValid => Self::NotYetValid,
        }
    }
}

impl Control {
    /// A token to join `room` (opened if need be) as `nickname` (absent: the user name).
    pub async fn issue_room_token(
        &self,
        session: &AuthSession,
        room: &RoomName,
        nickname: Option<&Nickname>,
    ) -> Result<IssuedRoomToken, RoomTokenError> {
        let inner = &self.inner;
        let now = inner.now();
        let mut write = inner.db.write().await?;
        // As it is now: it may have ended, or its role may have changed, since it was authenticated.
        let living = sessions::find(write.conn(), &session.session)
            .await?
            .ok_or(RoomTokenError::NotSignedIn)?;
        let session = &auth_session(living, session.expires_at);
        if !session.has(Scope::Join) {
            return Err(RoomTokenError::NotAllowed);
        }
        let options = RoomOptions {
            creator: Some(session.user.clone()),
            ..RoomOptions::new(RoomOrigin::Rest)
        };
        let opened = self.open_room_in(write.conn(), room, options).await?;
        match self.refusal(write.conn(), &opened.room, millis(now)).await? {
            Some(Refusal::Full) => return Err(RoomTokenError::RoomFull),
            Some(Refusal::Locked) => return Err(RoomTokenError::RoomLocked),
            None => {}
        }
        let admission = AdmissionId(inner.random_id());
        let identity = self.new_identity(&session.user);
        let claims = self.own_claims(session, room, nickname, &identity, &admission);
        let row = AdmissionRow {
            id: admission.clone(),
            room: opened.room.sid.clone(),
            user_id: Some(session.user_id.clone()),
            user: Some(session.user.clone()),
            identity: identity.clone(),
            api_key: None,
            state: AdmissionState::Issued,
            participant: None,
            issued_at: millis(now),
            expires_at: end_of(&claims).1,
            claims,
            departing_until: None,
        };
        admissions::insert(write.conn(), &row).await?;
        write.commit().await?;
        if opened.opened_now {
            log_opened(&opened.room);
        }
        tracing::info!(room = %room, user = %session.user, %identity, "room token issued");
        let token = inner.keys.read().own.sign(&row.claims);
        Ok(IssuedRoomToken {
            room: opened.room,
            room_opened_now: opened.opened_now,
            identity,
            admission,
            token,
            expires_at: end_of(&row.claims).0,
        })
    }

    /// Checks a room token; uses nothing up. For `/rtc` and `/rtc/validate` alike.
    pub async fn verify_room_token(&self, token: &Secret) -> Result<VerifiedToken, TokenRejected> {
        let (issuer, claims) = self.verified_claims(token)?;
        if !claims.video.room_join {
            return Err(TokenRejected::NoJoin);
        }
        let room: RoomName = claims.video.room.parse().map_err(|_| TokenRejected::NoJoin)?;
        let identity: Identity = claims.sub.parse().map_err(|_| TokenRejected::NoJoin)?;
        let mut read = self.inner.db.read().await?;
        let admission = match &issuer {
            TokenIssuer::Own => Some(
                self.living_admission(&mut read, &claims.jti)
                    .await?
                    .ok_or(TokenRejected::Revoked)?
                    .view(),
            ),
            TokenIssuer::ApiKey(_) => {
                if is_revoked(&mut read, &room, &identity, &claims).await? {
                    return Err(TokenRejected::Revoked);
                }
                None
            }
        };
        Ok(VerifiedToken {
            issuer,
            room,
            identity,
            grants: claims.video.grants(),
            claims,
            admission,
        })
    }

    /// A token with the same claims and a later end, for the holder of a living admission. The `jti` stays.
    pub async fn refresh_room_token(&self, admission: &AdmissionId) -> Result<RefreshedRoomToken, TokenRejected> {
        let inner = &self.inner;
        let mut write = inner.db.write().await?;
        let row = self
            .living_admission(write.conn(), admission.as_str())
            .await?
            .ok_or(TokenRejected::Revoked)?;
        let issuer = row.api_key.as_deref().unwrap_or(OWN_ISSUER);
        let (_, key) = inner.keys.read().find(issuer).ok_or(TokenRejected::Revoked)?;
        let now = jwt::seconds(inner.now());
        let mut claims = row.claims;
        // Never shorter than what a backend granted.
        claims.exp = claims.exp.max(now + inner.config.limits.room_token.as_secs());
        (claims.nbf, claims.iat) = (now, now);
        let (expires_at, stored) = end_of(&claims);
        admissions::set_claims(write.conn(), admission, &claims, stored).await?;
        write.commit().await?;
        Ok(RefreshedRoomToken {
            token: key.sign(&claims),
            expires_at,
        })
    }

    /// Checks a token of the server API: a backend's, or a moderator's room token (`room_admin` of its own room).
    pub async fn verify_api_token(&self, token: &Secret) -> Result<ApiGrant, ApiTokenError> {
        let (issuer, claims) = self.verified_claims(token).map_err(|_| ApiTokenError::Invalid)?;
        let mut read = self.inner.db.read().await?;
        let good = match &issuer {
            TokenIssuer::Own => self.living_admission(&mut read, &claims.jti).await?.is_some(),
            TokenIssuer::ApiKey(_) if claims.video.room_join => {
                let (room, identity) = (claims.video.room.parse(), claims.sub.parse());
                match (room, identity) {
                    (Ok(room), Ok(identity)) => !is_revoked(&mut read, &room, &identity, &claims).await?,
                    _ => true,
                }
            }
            TokenIssuer::ApiKey(_) => true,
        };
        if !good {
            return Err(ApiTokenError::Invalid);
        }
        Ok(ApiGrant {
            issuer,
            identity: claims.sub,
            video: claims.video,
        })
    }

    /// Signature and time.
    fn verified_claims(&self, token: &Secret) -> Result<(TokenIssuer, Claims), BadJwt> {
        let (issuer, claims) = self.signed_claims(token)?;
        jwt::check_time(&claims, self.inner.now(), &self.inner.config.limits)?;
        Ok((issuer, claims))
    }

    /// Signature alone.
    pub(crate) fn signed_claims(&self, token: &Secret) -> Result<(TokenIssuer, Claims), BadJwt> {
        jwt::verify_signature(token, |iss| self.inner.keys.read().find(iss))
    }

    /// The admission of that id, unless it is over.
    pub(crate) async fn living_admission(
        &self,
        conn: &mut Conn,
        id: &str,
    ) -> Result<Option<AdmissionRow>, StorageError> {
        let row = admissions::find(conn, id).await?;
        let now = self.inner.now_millis();
        Ok(row.filter(|row| row.state_at(now) != AdmissionState::Void))
    }

    /// User, `-`, and a suffix that lets one user join from two devices.
    fn new_identity(&self, user: &UserName) -> Identity {
        let suffix = hex::encode(self.inner.random::<4>());
        format!("{user}-{suffix}")
            .parse()
            .expect("a user name and a hex number are a valid identity")
    }

    fn own_claims(
        &self,
        session: &AuthSession,
        room: &RoomName,
        nickname: Option<&Nickname>,
        identity: &Identity,
        admission: &AdmissionId,
    ) -> Claims {
        let now = jwt::seconds(self.inner.now());
        let name = nickname.map_or_else(|| session.user.to_string(), Nickname::to_string);
        let metadata = ParticipantMetadata {
            client_data: name.clone(),
            server_data: session.user.to_string(),
        };
        Claims {
            iss: OWN_ISSUER.to_owned(),
            sub: identity.to_string(),
            nbf: now,
            exp: now + self.inner.config.limits.room_token.as_secs(),
            iat: now,
            jti: admission.as_str().to_owned(),
            name,
            metadata: serde_json::to_string(&metadata).expect("two texts are plain data"),
            video: VideoGrant::join(room.as_str(), &grants_of(session)),
        }
    }
}

impl AdmissionRow {
    pub(crate) fn view(self) -> AdmissionView {
        let Self {
            id,
            state,
            room,
            participant,
            user,
            identity,
            ..
        } = self;
        AdmissionView {
            id,
            state,
            room,
            identity,
            participant,
            user,
        }
    }
}

/// Whether backends' tokens like this one are revoked.
pub(crate) async fn is_revoked(
    conn: &mut Conn,
    room: &RoomName,
    identity: &Identity,
    claims: &Claims,
) -> Result<bool, StorageError> {
    let until = keys::revoked_until(conn, room, identity.as_str()).await?;
    Ok(until.is_some_and(|until| jwt::issued_at(claims) <= until))
}

/// The end of a token, and as it is stored. An end beyond the calendar is the end of the calendar.
pub(crate) fn end_of(claims: &Claims) -> (OffsetDateTime, i64) {
    let exp = i64::try_from(claims.exp).unwrap_or(i64::MAX);
    let end = OffsetDateTime::from_unix_timestamp(exp).unwrap_or(PrimitiveDateTime::MAX.assume_utc());
    (end, millis(end))
}

/// What the role allows, as far as the session's scopes go.
fn grants_of(session: &AuthSession) -> Grants {
    let mut grants = session.role.grants();
    if !session.has(Scope::Publish) {
        grants.can_publish_sources.clear();
    }
    grants.room_admin &= session.has(Scope::Moderate);
    grants
}
