//! `confab-bot`: the command line of a headless participant. Events go to standard output as JSON
//! lines, logs to standard error (`RUST_LOG`).

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use confab_bot::{Access, BenchConfig, BotConfig, BotError, BotEvent, BotReport};
use confab_client::tls::Fingerprint;
use confab_media::{AudioSourceSpec, VideoSourceSpec};
use confab_types::{CameraQuality, Secret};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

/// A headless participant in video calls.
#[derive(Debug, Parser)]
#[command(name = "confab-bot", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Joins a room, publishes, records, reports.
    Join(Box<Join>),
    /// Measures a two-person call through a server: join time, first picture, glass-to-glass, mouth-to-ear, CPU, memory.
    Bench(Bench),
}

#[derive(Debug, clap::Args)]
struct Bench {
    /// The call server.
    #[arg(long, value_name = "URL")]
    server: Url,
    /// Two accounts that may publish.
    #[arg(long, value_delimiter = ',', default_value = "publisher1,publisher2")]
    users: Vec<String>,
    /// Read the password of both from standard input; `pass`, the demo's, without.
    #[arg(long)]
    password_stdin: bool,
    /// The room.
    #[arg(long, default_value = "BENCH")]
    room: String,
    /// test-pattern[:WxH@FPS] or FILE.y4m.
    #[arg(long, default_value = "test-pattern:1280x720@30")]
    camera: String,
    /// Seconds in the call, each run.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Runs; medians are printed.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The server's process on this machine, to measure along.
    #[arg(long)]
    server_pid: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct Join {
    /// The call server, e.g. http://127.0.0.1:7880.
    #[arg(long, value_name = "URL", required_unless_present = "url", requires_all = ["user", "room"])]
    server: Option<Url>,
    /// The account.
    #[arg(long)]
    user: Option<String>,
    /// Read its password from standard input.
    #[arg(long)]
    password_stdin: bool,
    /// The room.
    #[arg(long)]
    room: Option<String>,
    /// The name others see; the user's without.
    #[arg(long)]
    nickname: Option<String>,
    /// The server's key (64 hex digits), when its certificate is self-signed.
    #[arg(long, value_name = "FINGERPRINT")]
    pin: Option<Fingerprint>,
    /// The signalling of any LiveKit server, with --token.
    #[arg(long, value_name = "WS", conflicts_with = "server", requires = "token")]
    url: Option<Url>,
    /// An access token for it.
    #[arg(
        long,
        value_name = "JWT",
        requires = "url",
        env = "CONFAB_BOT_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// What to send: camera, microphone, or none.
    #[arg(long, value_delimiter = ',', default_value = "camera,microphone")]
    publish: Vec<String>,
    /// test-pattern[:WxH@FPS] or FILE.y4m.
    #[arg(long, default_value = "test-pattern")]
    camera: String,
    /// Colour of the test pattern, degrees; from the user's name without.
    #[arg(long)]
    hue: Option<u16>,
    /// test-tone[:HZ], voice-like[:HZ], FILE.wav or silence.
    #[arg(long, default_value = "test-tone")]
    microphone: String,
    /// LOW, MEDIUM or HIGH; by the camera's size without.
    #[arg(long)]
    quality: Option<String>,
    /// Seconds to stay once connected; without, until a signal or the end of the call.
    #[arg(long, value_name = "S")]
    duration: Option<f64>,
    /// Write every received track into this folder (y4m, wav).
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Write the figures here.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Use ICE-TCP only.
    #[arg(long)]
    tcp_only: bool,
    /// Send this chat message once connected.
    #[arg(long, value_name = "TEXT")]
    say: Option<String>,
    /// Announce and send tracks whatever the grants say: for tests of what a server refuses.
    #[arg(long, hide = true)]
    force_publish: bool,
}

fn main() -> ExitCode {
    match try_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("confab-bot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let join = match Cli::parse().command {
        Command::Join(join) => join,
        Command::Bench(args) => return bench(args),
    };
    let report = join.report.clone();
    let config = config(*join)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(config));
    // Closing devices and files takes a moment.
    runtime.shutdown_timeout(Duration::from_secs(5));
    let (figures, failure) = match result {
        Ok(figures) => (Some(figures), None),
        Err(BotError::Ended { reason, report }) => (Some(*report), Some(anyhow::Error::from(reason))),
        Err(other) => (None, Some(other.into())),
    };
    if let (Some(path), Some(figures)) = (report, figures) {
        let json = serde_json::to_vec_pretty(&figures)?;
        std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    failure.map_or(Ok(()), Err)
}

fn bench(args: Bench) -> anyhow::Result<()> {
    let [first, second] =
        <[String; 2]>::try_from(args.users).map_err(|_| anyhow::anyhow!("--users takes two names"))?;
    let camera = confab_bot::camera(&args.camera, 0)?;
    let config = BenchConfig {
        server: args.server,
        users: [first, second],
        password: if args.password_stdin {
            read_password()?
        } else {
            Secret::new("pass")
        },
        room: args.room,
        seconds: args.seconds.clamp(2.0, 3600.0),
        runs: args.runs,
        quality: confab_bot::quality_for(&camera),
        camera,
        server_pid: args.server_pid,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(confab_bot::bench(&config, |what| eprintln!("{what}")))?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

async fn run(config: BotConfig) -> Result<BotReport, BotError> {
    let (events, mut told) = mpsc::unbounded_channel::<BotEvent>();
    let printer = tokio::spawn(async move {
        while let Some(event) = told.recv().await {
            match serde_json::to_string(&event) {
                Ok(line) => println!("{line}"),
                Err(e) => tracing::warn!("an event could not be written: {e}"),
            }
        }
    });
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        stop_signal().await;
        on_signal.cancel();
        // Whoever asks twice does not want to wait.
        stop_signal().await;
        std::process::exit(130);
    });
    let result = confab_bot::run(config, events, stop).await;
    let _ = printer.await;
    result
}

#[cfg(unix)]
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

#[cfg(not(unix))]
async fn stop_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

fn config(join: Join) -> anyhow::Result<BotConfig> {
    let (mut camera_on, mut microphone_on) = (false, false);
    for source in &join.publish {
        match source.as_str() {
            "camera" => camera_on = true,
            "microphone" => microphone_on = true,
            "none" => {}
            other => bail!("--publish takes camera, microphone or none, not {other}"),
        }
    }
    let hue = join
        .hue
        .unwrap_or_else(|| hue_of(join.user.as_deref().or(join.token.as_deref()).unwrap_or_default()));
    let camera = if camera_on {
        confab_bot::camera(&join.camera, hue)?
    } else {
        VideoSourceSpec::None
    };
    let microphone = if microphone_on {
        confab_bot::microphone(&join.microphone)?
    } else {
        AudioSourceSpec::None
    };
    let quality = match join.quality.as_deref() {
        None => confab_bot::quality_for(&camera),
        Some("LOW" | "low") => CameraQuality::Low,
        Some("MEDIUM" | "medium") => CameraQuality::Medium,
        Some("HIGH" | "high") => CameraQuality::High,
        Some(other) => bail!("--quality is LOW, MEDIUM or HIGH, not {other}"),
    };
    if let Some(dir) = &join.record {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let duration = join
        .duration
        .map(Duration::try_from_secs_f64)
        .transpose()
        .context("--duration")?;
    let (record, tcp_only, force_publish) = (join.record.clone(), join.tcp_only, join.force_publish);
    let say = join.say.clone();
    Ok(BotConfig {
        access: access(join)?,
        camera,
        microphone,
        quality,
        duration,
        record,
        tcp_only,
        force_publish,
        say,
    })
}

fn access(join: Join) -> anyhow::Result<Access> {
    if let (Some(url), Some(token)) = (join.url, join.token) {
        return Ok(Access::Token {
            url,
            token: Secret::new(token),
        });
    }
    let (Some(server), Some(user), Some(room)) = (join.server, join.user, join.room) else {
        bail!("give --server, --user and --room, or --url and --token");
    };
    if !join.password_stdin {
        bail!("give the password on standard input, with --password-stdin");
    }
    let mut password = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut password)
        .context("reading the password")?;
    let password = Secret::new(password.trim_end_matches(['\r', '\n']));
    let nickname = join.nickname.unwrap_or_else(|| user.clone());
    Ok(Access::SignIn {
        server,
        user,
        password,
        room,
        nickname,
        pin: join.pin,
    })
}

fn read_password() -> anyhow::Result<Secret> {
    let mut password = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut password)
        .context("reading the password")?;
    Ok(Secret::new(password.trim_end_matches(['\r', '\n'])))
}

/// A steady colour for a name.
fn hue_of(name: &str) -> u16 {
    let sum = name
        .bytes()
        .fold(7u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)));
    (sum % 360) as u16
}
