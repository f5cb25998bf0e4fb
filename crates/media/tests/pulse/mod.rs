//! A PulseAudio server of the test's own: `spk` is the speaker, what is played into `mic_feed` comes out of `mic`.

pub mod hear;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use confab_media::audio::SAMPLE_RATE;

/// Says to a test that it runs inside a server's environment.
const INSIDE: &str = "CONFAB_TEST_INSIDE_PULSE";

/// Whether this process was started by [`Server::run_inside`].
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A running server, ended when dropped.
pub struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server; `None` where PulseAudio is not installed.
    pub fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = urgent("pulseaudio");
        command
            .args([
                "--daemonize=no",
                "--use-pid-file=no",
                "--exit-idle-time=-1",
                "--log-level=error",
                "-n",
            ])
            .args(["-L", "module-native-protocol-unix"])
            .args(["-L", "module-null-sink sink_name=spk rate=48000 channels=2"])
            .args(["-L", "module-null-sink sink_name=mic_feed rate=48000 channels=1"])
            .args(["-L", "module-remap-source master=mic_feed.monitor source_name=mic"]);
        environment(&mut command, folder.path());
        let mut process = command.stdout(Stdio::null()).spawn().ok()?;
        std::thread::sleep(Duration::from_millis(100));
        if process.try_wait().ok()?.is_some() {
            return None;
        }
        let server = Self { process, folder };
        let start = Instant::now();
        while !server.pactl(&["set-default-sink", "spk"]) || !server.pactl(&["set-default-source", "mic"]) {
            assert!(start.elapsed() < Duration::from_secs(10), "pulseaudio did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    /// Runs one test of this program with the server in its environment.
    pub fn run_inside(&self, test: &str) {
        run(test, self.folder.path());
    }

    fn pactl(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("pactl");
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        environment(&mut command, self.folder.path());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that goes before others where the user may ask for that: sound is real time, builds beside it are not.
fn urgent(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-10"]).arg(program).stderr(Stdio::null());
    command
}

/// Runs one test of this program where no server is to be found.
pub fn run_without_server(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    run(test, folder.path());
}

fn run(test: &str, folder: &Path) {
    let mut command = urgent(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1");
    environment(&mut command, folder);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed inside the server's environment");
    assert!(text.contains("1 passed"), "{test} is not the name of a test");
}

fn environment(command: &mut Command, folder: &Path) {
    command
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .env_remove("PULSE_RUNTIME_PATH")
        .env_remove("PULSE_SERVER")
        .env_remove("DBUS_SESSION_BUS_ADDRESS");
}

/// Changes the server this process runs inside of.
pub fn pactl(arguments: &[&str]) -> String {
    let output = Command::new("pactl").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "pactl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Unloads the module of this kind that made the device of this name.
pub fn unload(kind: &str, device: &str) {
    let modules = pactl(&["list", "short", "modules"]);
    let line = modules
        .lines()
        .find(|line| line.contains(kind) && line.split(&['\t', ' ', '=']).any(|word| word == device))
        .unwrap_or_else(|| panic!("no {kind} for {device} in {modules}"));
    let index = line.split('\t').next().unwrap();
    pactl(&["unload-module", index]);
}

/// Sound being played into a sink; stopped when dropped.
pub struct Playing {
    process: Child,
    _folder: tempfile::TempDir,
}

/// Plays 48 kHz mono samples into a sink.
pub fn play(sink: &str, samples: &[f32]) -> Playing {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    samples
        .iter()
        .for_each(|sample| writer.write_sample((sample * 32_000.0) as i16).unwrap());
    writer.finalize().unwrap();
    let process = urgent("paplay")
        .arg(format!("--device={sink}"))
        .arg(&path)
        .spawn()
        .unwrap();
    Playing {
        process,
        _folder: folder,
    }
}

impl Playing {
    /// Waits until all is played.
    pub fn finish(mut self) {
        let _ = self.process.wait();
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A recording of a source.
pub struct Recording {
    process: Child,
    reader: Option<JoinHandle<Vec<u8>>>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Records a source as 48 kHz mono.
pub fn record(source: &str) -> Recording {
    let mut process = urgent("parec")
        .args([
            "-d",
            source,
            "--rate=48000",
            "--channels=1",
            "--format=float32le",
            "--latency-msec=20",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output: ChildStdout = process.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        bytes
    });
    Recording {
        process,
        reader: Some(reader),
    }
}

impl Recording {
    /// Ends it and gives the samples.
    pub fn stop(mut self) -> Vec<f32> {
        std::thread::sleep(Duration::from_millis(100));
        let _ = self.process.kill();
        let _ = self.process.wait();
        let bytes = self.reader.take().unwrap().join().unwrap();
        bytes
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }
}

/// Speech of a synthesizer, or something like speech where none is installed.
pub fn speech(text: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("speech.wav");
    let spoken = Command::new("espeak-ng").arg("-w").arg(&path).arg(text).status();
    if spoken.is_ok_and(|status| status.success()) {
        return confab_media::audio::wav::read(&path).unwrap();
    }
    let mut samples = vec![0.0; 5 * SAMPLE_RATE as usize];
    confab_media::audio::generate::Voice::new(140.0).fill(&mut samples);
    samples
}
