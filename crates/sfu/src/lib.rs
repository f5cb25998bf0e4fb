//! Selective forwarding of one room's media, without sockets, threads or a
//! clock: the caller hands in packets and the time and takes out packets,
//! events and the next moment to call again. Built on str0m's `Rtc`.
//!
//! Must not know passwords, tokens, HTTP, storage, or how a datagram reaches
//! the machine. What a participant may send is checked here, packet by packet,
//! against the grants it was handed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod allocation;
mod connection;
mod counters;
mod data;
mod downlink;
mod error;
mod forwarding;
mod keyframes;
mod output;
mod participant;
mod publisher;
mod pump;
mod rate;
mod rewrite;
mod room;
mod sdp;
mod speakers;
mod subscriber;
mod ticks;
mod track;
mod words;

pub use connection::ConnectionId;
pub use counters::{RoomCounters, TrackCounters};
pub use error::SfuError;
pub use output::{Event, Input, Output};
pub use room::{Room, RoomConfig};
pub use words::{DataKind, Layer, LinkState, Target, TrackAnnouncement, TrackWish};

/// The parts of str0m that a driver needs to talk to a [`Room`].
pub mod net {
    pub use str0m::config::DtlsCert;
    pub use str0m::net::{Protocol, Receive, TcpType, Transmit};
    pub use str0m::{Candidate, IceCreds};
}

/// Installs the cryptography that every `Rtc` uses. Call once before the first [`Room`]; more calls do nothing.
pub fn install_crypto() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| str0m::crypto::from_feature_flags().install_process_default());
}

/// A new certificate for [`RoomConfig`]: one for all connections saves each the making of a key pair.
pub fn new_certificate() -> Option<net::DtlsCert> {
    str0m::crypto::from_feature_flags().dtls_provider.generate_certificate()
}
