//! This computer as a call server: a supervised child process of the same
//! executable, so that a crash of a camera driver or of the web view never ends
//! everyone's call. The child ends when its standard input closes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use url::Url;

/// Longest time from start to the ready line. A first run makes keys and a database; a slow disk takes seconds.
const START_TIME: Duration = Duration::from_secs(30);
/// Time to say good-bye to everyone before the process is ended.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Why hosting did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The process could not be started.
    #[error("the call server could not be started: {0}")]
    Spawn(#[source] std::io::Error),
    /// It ended before it was ready; its last words follow.
    #[error("the call server stopped at once: {0}")]
    Ended(String),
    /// It did not become ready.
    #[error("the call server did not become ready within 30 seconds")]
    TooSlow,
    /// No folder for its data.
    #[error("no folder for the call server's data: {0}")]
    Folder(#[source] std::io::Error),
}

/// What to host.
#[derive(Debug)]
pub struct HostPlan {
    /// Address and port to listen on.
    pub listen: String,
    /// Media port; 0 picks one.
    pub media_port: u16,
    /// The server's data folder.
    pub data: PathBuf,
    /// With the demo accounts (loopback only).
    pub demo: bool,
    /// Administrator to make at first run: name and password.
    pub administrator: Option<(String, confab_types::Secret)>,
}

/// The line the server prints when it serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// Its URL.
    pub url: Url,
    /// SHA-256 of the certificate's key, where TLS is on.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// A running call server. Dropping it ends it.
pub struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said when it became ready.
    pub ready: Ready,
    /// The throw-away folder, removed with the host.
    _folder: Option<tempfile::TempDir>,
}

impl Host {
    /// Starts a server with a throw-away folder and the demo accounts, on loopback.
    pub async fn start_trial() -> Result<Self, HostError> {
        let folder = tempfile::Builder::new()
            .prefix("confab-trial-")
            .tempdir()
            .map_err(HostError::Folder)?;
        let plan = HostPlan {
            listen: "127.0.0.1:0".into(),
            media_port: 0,
            data: folder.path().to_owned(),
            demo: true,
            administrator: None,
        };
        let mut host = Self::start(&plan).await?;
        host._folder = Some(folder);
        Ok(host)
    }

    /// Starts a server.
    pub async fn start(plan: &HostPlan) -> Result<Self, HostError> {
        std::fs::create_dir_all(&plan.data).map_err(HostError::Folder)?;
        let mut child = command(plan).spawn().map_err(HostError::Spawn)?;
        let mut stdin = child.stdin.take();
        if let (Some(stdin), Some((_, password))) = (stdin.as_mut(), &plan.administrator) {
            stdin
                .write_all(format!("{}\n", password.expose()).as_bytes())
                .await
                .map_err(HostError::Spawn)?;
        }
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| HostError::Ended("no output".into()))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = tokio::time::timeout(START_TIME, async {
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<Ready>(&line) {
                    Ok(ready) => return Ok(ready),
                    Err(_) => tracing::debug!(line, "call server"),
                }
            }
            Err(HostError::Ended(last_words(&plan.data)))
        })
        .await
        .map_err(|_| HostError::TooSlow)??;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            stdin,
            ready,
            _folder: None,
        })
    }

    /// Whether the process ended by itself (a crash).
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Tells everyone and stops.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_TIME, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn command(plan: &HostPlan) -> Command {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("confab"));
    let mut command = Command::new(exe);
    command
        .arg("--serve")
        .args([
            "serve",
            "--listen",
            &plan.listen,
            "--media-port",
            &plan.media_port.to_string(),
            "--exit-with-stdin",
        ])
        .arg("--data")
        .arg(&plan.data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file(&plan.data).map_or_else(Stdio::null, Stdio::from))
        .kill_on_drop(true);
    if plan.demo {
        command.arg("--demo");
    }
    if let Some((user, _)) = &plan.administrator {
        command.args(["--admin-user", user, "--admin-password-stdin"]);
    }
    command
}

fn log_file(data: &Path) -> Option<std::fs::File> {
    std::fs::File::create(data.join("server.log")).ok()
}

/// The end of the log, for the error message.
fn last_words(data: &Path) -> String {
    let log = std::fs::read_to_string(data.join("server.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" ")
}
