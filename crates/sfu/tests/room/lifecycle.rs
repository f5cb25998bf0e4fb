//! Coming, going, subscribing, and changing networks.

use std::net::SocketAddr;
use std::time::Duration;

use confab_sfu::net::Candidate;
use confab_sfu::{Event, LinkState, SfuError, Target};
use confab_types::{Role, TrackSid};

use crate::stream::check_continuous;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_first_offer_comes_at_once_and_both_links_connect() {
    let mut world = World::new(80);
    let publisher = world.join(Role::Publisher);
    assert_eq!(world.clients[publisher].offers.len(), 1);
    assert!(world.clients[publisher].offers[0].contains("m=application"));
    world.publish_camera(publisher);
    let connected = |w: &World, t: Target| {
        w.count(|e| matches!(e, Event::Link { target, state: LinkState::Connected, .. } if *target == t)) == 1
    };
    let took = world.run_until("two links", |w| {
        connected(w, Target::Publisher) && connected(w, Target::Subscriber)
    });
    assert!(took < SECOND, "{took:?}");
}

#[test]
fn the_offer_names_participant_and_track() {
    let mut world = World::new(81);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND);
    let sid = &world.clients[publisher].sid;
    let offer = world.clients[watcher].offers.last().unwrap();
    assert!(offer.contains(&format!("a=msid:{sid}|{track} {track}\r\n")), "{offer}");
}

#[test]
fn an_unsubscribed_track_stops_and_its_m_line_is_used_again() {
    let mut world = World::new(82);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 2);
    let who = world.clients[watcher].sid.clone();
    let lines = |w: &World| w.clients[watcher].offers.last().unwrap().matches("\r\nm=").count();
    let before = lines(&world);
    world.room.subscribe(world.now, &who, &track, false).unwrap();
    world.run(SECOND / 5);
    let got = world.clients[watcher].got.len();
    world.run(SECOND);
    assert_eq!(world.clients[watcher].got.len(), got);
    world.room.subscribe(world.now, &who, &track, true).unwrap();
    world.run(SECOND);
    assert!(world.clients[watcher].got.len() > got + 20);
    assert_eq!(lines(&world), before);
    check_continuous(&world.clients[watcher].packets_of(track.as_str()));
}

#[test]
fn nobody_subscribes_to_what_is_not_there_or_their_own() {
    let mut world = World::new(83);
    let publisher = world.join(Role::Publisher);
    let track = world.publish_camera(publisher);
    let who = world.clients[publisher].sid.clone();
    assert!(matches!(
        world.room.subscribe(world.now, &who, &track, true),
        Err(SfuError::NotAllowed)
    ));
    let other = TrackSid::from_random([99; 12]);
    assert!(matches!(
        world.room.subscribe(world.now, &who, &other, true),
        Err(SfuError::NoTrack)
    ));
}

#[test]
fn only_one_offer_waits_for_its_answer_and_the_rest_follows() {
    let mut world = World::new(84);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    world.run(SECOND);
    world.clients[watcher].ignores_offers = true;
    let camera = world.publish_camera(publisher);
    let microphone = world.publish_microphone(publisher, -20);
    world.run(SECOND);
    let who = world.clients[watcher].sid.clone();
    let waiting: Vec<String> = world
        .events
        .iter()
        .filter_map(|e| match e {
            Event::SubscriberOffer { participant, sdp } if *participant == who => Some(sdp.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(waiting.len(), 2, "the first, and one more");
    world.clients[watcher].ignores_offers = false;
    let answer = world.clients[watcher].answer(&waiting[1]);
    world.room.subscriber_answer(world.now, &who, &answer).unwrap();
    world.pump();
    world.run(SECOND);
    assert!(!world.clients[watcher].packets_of(camera.as_str()).is_empty());
    assert!(!world.clients[watcher].packets_of(microphone.as_str()).is_empty());
}

#[test]
fn an_unpublished_camera_ends_and_a_new_one_begins() {
    let mut world = World::new(85);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let first = world.publish_camera(publisher);
    world.run(SECOND);
    let mid = world.clients[publisher].cameras[0].mid;
    let offer = world.clients[publisher].stop(mid);
    world.clients[publisher].cameras.clear();
    world.offer(publisher, &offer);
    assert_eq!(
        world.count(|e| matches!(e, Event::TrackEnded { track, .. } if *track == first)),
        1
    );
    let who = world.clients[publisher].sid.clone();
    world.room.remove_track(world.now, &who, &first);
    world.run(SECOND / 2);
    let stopped = world.now;
    let second = world.announce(publisher, "cam2", confab_types::TrackSource::Camera);
    let offer = world.clients[publisher].add_camera("cam2");
    world.offer(publisher, &offer);
    world.run(SECOND);
    // The m-line is the same.
    let got = world.clients[watcher].packets_of(second.as_str());
    let of_second: Vec<_> = got.into_iter().filter(|g| g.at > stopped).collect();
    check_continuous(&of_second);
    assert_eq!(world.room.counters().tracks.len(), 1);
}

#[test]
fn a_room_with_much_coming_and_going_offers_few_m_lines() {
    let mut world = World::new(90);
    let watcher = world.join(Role::Subscriber);
    let lines = |w: &World| w.clients[watcher].offers.last().unwrap().matches("\r\nm=").count();
    for n in 0..6 {
        let guest = world.join(Role::Publisher);
        let camera = world.publish_camera(guest);
        let microphone = world.publish_microphone(guest, -20);
        world.run(SECOND * 2);
        let got = world.clients[watcher].packets_of(camera.as_str());
        let recent: Vec<_> = got.into_iter().filter(|g| g.at + SECOND > world.now).collect();
        assert!(recent.len() > 50, "guest {n}: {} packets", recent.len());
        check_continuous_after_start(&recent);
        assert!(world.clients[watcher].packets_of(microphone.as_str()).len() > 40);
        let who = world.clients[guest].sid.clone();
        world.room.remove_participant(world.now, &who);
        world.run(SECOND / 2);
    }
    assert_eq!(lines(&world), 3, "data, sound, picture");
}

fn check_continuous_after_start(packets: &[crate::stream::Got]) {
    assert!(packets.windows(2).all(|w| w[1].seq == w[0].seq + 1));
}

#[test]
fn someone_who_leaves_takes_their_tracks_along() {
    let mut world = World::new(86);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    world.publish_camera(publisher);
    world.run(SECOND);
    let who = world.clients[publisher].sid.clone();
    world.room.remove_participant(world.now, &who);
    world.run(SECOND);
    assert_eq!(world.room.counters().tracks, vec![]);
    assert_eq!(world.count(|e| matches!(e, Event::ConnectionClosed(_))), 2);
    assert!(world.clients[watcher].offers.last().unwrap().contains("a=inactive"));
    let late = world.clients[publisher].add_microphone("mic", -10);
    assert!(matches!(
        world.room.publisher_offer(world.now, &who, &late),
        Err(SfuError::NoParticipant)
    ));
}

/// Moves both connections of a client to new addresses, as a change of network does.
fn move_client(world: &mut World, who: usize) {
    for (link, port) in [(true, 1001), (false, 2001)] {
        let client = &mut world.clients[who];
        let link = if link {
            &mut client.publisher
        } else {
            &mut client.subscriber
        };
        link.address = SocketAddr::from(([10, 0, 2, who as u8 + 1], port));
        link.rtc
            .add_local_candidate(Candidate::host(link.address, "udp").unwrap());
    }
}

#[test]
fn an_ice_restart_on_both_connections_brings_the_media_back_from_a_new_address() {
    let mut world = World::new(87);
    let (a, b) = (world.join(Role::Publisher), world.join(Role::Publisher));
    let from_a = world.publish_camera(a);
    let from_b = world.publish_microphone(b, -20);
    world.run(SECOND * 2);
    move_client(&mut world, a);
    let offer = world.clients[a].restart();
    let old = world.clients[a].offers.last().unwrap().clone();
    world.offer(a, &offer);
    let who = world.clients[a].sid.clone();
    world.room.restart_subscriber(world.now, &who).unwrap();
    world.pump();
    let ufrag = |sdp: &str| sdp.lines().find(|l| l.starts_with("a=ice-ufrag:")).unwrap().to_owned();
    let new = world.clients[a].offers.last().unwrap().clone();
    assert_ne!(ufrag(&new), ufrag(&old));
    assert!(
        ufrag(&new).contains("ufrag0"),
        "the ufrag is one of ours: {}",
        ufrag(&new)
    );
    world.run(SECOND / 2);
    let (before_b, before_a) = (world.clients[b].got.len(), world.clients[a].got.len());
    world.run(SECOND);
    assert!(world.clients[b].got.len() > before_b + 50, "no video after the restart");
    assert!(world.clients[a].got.len() > before_a + 40, "no sound after the restart");
    check_continuous(&world.clients[b].packets_of(from_a.as_str()));
    assert!(!world.clients[a].packets_of(from_b.as_str()).is_empty());
}

#[test]
fn a_resume_tells_a_lost_offer_again_before_the_restart() {
    let mut world = World::new(88);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    world.run(SECOND);
    world.clients[watcher].ignores_offers = true;
    let track = world.publish_camera(publisher);
    world.run(SECOND);
    world.clients[watcher].ignores_offers = false;
    let who = world.clients[watcher].sid.clone();
    world.room.restart_subscriber(world.now, &who).unwrap();
    world.pump();
    world.run(SECOND);
    assert_eq!(
        world.clients[watcher].offers.len(),
        3,
        "the first, the lost one again, the restart"
    );
    check_continuous(&world.clients[watcher].packets_of(track.as_str()));
}

#[test]
fn a_dead_network_is_reported_and_so_is_its_return() {
    let mut world = World::new(89);
    let publisher = world.join(Role::Publisher);
    world.publish_camera(publisher);
    world.run(SECOND * 2);
    world.cut = true;
    let is = |e: &Event, s: LinkState| matches!(e, Event::Link { target: Target::Publisher, state, .. } if *state == s);
    world.run_until("disconnected", |w| {
        w.events.iter().any(|e| is(e, LinkState::Disconnected))
    });
    world.cut = false;
    let before = world.count(|e| is(e, LinkState::Connected));
    let offer = world.clients[publisher].restart();
    world.offer(publisher, &offer);
    world.run_until("connected", |w| w.count(|e| is(e, LinkState::Connected)) > before);
}
