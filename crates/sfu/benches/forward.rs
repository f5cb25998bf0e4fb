//! What forwarding costs: CPU time in the room per packet sent, without
//! sockets. `cargo bench -p confab-sfu`, or with a number of subscribers.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

#[path = "../tests/room/client.rs"]
mod client;
#[path = "../tests/room/stream.rs"]
mod stream;
#[path = "../tests/room/world.rs"]
mod world;

use std::time::Duration;

use confab_types::Role;
use world::World;

fn main() {
    let asked: Option<usize> = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let counts = asked.map_or_else(|| vec![1, 4, 12, 30], |n| vec![n]);
    println!("subscribers  packets out  CPU per packet out");
    for subscribers in counts {
        let mut world = World::new(1);
        let publisher = world.join(Role::Publisher);
        for _ in 0..subscribers {
            world.join(Role::Subscriber);
        }
        world.publish_camera(publisher);
        world.publish_microphone(publisher, -20);
        world.run(Duration::from_secs(3));
        let sent = |w: &World| w.room.counters().tracks.iter().map(|t| t.packets_out).sum::<u64>();
        let (before, spent) = (sent(&world), world.spent);
        world.run(Duration::from_secs(10));
        let packets = sent(&world) - before;
        let micros = (world.spent - spent).as_secs_f64() * 1e6 / packets as f64;
        println!("{subscribers:>11}  {packets:>11}  {micros:>14.2} us");
    }
}
