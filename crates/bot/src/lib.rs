//! A headless participant over `confab-client`: for testers, load, end-to-end tests, and as the
//! companion of *Try a call*. Must know no server's insides and no window.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
mod bot;
mod companion;
mod process;
mod source;

pub use bench::{BenchConfig, BenchReport, bench};
pub use bot::{Access, BotConfig, BotError, BotEvent, BotReport, run};
pub use companion::companion;
pub use source::{BadSource, camera, microphone, quality_for};
