//! Rooms: one row a run, and settings kept by name from run to run.

use std::time::Duration;

use confab_types::{RoomName, RoomSid, UserName};
use thiserror::Error;
use time::OffsetDateTime;

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
    /// No open room of that sid.
    #[error("there is no such room")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Control {
    /// The open room of that name, or a new one.
    pub async fn open_room(&self, name: &RoomName, options: RoomOptions) -> Result<OpenedRoom, RoomError> {
        todo!("{name} {options:?}")
    }

    /// The open room of that name.
    pub async fn room(&self, name: &RoomName) -> Result<Option<Room>, RoomError> {
        todo!("{name}")
    }

    /// Every open room, those of an older run included: the server makes actors for them at start-up.
    pub async fn list_rooms(&self) -> Result<Vec<Room>, RoomError> {
        todo!()
    }

    /// Ends a room: its admissions, unused tokens included, are void at once. Those with a participant must be
    /// disconnected. Ending an ended room voids nothing and is no error.
    pub async fn end_room(&self, sid: &RoomSid, reason: EndReason) -> Result<Vec<VoidedAdmission>, RoomError> {
        todo!("{sid} {reason:?}")
    }

    /// The settings of a name, whether or not a room of that name is open.
    pub async fn room_settings(&self, name: &RoomName) -> Result<RoomSettings, RoomError> {
        todo!("{name}")
    }

    /// Changes the settings of a name; they hold for an open room at once.
    pub async fn set_room_settings(
        &self,
        name: &RoomName,
        change: RoomSettingsChange,
    ) -> Result<RoomSettings, RoomError> {
        todo!("{name} {change:?}")
    }
}
