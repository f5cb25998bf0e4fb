//! A private desktop for one test: an X display, a sound server with a speaker
//! and a microphone that are null sinks, and the environment that programs need
//! to use them. Nothing of the user's own session is touched.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::programs::{Running, log_to, wait_for};

/// Samples a second of everything recorded here.
pub const RATE: u32 = 48_000;

/// The desktop.
pub struct Desktop {
    _screen: Running,
    _sound: Running,
    /// Variables for programs on this desktop.
    pub env: HashMap<String, String>,
    folder: tempfile::TempDir,
}

impl Desktop {
    /// Starts display and sound.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let runtime = folder.path().join("runtime");
        std::fs::create_dir(&runtime)?;
        std::fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let (screen, display) = start_screen(folder.path())?;
        let mut env = HashMap::from([
            ("DISPLAY".to_owned(), display),
            ("XDG_RUNTIME_DIR".to_owned(), runtime.display().to_string()),
            ("HOME".to_owned(), folder.path().display().to_string()),
            ("WEBKIT_DISABLE_DMABUF_RENDERER".to_owned(), "1".to_owned()),
            ("GDK_BACKEND".to_owned(), "x11".to_owned()),
            ("NO_AT_BRIDGE".to_owned(), "1".to_owned()),
            (
                "RUST_LOG".to_owned(),
                std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()),
            ),
        ]);
        env.insert("PATH".to_owned(), std::env::var("PATH").unwrap_or_default());
        let sound = start_sound(folder.path(), &env)?;
        let desktop = Self {
            _screen: screen,
            _sound: sound,
            env,
            folder,
        };
        wait_for("the sound server", Duration::from_secs(10), async || {
            let sinks = desktop.run("pactl", &["list", "short", "sinks"])?;
            Ok((sinks.contains("spk") && sinks.contains("mic_feed")).then_some(()))
        })
        .await?;
        desktop.run("pactl", &["set-default-sink", "spk"])?;
        desktop.run("pactl", &["set-default-source", "mic"])?;
        Ok(desktop)
    }

    /// A folder that goes with the desktop.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command with this desktop's environment and no other.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    /// Runs a small tool and gives its output.
    pub fn run(&self, tool: &str, args: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(tool)
            .args(args)
            .output()
            .with_context(|| format!("{tool} cannot be run"))?;
        if !output.status.success() {
            bail!("{tool}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Adds a null sink, as another speaker or another microphone's feed.
    pub fn add_speaker(&self, name: &str) -> anyhow::Result<()> {
        let sink = format!("sink_name={name}");
        self.run(
            "pactl",
            &["load-module", "module-null-sink", &sink, "rate=48000", "channels=2"],
        )
        .map(drop)
    }

    /// Plays a wav file into the microphone, over and over, until dropped.
    pub fn speak(&self, wav: &Path) -> anyhow::Result<Running> {
        let script = format!("while paplay --device=mic_feed '{}'; do :; done", wav.display());
        Ok(Running(
            self.command("sh")
                .args(["-c", &format!("exec 2>/dev/null; {script}")])
                .spawn()?,
        ))
    }

    /// Records what a sink plays, as mono samples.
    pub fn listen(&self, sink: &str, seconds: f32) -> anyhow::Result<Vec<f32>> {
        let source = format!("{sink}.monitor");
        let seconds = format!("{seconds}");
        let output = self
            .command("timeout")
            .args([
                &seconds,
                "parec",
                "-d",
                &source,
                "--rate=48000",
                "--channels=1",
                "--format=float32le",
                "--latency-msec=20",
            ])
            .output()?;
        Ok(output
            .stdout
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// Keeps a picture of the whole display for people to look at.
    pub fn screenshot(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = output_folder()?;
        let path = folder.join(format!("{name}.png"));
        let text = path.display().to_string();
        self.run("import", &["-window", "root", &text])?;
        Ok(path)
    }
}

/// Where pictures and reports of the tests are kept: `test-output` at the project's root, or `CONFAB_TEST_OUTPUT`.
pub fn output_folder() -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("CONFAB_TEST_OUTPUT") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-output"),
    };
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn start_screen(folder: &Path) -> anyhow::Result<(Running, String)> {
    let mut child = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_to(&folder.join("xvfb.log"))?)
        .spawn()
        .context("Xvfb cannot be run")?;
    let stdout = child.stdout.take().context("no output")?;
    let screen = Running(child);
    let mut number = String::new();
    BufReader::new(stdout).read_line(&mut number)?;
    let number = number.trim();
    if number.is_empty() {
        bail!(
            "Xvfb opened no display: {}",
            crate::programs::tail(&folder.join("xvfb.log"))
        );
    }
    Ok((screen, format!(":{number}")))
}

fn start_sound(folder: &Path, env: &HashMap<String, String>) -> anyhow::Result<Running> {
    let child = Command::new("pulseaudio")
        .env_clear()
        .envs(env)
        .args([
            "--daemonize=no",
            "--exit-idle-time=-1",
            "-n",
            "-L",
            "module-native-protocol-unix",
        ])
        .args(["-L", "module-null-sink sink_name=spk rate=48000 channels=2"])
        .args(["-L", "module-null-sink sink_name=mic_feed rate=48000 channels=1"])
        .args(["-L", "module-remap-source master=mic_feed.monitor source_name=mic"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_to(&folder.join("pulseaudio.log"))?)
        .spawn()
        .context("pulseaudio cannot be run")?;
    Ok(Running(child))
}
