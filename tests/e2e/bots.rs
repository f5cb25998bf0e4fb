//! Two bots in a room through the real server, and what a subscriber may not do.

use std::time::Duration;

use confab_tests::programs::{Bot, CallServer};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(40);

/// The figures of the received tracks of a kind (`video` or `audio`) in a report.
pub fn received<'a>(report: &'a Value, kind: &str) -> Vec<&'a Value> {
    let tracks = report["received"].as_array().map(Vec::as_slice).unwrap_or_default();
    tracks
        .iter()
        .map(|t| &t[kind])
        .filter(|figures| !figures.is_null())
        .collect()
}

#[tokio::test]
async fn two_bots_see_and_hear_each_other() -> anyhow::Result<()> {
    let server = CallServer::start()?;
    let flags = |tone: &'static str| {
        [
            "--publish",
            "camera,microphone",
            "--camera",
            "test-pattern:640x480@30",
            "--microphone",
            tone,
            "--duration",
            "8",
        ]
    };
    let one = Bot::join(&server, "publisher1", "bots", &flags("test-tone:440"))?;
    let two = Bot::join(&server, "publisher2", "bots", &flags("test-tone:880"))?;
    let (one, two) = (one.finish(PATIENCE).await?, two.finish(PATIENCE).await?);
    for (report, tone) in [(&one, 880.0), (&two, 440.0)] {
        let video = received(report, "video");
        assert_eq!(video.len(), 1, "{report:#}");
        assert!(video[0]["frames"].as_u64() > Some(90), "{report:#}");
        let audio = received(report, "audio");
        let heard = audio[0]["toneHz"].as_f64().unwrap_or_default();
        assert!((heard - tone).abs() < 15.0, "heard {heard} Hz, not {tone}");
    }
    Ok(())
}

#[tokio::test]
async fn a_subscriber_that_publishes_anyway_is_refused_and_nobody_receives_a_packet() -> anyhow::Result<()> {
    let server = CallServer::start()?;
    let watching = ["--publish", "none", "--duration", "9"];
    let sending = ["--publish", "camera,microphone", "--force-publish", "--duration", "7"];
    let other = Bot::join(&server, "publisher1", "watch", &watching)?;
    let subscriber = Bot::join(&server, "subscriber", "watch", &sending)?;
    let (subscriber, other) = (subscriber.finish(PATIENCE).await?, other.finish(PATIENCE).await?);
    assert!(
        received(&other, "video").is_empty() && received(&other, "audio").is_empty(),
        "{other:#}"
    );
    assert_eq!(subscriber["publishRefused"], Value::Bool(true), "{subscriber:#}");
    Ok(())
}
