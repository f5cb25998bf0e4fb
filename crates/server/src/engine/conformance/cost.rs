//! What a forwarded packet costs the whole engine, system calls included. A
//! figure, not a test: `cargo test -p confab-server cost -- --ignored --nocapture`.

use std::time::Duration;

use confab_types::{Role, TrackSource};

use super::media::Call;
use crate::engine::MediaEngine;
use crate::engine::embedded::{EmbeddedEngine, EngineConfig};

const WATCHERS: usize = 12;

/// Packets a frame; 50 frames a second.
const BURST: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure"]
async fn cost_of_a_forwarded_packet() {
    let config = EngineConfig {
        shards: 1,
        ..Default::default()
    };
    let (engine, _) = EmbeddedEngine::start(&config).expect("a free port on loopback");
    let mut call = Call::new(&engine, false).await;
    let talker = call.join(Role::Publisher).await;
    for _ in 0..WATCHERS {
        call.join(Role::Subscriber).await;
    }
    call.members[talker].publisher.with(|s| s.burst = BURST);
    call.publish(talker, TrackSource::Camera).await;
    for _ in 0..WATCHERS {
        call.answer_next().await;
    }
    for watcher in 1..=WATCHERS {
        call.flows(watcher, 50).await;
    }
    let before = (sent(&engine, &call).await, cpu());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = (sent(&engine, &call).await, cpu());
    let (packets, time) = (after.0 - before.0, after.1 - before.1);
    let each = time.as_secs_f64() * 1e6 / packets as f64;
    println!("{WATCHERS} watchers, {packets} packets out: {each:.2} us of CPU each");
}

async fn sent(engine: &EmbeddedEngine, call: &Call<'_>) -> u64 {
    let counters = engine.counters(&call.room).await.expect("the room is open");
    counters.tracks.iter().map(|t| t.packets_out).sum()
}

/// CPU time of the engine's threads, from Linux's accounting; nothing elsewhere.
fn cpu() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let of = |task: std::path::PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.join("schedstat")).ok()?;
        let nanos = stat.split_whitespace().next()?.parse().ok()?;
        name.starts_with("media-").then(|| Duration::from_nanos(nanos))
    };
    tasks.flatten().filter_map(|task| of(task.path())).sum()
}
