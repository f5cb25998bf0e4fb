//! Bad and changing networks: loss, keyframe requests, ICE restart, TCP only.

#![allow(clippy::unwrap_used)]

mod peer;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use confab_transport::{ConnectionConfig, EncodedFrame, LayerConfig, SendCodec, WebRtcConnection};
use confab_types::Bitrate;
use peer::media::{Frames, send_audio, send_video};
use peer::session::{Got, config, connected, negotiate, remote_track, simulcast, track};
use peer::{Peer, PeerConfig};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_publisher_loses_at_five_percent_is_sent_again() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let video = connection.add_track(track("camera", simulcast())).await.unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    peer.network.loss_permille.store(50, Ordering::Relaxed);
    send_video(video, vec![500, 1500, 4000], 150).await;
    peer.network.loss_permille.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut got = Got::default();
    got.take(peer.drain());
    let (mut missing, mut packets) = (0, 0);
    for (rid, frames) in &got.streams {
        println!(
            "layer {rid}: {} packets, gaps {}, frames missing {:?}",
            frames.packets(),
            frames.gaps(),
            frames.missing()
        );
        missing += frames.missing().len();
        packets += frames.packets();
    }
    let stats = connection.stats().await;
    let sent = &stats.tracks[0];
    let lost = peer.network.dropped_to_peer.load(Ordering::Relaxed);
    println!(
        "lost {lost} of {packets}, {sent:?}, target {:?}",
        stats.available_outgoing
    );
    assert!(missing <= 2, "{missing} frames were not repaired");
    assert!(lost > 20, "the network lost {lost}");
    assert!(
        sent.retransmissions <= lost * 3 / 2,
        "{} retransmissions for {lost} losses",
        sent.retransmissions
    );
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_subscriber_misses_at_five_percent_is_asked_for_once() {
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
    peer.network.loss_permille.store(50, Ordering::Relaxed);
    let mut frames = Frames::default();
    let mut repaired = 0;
    let receive = async {
        let mut track = loop {
            let track = remote_track(&mut events).await;
            if track.mime == "video/VP8" {
                break track;
            }
        };
        while let Ok(Some(packet)) = tokio::time::timeout(Duration::from_millis(800), track.packets.recv()).await {
            repaired += u32::from(packet.retransmitted);
            frames.add_received(&packet);
        }
        track.track_id
    };
    let (id, ()) = tokio::join!(receive, peer::media_from(&peer, audio, video, 200));
    let stats = connection.stats().await;
    let got = stats.tracks.iter().find(|t| t.id == id).unwrap();
    println!(
        "{} packets, gaps {}, repaired {repaired}, missing {:?}, {got:?}",
        frames.packets(),
        frames.gaps(),
        frames.missing()
    );
    assert_eq!(frames.gaps(), 0, "every gap was repaired");
    assert!(repaired > 10, "{repaired}");
    assert!(
        got.nacks <= u64::from(repaired) * 3 / 2 + 3,
        "{} numbers asked for, {repaired} repaired",
        got.nacks
    );
    assert_eq!(got.lost, 0);
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_request_reaches_the_encoder_of_its_layer() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let mut video = connection.add_track(track("camera", simulcast())).await.unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    video.keyframe_requests.wait_for(|r| r.layers == 0b111).await.unwrap();
    send_video(video.clone(), vec![500, 500, 500], 10).await;
    let mid = peer
        .wait(|e| match e {
            peer::PeerEvent::Rtp { mid, .. } => Some(mid),
            _ => None,
        })
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    video.keyframe_requests.mark_unchanged();
    for (rid, bit, kind) in [
        ("h", 0b010, KeyframeRequestKind::Pli),
        ("f", 0b100, KeyframeRequestKind::Fir),
    ] {
        peer.with(move |rtc| {
            rtc.direct_api()
                .stream_rx_by_mid(mid, Some(rid.into()))
                .unwrap()
                .request_keyframe(kind);
        })
        .await;
        tokio::time::timeout(Duration::from_secs(2), video.keyframe_requests.changed())
            .await
            .expect("a request")
            .unwrap();
        assert_eq!(video.keyframe_requests.borrow().layers, bit, "{rid}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_goes_on_through_an_ice_restart() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let video = connection.add_track(track("camera", simulcast())).await.unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    let sending = tokio::spawn(send_video(video, vec![500, 500, 1000], 90));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let offer = connection.create_offer(true).await.unwrap();
    let answer = peer
        .with(move |rtc| {
            rtc.sdp_api()
                .accept_offer(str0m::change::SdpOffer::from_sdp_string(&offer).unwrap())
                .unwrap()
                .to_sdp_string()
        })
        .await;
    connection.set_answer(&answer).await.unwrap();
    println!("restarted in {:?}", begun.elapsed());
    sending.await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut got = Got::default();
    got.take(peer.drain());
    for (rid, frames) in &got.streams {
        let whole = frames.whole();
        println!("layer {rid}: {} frames, missing {:?}", whole.len(), frames.missing());
        assert!(
            whole.contains_key(&89) && frames.missing().len() <= 3,
            "layer {rid}: {:?}",
            frames.missing()
        );
    }
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_flows_over_tcp_alone() {
    let mut peer = Peer::new(PeerConfig {
        tcp: true,
        ..Default::default()
    })
    .await;
    let begun = Instant::now();
    let (connection, mut events) = WebRtcConnection::new(ConnectionConfig {
        tcp_only: true,
        ..config()
    })
    .await
    .unwrap();
    let video = connection.add_track(track("camera", simulcast())).await.unwrap();
    let audio = connection
        .add_track(track("microphone", SendCodec::Opus))
        .await
        .unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    println!("connected over TCP in {:?}", begun.elapsed());
    tokio::join!(send_video(video, vec![500, 1500, 4000], 60), send_audio(audio, 100));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut got = Got::default();
    got.take(peer.drain());
    for rid in ["q", "h", "f"] {
        assert_eq!(got.streams[rid].whole().len(), 60, "layer {rid}");
    }
    assert_eq!(got.audio.len(), 100);
    let stats = connection.stats().await;
    assert_eq!(stats.protocol.as_deref(), Some("tcp"), "{stats:?}");
    assert!(
        stats.round_trip.is_some_and(|r| r < Duration::from_millis(500)),
        "{stats:?}"
    );
    assert!(stats.bytes_sent > 200_000, "{stats:?}");
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_takes_over_where_udp_finds_no_way() {
    let mut peer = Peer::new(PeerConfig {
        tcp: true,
        no_udp: true,
        ..Default::default()
    })
    .await;
    let (connection, mut events) = WebRtcConnection::new(ConnectionConfig { tcp: true, ..config() })
        .await
        .unwrap();
    let audio = connection
        .add_track(track("microphone", SendCodec::Opus))
        .await
        .unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    send_audio(audio, 20).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut got = Got::default();
    got.take(peer.drain());
    assert_eq!(got.audio.len(), 20);
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_is_chosen_where_both_would_work() {
    let peer = Peer::new(PeerConfig {
        tcp: true,
        ..Default::default()
    })
    .await;
    let (connection, mut events) = WebRtcConnection::new(ConnectionConfig { tcp: true, ..config() })
        .await
        .unwrap();
    connection
        .add_track(track("microphone", SendCodec::Opus))
        .await
        .unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(connection.stats().await.protocol.as_deref(), Some("udp"));
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoder_that_follows_the_target_keeps_a_narrow_path_usable() {
    let mut peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let layer = LayerConfig {
        rid: None,
        max_bitrate: Bitrate::kbps(2000),
    };
    let video = connection
        .add_track(track("camera", SendCodec::Vp8(vec![layer])))
        .await
        .unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    peer.network.capacity.store(600_000, Ordering::Relaxed);
    let target = connection.target_bitrate();
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    let mut sent_at = Vec::new();
    for number in 0..250u32 {
        ticks.tick().await;
        let length = (target.borrow().as_bps() / 25 / 8) as usize;
        sent_at.push(Instant::now());
        let captured = start + Duration::from_millis(40) * number;
        let data = peer::media::frame(0, number, length);
        let frame = EncodedFrame {
            layer: 0,
            captured,
            keyframe: number == 0,
            temporal: None,
            audio_level: None,
            data,
        };
        let _ = video.frames.try_send(frame);
    }
    let mut came: Vec<(Instant, u32)> = Vec::new();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for event in peer.drain() {
        if let peer::PeerEvent::Rtp { packet, .. } = event
            && packet.header.marker
        {
            came.push((packet.timestamp, packet.header.timestamp));
        }
    }
    let first = came[0].1;
    let delays = came.iter().map(|(at, time)| {
        let number = (time.wrapping_sub(first) / 3600) as usize;
        at.saturating_duration_since(sent_at[number.min(249)])
    });
    let mut late: Vec<_> = delays.skip(came.len() / 2).collect();
    late.sort();
    let (median, worst) = (late[late.len() / 2], late[late.len() * 95 / 100]);
    let stats = connection.stats().await;
    println!(
        "{} of 250 frames, median delay {median:?}, 95 % {worst:?}, {stats:?}",
        came.len()
    );
    assert!(came.len() > 150, "{}", came.len());
    assert!(median < Duration::from_millis(350), "{median:?}");
    assert!(
        (300..700).contains(&target.borrow().as_kbps()),
        "{:?}",
        *target.borrow()
    );
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_sends_small_layers_learns_that_the_large_one_fits() {
    let peer = Peer::new(PeerConfig::default()).await;
    let (connection, mut events) = WebRtcConnection::new(config()).await.unwrap();
    let video = connection.add_track(track("camera", simulcast())).await.unwrap();
    negotiate(&connection, &peer, false).await;
    connected(&mut events).await;
    let mut target = connection.target_bitrate();
    // 60 and 180 kbps, of 2,350 that all layers together would take.
    let sending = tokio::spawn(send_video(video, vec![250, 750], 300));
    let found = target.wait_for(|t| t.as_kbps() > 2000);
    let found = tokio::time::timeout(Duration::from_secs(8), found)
        .await
        .expect("found within 8 s")
        .unwrap()
        .as_kbps();
    assert!(found < 3200, "{found}");
    sending.abort();
    let sent = &connection.stats().await.tracks[0];
    assert_eq!(sent.retransmissions, 0, "tests of the path are no retransmissions");
    connection.close().await;
}
