//! Pictures on their way to the web view. `hub` keeps the newest picture of each
//! tile, `message` lays them out in bytes, `socket` hands them over with back-pressure.
//! Must not know rooms, participants or commands.

mod hub;
mod message;
mod socket;

pub use hub::FrameHub;
pub use socket::{FrameSocket, wishes};
