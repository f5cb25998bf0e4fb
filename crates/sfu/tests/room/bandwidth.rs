//! The way down gets narrow and wide again.

use std::time::Duration;

use confab_sfu::Event;
use confab_types::{Role, TrackSid};

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

struct Call {
    world: World,
    watcher: usize,
    camera: TrackSid,
    microphone: TrackSid,
}

/// A camera and a microphone, watched by one over a wide network.
fn call(seed: u64) -> Call {
    let mut world = World::new(seed);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let camera = world.publish_camera(publisher);
    let microphone = world.publish_microphone(publisher, -20);
    world.run(SECOND * 4);
    Call {
        world,
        watcher,
        camera,
        microphone,
    }
}

impl Call {
    fn layer(&self) -> Option<u8> {
        let got = self.world.clients[self.watcher].packets_of(self.camera.as_str());
        got.last()
            .filter(|g| g.at + SECOND / 2 > self.world.now)
            .map(|g| g.layer())
    }

    /// Bits per second of the camera that reached the watcher in the last second.
    fn rate(&self) -> usize {
        let got = self.world.clients[self.watcher].packets_of(self.camera.as_str());
        let bytes: usize = got
            .iter()
            .filter(|g| g.at + SECOND > self.world.now)
            .map(|g| g.payload.len())
            .sum();
        bytes * 8
    }

    fn sound_per_second(&self) -> usize {
        let got = self.world.clients[self.watcher].packets_of(self.microphone.as_str());
        got.iter().filter(|g| g.at + SECOND > self.world.now).count()
    }
}

#[test]
fn a_drop_to_300_kbps_is_followed_within_four_seconds_and_its_return_within_ten() {
    let mut call = call(140);
    assert_eq!(call.layer(), Some(2));
    call.world.bottleneck = Some(300_000);
    call.world.run(SECOND * 4);
    assert!(
        call.world.queue() < Duration::from_millis(150),
        "{:?} queued",
        call.world.queue()
    );
    call.world.run(SECOND * 2);
    assert!(matches!(call.layer(), Some(0) | None), "{:?}", call.layer());
    call.world.run(SECOND * 18);
    let (watcher, camera) = (call.watcher, call.camera.clone());
    call.world.run_until("a small picture", |w| {
        let got = w.clients[watcher].packets_of(camera.as_str());
        got.last().is_some_and(|g| g.at + SECOND / 10 > w.now && g.layer() == 0)
    });
    assert!(
        call.world.queue() < Duration::from_millis(150),
        "{:?} queued",
        call.world.queue()
    );
    assert!(
        call.sound_per_second() >= 45,
        "{} sound packets",
        call.sound_per_second()
    );
    call.world.bottleneck = None;
    let took = call.world.run_until("the top layer", |w| {
        let got = w.clients[call.watcher].packets_of(call.camera.as_str());
        got.last().is_some_and(|g| g.layer() == 2)
    });
    assert!(took < SECOND * 10, "{took:?}");
    call.world.run(SECOND * 2);
    assert!(call.rate() > 800_000, "{} bps", call.rate());
}

#[test]
fn at_110_kbps_sound_goes_on_and_the_picture_pauses_and_is_told_so() {
    let mut call = call(141);
    call.world.bottleneck = Some(110_000);
    call.world.run(SECOND * 15);
    assert_eq!(call.layer(), None);
    assert!(
        call.sound_per_second() >= 45,
        "{} sound packets",
        call.sound_per_second()
    );
    let told = |w: &World, p: bool| {
        w.count(|e| matches!(e, Event::StreamPaused { paused, track, .. } if *paused == p && *track == call.camera))
    };
    assert!(told(&call.world, true) >= 1);
    call.world.bottleneck = None;
    let (watcher, camera) = (call.watcher, call.camera.clone());
    call.world.run_until("a picture", |w| {
        let got = w.clients[watcher].packets_of(camera.as_str());
        got.last().is_some_and(|g| g.at + SECOND / 10 > w.now)
    });
    assert!(told(&call.world, false) >= 1);
}

#[test]
fn one_slow_watcher_does_not_slow_the_others() {
    let mut call = call(142);
    let fast = call.world.join(Role::Subscriber);
    call.world.run(SECOND * 2);
    let address = call.world.clients[call.watcher].subscriber.address;
    call.world.bottleneck_at = Some(address);
    call.world.bottleneck = Some(80_000);
    call.world.run(SECOND * 5);
    let got = call.world.clients[fast].packets_of(call.camera.as_str());
    let recent: Vec<_> = got.iter().filter(|g| g.at + SECOND > call.world.now).collect();
    assert!(
        recent.iter().all(|g| g.layer() == 2) && recent.len() > 100,
        "{}",
        recent.len()
    );
}
