//! Everything a participant does, headless: signing in and keeping the session,
//! joining a room, signalling, publishing, subscribing, recovering. Knows nothing
//! of tauri, windows or the server's insides.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod call;
mod reconnect_strategy;
pub mod rest;
pub mod session;
mod signal;
pub mod tls;
mod wake;
