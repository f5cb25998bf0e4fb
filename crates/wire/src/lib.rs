//! What goes over the wire between app and server: REST bodies and LiveKit's
//! signalling messages. Holds shapes only; knows no sockets.

pub mod rest;

/// LiveKit's messages, as the protocol's own crate has them (prost structs).
pub use livekit_protocol as livekit;
