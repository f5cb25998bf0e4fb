//! Data channels in both directions.

use std::time::Duration;

use confab_sfu::{DataKind, Event};
use confab_types::Role;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn data_events(world: &World) -> Vec<(DataKind, Vec<u8>)> {
    let data = |e: &Event| match e {
        Event::Data { kind, payload, .. } => Some((*kind, payload.clone())),
        _ => None,
    };
    world.events.iter().filter_map(data).collect()
}

#[test]
fn messages_go_up_and_down_on_both_channels() {
    let mut world = World::new(40);
    let sender = world.join(Role::Publisher);
    let receiver = world.join(Role::Subscriber);
    let offer = world.clients[sender].add_channels();
    world.offer(sender, &offer);
    world.run_until("open channels", |w| w.clients[sender].publisher.channels.len() == 3);
    for label in ["_reliable", "_lossy", "_data_track"] {
        assert!(world.clients[sender].publisher.write(label, label.as_bytes()));
    }
    world.run(SECOND);
    let mut up = data_events(&world);
    up.sort_by_key(|(kind, _)| kind.label());
    assert_eq!(
        up,
        vec![
            (DataKind::Lossy, b"_lossy".to_vec()),
            (DataKind::Reliable, b"_reliable".to_vec())
        ]
    );
    let to = [world.clients[receiver].sid.clone()];
    world.room.send_data(world.now, &to, DataKind::Reliable, b"hello");
    world.room.send_data(world.now, &to, DataKind::Lossy, b"where");
    world.run(SECOND);
    let mut down = world.clients[receiver].messages.clone();
    down.sort();
    assert_eq!(
        down,
        vec![
            ("_lossy".into(), b"where".to_vec()),
            ("_reliable".into(), b"hello".to_vec())
        ]
    );
    assert!(world.clients[sender].messages.is_empty());
}

#[test]
fn a_message_sent_before_the_channel_is_open_arrives_later() {
    let mut world = World::new(41);
    let receiver = world.join(Role::Subscriber);
    let to = [world.clients[receiver].sid.clone()];
    world.room.send_data(world.now, &to, DataKind::Reliable, b"early");
    world.run(SECOND);
    assert_eq!(
        world.clients[receiver].messages,
        vec![("_reliable".into(), b"early".to_vec())]
    );
}

#[test]
fn two_megabytes_at_once_arrive_whole_and_in_order_over_a_lossy_network() {
    let mut world = World::new(42);
    let receiver = world.join(Role::Subscriber);
    world.run(SECOND);
    world.loss = 0.02;
    let to = [world.clients[receiver].sid.clone()];
    for n in 0..200u8 {
        world
            .room
            .send_data(world.now, &to, DataKind::Reliable, &vec![n; 10_000]);
    }
    world.run_until("all messages", |w| w.clients[receiver].messages.len() == 200);
    let in_order = world.clients[receiver]
        .messages
        .iter()
        .enumerate()
        .all(|(n, (_, m))| m[0] == n as u8 && m.len() == 10_000);
    assert!(in_order);
}

#[test]
fn data_without_the_grant_is_refused_and_counted() {
    let mut world = World::new(43);
    let sender = world.join(Role::Publisher);
    let offer = world.clients[sender].add_channels();
    world.offer(sender, &offer);
    world.run_until("open channels", |w| w.clients[sender].publisher.channels.len() == 3);
    let mut grants = Role::Publisher.grants();
    grants.can_publish_data = false;
    let who = world.clients[sender].sid.clone();
    world.room.set_grants(world.now, &who, grants).unwrap();
    world.clients[sender].publisher.write("_reliable", b"psst");
    world.run(SECOND);
    assert_eq!(data_events(&world), vec![]);
    assert_eq!(world.room.counters().refused_packets, 1);
}
