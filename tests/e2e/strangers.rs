//! Strangers to this code base: livekit-client in a browser on our server, and our
//! bot with livekit-client on livekit-server, the reference for the protocol.

use std::time::Duration;

use confab_tests::browser::Browser;
use confab_tests::programs::{Bot, CallServer, Running, log_to, wait_for};
use confab_types::{Claims, Role, VideoGrant};

use crate::bots::received;
use crate::windows::{increasing, timecodes};

const SOON: Duration = Duration::from_secs(20);
const BOT: [&str; 6] = [
    "--camera",
    "test-pattern:640x480@30",
    "--microphone",
    "test-tone:440",
    "--duration",
    "25",
];

/// The browser decodes the bot's picture and hears its tone.
async fn browser_sees_and_hears(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let identity = wait_for("the bot in the browser", SOON, async || {
        Ok(browser
            .others()
            .await?
            .into_iter()
            .find(|(_, n)| n == name)
            .map(|(identity, _)| identity))
    })
    .await?;
    wait_for("the bot's picture", SOON, async || {
        let codes = timecodes(&browser.watch(&identity, 0.5).await?);
        Ok((!codes.is_empty()).then_some(()))
    })
    .await?;
    let codes = timecodes(&browser.watch(&identity, 3.0).await?);
    println!("livekit-client read {} timecodes in 3 s", codes.len());
    assert!(codes.len() > 30 && increasing(&codes), "{codes:?}");
    wait_for("the bot's tone", SOON, async || {
        let heard = browser.listen(&identity).await?;
        Ok(heard
            .filter(|(hz, db)| (hz - 440.0).abs() < 15.0 && *db > -60.0)
            .map(drop))
    })
    .await
}

/// The bot's report shows the browser's moving picture and its 700 Hz.
fn bot_saw_and_heard(report: &serde_json::Value) {
    let video = received(report, "video");
    assert!(video.iter().any(|t| t["frames"].as_u64() > Some(60)), "{report:#}");
    let audio = received(report, "audio");
    let heard = |t: &serde_json::Value| (t["toneHz"].as_f64().unwrap_or_default() - 700.0).abs() < 20.0;
    assert!(audio.iter().any(|t| heard(t)), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn livekit_client_and_the_bot_see_and_hear_each_other_on_our_server() -> anyhow::Result<()> {
    let server = CallServer::start()?;
    let bot = Bot::join(&server, "publisher1", "strangers", &BOT)?;
    let answer = server
        .sign_in("publisher2")
        .await?
        .room_token("strangers", "Browser")
        .await?;
    let browser = Browser::open().await?;
    browser
        .join(
            answer["url"].as_str().unwrap_or_default(),
            answer["1"].as_str().unwrap_or_default(),
            true,
        )
        .await?;
    browser_sees_and_hears(&browser, "publisher1").await?;
    bot_saw_and_heard(&bot.finish(Duration::from_secs(60)).await?);
    browser.close().await
}

/// A token as livekit-server's development mode takes it.
fn reference_token(identity: &str, room: &str) -> anyhow::Result<String> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let claims = Claims {
        iss: "devkey".into(),
        sub: identity.into(),
        name: identity.into(),
        nbf: now.saturating_sub(10),
        exp: now + 600,
        video: VideoGrant::join(room, &Role::Publisher.grants()),
        ..Claims::default()
    };
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bot_and_livekit_client_meet_on_livekit_server() -> anyhow::Result<()> {
    let Some(program) = std::env::var_os("LIVEKIT_SERVER") else {
        println!("left out: livekit-server is not here (it needs Go); set LIVEKIT_SERVER to its path");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("livekit.log");
    let child = std::process::Command::new(program)
        .args(["--dev", "--bind", "127.0.0.1", "--node-ip", "127.0.0.1"])
        .stdout(log_to(&log)?)
        .stderr(log_to(&log.with_extension("err"))?)
        .spawn()?;
    let _server = Running(child);
    wait_for("livekit-server", SOON, async || {
        let answer = reqwest::get("http://127.0.0.1:7880/").await?;
        Ok(answer.status().is_success().then_some(()))
    })
    .await?;
    let url = "ws://127.0.0.1:7880";
    let token = reference_token("bot", "reference")?;
    let mut flags = vec!["--url", url, "--token", &token];
    flags.extend(BOT);
    let bot = Bot::start(&flags, "", folder.path())?;
    let browser = Browser::open().await?;
    browser
        .join(url, &reference_token("browser", "reference")?, true)
        .await?;
    browser_sees_and_hears(&browser, "bot").await?;
    bot_saw_and_heard(&bot.finish(Duration::from_secs(60)).await?);
    browser.close().await
}
