//! Two real windows in a call, as two people would use them, and a watching subscriber.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use confab_media::video::pattern;
use confab_tests::desktop::{Desktop, RATE};
use confab_tests::programs::{CallServer, app, wait_for};
use confab_tests::window::{Look, Window};
use serde_json::json;

const SOON: Duration = Duration::from_secs(15);

/// The different timecodes seen, in the order they were seen.
pub fn timecodes(looks: &[Look]) -> Vec<u32> {
    let mut seen = Vec::new();
    for look in looks {
        let found = pattern::read_timecode(&look.luma, look.width, look.height, look.width as usize);
        if let Some(code) = found
            && seen.last() != Some(&code.millis)
        {
            seen.push(code.millis);
        }
    }
    seen
}

pub fn increasing(codes: &[u32]) -> bool {
    codes.windows(2).all(|w| w[1].wrapping_sub(w[0]) < u32::MAX / 2)
}

/// A window, signed in and in the room.
async fn join(
    desktop: &Desktop,
    server: &CallServer,
    user: &str,
    room: &str,
    sources: &[&str],
) -> anyhow::Result<Window> {
    let data = desktop.folder().join(format!("data-{user}"));
    let data = data.display().to_string();
    let mut args = vec!["--data", &data, "--server", &server.url];
    args.extend(sources);
    let window = Window::open(desktop, &app()?, &args).await?;
    window.sign_in(&server.url, user, "pass").await?;
    window.join(room, &format!("Nick of {user}")).await?;
    Ok(window)
}

/// The sid of the tile with this user name.
async fn sid_of(window: &Window, user: &str) -> anyhow::Result<String> {
    wait_for(&format!("the tile of {user}"), SOON, async || {
        Ok(window
            .tiles()
            .await?
            .into_iter()
            .find(|t| t.user == user)
            .map(|t| t.sid))
    })
    .await
}

/// Waits until the tile of a participant shows a readable timecode.
async fn picture_of(window: &Window, sid: &str) -> anyhow::Result<()> {
    let seen = wait_for("a picture", SOON, async || {
        let looks = window.watch(sid, 0.3).await?;
        if timecodes(&looks).is_empty() {
            anyhow::bail!("{} looks, no timecode", looks.len());
        }
        Ok(Some(()))
    })
    .await;
    if seen.is_err() {
        window.screenshot("no-picture").await?;
        for look in window.watch(sid, 0.2).await?.iter().take(1) {
            let mut image = format!("P5 {} {} 255\n", look.width, look.height).into_bytes();
            image.extend_from_slice(&look.luma);
            std::fs::write(confab_tests::desktop::output_folder()?.join("no-picture.pgm"), image)?;
        }
    }
    seen
}

fn tone(samples: &[f32], hz: f32) -> f64 {
    confab_media::audio::meter::tone_power(samples, RATE, hz)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_windows_see_and_hear_each_other() -> anyhow::Result<()> {
    let desktop = Desktop::start().await?;
    let second = Desktop::start().await?;
    let server = CallServer::start()?;
    // One takes its sound from the sound server's microphone, the other from a test tone.
    let wav = desktop.folder().join("tone.wav");
    desktop.run(
        "sox",
        &[
            "-n",
            "-r",
            "48000",
            "-c",
            "1",
            &wav.display().to_string(),
            "synth",
            "20",
            "sine",
            "1000",
            "gain",
            "-9",
        ],
    )?;
    let _speech = desktop.speak(&wav)?;
    let one = join(
        &desktop,
        &server,
        "publisher1",
        "pair",
        &["--camera", "test-pattern:640x480@30"],
    )
    .await?;
    let sources = ["--camera", "test-pattern:640x480@30", "--microphone", "test-tone:600"];
    let two = join(&second, &server, "publisher2", "pair", &sources).await?;

    let (other_of_one, other_of_two) = (sid_of(&one, "publisher2").await?, sid_of(&two, "publisher1").await?);
    picture_of(&one, &other_of_one).await?;
    picture_of(&two, &other_of_two).await?;
    for (window, sid) in [(&one, &other_of_one), (&two, &other_of_two)] {
        let codes = timecodes(&window.watch(sid, 5.0).await?);
        println!(
            "{} different timecodes in 5 s",
            codes.iter().collect::<BTreeSet<_>>().len()
        );
        assert!(increasing(&codes), "{codes:?}");
        assert!(codes.iter().collect::<BTreeSet<_>>().len() >= 75, "{codes:?}");
    }
    one.screenshot("two-windows-one").await?;
    two.screenshot("two-windows-two").await?;
    names_are_on_the_tiles(&one).await?;

    // Each hears the other and never itself.
    let heard_by_one = desktop.listen("spk", 3.0)?;
    let heard_by_two = second.listen("spk", 3.0)?;
    assert!(
        tone(&heard_by_one, 600.0) > 20.0 * tone(&heard_by_one, 1000.0),
        "one hears two, not itself"
    );
    assert!(
        tone(&heard_by_two, 1000.0) > 20.0 * tone(&heard_by_two, 600.0),
        "two hears one's microphone, not itself"
    );

    toggles_show_on_the_other_side(&one, &two, &other_of_two).await?;

    blocked_media_stops_and_comes_back(&server, &one, &other_of_one).await?;

    two.click("leave").await?;
    wait_for("the tile to go", SOON, async || {
        Ok(one.tiles().await?.iter().all(|t| t.sid != other_of_one).then_some(()))
    })
    .await?;
    one.click("leave").await?;
    room_is_void(&server, "pair").await?;
    one.close().await?;
    two.close().await
}

/// Packets forwarded so far, over all rooms and tracks.
async fn forwarded(server: &CallServer) -> anyhow::Result<u64> {
    fn sum(value: &serde_json::Value) -> u64 {
        match value {
            serde_json::Value::Array(items) => items.iter().map(sum).sum(),
            serde_json::Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| {
                    if matches!(name.as_str(), "packets_out" | "packetsOut") {
                        value.as_u64().unwrap_or(0)
                    } else {
                        sum(value)
                    }
                })
                .sum(),
            _ => 0,
        }
    }
    Ok(sum(&server.sign_in("admin").await?.get("/api-admin/rooms").await?))
}

/// A firewall between window and server stops the pictures; without it they come back, and the server counts the same.
async fn blocked_media_stops_and_comes_back(server: &CallServer, window: &Window, sid: &str) -> anyhow::Result<()> {
    assert!(forwarded(server).await? > 0);
    {
        let _blockade = confab_tests::blockade::Blockade::of_port(server.media_port)?;
        wait_for("the picture to stop", SOON, async || {
            Ok((timecodes(&window.watch(sid, 1.0).await?).len() <= 1).then_some(()))
        })
        .await?;
        let before = forwarded(server).await?;
        assert!(
            timecodes(&window.watch(sid, 1.5).await?).len() <= 1,
            "the picture stands"
        );
        let during = forwarded(server).await? - before;
        assert!(during < 30, "{during} packets were forwarded through a closed port");
    }
    let before = forwarded(server).await?;
    wait_for("the picture to come back", Duration::from_secs(30), async || {
        Ok((timecodes(&window.watch(sid, 1.0).await?).len() > 8).then_some(()))
    })
    .await?;
    assert!(forwarded(server).await? > before, "the server forwards again");
    Ok(())
}

async fn names_are_on_the_tiles(window: &Window) -> anyhow::Result<()> {
    let tiles = window.tiles().await?;
    let other = tiles.iter().find(|t| !t.own).context("no other tile")?;
    assert_eq!(
        (other.nickname.as_str(), other.user.as_str()),
        ("Nick of publisher2", "publisher2")
    );
    let own = tiles.iter().find(|t| t.own).context("no own tile")?;
    assert_eq!(own.user, "publisher1");
    Ok(())
}

async fn toggles_show_on_the_other_side(one: &Window, two: &Window, one_as_seen_by_two: &str) -> anyhow::Result<()> {
    for (toggle, attribute) in [
        ("toggle-microphone", "data-microphone"),
        ("toggle-camera", "data-camera"),
    ] {
        for expected in ["false", "true"] {
            one.click(toggle).await?;
            wait_for(&format!("{attribute}={expected} at the other side"), SOON, async || {
                let script =
                    "const [sid, name] = arguments; return [...document.querySelectorAll('[data-testid=\"tile\"]')]
                    .find((t) => t.dataset.sid === sid)?.getAttribute(name) ?? null;";
                let seen = two
                    .script(script, vec![json!(one_as_seen_by_two), json!(attribute)])
                    .await?;
                Ok((seen == json!(expected)).then_some(()))
            })
            .await?;
        }
    }
    Ok(())
}

/// After the last leave the room is gone.
async fn room_is_void(server: &CallServer, room: &str) -> anyhow::Result<()> {
    let admin = server.sign_in("admin").await?;
    wait_for("the room's end", Duration::from_secs(5), async || {
        let rooms = admin.get("/api-admin/rooms").await?.to_string();
        Ok((!rooms.contains(&format!("\"{room}\""))).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_both_and_cannot_publish() -> anyhow::Result<()> {
    let desktop = Desktop::start().await?;
    let server = CallServer::start()?;
    let flags = [
        "--publish",
        "camera,microphone",
        "--camera",
        "test-pattern:640x480@20",
        "--duration",
        "60",
    ];
    let _bots = [
        confab_tests::programs::Bot::join(&server, "publisher1", "watched", &flags)?,
        confab_tests::programs::Bot::join(&server, "publisher2", "watched", &flags)?,
    ];
    let window = join(&desktop, &server, "subscriber", "watched", &[]).await?;
    for user in ["publisher1", "publisher2"] {
        let sid = sid_of(&window, user).await?;
        picture_of(&window, &sid).await?;
    }
    assert!(window.shows("watch-only-note").await?, "it is told that it watches");
    assert!(
        !window.shows("toggle-microphone").await? && !window.shows("toggle-camera").await?,
        "no dead buttons"
    );
    window.screenshot("subscriber").await?;
    window.close().await
}

/// Waits for an error of this code, which must say what to do next.
async fn error_of(window: &Window, code: &str) -> anyhow::Result<()> {
    wait_for(&format!("the error {code}"), SOON, async || {
        Ok((window.attribute("error", "data-code").await? == Some(code.to_owned())).then_some(()))
    })
    .await?;
    let text = window.text("error").await?;
    assert!(text.split('.').count() > 1, "a cause and a next step: {text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_beside_the_field_and_the_app_goes_on() -> anyhow::Result<()> {
    let desktop = Desktop::start().await?;
    let server = CallServer::start()?;
    let data = desktop.folder().join("data");
    let window = Window::open(
        &desktop,
        &app()?,
        &["--data", &data.display().to_string(), "--server", &server.url],
    )
    .await?;
    window.sign_in(&server.url, "publisher1", "wrong").await?;
    error_of(&window, "wrong_credentials").await?;
    window.sign_in("http://127.0.0.1:9", "publisher1", "pass").await?;
    error_of(&window, "unreachable").await?;
    // A call without a camera is still a call.
    window.sign_in(&server.url, "publisher1", "pass").await?;
    window.join("no-camera", "Ada").await?;
    window.screenshot("alone-without-camera").await?;
    window.close().await
}
