//! Pictures and sound reach everyone, in the layer they want.

use std::time::Duration;

use confab_sfu::{Event, Layer, TrackWish};
use confab_types::{Role, TrackSource};

use crate::stream::check_continuous;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn everyone_gets_the_picture_in_full_and_without_a_gap() {
    let mut world = World::new(1);
    let publisher = world.join(Role::Publisher);
    let watchers: Vec<usize> = (0..3).map(|_| world.join(Role::Subscriber)).collect();
    let track = world.publish_camera(publisher);
    world.run(SECOND * 4);
    for watcher in watchers {
        let got = world.clients[watcher].packets_of(track.as_str());
        assert!(got.len() > 300, "{} packets", got.len());
        let layers = check_continuous(&got);
        assert_eq!(layers.last(), Some(&2), "{layers:?}");
    }
    assert!(world.clients[publisher].got.is_empty(), "nobody gets their own picture");
    let live = world.count(|e| matches!(e, Event::TrackLive { mime, .. } if mime == "video/VP8"));
    assert_eq!(live, 1);
}

#[test]
fn a_newcomer_sees_a_picture_within_half_a_second() {
    let mut world = World::new(2);
    let publisher = world.join(Role::Publisher);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    let newcomer = world.join(Role::Subscriber);
    let took = world.run_until("a picture", |w| {
        w.clients[newcomer].packets_of(track.as_str()).len() > 5
    });
    assert!(took < SECOND / 2, "{took:?}");
    check_continuous(&world.clients[newcomer].packets_of(track.as_str()));
}

#[test]
fn ten_newcomers_at_once_cost_the_sender_few_keyframes() {
    let mut world = World::new(3);
    let publisher = world.join(Role::Publisher);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    let before = world.room.counters().tracks[0].keyframe_requests;
    let newcomers: Vec<usize> = (0..10).map(|_| world.join(Role::Subscriber)).collect();
    world.run(SECOND * 2);
    let asked = world.room.counters().tracks[0].keyframe_requests - before;
    assert!(asked <= 4, "{asked} keyframes asked");
    for newcomer in newcomers {
        assert!(world.clients[newcomer].packets_of(track.as_str()).len() > 100);
    }
}

#[test]
fn a_wish_for_another_layer_is_met_and_the_decoder_never_notices() {
    let mut world = World::new(4);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    let sid = world.clients[watcher].sid.clone();
    for (wish, layer) in [(Layer::Low, 0), (Layer::High, 2), (Layer::Mid, 1), (Layer::High, 2)] {
        world.room.set_wish(
            world.now,
            &sid,
            &track,
            TrackWish {
                enabled: true,
                max_layer: wish,
            },
        );
        world.pump();
        let took = world.run_until("the layer", |w| {
            w.clients[watcher].got.last().is_some_and(|g| g.layer() == layer)
        });
        assert!(took < SECOND, "{took:?}");
        world.run(SECOND);
        assert_eq!(world.clients[watcher].got.last().unwrap().layer(), layer);
    }
    let layers = check_continuous(&world.clients[watcher].packets_of(track.as_str()));
    assert!(layers.ends_with(&[2, 0, 2, 1, 2]), "{layers:?}");
}

#[test]
fn a_hidden_tile_costs_nothing_and_comes_back_with_a_keyframe() {
    let mut world = World::new(5);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 2);
    let sid = world.clients[watcher].sid.clone();
    world.room.set_wish(
        world.now,
        &sid,
        &track,
        TrackWish {
            enabled: false,
            max_layer: Layer::High,
        },
    );
    world.run(SECOND / 2);
    let hidden = world.clients[watcher].got.len();
    world.run(SECOND * 2);
    assert_eq!(world.clients[watcher].got.len(), hidden);
    world.room.set_wish(
        world.now,
        &sid,
        &track,
        TrackWish {
            enabled: true,
            max_layer: Layer::High,
        },
    );
    world.run(SECOND);
    assert!(world.clients[watcher].got.len() > hidden + 50);
    check_continuous(&world.clients[watcher].packets_of(track.as_str()));
}

#[test]
fn a_sender_that_drops_its_top_layer_leaves_nobody_frozen() {
    let mut world = World::new(6);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    world.clients[publisher].cameras[0].layers[2].on = false;
    let took = world.run_until("the lower layer", |w| {
        w.clients[watcher].got.last().is_some_and(|g| g.layer() == 1)
    });
    assert!(took < SECOND, "{took:?}");
    world.clients[publisher].cameras[0].layers[2].on = true;
    world.run_until("the top layer again", |w| {
        w.clients[watcher].got.last().is_some_and(|g| g.layer() == 2)
    });
    check_continuous(&world.clients[watcher].packets_of(track.as_str()));
}

#[test]
fn a_camera_without_simulcast_is_forwarded_as_it_is() {
    let mut world = World::new(7);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.announce(publisher, "cam", TrackSource::Camera);
    let offer = world.clients[publisher].add_plain_camera("cam");
    world.offer(publisher, &offer);
    world.run(SECOND * 2);
    let got = world.clients[watcher].packets_of(track.as_str());
    assert!(got.len() > 30, "{}", got.len());
    assert_eq!(check_continuous(&got), vec![2]);
}

#[test]
fn sound_arrives_untouched_with_its_level() {
    let mut world = World::new(8);
    let publisher = world.join(Role::Publisher);
    let listener = world.join(Role::Subscriber);
    let track = world.publish_microphone(publisher, -20);
    world.run(SECOND * 2);
    let got = world.clients[listener].packets_of(track.as_str());
    assert!(got.len() > 80, "{}", got.len());
    assert!(got.iter().all(|g| g.payload == vec![0xfc; 80] && g.level == Some(-20)));
    assert!(
        got.windows(2)
            .all(|w| w[1].seq == w[0].seq + 1 && w[1].time == w[0].time.wrapping_add(960))
    );
}

#[test]
fn a_narrow_way_down_gets_a_lower_layer_and_a_wide_one_the_top() {
    let mut world = World::new(9);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    world.bottleneck = Some(600_000);
    world.run(SECOND * 6);
    let late: Vec<_> = world.clients[watcher].packets_of(track.as_str());
    let end: Vec<u8> = late.iter().rev().take(20).map(|g| g.layer()).collect();
    assert!(end.iter().all(|l| *l < 2), "{end:?}");
    let last = late.last().unwrap().at;
    assert!(world.now - last < SECOND / 2, "the picture stands still");
}

#[test]
fn a_way_down_that_widens_again_gets_the_top_layer_back() {
    let mut world = World::new(10);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 3);
    world.bottleneck = Some(600_000);
    world.run(SECOND * 6);
    world.bottleneck = None;
    world.run_until("the top layer", |w| {
        w.clients[watcher].got.last().is_some_and(|g| g.layer() == 2)
    });
    world.run(SECOND * 5);
    assert_eq!(world.clients[watcher].got.last().unwrap().layer(), 2);
    let got = world.clients[watcher].packets_of(track.as_str());
    let late: Vec<_> = got.iter().filter(|g| g.at > world.now - SECOND).collect();
    assert!(late.len() > 100, "{}", late.len());
}
