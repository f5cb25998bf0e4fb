//! The grants are kept, packet by packet.

use std::time::Duration;

use confab_sfu::{Event, SfuError, TrackAnnouncement};
use confab_types::{Role, TrackKind, TrackSid, TrackSource};

use crate::stream::check_continuous;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn media_that_nobody_announced_reaches_nobody_and_is_counted() {
    let mut world = World::new(20);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let offer = world.clients[publisher].add_camera("cam");
    world.offer(publisher, &offer);
    world.run(SECOND * 2);
    assert!(world.clients[watcher].got.is_empty());
    assert_eq!(world.clients[watcher].offers.len(), 1, "nothing is even offered");
    assert!(
        world.room.counters().refused_packets > 50,
        "{:?}",
        world.room.counters()
    );
}

#[test]
fn a_subscriber_who_sends_anyway_is_refused() {
    let mut world = World::new(21);
    let intruder = world.join(Role::Subscriber);
    let watcher = world.join(Role::Subscriber);
    let sid = TrackSid::from_random([9; 12]);
    let track = TrackAnnouncement {
        sid,
        cid: "cam".into(),
        kind: TrackKind::Video,
        source: TrackSource::Camera,
        muted: false,
    };
    let who = world.clients[intruder].sid.clone();
    assert!(matches!(
        world.room.announce_track(world.now, &who, track),
        Err(SfuError::NotAllowed)
    ));
    let offer = world.clients[intruder].add_camera("cam");
    world.offer(intruder, &offer);
    world.run(SECOND * 2);
    assert!(world.clients[watcher].got.is_empty());
    assert!(world.room.counters().refused_packets > 50);
    assert_eq!(world.room.counters().tracks, vec![]);
}

#[test]
fn a_second_camera_on_one_announcement_is_refused() {
    let mut world = World::new(22);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    let offer = world.clients[publisher].add_plain_camera("another");
    world.offer(publisher, &offer);
    world.run(SECOND * 2);
    check_continuous(&world.clients[watcher].packets_of(track.as_str()));
    assert!(
        world.clients[watcher]
            .got
            .iter()
            .all(|g| Some(g.mid.to_string()) == world.clients[watcher].mid_of(track.as_str()))
    );
    assert!(world.room.counters().refused_packets > 20);
}

#[test]
fn a_track_announced_after_its_media_flows_from_then_on() {
    let mut world = World::new(23);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let offer = world.clients[publisher].add_camera("cam");
    world.offer(publisher, &offer);
    world.run(SECOND);
    let track = world.announce(publisher, "cam", TrackSource::Camera);
    world.run(SECOND * 2);
    check_continuous(&world.clients[watcher].packets_of(track.as_str()));
}

#[test]
fn a_client_whose_sdp_names_its_track_otherwise_is_understood() {
    let mut world = World::new(24);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.announce(publisher, "named-so-in-add-track", TrackSource::Camera);
    let offer = world.clients[publisher].add_camera("named-otherwise-in-sdp");
    world.offer(publisher, &offer);
    world.run(SECOND * 2);
    assert!(world.clients[watcher].packets_of(track.as_str()).len() > 50);
}

#[test]
fn a_muted_track_sends_nothing_and_comes_back_clean() {
    let mut world = World::new(25);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let camera = world.publish_camera(publisher);
    let microphone = world.publish_microphone(publisher, -20);
    world.run(SECOND * 2);
    let who = world.clients[publisher].sid.clone();
    for track in [&camera, &microphone] {
        world.room.set_muted(world.now, &who, track, true);
    }
    world.run(SECOND / 4);
    let muted_at = world.now;
    world.run(SECOND * 2);
    let late = world.clients[watcher].got.iter().filter(|g| g.at > muted_at).count();
    assert_eq!(late, 0, "packets of muted tracks arrived");
    assert_eq!(world.room.counters().refused_packets, 0, "muted is not refused");
    for track in [&camera, &microphone] {
        world.room.set_muted(world.now, &who, track, false);
    }
    world.run(SECOND);
    check_continuous(&world.clients[watcher].packets_of(camera.as_str()));
    let sound = world.clients[watcher].packets_of(microphone.as_str());
    assert!(sound.last().unwrap().at > muted_at + SECOND);
    assert!(
        sound.windows(2).all(|w| w[1].seq == w[0].seq + 1),
        "the pause looks like loss"
    );
}

#[test]
fn a_revoked_grant_stops_the_track_at_once() {
    let mut world = World::new(26);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 2);
    let who = world.clients[publisher].sid.clone();
    world
        .room
        .set_grants(world.now, &who, Role::Subscriber.grants())
        .unwrap();
    let sent = world.room.counters().tracks[0].packets_out;
    world.run(SECOND);
    let ended = world.count(|e| matches!(e, Event::TrackEnded { track: t, .. } if *t == track));
    assert_eq!(ended, 1);
    assert_eq!(world.room.counters().tracks[0].packets_out, sent);
    assert!(world.room.counters().refused_packets > 20);
    let got = world.clients[watcher].got.len();
    world.run(SECOND);
    assert_eq!(world.clients[watcher].got.len(), got);
}

#[test]
fn only_the_sources_of_the_grants_pass() {
    let mut world = World::new(27);
    let publisher = world.join(Role::Publisher);
    let who = world.clients[publisher].sid.clone();
    let mut grants = Role::Publisher.grants();
    grants.can_publish_sources = vec![TrackSource::Microphone];
    world.room.set_grants(world.now, &who, grants).unwrap();
    let announce = |source, kind| TrackAnnouncement {
        sid: TrackSid::from_random([3; 12]),
        cid: "x".into(),
        kind,
        source,
        muted: false,
    };
    let camera = world
        .room
        .announce_track(world.now, &who, announce(TrackSource::Camera, TrackKind::Video));
    assert!(matches!(camera, Err(SfuError::NotAllowed)));
    assert!(
        world
            .room
            .announce_track(world.now, &who, announce(TrackSource::Microphone, TrackKind::Audio))
            .is_ok()
    );
}

#[test]
fn someone_who_may_no_longer_watch_gets_nothing_more_and_sees_again_when_allowed() {
    let mut world = World::new(28);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    world.publish_camera(publisher);
    world.run(SECOND * 2);
    let who = world.clients[watcher].sid.clone();
    let mut grants = Role::Subscriber.grants();
    grants.can_subscribe = false;
    world.room.set_grants(world.now, &who, grants).unwrap();
    world.run(SECOND / 10);
    let got = world.clients[watcher].got.len();
    world.run(SECOND);
    assert_eq!(world.clients[watcher].got.len(), got);
    world
        .room
        .set_grants(world.now, &who, Role::Subscriber.grants())
        .unwrap();
    world.run(SECOND);
    assert!(world.clients[watcher].got.len() > got + 20);
}
