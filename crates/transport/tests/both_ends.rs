//! Two connections of ours talk to each other, with trickled candidates, offers both ways.

#![allow(clippy::unwrap_used)]

mod peer;

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use confab_transport::{
    Connection, ConnectionConfig, ConnectionEvent, ConnectionState, LayerConfig, SendCodec, WebRtcConnection,
};
use confab_types::Bitrate;
use peer::media::{Frames, send_video};
use peer::session::{Events, track};
use tokio::sync::mpsc;

/// A connection whose candidates go to `other` as they come; everything else to the returned channel.
struct End {
    connection: Arc<dyn Connection>,
    events: mpsc::UnboundedReceiver<ConnectionEvent>,
}

async fn forward(mut events: Events, other: Weak<dyn Connection>, rest: mpsc::UnboundedSender<ConnectionEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            ConnectionEvent::LocalCandidate(candidate) => {
                if let Some(other) = other.upgrade() {
                    let _ = other.add_candidate(candidate).await;
                }
            }
            event => {
                let _ = rest.send(event);
            }
        }
    }
}

async fn pair() -> (End, End) {
    let config = ConnectionConfig {
        loopback: true,
        ..Default::default()
    };
    let (left, left_events) = WebRtcConnection::new(config.clone()).await.unwrap();
    let (right, right_events) = WebRtcConnection::new(config).await.unwrap();
    let ends = [(&left, &right, left_events), (&right, &left, right_events)].map(|(this, other, from)| {
        let (rest, events) = mpsc::unbounded_channel();
        tokio::spawn(forward(from, Arc::downgrade(other), rest));
        End {
            connection: this.clone(),
            events,
        }
    });
    let [left, right] = ends;
    (left, right)
}

async fn negotiate(from: &End, to: &End) {
    let offer = from.connection.create_offer(false).await.unwrap();
    let answer = to.connection.answer_offer(&offer).await.unwrap();
    from.connection.set_answer(&answer).await.unwrap();
}

async fn wait<T>(end: &mut End, mut pick: impl FnMut(ConnectionEvent) -> Option<T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let event = end.events.recv().await.expect("events ended");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    })
    .await
    .expect("nothing within 10 s")
}

async fn connected(end: &mut End) {
    wait(end, |e| {
        matches!(e, ConnectionEvent::State(ConnectionState::Connected)).then_some(())
    })
    .await;
}

async fn watched(end: &mut End, count: usize) -> (String, Frames) {
    let mut track = wait(end, |e| match e {
        ConnectionEvent::Track(track) => Some(track),
        _ => None,
    })
    .await;
    let mut frames = Frames::default();
    while frames.whole().len() < count {
        let packet = tokio::time::timeout(Duration::from_secs(5), track.packets.recv()).await;
        frames.add_received(&packet.expect("packets go on").expect("the track lives"));
    }
    (track.track_id, frames)
}

fn one_layer() -> SendCodec {
    SendCodec::Vp8(vec![LayerConfig {
        rid: None,
        max_bitrate: Bitrate::kbps(1000),
    }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_from_either_side_carry_video_and_messages() {
    let (mut left, mut right) = pair().await;
    left.connection
        .open_data_channel("_reliable", true, None)
        .await
        .unwrap();
    let from_left = left.connection.add_track(track("left", one_layer())).await.unwrap();
    negotiate(&left, &right).await;
    connected(&mut left).await;
    let sending = tokio::spawn(send_video(from_left, vec![3000], 40));
    let (id, _) = watched(&mut right, 30).await;
    assert_eq!(id, "left");
    sending.await.unwrap();

    let from_right = right.connection.add_track(track("right", one_layer())).await.unwrap();
    negotiate(&right, &left).await;
    let sending = tokio::spawn(send_video(from_right, vec![3000], 40));
    let (id, _) = watched(&mut left, 30).await;
    assert_eq!(id, "right");
    sending.await.unwrap();

    for (from, to) in [
        (&left.connection, &mut right.events),
        (&right.connection, &mut left.events),
    ] {
        from.send_data("_reliable", Bytes::from_static(b"hello")).await.unwrap();
        let message = async {
            loop {
                if let Some(ConnectionEvent::Data { label, payload }) = to.recv().await {
                    return (label, payload);
                }
            }
        };
        let got = tokio::time::timeout(Duration::from_secs(5), message).await.unwrap();
        assert_eq!(got, ("_reliable".to_owned(), Bytes::from_static(b"hello")));
    }
    left.connection.close().await;
    right.connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_track_ends_and_its_successor_is_seen() {
    let (mut left, mut right) = pair().await;
    for round in ["first", "second"] {
        let sender = left.connection.add_track(track(round, one_layer())).await.unwrap();
        negotiate(&left, &right).await;
        if round == "first" {
            connected(&mut left).await;
        }
        let sending = tokio::spawn(send_video(sender.clone(), vec![2000], 20));
        let mut track = wait(&mut right, |e| match e {
            ConnectionEvent::Track(track) => Some(track),
            _ => None,
        })
        .await;
        assert_eq!(track.track_id, round);
        assert!(
            tokio::time::timeout(Duration::from_secs(3), track.packets.recv())
                .await
                .unwrap()
                .is_some()
        );
        sending.await.unwrap();
        left.connection.remove_track(round).await.unwrap();
        negotiate(&left, &right).await;
        let ended = async { while track.packets.recv().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(3), ended)
            .await
            .expect("the track ends");
        tokio::time::timeout(Duration::from_secs(1), sender.frames.closed())
            .await
            .expect("the sender is told");
    }
    left.connection.close().await;
    right.connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_refuses_and_its_events_end() {
    let (left, right) = pair().await;
    let sender = left.connection.add_track(track("camera", one_layer())).await.unwrap();
    negotiate(&left, &right).await;
    let (connection, mut events) = (left.connection, left.events);
    connection.close().await;
    connection.close().await;
    assert!(connection.create_offer(false).await.is_err());
    assert!(connection.set_answer("v=0").await.is_err());
    assert!(connection.add_track(track("x", SendCodec::Opus)).await.is_err());
    assert!(connection.remove_track("camera").await.is_err());
    assert!(connection.open_data_channel("_reliable", true, None).await.is_err());
    assert!(connection.stats().await.tracks.is_empty());
    assert!(sender.frames.is_closed());
    let ended = async { while events.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(2), ended)
        .await
        .expect("events end");
    right.connection.close().await;
}

#[test]
fn nothing_is_left_running_after_a_close_or_a_drop() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = alive();
        for close in [true, false] {
            let (left, mut right) = pair().await;
            left.connection
                .open_data_channel("_reliable", true, None)
                .await
                .unwrap();
            let sender = left.connection.add_track(track("camera", one_layer())).await.unwrap();
            negotiate(&left, &right).await;
            let sending = tokio::spawn(send_video(sender, vec![1000], 31));
            wait(&mut right, |e| matches!(e, ConnectionEvent::Track(_)).then_some(())).await;
            sending.await.unwrap();
            if close {
                left.connection.close().await;
                right.connection.close().await;
            }
            drop((left, right));
            let gone = async {
                while alive() > before {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let done = tokio::time::timeout(Duration::from_secs(5), gone).await;
            assert!(done.is_ok(), "{} tasks still live (closed: {close})", alive() - before);
        }
    });
}
