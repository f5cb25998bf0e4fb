//! What a server gets from this crate, with a clock that the tests move.
// Helpers outside the test functions may unwrap too: a failure there is a failure of the test.
#![allow(clippy::unwrap_used)]

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
