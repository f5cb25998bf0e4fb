//! The call server: REST, Twirp and signalling in front of rooms, which drive a
//! [`engine::MediaEngine`]. Must not know the app.

// LiveKit deprecates fields and messages that clients in the field still read and send.
#![allow(deprecated)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cli;
mod config;
mod console;
pub mod engine;
mod http;
mod ids;
mod registry;
pub mod room;
mod rtc;
mod server;
mod tls;
mod twirp;

pub use config::{ControlChange, ServerConfig, TlsMode};
pub use registry::Rooms;
pub use server::{RunningServer, Server, ServerError};
