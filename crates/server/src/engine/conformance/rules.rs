//! The rules of the contract that need no media.

use confab_types::{Role, TrackKind, TrackSid, TrackSource};

use super::{next_event, participant_sid, room_sid};
use crate::engine::{EngineError, EngineEvent, MediaEngine, TrackAnnouncement};

pub(super) fn announcement(source: TrackSource, cid: &str) -> TrackAnnouncement {
    let kind = match source {
        TrackSource::Camera | TrackSource::ScreenShare => TrackKind::Video,
        _ => TrackKind::Audio,
    };
    TrackAnnouncement {
        sid: TrackSid::from_random(rand::random()),
        cid: cid.into(),
        kind,
        source,
        muted: false,
    }
}

pub(super) async fn the_first_offer_comes_at_once(engine: &dyn MediaEngine) {
    let (room, who) = (room_sid(), participant_sid());
    let mut events = engine.open_room(&room).await.unwrap();
    engine
        .add_participant(&room, &who, Role::Subscriber.grants(), true)
        .await
        .unwrap();
    next_event(&mut events, "an offer", |e| match e {
        EngineEvent::SubscriberOffer { participant, .. } => {
            assert_eq!(participant, who);
            Some(())
        }
        _ => None,
    })
    .await;
}

pub(super) async fn unknown_rooms_and_participants_are_errors(engine: &dyn MediaEngine) {
    let (room, who) = (room_sid(), participant_sid());
    let added = engine
        .add_participant(&room, &who, Role::Publisher.grants(), true)
        .await;
    assert!(matches!(added, Err(EngineError::NoRoom)), "{added:?}");
    assert!(matches!(engine.counters(&room).await, Err(EngineError::NoRoom)));
    let _events = engine.open_room(&room).await.unwrap();
    let offered = engine.publisher_offer(&room, &who, "v=0\r\n".into()).await;
    assert!(matches!(offered, Err(EngineError::NoParticipant)), "{offered:?}");
    let announced = engine
        .announce_track(&room, &who, announcement(TrackSource::Camera, "c"))
        .await;
    assert!(matches!(announced, Err(EngineError::NoParticipant)));
    engine.remove_participant(&room, &who).await;
    engine.close_room(&room).await;
    engine.close_room(&room).await;
}

pub(super) async fn a_track_without_its_grant_is_refused(engine: &dyn MediaEngine) {
    let (room, who) = (room_sid(), participant_sid());
    let _events = engine.open_room(&room).await.unwrap();
    engine
        .add_participant(&room, &who, Role::Subscriber.grants(), true)
        .await
        .unwrap();
    let announced = engine
        .announce_track(&room, &who, announcement(TrackSource::Camera, "c"))
        .await;
    assert!(matches!(announced, Err(EngineError::NotAllowed)));
    assert!(engine.counters(&room).await.unwrap().tracks.is_empty());
}

pub(super) async fn a_lost_grant_ends_the_track_in_no_time(engine: &dyn MediaEngine) {
    let (room, who) = (room_sid(), participant_sid());
    let _events = engine.open_room(&room).await.unwrap();
    engine
        .add_participant(&room, &who, Role::Publisher.grants(), true)
        .await
        .unwrap();
    engine
        .announce_track(&room, &who, announcement(TrackSource::Camera, "c"))
        .await
        .unwrap();
    engine.set_grants(&room, &who, Role::Subscriber.grants()).await.unwrap();
    let again = engine
        .announce_track(&room, &who, announcement(TrackSource::Camera, "d"))
        .await;
    assert!(matches!(again, Err(EngineError::NotAllowed)));
}

pub(super) async fn broken_sdp_is_an_error(engine: &dyn MediaEngine) {
    let (room, who) = (room_sid(), participant_sid());
    let _events = engine.open_room(&room).await.unwrap();
    engine
        .add_participant(&room, &who, Role::Publisher.grants(), true)
        .await
        .unwrap();
    for sdp in ["", "hello", "\0\0\0"] {
        assert!(matches!(
            engine.publisher_offer(&room, &who, sdp.into()).await,
            Err(EngineError::BadSdp(_))
        ));
        assert!(matches!(
            engine.subscriber_answer(&room, &who, sdp.into()).await,
            Err(EngineError::BadSdp(_))
        ));
    }
}

pub(super) async fn a_closed_room_ends_its_events(engine: &dyn MediaEngine) {
    let room = room_sid();
    let mut events = engine.open_room(&room).await.unwrap();
    engine.close_room(&room).await;
    let ended = tokio::time::timeout(super::PATIENCE, async { while events.recv().await.is_some() {} }).await;
    assert!(ended.is_ok());
    assert!(matches!(engine.counters(&room).await, Err(EngineError::NoRoom)));
}

pub(super) async fn nobody_subscribes_to_their_own_track(engine: &dyn MediaEngine) {
    let (room, who) = (room_sid(), participant_sid());
    let _events = engine.open_room(&room).await.unwrap();
    engine
        .add_participant(&room, &who, Role::Publisher.grants(), true)
        .await
        .unwrap();
    let track = announcement(TrackSource::Camera, "c");
    let sid = track.sid.clone();
    engine.announce_track(&room, &who, track).await.unwrap();
    assert!(matches!(
        engine.subscribe(&room, &who, &sid, true).await,
        Err(EngineError::NotAllowed)
    ));
}
