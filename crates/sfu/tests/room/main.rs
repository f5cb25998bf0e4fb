//! A room with real str0m clients, in virtual time over a seeded network that
//! can lose and delay packets. What is tested is what people get.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bandwidth;
mod client;
mod data;
mod lifecycle;
mod loss;
mod media;
mod robustness;
mod rules;
mod speakers;
mod stream;
mod world;
