//! Who is speaking.

use std::time::Duration;

use confab_sfu::Event;
use confab_types::Role;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn last_list(world: &World) -> Option<Vec<(String, f32)>> {
    world.events.iter().rev().find_map(|e| match e {
        Event::Speakers(list) => Some(list.iter().map(|(who, level)| (who.to_string(), *level)).collect()),
        _ => None,
    })
}

#[test]
fn the_loudest_talker_is_first_and_silence_empties_the_list() {
    let mut world = World::new(60);
    let (loud, quiet) = (world.join(Role::Publisher), world.join(Role::Publisher));
    world.publish_microphone(loud, -10);
    world.publish_microphone(quiet, -25);
    world.run(SECOND * 2);
    let list = last_list(&world).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0].0, world.clients[loud].sid.as_str());
    assert!(list[0].1 > list[1].1 && list[0].1 <= 1.0 && list[1].1 > 0.0, "{list:?}");
    for who in [loud, quiet] {
        world.clients[who].microphone.as_mut().unwrap().level = -127;
    }
    let took = world.run_until("silence", |w| last_list(w) == Some(vec![]));
    assert!(took < SECOND * 3, "{took:?}");
}

#[test]
fn a_steady_voice_is_told_a_few_times_and_a_muted_one_leaves_the_list() {
    let mut world = World::new(61);
    let talker = world.join(Role::Publisher);
    let track = world.publish_microphone(talker, -15);
    world.run(SECOND * 5);
    let told = world.count(|e| matches!(e, Event::Speakers(_)));
    assert!((1..=6).contains(&told), "{told} events");
    let who = world.clients[talker].sid.clone();
    world.room.set_muted(world.now, &who, &track, true);
    world.run_until("silence", |w| last_list(w) == Some(vec![]));
}

#[test]
fn someone_who_leaves_while_talking_is_no_longer_listed() {
    let mut world = World::new(62);
    let talker = world.join(Role::Publisher);
    world.publish_microphone(talker, -15);
    world.run(SECOND * 2);
    assert_eq!(last_list(&world).unwrap().len(), 1);
    let who = world.clients[talker].sid.clone();
    world.room.remove_participant(world.now, &who);
    world.run_until("an empty list", |w| last_list(w) == Some(vec![]));
}
