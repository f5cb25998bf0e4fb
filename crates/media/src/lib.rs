//! Cameras, microphones, speakers, test sources, processing, codecs, jitter
//! buffers, playout. Knows nothing of rooms, users or networks: RTP payloads go
//! in and out as plain structs.

mod api;
pub mod audio;
#[cfg(feature = "camera")]
pub mod camera;
pub mod video;

pub use api::*;
