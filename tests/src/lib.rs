//! What the end-to-end tests stand on: a private display and sound server, call
//! servers and bots as real processes, app windows driven by WebDriver. Every
//! process started here ends with the value that holds it.

pub mod blockade;
pub mod browser;
pub mod desktop;
pub mod programs;
pub mod relay;
pub mod window;
