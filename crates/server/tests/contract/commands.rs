//! Commands beside a running server, and without one.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use confab_types::Secret;
use serde_json::{Value, json};

use crate::peer::join;
use crate::support::{World, code, ok};

/// Runs `confab-server`, with a password on standard input.
async fn command(data: &Path, args: &str, stdin: &str) -> Output {
    use std::io::Write;
    let (data, args, stdin) = (data.to_owned(), args.to_owned(), stdin.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_confab-server"))
            .args(args.split_whitespace())
            .arg("--data")
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

/// Its lines, which are JSON.
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[tokio::test]
async fn accounts_change_in_the_running_server() {
    let world = World::new().await;
    let data = world.data.path();
    lines(
        &command(
            data,
            "user add ada --role publisher --password-stdin",
            "first password\n",
        )
        .await,
    );
    let login = |pass: &str| {
        world
            .post("/api-login/login")
            .json(&json!({ "user": "ada", "pass": pass }))
    };
    assert_eq!(ok(login("first password")).await["role"], "publisher");
    lines(&command(data, "user set-role ada moderator --administrator true", "").await);
    let answer = ok(login("first password")).await;
    assert_eq!(
        (answer["role"].as_str(), answer["administrator"].as_bool()),
        (Some("moderator"), Some(true))
    );
    lines(&command(data, "user set-password ada --password-stdin", "second password\n").await);
    assert_eq!(code(login("first password")).await.0, 401);
    assert!(
        lines(&command(data, "user list", "").await)
            .iter()
            .any(|u| u["user"] == "ada")
    );
    lines(&command(data, "user remove ada", "").await);
    assert_eq!(code(login("second password")).await.0, 401);
    let again = command(data, "user remove ada", "").await;
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("no user ada"));
}

#[tokio::test]
async fn removing_an_account_ends_its_calls() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    let (_two, _) = join(&world, "publisher2", "R").await;
    lines(&command(world.data.path(), "user remove publisher1", "").await);
    one.leave().await;
}

#[tokio::test]
async fn rooms_are_listed_and_ended() {
    let world = World::new().await;
    let (mut one, _) = join(&world, "publisher1", "R").await;
    let rooms = lines(&command(world.data.path(), "room list", "").await);
    assert_eq!(
        (rooms[0]["room"].as_str(), rooms[0]["participants"].as_u64()),
        (Some("R"), Some(1))
    );
    lines(&command(world.data.path(), "room end R", "").await);
    one.leave().await;
    assert!(!command(world.data.path(), "room end R", "").await.status.success());
}

#[tokio::test]
async fn locking_and_limiting_a_room_holds_at_once() {
    let world = World::new().await;
    let (_one, _) = join(&world, "publisher1", "R").await;
    let token = world.room_token("publisher2", "R").await;
    let set = lines(&command(world.data.path(), "room set R --locked true --size-limit 1", "").await);
    assert_eq!(
        (set[0]["locked"].as_bool(), set[0]["sizeLimit"].as_u64()),
        (Some(true), Some(1))
    );
    assert_eq!(crate::peer::try_join(&world, &token.token).await.err(), Some(423));
    lines(&command(world.data.path(), "room set R --locked false", "").await);
    assert_eq!(crate::peer::try_join(&world, &token.token).await.err(), Some(409));
    lines(&command(world.data.path(), "room set R --size-limit 0", "").await);
    crate::peer::try_join(&world, &token.token).await.unwrap();
}

#[tokio::test]
async fn keys_come_and_go_and_work_at_once() {
    let world = World::with(|config| config.keys.clear()).await;
    let made = lines(&command(world.data.path(), "key add backend", "").await);
    let secret = made[0]["secret"].as_str().unwrap().to_owned();
    let token = || {
        world
            .post("/api-login/token")
            .basic_auth("backend", Some(&secret))
            .json(&json!({ "user": "publisher1" }))
    };
    ok(token()).await;
    let listed = lines(&command(world.data.path(), "key list", "").await);
    assert!(
        listed
            .iter()
            .any(|k| k["key"] == "backend" && k.get("secret").is_none())
    );
    lines(&command(world.data.path(), "key remove backend", "").await);
    assert_eq!(code(token()).await.0, 401);
}

#[cfg(unix)]
#[tokio::test]
async fn the_console_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    let mode = std::fs::metadata(world.data.path().join("console.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn commands_work_on_the_data_when_no_server_runs() {
    let world = World::new().await;
    let World { server, data, .. } = world;
    server.shutdown().await;
    lines(&command(data.path(), "user add ada --password-stdin", "a password\n").await);
    let users = lines(&command(data.path(), "user list", "").await);
    assert!(users.iter().any(|u| u["user"] == "ada" && u["role"] == "publisher"));
    let nowhere = command(&data.path().join("nothing"), "user list", "").await;
    assert!(!nowhere.status.success());
}

#[tokio::test]
async fn a_first_run_needs_an_administrator_and_demo_stays_on_loopback() {
    let data = tempfile::tempdir().unwrap();
    let output = command(data.path(), "serve --listen 127.0.0.1:0 --media-port 0", "").await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--admin-user"));
    let output = command(data.path(), "serve --demo --listen 0.0.0.0:0 --media-port 0", "").await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"));
}

#[tokio::test]
async fn a_server_ends_with_the_program_that_started_it() {
    let data = tempfile::tempdir().unwrap();
    // Standard input ends right after the password.
    let args = "serve --listen 127.0.0.1:0 --media-port 0 --admin-user root --admin-password-stdin --exit-with-stdin";
    let ready = lines(&command(data.path(), args, "a good password\n").await);
    assert_eq!(ready[0]["event"], "ready");
    assert!(ready[0]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(ready[0]["mediaPort"].as_u64().unwrap() > 0);
    let users = lines(&command(data.path(), "user list", "").await);
    assert_eq!(
        (users[0]["user"].as_str(), users[0]["administrator"].as_bool()),
        (Some("root"), Some(true))
    );
}

#[tokio::test]
async fn beyond_loopback_it_encrypts_and_tells_its_fingerprint() {
    let data = tempfile::tempdir().unwrap();
    let args = "serve --listen 0.0.0.0:0 --media-port 0 --admin-user root --admin-password-stdin --exit-with-stdin";
    let ready = lines(&command(data.path(), args, "a good password\n").await);
    assert!(ready[0]["url"].as_str().unwrap().starts_with("https://"));
    assert_eq!(ready[0]["fingerprint"].as_str().unwrap().len(), 95);
    let secret = Secret::new("a good password");
    assert_eq!(format!("{secret:?}"), "(secret)");
}

/// A server as a process of its own, ended when dropped.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn no_password_and_no_token_is_ever_logged() {
    use std::io::{BufRead, BufReader, Read};
    let data = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_confab-server"))
        .args("serve --demo --listen 127.0.0.1:0 --media-port 0 --exit-with-stdin --data".split_whitespace())
        .arg(data.path())
        .env("CONFAB_LOG", "debug,confab_server=trace,confab_control=trace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let stdin = child.stdin.take();
    let mut process = Process(child);
    let url = serde_json::from_str::<Value>(&ready).unwrap()["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let http = reqwest::Client::new();
    let wrong = json!({ "user": "publisher1", "pass": "hunter2-is-wrong" });
    http.post(format!("{url}/api-login/login"))
        .json(&wrong)
        .send()
        .await
        .unwrap();
    let broken = r#"{"user":"publisher1","pass":"hunter2-is-wrong","scopes":7}"#;
    http.post(format!("{url}/api-login/login"))
        .body(broken)
        .send()
        .await
        .unwrap();
    let right = json!({ "user": "publisher1", "pass": "pass" });
    let session = ok(http.post(format!("{url}/api-login/login")).json(&right)).await;
    let bearer = session["sessionToken"].as_str().unwrap().to_owned();
    let refresh = session["refreshToken"].as_str().unwrap().to_owned();
    let request = http
        .post(format!("{url}/api-sessions/get-sessionid-token"))
        .bearer_auth(&bearer);
    let room = ok(request.json(&json!({ "session": "R" }))).await;
    let token = room["1"].as_str().unwrap().to_owned();
    let ws = format!("{}/rtc?access_token={token}", url.replacen("http", "ws", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(&ws).await.unwrap();
    futures::StreamExt::next(&mut socket).await.unwrap().unwrap();
    drop((socket, stdin));
    tokio::task::spawn_blocking(move || process.0.wait().unwrap())
        .await
        .unwrap();
    let log = log.join().unwrap();
    assert!(log.contains("/rtc") && log.contains("joined"), "{log}");
    let signature = token.rsplit('.').next().unwrap();
    for secret in ["hunter2", &bearer, &refresh, signature, "access_token"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
