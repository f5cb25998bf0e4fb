//! The product's programs as child processes: the call server and bots.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A child that is ended when dropped: first asked (SIGTERM), then made to.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a program of the product is: beside the test's own folder in target, or where `CONFAB_PROGRAMS` says.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("CONFAB_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?
            .parent()
            .and_then(Path::parent)
            .context("no target folder")?
            .to_owned(),
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: build the programs first (scripts/test does)",
            path.display()
        );
    }
    Ok(path)
}

/// The app to drive: `CONFAB_APP` (the one installed from the package), or the one just built.
pub fn app() -> anyhow::Result<PathBuf> {
    std::env::var_os("CONFAB_APP").map_or_else(|| program("confab"), |path| Ok(PathBuf::from(path)))
}

/// A call server with the demo accounts on loopback.
pub struct CallServer {
    _process: Running,
    /// Its URL.
    pub url: String,
    /// Its media port, UDP and TCP.
    pub media_port: u16,
    /// Its data folder.
    pub data: tempfile::TempDir,
}

impl CallServer {
    /// Starts one and waits until it serves.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// With more flags.
    pub fn start_with(flags: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut child = Command::new(program("confab-server")?)
            .args([
                "serve",
                "--demo",
                "--listen",
                "127.0.0.1:0",
                "--media-port",
                "0",
                "--data",
            ])
            .arg(data.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_to(&data.path().join("server.log"))?)
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let process = Running(child);
        let mut lines = BufReader::new(stdout).lines();
        let ready: Value = serde_json::from_str(&lines.next().context("the server ended before it was ready")??)?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            _process: process,
            url: ready["url"].as_str().context("no url")?.to_owned(),
            media_port: u16::try_from(ready["mediaPort"].as_u64().context("no media port")?)?,
            data,
        })
    }

    /// An HTTP client that is signed in as this user.
    pub async fn sign_in(&self, user: &str) -> anyhow::Result<SignedIn> {
        let http = reqwest::Client::new();
        let answer: Value = http
            .post(format!("{}/api-login/login", self.url))
            .json(&serde_json::json!({ "user": user, "pass": "pass" }))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let token = answer["sessionToken"].as_str().context("no session token")?.to_owned();
        Ok(SignedIn {
            http,
            url: self.url.clone(),
            token,
        })
    }
}

/// A signed-in HTTP client.
pub struct SignedIn {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl SignedIn {
    /// A room token by the REST call.
    pub async fn room_token(&self, room: &str, nickname: &str) -> anyhow::Result<Value> {
        let body = serde_json::json!({ "session": room, "nickname": nickname });
        let request = self
            .http
            .post(format!("{}/api-sessions/get-sessionid-token", self.url))
            .json(&body);
        Ok(request
            .bearer_auth(&self.token)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    /// GET of a JSON document.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}

/// A bot in a room.
pub struct Bot {
    process: Running,
    /// Its report, written when it ends.
    pub report: PathBuf,
    log: PathBuf,
}

impl Bot {
    /// Joins a room through the server's REST calls.
    pub fn join(server: &CallServer, user: &str, room: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut all = vec![
            "--server",
            &server.url,
            "--user",
            user,
            "--password-stdin",
            "--room",
            room,
            "--nickname",
        ];
        all.push(user);
        all.extend(flags);
        Self::start(&all, "pass\n", server.data.path())
    }

    /// Joins with any flags; `folder` holds its report and log.
    pub fn start(flags: &[&str], input: &str, folder: &Path) -> anyhow::Result<Self> {
        let name = format!("bot-{:08x}", rand::random::<u32>());
        let report = folder.join(format!("{name}.json"));
        let log = folder.join(format!("{name}.log"));
        let mut child = Command::new(program("confab-bot")?)
            .arg("join")
            .args(flags)
            .arg("--report")
            .arg(&report)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log_to(&log)?)
            .spawn()?;
        child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
        Ok(Self {
            process: Running(child),
            report,
            log,
        })
    }

    /// Waits for its end and reads its report.
    pub async fn finish(mut self, patience: Duration) -> anyhow::Result<Value> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.0.try_wait()? {
                let text = std::fs::read_to_string(&self.report)
                    .with_context(|| format!("no report ({status}); log: {}", tail(&self.log)))?;
                return Ok(serde_json::from_str(&text)?);
            }
            if Instant::now() > end {
                bail!("the bot did not end in {patience:?}; log: {}", tail(&self.log));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A file for a process's messages.
pub fn log_to(path: &Path) -> anyhow::Result<Stdio> {
    Ok(Stdio::from(std::fs::File::create(path)?))
}

/// The last lines of a log.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Polls until a condition holds, or says what was last seen.
pub async fn wait_for<T, F>(what: &str, patience: Duration, mut check: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let end = Instant::now() + patience;
    loop {
        let last = match check().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > end {
            bail!("{what}: not within {patience:?} ({last})");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
