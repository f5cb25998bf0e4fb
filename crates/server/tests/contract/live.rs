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
