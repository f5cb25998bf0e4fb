//! A bad network: retransmissions repair what was lost, in both directions.

use std::time::Duration;

use confab_sfu::Event;
use confab_types::Role;

use crate::stream::check_continuous;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn lossy(seed: u64, loss: f64) -> (World, usize, confab_types::TrackSid) {
    let mut world = World::new(seed);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    world.loss = loss;
    world.run(SECOND * 5);
    world.loss = 0.0;
    world.run(SECOND);
    (world, watcher, track)
}

#[test]
fn at_five_percent_loss_every_packet_arrives_in_the_end() {
    let (world, watcher, track) = lossy(100, 0.05);
    let got = world.clients[watcher].packets_of(track.as_str());
    assert!(got.len() > 800, "{}", got.len());
    check_continuous(&got);
}

#[test]
fn at_ten_percent_loss_no_second_passes_without_a_whole_new_picture() {
    let (world, watcher, track) = lossy(101, 0.10);
    let mut got = world.clients[watcher].packets_of(track.as_str());
    got.sort_by_key(|p| p.at);
    let longest = got.windows(2).map(|w| w[1].at - w[0].at).max().unwrap();
    assert!(longest < SECOND / 2, "{longest:?}");
    let first = got.iter().map(|p| p.seq).min().unwrap();
    let last = got.iter().map(|p| p.seq).max().unwrap();
    let missing = (last - first + 1) as usize - got.len();
    assert!(missing * 100 <= got.len(), "{missing} of {} missing", got.len());
}

#[test]
fn a_camera_that_starts_under_loss_shows_soon_and_does_not_pause() {
    let mut world = World::new(102);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    world.publish_microphone(publisher, -20);
    world.run(SECOND);
    world.loss = 0.15;
    let track = world.publish_camera(publisher);
    let packets = |w: &World| w.clients[watcher].packets_of(track.as_str()).len();
    let took = world.run_until("a picture", |w| packets(w) > 20);
    assert!(took < SECOND * 3, "{took:?}");
    world.run(SECOND * 10);
    assert!(packets(&world) > 200, "{} packets", packets(&world));
    let paused = world.count(|e| matches!(e, Event::StreamPaused { .. }));
    assert!(paused <= 2, "{paused} times");
}
