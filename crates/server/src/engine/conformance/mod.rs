//! What every media engine must do, as functions over `&dyn MediaEngine`. The
//! rules run against every engine; the media against those that carry it, with
//! real clients over real sockets on loopback.

mod cost;
mod media;
mod peer;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use confab_types::{ParticipantSid, RoomSid};
use tokio::sync::mpsc;

use super::embedded::{EmbeddedEngine, EngineConfig};
use super::fake::FakeEngine;
use super::{EngineEvent, MediaEngine};

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn room_sid() -> RoomSid {
    RoomSid::from_random(rand::random())
}

fn participant_sid() -> ParticipantSid {
    ParticipantSid::from_random(rand::random())
}

/// The next event that is so; others are passed over.
async fn next_event<T>(
    events: &mut mpsc::Receiver<EngineEvent>,
    what: &str,
    mut is: impl FnMut(EngineEvent) -> Option<T>,
) -> T {
    let search = async {
        loop {
            let event = events
                .recv()
                .await
                .unwrap_or_else(|| panic!("the room ended before: {what}"));
            if let Some(found) = is(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}

fn embedded() -> Arc<dyn MediaEngine> {
    let config = EngineConfig {
        shards: 2,
        ..Default::default()
    };
    Arc::new(EmbeddedEngine::start(&config).expect("a free port on loopback").0)
}

fn fake() -> Arc<dyn MediaEngine> {
    Arc::new(FakeEngine::new())
}

/// A test of each named function in a module, on one engine.
macro_rules! conformance {
    ($tests:ident, $engine:ident, $module:ident, [$($name:ident),* $(,)?]) => {
        mod $tests {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let engine = super::$engine();
                super::$module::$name(engine.as_ref()).await;
            })*
        }
    };
}

macro_rules! rules {
    ($tests:ident, $engine:ident) => {
        conformance!(
            $tests,
            $engine,
            rules,
            [
                the_first_offer_comes_at_once,
                unknown_rooms_and_participants_are_errors,
                a_track_without_its_grant_is_refused,
                a_lost_grant_ends_the_track_in_no_time,
                broken_sdp_is_an_error,
                a_closed_room_ends_its_events,
                nobody_subscribes_to_their_own_track,
            ]
        );
    };
}

rules!(embedded_rules, embedded);
rules!(fake_rules, fake);
conformance!(
    embedded_media,
    embedded,
    media,
    [
        picture_and_sound_flow_over_udp,
        picture_and_sound_flow_over_tcp,
        what_was_not_announced_reaches_nobody,
        a_muted_track_is_not_forwarded,
        data_goes_both_ways,
        rooms_do_not_hear_each_other,
        an_ice_restart_keeps_the_media_flowing,
    ]
);
