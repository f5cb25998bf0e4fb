//! The real sound path: a PulseAudio server of the test's own with null sinks, and through it our microphone, speaker,
//! codec, jitter buffer and echo canceller.
//!
//! The server is found through the environment, which a running program does not change: each test starts a server and
//! runs its second half in a process of its own.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![cfg(feature = "sound")]

mod pulse;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use confab_media::audio::event::{DeviceEvent, DeviceEvents, no_events};
use confab_media::audio::generate::Voice;
use confab_media::audio::meter::{energy, rms};
use confab_media::audio::source::open;
use confab_media::audio::{
    AudioSender, AudioSenderConfig, Captured, FRAME, OpusConfig, OpusDecoder, OpusEncoder, Playout, Processing,
    ProcessingConfig, RemoteAudio, SAMPLE_RATE, SpeakerTarget, microphones, speakers,
};
use confab_media::{AudioSourceSpec, DeviceError, DeviceKind, EncodedAudio, MediaPacket, NoTransform};
use pulse::hear::{likeness, onsets, purest};
use pulse::{Server, pactl};

const SECOND: usize = SAMPLE_RATE as usize;

/// Runs the test of this name in a process that finds the server, unless it is that process.
fn in_server(name: &str, inside: impl FnOnce()) {
    if pulse::is_inside() {
        inside();
    } else if let Some(server) = Server::start() {
        server.run_inside(name);
    } else {
        println!("pulseaudio is not installed: {name} is left out");
    }
}

fn until(what: &str, within: Duration, condition: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < within, "{what} did not happen within {within:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

fn collect_events() -> (DeviceEvents, Arc<Mutex<Vec<DeviceEvent>>>) {
    let seen: Arc<Mutex<Vec<DeviceEvent>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let events: DeviceEvents = Arc::new(move |event| sink.lock().unwrap().push(event));
    (events, seen)
}

/// Sends `samples` into a stream in real time, as a network would bring them.
fn feed(stream: &RemoteAudio, samples: &[f32]) {
    let mut encoder = OpusEncoder::new(OpusConfig::default()).unwrap();
    let start = Instant::now();
    for (n, frame) in samples.chunks_exact(FRAME).enumerate() {
        let due = start + Duration::from_millis(20) * n as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.push(MediaPacket {
            sequence: n as u16,
            timestamp: (n * FRAME) as u32,
            marker: false,
            payload: encoder.encode(frame.try_into().unwrap()).unwrap(),
            arrived: Instant::now(),
        });
    }
}

fn tone(hz: f32, seconds: usize) -> Vec<f32> {
    (0..seconds * SECOND)
        .map(|i| 0.3 * (std::f32::consts::TAU * hz * i as f32 / SECOND as f32).sin())
        .collect()
}

fn start_sender(
    source: AudioSourceSpec,
    processing: Processing,
    playout: Option<&Playout>,
) -> (AudioSender, Receiver<EncodedAudio>) {
    let (packets, received): (Sender<EncodedAudio>, _) = channel();
    let mut config = AudioSenderConfig::new(source);
    config.processing = processing;
    config.far_end = playout.map(Playout::far_end);
    let on_audio = Box::new(move |packet| {
        let _ = packets.send(packet);
    });
    (
        AudioSender::start(config, Box::new(NoTransform), on_audio, no_events()).unwrap(),
        received,
    )
}

fn decode(packets: impl Iterator<Item = EncodedAudio>) -> Vec<f32> {
    let mut decoder = OpusDecoder::new().unwrap();
    let mut heard = Vec::new();
    for packet in packets {
        let mut frame = [0.0; FRAME];
        decoder.decode(&packet.data, &mut frame).unwrap();
        heard.extend_from_slice(&frame);
    }
    heard
}

#[test]
fn menus_list_the_devices_of_the_system() {
    in_server("menus_list_the_devices_of_the_system", || {
        let (microphones, speakers) = (microphones(), speakers());
        println!("{microphones:#?} {speakers:#?}");
        assert_eq!(microphones[0].id, "pulseaudio:mic");
        assert!(microphones[0].default);
        assert!(
            microphones.iter().all(|device| !device.id.ends_with(".monitor")),
            "a speaker's echo is no microphone"
        );
        assert_eq!(speakers[0].id, "pulseaudio:spk");
        assert!(speakers.iter().filter(|device| device.default).count() == 1);
    });
}

#[test]
fn a_tone_at_the_microphone_is_captured_on_an_even_grid() {
    in_server("a_tone_at_the_microphone_is_captured_on_an_even_grid", || {
        let _playing = pulse::play("mic_feed", &tone(620.0, 4));
        let mut capture = open(&AudioSourceSpec::Microphone(None), &no_events()).unwrap();
        assert!(capture.is_microphone());
        let (mut heard, mut times) = (Vec::new(), Vec::new());
        let mut late = Vec::new();
        while heard.len() < 2 * SECOND {
            if let Captured::Block(block) = capture.next(Duration::from_millis(500)) {
                heard.extend_from_slice(&block.samples);
                times.push(block.captured);
                late.push(block.captured.elapsed());
            }
        }
        let purity = purest(&heard, 620.0);
        assert!(purity > 0.9, "{purity}");
        assert!(
            times[20..]
                .windows(2)
                .all(|pair| pair[1] - pair[0] == Duration::from_millis(10))
        );
        late.sort();
        println!(
            "a block is out {:?} after its first sample was captured (median)",
            late[late.len() / 2]
        );
    });
}

#[test]
fn a_received_tone_comes_out_of_the_speaker() {
    in_server("a_received_tone_comes_out_of_the_speaker", || {
        let playout = Playout::start(SpeakerTarget::Device(None), no_events()).unwrap();
        until("opening", Duration::from_secs(3), || playout.device().is_some());
        assert_eq!(playout.device().unwrap().id, "pulseaudio:spk");
        let stream = playout.add_stream("tone").unwrap();
        let recording = pulse::record("spk.monitor");
        feed(&stream, &tone(880.0, 3));
        let heard = recording.stop();
        let purity = purest(&heard, 880.0);
        assert!(purity > 0.9, "{purity}");
        assert!(playout.problem().is_none());
        println!("{:?}", stream.stats());
    });
}

#[test]
fn speech_goes_in_at_the_microphone_and_out_at_the_speaker() {
    in_server("speech_goes_in_at_the_microphone_and_out_at_the_speaker", || {
        let speech = pulse::speech("The quick brown fox jumps over the lazy dog.");
        within_three_attempts(|| {
            let heard = send_through(&speech);
            let alike = likeness(&speech, &heard);
            println!("envelopes are alike by {alike:.3}");
            if alike > 0.9 {
                Ok(())
            } else {
                Err(format!("what came out is alike by {alike:.3} only"))
            }
        });
    });
}

/// Plays speech into the microphone, and records what comes out of the speaker.
fn send_through(speech: &[f32]) -> Vec<f32> {
    let playout = Playout::start(SpeakerTarget::Device(None), no_events()).unwrap();
    let stream = Arc::new(playout.add_stream("speech").unwrap());
    until("opening", Duration::from_secs(3), || playout.device().is_some());
    let (sender, packets) = start_sender(AudioSourceSpec::Microphone(None), Processing::Off, None);
    let receiving = Arc::clone(&stream);
    let network = std::thread::spawn(move || {
        let mut first = None;
        for (sequence, packet) in packets.into_iter().enumerate() {
            let first = *first.get_or_insert(packet.captured);
            let timestamp = ((packet.captured - first).as_micros() * 48 / 1000) as u32;
            receiving.push(MediaPacket {
                sequence: sequence as u16,
                timestamp,
                marker: false,
                payload: packet.data,
                arrived: Instant::now(),
            });
        }
    });
    let recording = pulse::record("spk.monitor");
    std::thread::sleep(Duration::from_millis(300));
    pulse::play("mic_feed", speech).finish();
    std::thread::sleep(Duration::from_millis(400));
    let heard = recording.stop();
    drop(sender);
    network.join().unwrap();
    println!("{:?}", stream.stats());
    heard
}

/// Real time on a loaded computer sometimes fails; what fails three times in a row is broken.
fn within_three_attempts(attempt: impl Fn() -> Result<(), String>) {
    let failures: Vec<String> = (0..3).map_while(|_| attempt().err()).collect();
    assert!(failures.len() < 3, "{failures:#?}");
    failures
        .iter()
        .for_each(|failure| println!("an attempt failed: {failure}"));
}

#[test]
fn what_the_speaker_plays_is_taken_out_of_the_microphone() {
    in_server("what_the_speaker_plays_is_taken_out_of_the_microphone", || {
        // The air between them: about 40 ms.
        pactl(&[
            "load-module",
            "module-loopback",
            "source=spk.monitor",
            "sink=mic_feed",
            "latency_msec=40",
        ]);
        within_three_attempts(|| {
            let (raw, clean) = echo_with_and_without();
            let down = 10.0 * (energy(&raw) / energy(&clean).max(1e-9)).log10();
            println!("echo {down:.1} dB down; it came in at {:.4} rms", rms(&raw));
            if rms(&raw) < 0.005 {
                return Err("there was no echo to cancel".into());
            }
            if down >= 30.0 {
                Ok(())
            } else {
                Err(format!("only {down:.1} dB down"))
            }
        });
    });
}

/// The last five of eight seconds of a far voice, as the microphone hears it and as it is sent.
fn echo_with_and_without() -> (Vec<f32>, Vec<f32>) {
    let playout = Playout::start(SpeakerTarget::Device(None), no_events()).unwrap();
    until("opening", Duration::from_secs(3), || playout.device().is_some());
    let stream = playout.add_stream("far").unwrap();
    let echo_only = Processing::Always(ProcessingConfig {
        echo: true,
        noise: false,
        gain: false,
    });
    let (_raw, raw_packets) = start_sender(AudioSourceSpec::Microphone(None), Processing::Off, None);
    let (_clean, clean_packets) = start_sender(AudioSourceSpec::Microphone(None), echo_only, Some(&playout));
    let mut far = vec![0.0; 8 * SECOND];
    Voice::continuous(140.0).fill(&mut far);
    feed(&stream, &far);
    let last = |sound: Vec<f32>| sound[sound.len().saturating_sub(5 * SECOND)..].to_vec();
    (
        last(decode(raw_packets.try_iter())),
        last(decode(clean_packets.try_iter())),
    )
}

#[test]
fn a_pulled_out_microphone_is_replaced_within_a_second_and_taken_again_when_it_is_back() {
    in_server(
        "a_pulled_out_microphone_is_replaced_within_a_second_and_taken_again_when_it_is_back",
        || {
            let module = pactl(&[
                "load-module",
                "module-null-sink",
                "sink_name=usb_feed",
                "rate=48000",
                "channels=1",
            ]);
            let remap = [
                "load-module",
                "module-remap-source",
                "master=usb_feed.monitor",
                "source_name=usb",
            ];
            pactl(&remap);
            // A null sink that nobody listens to looks only every two seconds whether someone does.
            let _awake = open(&AudioSourceSpec::Microphone(None), &no_events()).unwrap();
            let (events, seen) = collect_events();
            let mut capture = open(&AudioSourceSpec::Microphone(Some("usb".into())), &events).unwrap();
            let block = |capture: &mut confab_media::audio::AudioCapture| loop {
                if let Captured::Block(block) = capture.next(Duration::from_millis(100)) {
                    return block;
                }
            };
            let before = (0..50).map(|_| block(&mut capture)).last().unwrap();
            pactl(&["unload-module", module.trim()]);
            let pulled = Instant::now();
            // What was under way still comes; a second later only a new device can give anything.
            while seen.lock().unwrap().is_empty() {
                assert!(pulled.elapsed() < Duration::from_secs(3), "no fallback");
                capture.next(Duration::from_millis(20));
            }
            println!("told after {:?}", pulled.elapsed());
            let after = block(&mut capture);
            let took = pulled.elapsed();
            println!("fallback after {took:?}: {}", seen.lock().unwrap()[0]);
            assert!(took < Duration::from_secs(1), "{took:?}");
            assert_eq!(
                ((after.captured - before.captured).as_micros()) % 10_000,
                0,
                "the grid moved"
            );
            pactl(&[
                "load-module",
                "module-null-sink",
                "sink_name=usb_feed",
                "rate=48000",
                "channels=1",
            ]);
            pactl(&remap);
            until("return", Duration::from_secs(3), || seen.lock().unwrap().len() >= 2);
            println!("{}", seen.lock().unwrap()[1]);
        },
    );
}

#[test]
fn the_speaker_follows_the_system_and_survives_the_loss_of_all() {
    in_server("the_speaker_follows_the_system_and_survives_the_loss_of_all", || {
        let (events, seen) = collect_events();
        let playout = Playout::start(SpeakerTarget::Device(None), events).unwrap();
        let stream = playout.add_stream("any").unwrap();
        until("opening", Duration::from_secs(3), || playout.device().is_some());
        pactl(&[
            "load-module",
            "module-null-sink",
            "sink_name=headset",
            "sink_properties=device.description=Headset",
        ]);
        pactl(&["set-default-sink", "headset"]);
        let is_headset = || playout.device().is_some_and(|device| device.id == "pulseaudio:headset");
        let took = until("the switch", Duration::from_secs(3), is_headset);
        println!("switched within {took:?}");
        assert!(
            seen.lock()
                .unwrap()
                .iter()
                .any(|event| event.to_string() == "Switched to Headset")
        );

        for sink in ["headset", "spk", "mic_feed"] {
            pulse::unload("module-null-sink", sink);
        }
        until("the problem", Duration::from_secs(3), || playout.problem().is_some());
        assert_eq!(playout.problem(), Some(DeviceError::NotFound(DeviceKind::Speaker)));
        let before = stream.stats().samples;
        std::thread::sleep(Duration::from_millis(500));
        let played = stream.stats().samples - before;
        assert!(
            (15_000..35_000).contains(&played),
            "{played} samples in half a second without a speaker"
        );

        pactl(&[
            "load-module",
            "module-null-sink",
            "sink_name=spk",
            "rate=48000",
            "channels=2",
        ]);
        let took = until("the return", Duration::from_secs(3), || playout.problem().is_none());
        println!("back within {took:?}");
        feed(&stream, &tone(500.0, 1));
    });
}

#[test]
fn without_a_microphone_the_next_step_is_told() {
    in_server("without_a_microphone_the_next_step_is_told", || {
        pulse::unload("module-remap-source", "mic");
        let refused = open(&AudioSourceSpec::Microphone(None), &no_events()).err();
        assert_eq!(refused, Some(DeviceError::NotFound(DeviceKind::Microphone)));
        assert!(refused.unwrap().to_string().contains("connect one, or go on without"));
    });
}

#[test]
fn the_end_of_the_sound_server_ends_no_call() {
    in_server("the_end_of_the_sound_server_ends_no_call", || {
        let (events, seen) = collect_events();
        let playout = Playout::start(SpeakerTarget::Device(None), Arc::clone(&events)).unwrap();
        let stream = playout.add_stream("any").unwrap();
        let mut capture = open(&AudioSourceSpec::Microphone(None), &events).unwrap();
        until("opening", Duration::from_secs(5), || playout.device().is_some());
        pactl(&["exit"]);
        until("the problem", Duration::from_secs(4), || playout.problem().is_some());
        let before = stream.stats().samples;
        until("mixing", Duration::from_secs(2), || {
            stream.stats().samples > before + 9600
        });
        let silent = Instant::now();
        while silent.elapsed() < Duration::from_millis(500) {
            capture.next(Duration::from_millis(100));
        }
        until("both reports", Duration::from_secs(4), || {
            let seen = seen.lock().unwrap();
            [DeviceKind::Microphone, DeviceKind::Speaker]
                .iter()
                .all(|kind| seen.iter().any(|event| event.kind() == *kind))
        });
        let closing = Instant::now();
        drop((capture, stream, playout));
        assert!(
            closing.elapsed() < Duration::from_secs(5),
            "closing took {:?}",
            closing.elapsed()
        );
    });
}

#[test]
fn without_a_sound_server_the_call_goes_on() {
    if !pulse::is_inside() {
        return pulse::run_without_server("without_a_sound_server_the_call_goes_on");
    }
    let playout = Playout::start(SpeakerTarget::Device(None), no_events()).unwrap();
    let stream = playout.add_stream("any").unwrap();
    // With real sound cards ALSA takes over; without them the problem is told. Either way the call has its pace.
    until("an outcome", Duration::from_secs(6), || {
        playout.problem().is_some() || playout.device().is_some()
    });
    println!("{:?}, {:?}", playout.device(), playout.problem());
    until("mixing", Duration::from_secs(3), || stream.stats().samples > 9600);
    match open(&AudioSourceSpec::Microphone(None), &no_events()) {
        Ok(_) => println!("there is a microphone"),
        Err(error) => println!("{error}"),
    }
}

#[test]
#[ignore = "prints a figure"]
fn mouth_to_ear() {
    in_server("mouth_to_ear", || {
        // Two ears with one clock: one at the microphone, one at the speaker.
        pactl(&[
            "load-module",
            "module-remap-source",
            "master=spk.monitor",
            "source_name=ear",
        ]);
        let playout = Playout::start(SpeakerTarget::Device(None), no_events()).unwrap();
        let stream = playout.add_stream("speech").unwrap();
        until("opening", Duration::from_secs(5), || playout.device().is_some());
        let mut mouth = open(&AudioSourceSpec::Microphone(Some("mic".into())), &no_events()).unwrap();
        let mut ear = open(&AudioSourceSpec::Microphone(Some("ear".into())), &no_events()).unwrap();
        let (_sender, packets) = start_sender(AudioSourceSpec::Microphone(None), Processing::Off, None);
        let network = std::thread::spawn(move || {
            let mut first = None;
            for (sequence, packet) in packets.into_iter().enumerate() {
                let first = *first.get_or_insert(packet.captured);
                stream.push(MediaPacket {
                    sequence: sequence as u16,
                    timestamp: ((packet.captured - first).as_micros() * 48 / 1000) as u32,
                    marker: false,
                    payload: packet.data,
                    arrived: Instant::now(),
                });
            }
            stream.stats()
        });
        let mut clicks = vec![0.0; 22 * SECOND];
        for start in (SECOND..22 * SECOND).step_by(SECOND / 2) {
            clicks[start..start + 2400].copy_from_slice(&tone(900.0, 1)[..2400]);
        }
        let playing = pulse::play("mic_feed", &clicks);
        let listening = std::thread::spawn(move || onsets(&mut ear, Duration::from_secs(21)));
        let said = onsets(&mut mouth, Duration::from_secs(20));
        let heard = listening.join().unwrap();
        drop(playing);
        let mut delays: Vec<Duration> = said
            .iter()
            .filter_map(|said| heard.iter().find(|heard| *heard > said).map(|heard| *heard - *said))
            .filter(|delay| *delay < Duration::from_millis(450))
            .collect();
        delays.sort();
        let at = |share: f64| {
            delays
                .get((delays.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "mouth to ear, {} tones: median {:?}, p95 {:?}",
            delays.len(),
            at(0.5),
            at(0.95)
        );
        drop(_sender);
        println!("{:?}", network.join().unwrap());
    });
}
