//! Rooms: one row a run, and settings kept by name from run to run.

use std::time::Duration;

use confab_types::{RoomName, RoomSid, UserName};
use thiserror::Error;
use time::OffsetDateTime;

use crate::store::{self, Conn, admissions, keys, millis, rooms};
use crate::{Control, StorageError, VoidedAdmission};

/// How a room came to be, which decides how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomOrigin {
    /// By the REST call: ends with its last `remove-user`, 20 s after the last one is gone, 5 min if nobody came.
    Rest,
    /// By RoomService, or by a join with a backend's token: follows its own time-outs.
    Service,
}

/// One run of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// New for each run.
    pub sid: RoomSid,
    /// Its name.
    pub name: RoomName,
    /// How it came to be.
    pub origin: RoomOrigin,
    /// Who made it, if a person did.
    pub creator: Option<UserName>,
    /// Ends after this if nobody came.
    pub empty_timeout: Duration,
    /// Ends after this when the last one is gone.
    pub departure_timeout: Duration,
    /// LiveKit's metadata of a room.
    pub metadata: String,
    /// RoomService's limit of this run.
    pub max_participants: Option<u32>,
    /// What its name is set to.
    pub settings: RoomSettings,
    /// Seats: the smaller of the setting and RoomService's `max_participants`. `None`: no limit.
    pub size_limit: Option<u32>,
    /// When this run began.
    pub created_at: OffsetDateTime,
}

/// Settings of a room's name, kept from run to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomSettings {
    /// Takes nobody in now.
    pub locked: bool,
    /// The most seats. `None`: no limit.
    pub size_limit: Option<u32>,
}

/// A change of settings; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomSettingsChange {
    /// Takes nobody in now.
    pub locked: Option<bool>,
    /// The most seats; `Some(None)` lifts the limit.
    pub size_limit: Option<Option<u32>>,
}

/// What a room is opened with, if it is not open already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomOptions {
    /// How it comes to be.
    pub origin: RoomOrigin,
    /// Who makes it.
    pub creator: Option<UserName>,
    /// Ends after this if nobody came.
    pub empty_timeout: Duration,
    /// Ends after this when the last one is gone.
    pub departure_timeout: Duration,
    /// The most seats of this run.
    pub max_participants: Option<u32>,
    /// LiveKit's metadata of a room.
    pub metadata: String,
}

impl RoomOptions {
    /// The REST contract's and LiveKit's time-outs, which are the same: 5 min empty, 20 s after the last one.
    pub fn new(origin: RoomOrigin) -> Self {
        Self {
            origin,
            creator: None,
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            max_participants: None,
            metadata: String::new(),
        }
    }
}

/// A room, and whether this call opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedRoom {
    /// The room.
    pub room: Room,
    /// Made just now: its time-out when nobody comes starts.
    pub opened_now: bool,
}

/// Why a room ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Nobody came, or the last one is gone. Backends' tokens stay good: they may open it anew.
    Empty,
    /// Someone ended it (DeleteRoom, `room end`): backends' tokens issued until now are revoked too.
    Deleted,
}

/// Why a room operation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Control {
    /// The open room of that name, or a new one.
    pub async fn open_room(&self, name: &RoomName, options: RoomOptions) -> Result<OpenedRoom, RoomError> {
        let mut write = self.inner.db.write().await?;
        let opened = self.open_room_in(write.conn(), name, options).await?;
        write.commit().await?;
        if opened.opened_now {
            log_opened(&opened.room);
        }
        Ok(opened)
    }

    /// The open room of that name.
    pub async fn room(&self, name: &RoomName) -> Result<Option<Room>, RoomError> {
        let mut read = self.inner.db.read().await?;
        Ok(rooms::find_open(&mut read, name).await?)
    }

    /// Every open room, by name, those of an older run included: the server makes actors for them at start-up.
    pub async fn list_rooms(&self) -> Result<Vec<Room>, RoomError> {
        let mut read = self.inner.db.read().await?;
        Ok(rooms::list_open(&mut read).await?)
    }

    /// Ends a room: its admissions, unused tokens included, are void at once. Those with a participant must be
    /// disconnected. Ending an ended room voids nothing and is no error.
    pub async fn end_room(&self, sid: &RoomSid, reason: EndReason) -> Result<Vec<VoidedAdmission>, RoomError> {
        let mut write = self.inner.db.write().await?;
        let Some(room) = rooms::find_open_sid(write.conn(), sid).await? else {
            return Ok(Vec::new());
        };
        let voided = self.end_room_in(write.conn(), &room, reason).await?;
        write.commit().await?;
        Ok(voided)
    }

    /// The settings of a name, whether or not a room of that name is open.
    pub async fn room_settings(&self, name: &RoomName) -> Result<RoomSettings, RoomError> {
        let mut read = self.inner.db.read().await?;
        Ok(rooms::find_settings(&mut read, name).await?)
    }

    /// Changes the settings of a name; they hold for an open room at once.
    pub async fn set_room_settings(
        &self,
        name: &RoomName,
        change: RoomSettingsChange,
    ) -> Result<RoomSettings, RoomError> {
        let mut write = self.inner.db.write().await?;
        let mut settings = rooms::find_settings(write.conn(), name).await?;
        settings.locked = change.locked.unwrap_or(settings.locked);
        settings.size_limit = change
            .size_limit
            .unwrap_or(settings.size_limit)
            .filter(|limit| *limit > 0);
        rooms::put_settings(write.conn(), name, settings).await?;
        write.commit().await?;
        Ok(settings)
    }

    pub(crate) async fn open_room_in(
        &self,
        conn: &mut Conn,
        name: &RoomName,
        options: RoomOptions,
    ) -> Result<OpenedRoom, StorageError> {
        if let Some(room) = rooms::find_open(conn, name).await? {
            return Ok(OpenedRoom {
                room,
                opened_now: false,
            });
        }
        let inner = &self.inner;
        let settings = rooms::find_settings(conn, name).await?;
        let max_participants = options.max_participants.filter(|limit| *limit > 0);
        let room = Room {
            sid: RoomSid::from_random(inner.random()),
            name: name.clone(),
            origin: options.origin,
            creator: options.creator,
            empty_timeout: options.empty_timeout,
            departure_timeout: options.departure_timeout,
            metadata: options.metadata,
            settings,
            max_participants,
            size_limit: [settings.size_limit, max_participants].into_iter().flatten().min(),
            created_at: store::time(inner.now_millis())?,
        };
        rooms::insert(conn, &room).await?;
        Ok(OpenedRoom { room, opened_now: true })
    }

    pub(crate) async fn end_room_in(
        &self,
        conn: &mut Conn,
        room: &Room,
        reason: EndReason,
    ) -> Result<Vec<VoidedAdmission>, StorageError> {
        let now = self.inner.now();
        rooms::end(conn, &room.sid, reason, millis(now)).await?;
        let mut voided = Vec::new();
        for admission in admissions::list_living(conn, &room.sid).await? {
            admissions::set_void(conn, &admission.id, millis(now)).await?;
            voided.push(admission.voided());
        }
        if reason == EndReason::Deleted {
            keys::revoke(conn, &room.name, "", now.unix_timestamp()).await?;
        }
        tracing::info!(room = %room.name, sid = %room.sid, ?reason, "room ends");
        Ok(voided)
    }
}

pub(crate) fn log_opened(room: &Room) {
    tracing::info!(room = %room.name, sid = %room.sid, origin = ?room.origin, "room opened");
}
