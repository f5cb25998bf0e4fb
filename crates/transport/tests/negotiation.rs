//! Offers of the server while media flows: others' tracks, pauses, restarts, codecs that we lack.

#![allow(clippy::unwrap_used)]

mod peer;

use std::time::Duration;

use confab_transport::WebRtcConnection;
use peer::media::Frames;
use peer::session::{config, connected, remote_track};
use peer::{Peer, PeerConfig};
use str0m::media::{Direction, MediaKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_codec_that_we_lack_is_refused_and_the_other_tracks_go_on() {
    let peer = Peer::new(PeerConfig {
        only_vp9: true,
        ..Default::default()
    })
    .await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let (offer, pending, audio) = peer
        .offer(|api| {
            api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
            api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None)
        })
        .await;
    let answer = connection.answer_offer(&offer).await.unwrap();
    peer.accept(pending, &answer).await;
    connected(&mut events).await;
    let receive = async {
        let mut track = remote_track(&mut events).await;
        assert_eq!(track.mime, "audio/opus");
        assert!(track.packets.recv().await.is_some());
    };
    tokio::join!(peer::sound_from(&peer, audio, 30), receive);
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_the_server_offers_loses_a_subscriber_nothing() {
    let peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let (offer, pending, (audio, video)) = peer
        .offer(|api| {
            let audio = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            (
                audio,
                api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None),
            )
        })
        .await;
    let answer = connection.answer_offer(&offer).await.unwrap();
    peer.accept(pending, &answer).await;
    connected(&mut events).await;
    let mut frames = Frames::default();
    let receive = async {
        let mut track = loop {
            let track = remote_track(&mut events).await;
            if track.mime == "video/VP8" {
                break track;
            }
        };
        while let Ok(Some(packet)) = tokio::time::timeout(Duration::from_millis(800), track.packets.recv()).await {
            frames.add_received(&packet);
        }
    };
    let restart = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (offer, pending, _) = peer.offer(|api| api.ice_restart(true)).await;
        let answer = connection.answer_offer(&offer).await.unwrap();
        peer.accept(pending, &answer).await;
    };
    tokio::join!(receive, restart, peer::media_from(&peer, audio, video, 90));
    println!("gaps {}, frames missing {:?}", frames.gaps(), frames.missing());
    assert!(frames.whole().contains_key(&89), "{:?}", frames.whole().keys().last());
    assert!(frames.missing().len() <= 1, "{:?}", frames.missing());
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_track_goes_on_while_others_come_and_go() {
    let peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let (offer, pending, (audio, video)) = peer
        .offer(|api| {
            let audio = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            (
                audio,
                api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None),
            )
        })
        .await;
    let answer = connection.answer_offer(&offer).await.unwrap();
    peer.accept(pending, &answer).await;
    connected(&mut events).await;
    let mut frames = Frames::default();
    let receive = async {
        let mut track = loop {
            let track = remote_track(&mut events).await;
            if track.mime == "video/VP8" {
                break track;
            }
        };
        while let Ok(Some(packet)) = tokio::time::timeout(Duration::from_millis(800), track.packets.recv()).await {
            frames.add_received(&packet);
        }
    };
    let others = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let (offer, pending, other) = peer
                .offer(|api| api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None))
                .await;
            let answer = connection.answer_offer(&offer).await.unwrap();
            peer.accept(pending, &answer).await;
            let (offer, pending, ()) = peer
                .offer(move |api| api.set_direction(other, Direction::Inactive))
                .await;
            let answer = connection.answer_offer(&offer).await.unwrap();
            peer.accept(pending, &answer).await;
        }
    };
    tokio::join!(receive, others, peer::media_from(&peer, audio, video, 60));
    assert_eq!(frames.whole().len(), 60, "missing {:?}", frames.missing());
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_that_was_inactive_carries_media_again() {
    let peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let (offer, pending, (audio, video)) = peer
        .offer(|api| {
            let audio = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            (
                audio,
                api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None),
            )
        })
        .await;
    let answer = connection.answer_offer(&offer).await.unwrap();
    peer.accept(pending, &answer).await;
    connected(&mut events).await;
    for round in 0..3 {
        let receive = async {
            let mut track = loop {
                let track = remote_track(&mut events).await;
                if track.mime == "video/VP8" {
                    break track;
                }
            };
            tokio::time::timeout(Duration::from_secs(3), track.packets.recv())
                .await
                .expect("packets")
                .unwrap();
            track
        };
        let (mut track, ()) = tokio::join!(receive, peer::media_from(&peer, audio, video, 15));
        for direction in [Direction::Inactive, Direction::SendOnly] {
            let (offer, pending, ()) = peer.offer(move |api| api.set_direction(video, direction)).await;
            let answer = connection.answer_offer(&offer).await.unwrap();
            peer.accept(pending, &answer).await;
        }
        // The first pause ends the track. The library tells of no later one; then the reader lets go.
        if round == 0 {
            let ended = async { while track.packets.recv().await.is_some() {} };
            tokio::time::timeout(Duration::from_secs(3), ended)
                .await
                .expect("the track ends");
        }
    }
    connection.close().await;
}
