//! What a server gets from this crate, with a clock that the tests move.

mod accounts;
mod admissions;
mod backends;
mod crash;
mod keys;
mod login;
mod remove_user;
mod restart;
mod room_tokens;
mod rooms;
mod sessions;
mod support;
mod token_tricks;
