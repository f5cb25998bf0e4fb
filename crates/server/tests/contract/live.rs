//! With the real media engine behind it.

use confab_server::TlsMode;
use confab_wire::livekit as lk;
use lk::signal_response::Message;

use crate::peer::join;
use crate::support::{World, ok};

#[tokio::test]
async fn the_first_offer_has_candidates_and_data_channels() {
    let world = World::with(|config| config.engine = None).await;
    let (mut one, _) = join(&world, "subscriber", "R").await;
    let offer = one
        .expect("Offer", |m| {
            if let Message::Offer(o) = m {
                Some(o.sdp.clone())
            } else {
                None
            }
        })
        .await;
    assert!(offer.contains("a=ice-lite"));
    assert!(offer.contains("webrtc-datachannel"));
    let port = world.server.media_port();
    assert!(offer.contains(&format!("127.0.0.1 {port} typ host")), "{offer}");
    let admin = world.session("admin").await;
    let rooms = ok(world.get("/api-admin/rooms").bearer_auth(admin)).await;
    assert_eq!(rooms["rooms"][0]["name"], "R");
    assert_eq!(rooms["rooms"][0]["participants"][0]["sid"], one.me().sid);
    assert!(rooms["rooms"][0]["counters"]["tracks"].is_array());
}

#[tokio::test]
async fn a_self_signed_server_speaks_https_and_hands_out_wss() {
    let world = World::with(|config| config.tls = TlsMode::SelfSigned).await;
    assert!(world.server.url().starts_with("https://") && world.server.fingerprint().is_some());
    let stranger = world.http.get(format!("{}/healthz", world.server.url())).send().await;
    assert!(stranger.is_err(), "nobody vouches for the certificate");
    let http = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let world = World { http, ..world };
    let token = world.room_token("publisher1", "R").await;
    assert!(token.url.starts_with("wss://"));
}

/// A benchmark: `cargo test -p confab-server --test contract two_hundred -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark; prints figures"]
async fn two_hundred_joins_in_two_seconds() {
    let world = std::sync::Arc::new(World::with(|config| config.engine = None).await);
    let start = std::time::Instant::now();
    let joins = (0..200u64).map(|n| {
        let world = world.clone();
        tokio::spawn(async move {
            let token = world.backend_token(&format!("user{n}"), crate::support::join_grant("crowd"));
            tokio::time::sleep(std::time::Duration::from_millis(n * 10)).await;
            let begun = std::time::Instant::now();
            let peer = crate::peer::try_join(&world, &token).await.unwrap();
            (begun.elapsed(), peer)
        })
    });
    let done = futures::future::join_all(joins).await;
    let mut times: Vec<_> = done.iter().map(|d| d.as_ref().unwrap().0.as_millis()).collect();
    times.sort_unstable();
    println!(
        "200 joins in {:?}: p50 {} ms, p99 {} ms",
        start.elapsed(),
        times[100],
        times[197]
    );
}
