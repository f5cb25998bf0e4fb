//! A two-person call, measured: join time, time to the first picture, glass-to-glass,
//! mouth-to-ear, CPU and memory. Prints figures; never judges them. Both participants run in
//! this process, so their figures share one clock.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use confab_client::call::Percentiles;
use confab_media::{AudioSourceSpec, VideoSourceSpec};
use confab_types::{CameraQuality, Secret};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::bot::{Access, BotConfig, BotError, BotEvent, BotReport, run};
use crate::process::Usage;

/// How long the first participant may take to connect.
const FIRST_IN: Duration = Duration::from_secs(30);
/// One beep a second, this long.
const BEEP: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// The server.
    pub server: Url,
    /// Two accounts that may publish.
    pub users: [String; 2],
    /// The password of both.
    pub password: Secret,
    /// The room.
    pub room: String,
    /// How long both are in the call, each run.
    pub seconds: f64,
    /// How often; medians are given.
    pub runs: usize,
    /// Camera of both.
    pub camera: VideoSourceSpec,
    /// Its quality.
    pub quality: CameraQuality,
    /// A server process on this machine to measure along.
    pub server_pid: Option<u32>,
}

/// The figures, in milliseconds where not said otherwise.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchReport {
    /// Cores of this machine.
    pub cores: usize,
    /// Load average over a minute, before.
    pub load: f64,
    /// Runs that count.
    pub runs: usize,
    /// Signing in.
    pub sign_in_ms: Option<Percentiles>,
    /// From the join to the room token.
    pub token_ms: Option<Percentiles>,
    /// From the join to the open WebSocket.
    pub signal_ms: Option<Percentiles>,
    /// From the join to a connected media connection.
    pub connected_ms: Option<Percentiles>,
    /// From the join to the other's first decoded picture, token included.
    pub first_frame_ms: Option<Percentiles>,
    /// From the token to the first decoded picture.
    pub connecting_to_frame_ms: Option<Percentiles>,
    /// From the join to the other's first sound.
    pub first_audio_ms: Option<Percentiles>,
    /// Median and 95th percentile over the pictures of a run; the median run's.
    pub glass_to_glass_ms: Option<Percentiles>,
    /// From capture to the mixer's output, devices' buffers apart.
    pub mouth_to_ear_ms: Option<Percentiles>,
    /// Pictures decoded a second.
    pub fps: Option<Percentiles>,
    /// Freezes, all runs.
    pub freezes: u32,
    /// Share of one core that both participants take together, percent.
    pub clients_cpu_percent: Option<Percentiles>,
    /// Resident memory of both participants together, MiB.
    pub clients_memory_mib: f64,
    /// The server's, if its process was named.
    pub server_cpu_percent: Option<Percentiles>,
    /// The server's, MiB.
    pub server_memory_mib: Option<f64>,
}

/// One run.
struct Sample {
    second: BotReport,
    mouth_to_ear: Vec<f64>,
    clients_cpu: f64,
    server_cpu: Option<f64>,
}

/// Measures. `told` hears of each run.
pub async fn bench(config: &BenchConfig, mut told: impl FnMut(&str)) -> Result<BenchReport, BotError> {
    let beeps = beeps_file();
    let (cores, load) = (
        std::thread::available_parallelism().map_or(1, usize::from),
        crate::process::load(),
    );
    let mut samples = Vec::new();
    for number in 1..=config.runs.max(1) {
        told(&format!("run {number} of {}", config.runs.max(1)));
        samples.push(one_run(config, &beeps).await?);
    }
    let _ = std::fs::remove_file(&beeps);
    Ok(summary(config, &samples, cores, load))
}

async fn one_run(config: &BenchConfig, beeps: &Path) -> Result<Sample, BotError> {
    let bot = |index: usize, hue: u16| BotConfig {
        access: Access::SignIn {
            server: config.server.clone(),
            user: config.users[index].clone(),
            password: config.password.clone(),
            room: config.room.clone(),
            nickname: format!("Bench {}", index + 1),
            pin: None,
        },
        camera: match &config.camera {
            VideoSourceSpec::TestPattern { width, height, fps, .. } => VideoSourceSpec::TestPattern {
                width: *width,
                height: *height,
                fps: *fps,
                hue,
            },
            other => other.clone(),
        },
        microphone: AudioSourceSpec::Wav(beeps.to_owned()),
        quality: config.quality,
        duration: None,
        record: None,
        tcp_only: false,
        force_publish: false,
        say: None,
    };
    let stop = CancellationToken::new();
    // Dropped on an error too: the first participant never outlives the run.
    let _guard = stop.clone().drop_guard();
    let (events, mut happened) = mpsc::unbounded_channel();
    let first = tokio::spawn(run(bot(0, 30), events, stop.clone()));
    let joined = async { while !matches!(happened.recv().await, Some(BotEvent::Joined { .. }) | None) {} };
    let _ = tokio::time::timeout(FIRST_IN, joined).await;

    let (events, mut second_happened) = mpsc::unbounded_channel();
    let mut with_duration = bot(1, 210);
    with_duration.duration = Some(Duration::from_secs_f64(config.seconds));
    let second = tokio::spawn(run(with_duration, events, stop.clone()));
    let joined = async { while !matches!(second_happened.recv().await, Some(BotEvent::Joined { .. }) | None) {} };
    let _ = tokio::time::timeout(FIRST_IN, joined).await;
    let (before, began) = (usage(config), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64((config.seconds - 1.0).max(0.5))).await;
    let (after, took) = (usage(config), began.elapsed().as_secs_f64());

    let second = joined_task(second).await?;
    stop.cancel();
    let first = joined_task(first).await?;
    let share = |before: Usage, after: Usage| (after.cpu_seconds - before.cpu_seconds) / took * 100.0;
    Ok(Sample {
        mouth_to_ear: mouth_to_ear(&first, &second),
        second,
        clients_cpu: share(before.0, after.0),
        server_cpu: before.1.zip(after.1).map(|(before, after)| share(before, after)),
    })
}

async fn joined_task(task: tokio::task::JoinHandle<Result<BotReport, BotError>>) -> Result<BotReport, BotError> {
    match task.await {
        Ok(result) => result,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn usage(config: &BenchConfig) -> (Usage, Option<Usage>) {
    (
        Usage::of(std::process::id()).unwrap_or_default(),
        config.server_pid.and_then(Usage::of),
    )
}

/// Pairs each beginning heard with the newest one sent before it, within a second.
fn mouth_to_ear(speaker: &BotReport, listener: &BotReport) -> Vec<f64> {
    let said: Vec<f64> = speaker
        .call
        .sent
        .iter()
        .flat_map(|t| t.onsets.iter().copied())
        .collect();
    let heard = listener
        .call
        .received
        .iter()
        .filter_map(|t| t.audio.as_ref())
        .flat_map(|a| a.onsets.iter().copied());
    let delay = |at: f64| {
        said.iter()
            .map(|s| at - s)
            .filter(|d| (0.0..1000.0).contains(d))
            .min_by(f64::total_cmp)
    };
    heard.filter_map(delay).collect()
}

fn summary(config: &BenchConfig, samples: &[Sample], cores: usize, load: f64) -> BenchReport {
    let of = |figure: &dyn Fn(&Sample) -> Option<f64>| Percentiles::of(samples.iter().filter_map(figure));
    let video = |s: &Sample| s.second.call.received.iter().find_map(|t| t.video.clone());
    let glass = |pick: fn(&Percentiles) -> f64| {
        let all = Percentiles::of(
            samples
                .iter()
                .filter_map(|s| video(s)?.glass_to_glass_ms.as_ref().map(pick)),
        )?;
        Some(all.p50)
    };
    let memory = usage(config);
    BenchReport {
        cores,
        load,
        runs: samples.len(),
        sign_in_ms: of(&|s| s.second.sign_in_ms),
        token_ms: of(&|s| s.second.call.join.token_ms),
        signal_ms: of(&|s| s.second.call.join.signal_ms),
        connected_ms: of(&|s| s.second.call.join.connected_ms),
        first_frame_ms: of(&|s| s.second.call.join.first_frame_ms),
        connecting_to_frame_ms: of(&|s| Some(s.second.call.join.first_frame_ms? - s.second.call.join.token_ms?)),
        first_audio_ms: of(&|s| s.second.call.join.first_audio_ms),
        glass_to_glass_ms: glass(|p| p.p50).zip(glass(|p| p.p95)).map(|(p50, p95)| Percentiles {
            p50,
            p95,
            count: samples.len(),
        }),
        mouth_to_ear_ms: Percentiles::of(samples.iter().flat_map(|s| s.mouth_to_ear.iter().copied())),
        fps: of(&|s| video(s).map(|v| v.fps)),
        freezes: samples.iter().filter_map(|s| video(s).map(|v| v.freezes)).sum(),
        clients_cpu_percent: of(&|s| Some(s.clients_cpu)),
        clients_memory_mib: memory.0.memory_mib,
        server_cpu_percent: of(&|s| s.server_cpu),
        server_memory_mib: memory.1.map(|u| u.memory_mib),
    }
}

/// A wav of one beep a second, in the system's folder for such things. Without it the bench goes on without
/// mouth-to-ear.
fn beeps_file() -> PathBuf {
    let path = std::env::temp_dir().join(format!("confab-beeps-{}.wav", std::process::id()));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let write = || -> Result<(), hound::Error> {
        let mut file = hound::WavWriter::create(&path, spec)?;
        let beep = (BEEP.as_secs_f32() * 48_000.0) as usize;
        for i in 0..48_000usize {
            // Silence first, so that the first beep is a beginning too.
            let on = i >= 24_000 && i < 24_000 + beep;
            let sample = if on {
                (std::f32::consts::TAU * 1000.0 * i as f32 / 48_000.0).sin() * 12_000.0
            } else {
                0.0
            };
            file.write_sample(sample as i16)?;
        }
        file.finalize()
    };
    if let Err(e) = write() {
        tracing::warn!("no beeps: {e}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use confab_client::call::{AudioFigures, ReceivedTrack, SentTrack};

    #[test]
    fn each_beep_heard_is_paired_with_the_beep_that_caused_it() {
        let mut speaker = BotReport::default();
        speaker.call.sent.push(SentTrack {
            onsets: vec![1000.0, 2000.0, 3000.0],
            ..SentTrack::default()
        });
        let mut listener = BotReport::default();
        let audio = Some(AudioFigures {
            onsets: vec![2060.0, 3070.0],
            ..AudioFigures::default()
        });
        listener.call.received.push(ReceivedTrack {
            audio,
            ..ReceivedTrack::default()
        });
        assert_eq!(mouth_to_ear(&speaker, &listener), [60.0, 70.0]);
    }
}
