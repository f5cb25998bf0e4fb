//! Nothing that a client sends makes the room panic or stop for others.

use std::net::SocketAddr;
use std::time::Duration;

use confab_sfu::net::{Protocol, Receive};
use confab_sfu::{ConnectionId, Event, Input, LinkState, SfuError, Target};
use confab_types::Role;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn garbage_and_mangled_packets_do_not_disturb_the_call() {
    let mut world = World::new(120);
    let publisher = world.join(Role::Publisher);
    let watcher = world.join(Role::Subscriber);
    let track = world.publish_camera(publisher);
    world.run(SECOND * 2);
    let mut rng = StdRng::seed_from_u64(120);
    let source = world.clients[publisher].publisher.address;
    let server: SocketAddr = "10.0.0.1:7882".parse().unwrap();
    for _ in 0..20_000 {
        let mut packet: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        // First bytes of STUN, DTLS, RTP and RTCP.
        if let Some(first) = packet.first_mut() {
            *first = *[0, 1, 20, 22, 23, 0x80, 0x90, 0xb0]
                .get(rng.random_range(0..8))
                .unwrap_or(&0);
        }
        if packet.len() > 1 && rng.random_bool(0.3) {
            packet[1] = rng.random_range(192..224);
        }
        for id in 0..4 {
            if let Ok(receive) = Receive::new(Protocol::Udp, source, server, &packet) {
                let _ = world.room.accepts(ConnectionId(id), receive);
            }
            if let Ok(receive) = Receive::new(Protocol::Udp, source, server, &packet) {
                world
                    .room
                    .handle_input(world.now, Input::Receive(ConnectionId(id), receive));
            }
        }
    }
    world.pump();
    let before = world.clients[watcher].packets_of(track.as_str()).len();
    world.run(SECOND);
    assert!(world.clients[watcher].packets_of(track.as_str()).len() > before + 50);
}

#[test]
fn broken_sdp_is_refused_with_an_error() {
    let mut world = World::new(121);
    let publisher = world.join(Role::Publisher);
    let who = world.clients[publisher].sid.clone();
    for sdp in [
        "",
        "v=0",
        "nonsense\r\n",
        &"a".repeat(600_000),
        "v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\nm=video 9 x 1\r\n",
    ] {
        assert!(world.room.publisher_offer(world.now, &who, sdp).is_err());
        let _ = world.room.subscriber_answer(world.now, &who, sdp);
    }
    world.publish_camera(publisher);
    world.run(SECOND);
}

#[test]
fn an_offer_with_thousands_of_m_lines_is_refused_and_a_good_one_still_taken() {
    let mut world = World::new(124);
    let publisher = world.join(Role::Publisher);
    let who = world.clients[publisher].sid.clone();
    let offer = world.clients[publisher].add_camera("cam");
    let (head, section) = offer.split_at(offer.find("m=").unwrap());
    let many: String = (0..3000)
        .map(|n| section.replace("a=mid:", &format!("a=mid:{n}")))
        .collect();
    let refused = world.room.publisher_offer(world.now, &who, &format!("{head}{many}"));
    assert!(matches!(refused, Err(SfuError::MalformedSdp)));
    world.offer(publisher, &offer);
    world.run_until("a connection", |w| w.clients[publisher].publisher.connected);
}

#[test]
fn a_wrong_fingerprint_never_connects() {
    let mut world = World::new(125);
    let publisher = world.join(Role::Publisher);
    let offer = world.clients[publisher].add_camera("cam");
    let wrong: Vec<String> = offer
        .lines()
        .map(|l| match l.strip_prefix("a=fingerprint:sha-256 ") {
            Some(_) => format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":")),
            None => l.to_owned(),
        })
        .collect();
    world.offer(publisher, &(wrong.join("\r\n") + "\r\n"));
    world.run(SECOND * 5);
    let connected = |e: &Event| {
        matches!(
            e,
            Event::Link {
                target: Target::Publisher,
                state: LinkState::Connected,
                ..
            }
        )
    };
    assert_eq!(world.count(connected), 0);
    assert_eq!(world.room.counters().refused_packets, 0);
}

#[test]
fn an_answer_to_nothing_is_ignored_and_one_from_nobody_is_an_error() {
    let mut world = World::new(122);
    let watcher = world.join(Role::Subscriber);
    let who = world.clients[watcher].sid.clone();
    let again = world.clients[watcher].offers[0].clone();
    assert!(world.room.subscriber_answer(world.now, &who, &again).is_ok());
    let nobody = confab_types::ParticipantSid::from_random([77; 12]);
    assert!(matches!(
        world.room.subscriber_answer(world.now, &nobody, &again),
        Err(SfuError::NoParticipant)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_mangled_offer_is_answered_or_refused_and_others_go_on(seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(123);
        let publisher = world.join(Role::Publisher);
        let offer = world.clients[publisher].add_camera("cam");
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for _ in 0..rng.random_range(1..6) {
            let n = rng.random_range(0..lines.len());
            match rng.random_range(0..4) {
                0 => { lines.remove(n); }
                1 => { let line = lines[n].clone(); lines.insert(n, line); }
                2 => { let m = rng.random_range(0..lines.len()); lines.swap(n, m); }
                _ => {
                    let mut bytes = lines[n].clone().into_bytes();
                    let at = rng.random_range(0..bytes.len().max(1));
                    if let Some(byte) = bytes.get_mut(at) { *byte = rng.random_range(32..127); }
                    lines[n] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let text = lines.join("\r\n") + "\r\n";
        let who = world.clients[publisher].sid.clone();
        let _ = world.room.publisher_offer(world.now, &who, &text);
        world.pump();
        world.run(Duration::from_millis(100));
        let other = world.join(Role::Publisher);
        world.publish_camera(other);
    }
}
