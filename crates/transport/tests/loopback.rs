//! Publishing, subscribing and data against a `str0m` peer on loopback.

#![allow(clippy::unwrap_used)]

mod peer;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confab_transport::{ConnectionEvent, SendCodec, WebRtcConnection};
use confab_types::Bitrate;
use peer::media::{Frames, send_audio, send_video};
use peer::session::{Got, config, connected, negotiate, remote_track, simulcast, track, wait};
use peer::{Peer, PeerConfig, PeerEvent};
use str0m::Event;
use str0m::media::{Direction, MediaKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_connects_fast_and_every_frame_of_three_layers_and_sound_arrives() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let begun = Instant::now();
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    connection.open_data_channel("_reliable", true, None).await.unwrap();
    let video = connection.add_track(track("camera", simulcast())).await.unwrap();
    let audio = connection
        .add_track(track("microphone", SendCodec::Opus))
        .await
        .unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    println!("connected in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    tokio::join!(send_video(video, vec![500, 1500, 4000], 90), send_audio(audio, 150));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stats = connection.stats().await;
    println!("{stats:?}");
    assert!(
        stats.available_outgoing > Some(Bitrate::kbps(1500)),
        "a clean path is found: {stats:?}"
    );
    assert_eq!(stats.protocol.as_deref(), Some("udp"), "{stats:?}");
    assert!(
        stats.round_trip.is_some_and(|r| r < Duration::from_millis(500)),
        "{stats:?}"
    );
    let mut got = Got::default();
    got.take(peer.drain());
    for rid in ["q", "h", "f"] {
        let whole = got.streams[rid].whole();
        assert_eq!(whole.len(), 90, "layer {rid}: missing {:?}", got.streams[rid].missing());
        let ticks = whole[&60].wrapping_sub(whole[&0]);
        assert!((179_990..=180_010).contains(&ticks), "two seconds are {ticks} ticks");
    }
    let times: Vec<_> = got.streams.values().map(|s| s.whole()[&30]).collect();
    assert!(times.iter().all(|t| *t == times[0]), "layers share their time");
    assert_eq!(got.audio.len(), 150);
    assert!(
        got.audio.iter().all(|(_, _, level)| level == &Some(-30)),
        "{:?}",
        got.audio[0]
    );
    assert!(got.audio.windows(2).all(|w| w[1].1.wrapping_sub(w[0].1) == 960));
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_gets_both_tracks_with_their_names_and_all_frames() {
    let peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let (offer, pending, (audio, video)) = peer
        .offer(|api| {
            let ids = |t: &str| (Some("PA_alice".to_owned()), Some(t.to_owned()));
            let (stream, id) = ids("TR_audio");
            let audio = api.add_media(MediaKind::Audio, Direction::SendOnly, stream, id, None);
            let (stream, id) = ids("TR_video");
            let video = api.add_media(MediaKind::Video, Direction::SendOnly, stream, id, None);
            (audio, video)
        })
        .await;
    let answer = connection.answer_offer(&offer).await.unwrap();
    peer.accept(pending, &answer).await;
    connected(&mut events).await;
    let sending = peer::media_from(&peer, audio, video, 60);
    let mut tracks = HashMap::new();
    let receive = async {
        for _ in 0..2 {
            let track = remote_track(&mut events).await;
            tracks.insert(track.mime.clone(), track);
        }
    };
    tokio::join!(sending, receive);
    let mut audio_track = tracks.remove("audio/opus").unwrap();
    let mut video_track = tracks.remove("video/VP8").unwrap();
    assert_eq!(
        (
            audio_track.stream_id.as_str(),
            audio_track.track_id.as_str(),
            audio_track.mid.as_str()
        ),
        ("PA_alice", "TR_audio", &*audio.to_string())
    );
    assert_eq!(
        (
            video_track.stream_id.as_str(),
            video_track.track_id.as_str(),
            video_track.clock_rate
        ),
        ("PA_alice", "TR_video", 90_000)
    );
    let mut frames = Frames::default();
    while frames.whole().len() < 60 {
        let packet = tokio::time::timeout(Duration::from_secs(3), video_track.packets.recv())
            .await
            .expect("all frames")
            .unwrap();
        frames.add_received(&packet);
    }
    let mut sounds = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(200), audio_track.packets.recv()).await {
        sounds += 1;
    }
    assert!(sounds >= 90, "{sounds}");
    assert!(video_track.sender_report.borrow().is_some(), "a sender report came");
    connection.close().await;
    assert!(
        tokio::time::timeout(Duration::from_secs(1), video_track.packets.recv())
            .await
            .unwrap()
            .is_none(),
        "the track ends with the connection"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_and_large_messages_pass_both_ways() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    connection.open_data_channel("_reliable", true, None).await.unwrap();
    connection.open_data_channel("_lossy", false, Some(0)).await.unwrap();
    negotiate(&connection, &peer, false).await;
    let mut channels = HashMap::new();
    while channels.len() < 2 {
        let (label, id) = peer
            .wait(|e| match e {
                PeerEvent::Other(Event::ChannelOpen(id, label)) => Some((label, id)),
                _ => None,
            })
            .await;
        channels.insert(label, id);
    }
    let large: Vec<u8> = (0..250_000u32).map(|n| (n * 7) as u8).collect();
    for (label, message) in [
        ("_reliable", Bytes::from_static(b"hello")),
        ("_reliable", Bytes::from(large.clone())),
        ("_lossy", Bytes::from_static(b"now")),
    ] {
        connection.send_data(label, message.clone()).await.unwrap();
        let id = channels[label];
        let got = peer
            .wait(|e| match e {
                PeerEvent::Other(Event::ChannelData(data)) if data.id == id => Some(data.data),
                _ => None,
            })
            .await;
        assert!(got == message, "{label}: {} of {} bytes", got.len(), message.len());
        let back = got.clone();
        assert!(
            peer.with(move |rtc| rtc.channel(id).unwrap().write(true, &back).unwrap())
                .await
        );
        let payload = wait(&mut events, |e| match e {
            ConnectionEvent::Data { label: from, payload } if from == label => Some(payload),
            _ => None,
        })
        .await;
        assert!(payload == message);
    }
    connection.close().await;
    assert!(connection.send_data("_reliable", Bytes::new()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_in_parts_waits_for_room_and_arrives_whole_and_in_order() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let (connection, _events) = WebRtcConnection::new(config()).await.unwrap();
    connection.open_data_channel("_reliable", true, None).await.unwrap();
    negotiate(&connection, &peer, false).await;
    let sender = connection.clone();
    // 3 MB, three times what the buffer holds.
    let sending = tokio::spawn(async move {
        for part in 0..200u32 {
            let mut data = part.to_be_bytes().to_vec();
            data.resize(15_000, part as u8);
            sender.send_data("_reliable", data.into()).await.unwrap();
        }
    });
    for part in 0..200u32 {
        let data = peer
            .wait(|e| match e {
                PeerEvent::Other(Event::ChannelData(data)) => Some(data.data),
                _ => None,
            })
            .await;
        assert_eq!((data.len(), &data[..4]), (15_000, &part.to_be_bytes()[..]));
    }
    sending.await.unwrap();
    connection.close().await;
}
