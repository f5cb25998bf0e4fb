//! The words every other crate shares: ids, units, roles and grants, token
//! claims. Holds data and validation only; must not know of sockets, clocks,
//! storage or randomness.

mod claims;
mod grants;
mod ids;
mod quality;
mod secret;
mod units;

pub use claims::{Claims, ParticipantMetadata, VideoGrant};
pub use grants::{Grants, Role, Scope, TrackKind, TrackSource, UnknownName};
pub use ids::{Identity, InvalidId, Nickname, ParticipantSid, RoomName, RoomSid, TrackSid, UserName};
pub use quality::CameraQuality;
pub use secret::Secret;
pub use units::Bitrate;
