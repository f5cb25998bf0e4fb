//! Peer connections on `webrtc`: packetizing, stamping, pacing, retransmission,
//! bandwidth estimation, ICE over UDP and TCP. Knows nothing of rooms or of
//! LiveKit, and is the only user of `webrtc`. Everything outside sees these types.

mod api;

pub use api::*;
