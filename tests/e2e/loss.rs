//! A call through a bad network: what is lost is repaired or concealed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use confab_tests::programs::{Bot, CallServer};
use confab_tests::relay::{BadNetwork, Impairment};

use crate::bots::received;

#[tokio::test(flavor = "multi_thread")]
async fn ten_percent_loss_is_repaired_without_a_frozen_second() -> anyhow::Result<()> {
    let server = CallServer::start()?;
    let flags = [
        "--camera",
        "test-pattern:640x480@30",
        "--microphone",
        "voice-like",
        "--duration",
        "22",
    ];
    let _sender = Bot::join(&server, "publisher1", "lossy", &flags)?;
    let answer = server
        .sign_in("publisher2")
        .await?
        .room_token("lossy", "Behind")
        .await?;
    let (url, token) = (
        answer["url"].as_str().unwrap_or_default(),
        answer["1"].as_str().unwrap_or_default(),
    );
    let impairment = Impairment {
        loss: 0.1,
        jitter: Duration::from_millis(5),
        seed: 7,
    };
    let network = BadNetwork::before(url, server.media_port, impairment).await?;
    let flags = [
        "--url",
        &network.url,
        "--token",
        token,
        "--publish",
        "none",
        "--duration",
        "15",
    ];
    let report = Bot::start(&flags, "", server.data.path())?
        .finish(Duration::from_secs(60))
        .await?;
    assert!(network.lost.load(Ordering::Relaxed) > 50, "the network lost packets");

    let audio = received(&report, "audio");
    let number = |name: &str| audio[0][name].as_u64().unwrap_or_default();
    println!(
        "10 % loss: {} packets repaired by FEC, {} concealed",
        number("fec"),
        number("plc")
    );
    assert!(number("fec") > 0 && number("plc") > 0, "{report:#}");
    let video = received(&report, "video");
    println!(
        "10 % loss: {} frames, {} freezes, {} ms in all",
        video[0]["frames"], video[0]["freezes"], video[0]["freezeMs"]
    );
    assert!(video[0]["frames"].as_u64() > Some(250), "{report:#}");
    assert!(
        video[0]["freezeMs"].as_f64().is_some_and(|ms| ms < 1000.0),
        "{report:#}"
    );
    Ok(())
}
