//! The desktop shell: it wires the call core to a window, the tray and the system.
//! State lives in Rust; the page renders snapshots and sends commands.

mod account;
mod args;
mod call;
mod call_view;
mod commands;
mod dto;
mod errors;
mod frames;
mod host;
mod hosting;
mod lobby;
mod model;
mod platform;
mod preview;
mod secrets;
mod settings;
mod shell;
mod start;
mod summary;
mod tray;

pub use start::run;
