//! The end-to-end tests: real windows, servers, browsers and devices. The programs
//! under test must be built before; `scripts/test` does.

mod bots;
mod camera;
mod loss;
mod strangers;
mod windows;
