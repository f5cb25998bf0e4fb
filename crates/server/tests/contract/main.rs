//! What clients, backends and administrators get from a server: REST, signalling,
//! RoomService, commands. Real sockets, a fake media engine unless a test says otherwise.

#![allow(clippy::unwrap_used, deprecated)]

mod admission;
mod bad_input;
mod commands;
mod cookies;
mod faults;
mod live;
mod peer;
mod rest;
mod room_time;
mod signalling;
mod support;
mod twirp;
