//! Peer connections on `webrtc`: packetizing, stamping, pacing, retransmission,
//! bandwidth estimation, ICE over UDP and TCP. Knows nothing of rooms or of
//! LiveKit, and is the only user of `webrtc`. Everything outside sees these types.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod connection;
mod data;
mod estimator;
mod events;
mod interceptors;
mod publish;
mod receive;
mod rtp_clock;
mod sdp;
mod sequence;
mod setup;
mod stats;
mod streams;
mod vp8;
mod wire;

pub use api::*;
pub use connection::WebRtcConnection;
