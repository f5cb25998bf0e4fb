//! What a listener hears over bad networks, in virtual time.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::audio::FRAME;
use crate::audio::generate::{Tone, Voice};
use crate::audio::meter::{dominant_frequency, energy};
use crate::audio::opus::{OpusConfig, OpusEncoder};

const FRAME_TIME: Duration = Duration::from_millis(20);
const BLOCK_TIME: Duration = Duration::from_millis(10);

/// A packet on its way: when it comes, and what it is.
struct Sent {
    at: Duration,
    sequence: u16,
    timestamp: u32,
    payload: Bytes,
}

fn speech(frames: usize) -> Vec<f32> {
    let mut samples = vec![0.0; frames * FRAME];
    Voice::continuous(140.0).fill(&mut samples);
    samples
}

fn packets(samples: &[f32], first_sequence: u16, first_timestamp: u32) -> Vec<Sent> {
    let mut encoder = OpusEncoder::new(OpusConfig::default()).unwrap();
    samples
        .chunks_exact(FRAME)
        .enumerate()
        .map(|(n, frame)| Sent {
            at: FRAME_TIME * n as u32,
            sequence: first_sequence.wrapping_add(n as u16),
            timestamp: first_timestamp.wrapping_add((n * FRAME) as u32),
            payload: encoder.encode(frame.try_into().unwrap()).unwrap(),
        })
        .collect()
}

/// What came out, block by block.
struct Heard {
    samples: Vec<f32>,
    kinds: Vec<Pulled>,
    stats: JitterStats,
    delays: Vec<f32>,
}

impl Heard {
    /// The longest run of blocks without received sound, from a moment on, in ms.
    fn longest_gap_after(&self, from: Duration) -> usize {
        let skip = (from.as_millis() / 10) as usize;
        let runs = self.kinds[skip..].split(|&kind| kind == Pulled::Sound);
        runs.map(<[Pulled]>::len).max().unwrap_or(0) * 10
    }
}

/// Plays what was sent; `drift` is how much faster (above 1) the player's clock runs.
fn play(config: JitterConfig, mut sent: Vec<Sent>, length: Duration, drift: f64) -> Heard {
    sent.sort_by_key(|packet| packet.at);
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(config).unwrap();
    let mut heard = Heard {
        samples: Vec::new(),
        kinds: Vec::new(),
        stats: JitterStats::default(),
        delays: Vec::new(),
    };
    let mut coming = sent.into_iter().peekable();
    let mut now = Duration::from_millis(3);
    while now < length {
        while let Some(packet) = coming.next_if(|packet| packet.at <= now) {
            buffer.push(MediaPacket {
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                marker: false,
                payload: packet.payload,
                arrived: start + packet.at,
            });
        }
        let mut block = [0.0; BLOCK];
        heard.kinds.push(buffer.pull(&mut block, start + now));
        heard.samples.extend_from_slice(&block);
        heard.delays.push(buffer.stats().delay_ms);
        now += BLOCK_TIME.div_f64(drift);
    }
    heard.stats = buffer.stats();
    heard
}

/// Mean over pieces of 20 ms of how close the best matching place nearby is: delay changes cost nothing.
fn likeness_db(reference: &[f32], heard: &[f32]) -> f64 {
    const PIECE: usize = 960;
    let mut offset = first_sound(heard) as i64 - first_sound(reference) as i64;
    let mut sum = 0.0;
    let mut count = 0;
    for start in (9600..reference.len().saturating_sub(PIECE * 4)).step_by(PIECE) {
        let piece = &reference[start..start + PIECE];
        if energy(piece) < 0.05 {
            continue;
        }
        let error_at = |offset: i64| {
            let from = start as i64 + offset;
            let Ok(from) = usize::try_from(from) else {
                return f64::INFINITY;
            };
            let Some(there) = heard.get(from..from + PIECE) else {
                return f64::INFINITY;
            };
            piece
                .iter()
                .zip(there)
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
        };
        let best_of = |around: i64, reach: i64, step: usize| {
            (around - reach..=around + reach)
                .step_by(step)
                .min_by(|&a, &b| error_at(a).total_cmp(&error_at(b)))
                .unwrap_or(around)
        };
        let db_at = |offset: i64| 10.0 * (energy(piece) / error_at(offset).max(1e-9)).log10();
        // Where the last one fitted; only if this one does not fit there, wherever it does.
        let mut best = best_of(offset, 4, 1);
        if db_at(best) < 15.0 {
            let elsewhere = best_of(best_of(offset, 3840, 6), 6, 1);
            if db_at(elsewhere) > db_at(best) + 3.0 {
                best = elsewhere;
            }
        }
        let db = db_at(best);
        if !db.is_finite() {
            continue;
        }
        // A pitch period further it fits nearly as well: only a sure fit moves the place of the next.
        if db > 12.0 {
            offset = best;
        }
        sum += db.clamp(-10.0, 30.0);
        count += 1;
    }
    sum / f64::from(count.max(1))
}

fn first_sound(samples: &[f32]) -> usize {
    samples.iter().position(|sample| sample.abs() > 0.01).unwrap_or(0)
}

fn lossy(sent: Vec<Sent>, seed: u64, loss: f64) -> Vec<Sent> {
    let mut random = StdRng::seed_from_u64(seed);
    sent.into_iter().filter(|_| !random.random_bool(loss)).collect()
}

fn shaken(sent: Vec<Sent>, seed: u64, most_ms: u64) -> Vec<Sent> {
    let mut random = StdRng::seed_from_u64(seed);
    sent.into_iter()
        .map(|packet| Sent {
            at: packet.at + Duration::from_millis(random.random_range(0..=most_ms)),
            ..packet
        })
        .collect()
}

#[test]
fn an_even_stream_is_heard_whole_and_soon() {
    let source = speech(500);
    let heard = play(
        JitterConfig::default(),
        packets(&source, 7, 1234),
        Duration::from_secs(10),
        1.0,
    );
    println!("{:?}", heard.stats);
    assert_eq!(heard.stats.concealed_samples, 0);
    assert!(heard.stats.delay_ms < 35.0, "{} ms", heard.stats.delay_ms);
    let mut decoder = OpusDecoder::new().unwrap();
    let mut ideal = Vec::new();
    for packet in packets(&source, 0, 0) {
        let mut frame = [0.0; FRAME];
        decoder.decode(&packet.payload, &mut frame).unwrap();
        ideal.extend_from_slice(&frame);
    }
    let likeness = likeness_db(&ideal, &heard.samples);
    assert!(likeness > 20.0, "{likeness:.1} dB");
}

#[test]
fn with_ten_percent_loss_correction_beats_concealment() {
    let source = speech(1500);
    let mut decoder = OpusDecoder::new().unwrap();
    let mut ideal = Vec::new();
    for packet in packets(&source, 0, 0) {
        let mut frame = [0.0; FRAME];
        decoder.decode(&packet.payload, &mut frame).unwrap();
        ideal.extend_from_slice(&frame);
    }
    for seed in [1, 2] {
        let run = |fec| {
            let config = JitterConfig {
                fec,
                ..JitterConfig::default()
            };
            play(
                config,
                lossy(packets(&source, 0, 0), seed, 0.1),
                Duration::from_secs(30),
                1.0,
            )
        };
        let (with, without) = (run(true), run(false));
        let (corrected, concealed) = (
            likeness_db(&ideal, &with.samples),
            likeness_db(&ideal, &without.samples),
        );
        println!(
            "seed {seed}: {corrected:.1} dB with correction, {concealed:.1} dB without; {:?}",
            with.stats
        );
        assert!(with.stats.fec > 50 && with.stats.plc > 0, "{:?}", with.stats);
        assert_eq!(without.stats.fec, 0);
        assert!(with.stats.concealed_samples * 2 < without.stats.concealed_samples);
        assert!(
            corrected > concealed + 0.5,
            "{corrected:.1} dB against {concealed:.1} dB"
        );
        let lost = with.stats.lost as f64 / 1500.0;
        assert!((0.07..0.13).contains(&lost), "{lost}");
    }
}

#[test]
fn bursts_of_loss_leave_short_gaps_and_no_lasting_delay() {
    // Gilbert-Elliott: a tenth is lost, five packets in a row on average.
    let mut random = StdRng::seed_from_u64(11);
    let mut lost = false;
    let sent: Vec<Sent> = packets(&speech(3000), 0, 0)
        .into_iter()
        .filter(|_| {
            lost = random.random_bool(if lost { 0.8 } else { 0.2 / 9.0 });
            !lost
        })
        .collect();
    let share = 1.0 - sent.len() as f64 / 3000.0;
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(60), 1.0);
    let concealed = heard.stats.concealed_samples as f64 / heard.stats.samples as f64;
    println!("{share:.3} lost, {concealed:.3} concealed, {:?}", heard.stats);
    assert!(concealed < share, "{concealed:.3} concealed of {share:.3} lost");
    assert!(heard.stats.delay_ms < 80.0, "{} ms", heard.stats.delay_ms);
}

#[test]
fn jitter_of_100_ms_leaves_no_gap_over_60_ms_after_five_seconds() {
    for seed in 0..3 {
        let sent = shaken(packets(&speech(1500), 0, 0), seed, 100);
        let heard = play(JitterConfig::default(), sent, Duration::from_secs(30), 1.0);
        let gap = heard.longest_gap_after(Duration::from_secs(5));
        println!("seed {seed}: longest gap {gap} ms, {:?}", heard.stats);
        assert!(gap <= 60, "{gap} ms");
        assert!(heard.stats.delay_ms < 180.0, "{}", heard.stats.delay_ms);
    }
}

#[test]
fn the_delay_comes_down_again_when_the_network_calms() {
    let sent = packets(&speech(2000), 0, 0);
    let mut random = StdRng::seed_from_u64(4);
    let sent = sent
        .into_iter()
        .map(|packet| {
            let rough = packet.at < Duration::from_secs(8);
            let late = if rough { random.random_range(0..=120) } else { 0 };
            Sent {
                at: packet.at + Duration::from_millis(late),
                ..packet
            }
        })
        .collect();
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(40), 1.0);
    let (rough, calm) = (heard.delays[780], heard.delays[3500]);
    println!("{rough} ms, then {calm} ms; {:?}", heard.stats);
    assert!(rough > 80.0 && calm < 50.0, "{rough} ms, then {calm} ms");
    assert!(heard.stats.removed_samples > 2000);
}

#[test]
fn reordered_and_doubled_packets_do_no_harm() {
    let mut random = StdRng::seed_from_u64(9);
    let mut sent = Vec::new();
    for packet in packets(&speech(1000), 65_500, u32::MAX - 50_000) {
        if random.random_bool(0.02) {
            let at = packet.at + Duration::from_millis(15);
            sent.push(Sent {
                at,
                payload: packet.payload.clone(),
                ..packet
            });
        }
        let late = if random.random_bool(0.05) { 30 } else { 0 };
        sent.push(Sent {
            at: packet.at + Duration::from_millis(late),
            ..packet
        });
    }
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(20), 1.0);
    println!("{:?}", heard.stats);
    assert!(heard.longest_gap_after(Duration::from_secs(2)) <= 20);
    assert!(heard.stats.duplicates > 5 && heard.stats.reordered > 20);
    assert!(heard.stats.concealed_samples < 48_000 / 2);
}

#[test]
fn a_clock_that_drifts_never_runs_the_buffer_empty_or_full() {
    for drift in [0.9995, 1.0005] {
        let heard = play(
            JitterConfig::default(),
            packets(&speech(6000), 0, 0),
            Duration::from_secs(119),
            drift,
        );
        let late = &heard.delays[1000..];
        let most = late.iter().copied().fold(0.0, f32::max);
        println!("drift {drift}: at most {most} ms, {:?}", heard.stats);
        assert!(most < 60.0, "{most} ms");
        assert!(heard.stats.concealed_samples < 4800, "{:?}", heard.stats);
    }
}

#[test]
fn a_blackout_is_faded_out_and_ends_at_once() {
    let sent: Vec<Sent> = packets(&speech(500), 0, 0)
        .into_iter()
        .filter(|packet| !(Duration::from_secs(3)..Duration::from_secs(5)).contains(&packet.at))
        .collect();
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(10), 1.0);
    // Between 300 ms after its beginning and its end nothing is heard: no robot.
    let silent = &heard.samples[48 * 3350..48 * 4950];
    assert!(energy(silent) < 1e-3, "{}", energy(silent));
    let after = heard.kinds[500..520].iter().position(|&kind| kind == Pulled::Sound);
    assert!(after.is_some_and(|blocks| blocks < 10), "{after:?}");
    assert!(heard.stats.delay_ms < 60.0);
}

#[test]
fn a_stalled_network_that_lets_go_is_caught_up_with() {
    // For 1.5 s nothing arrives, then everything at once.
    let sent: Vec<Sent> = packets(&speech(1000), 0, 0)
        .into_iter()
        .map(|packet| {
            let stalled = (Duration::from_secs(4)..Duration::from_millis(5500)).contains(&packet.at);
            Sent {
                at: if stalled {
                    Duration::from_millis(5500)
                } else {
                    packet.at
                },
                ..packet
            }
        })
        .collect();
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(20), 1.0);
    println!("{:?}", heard.stats);
    // Some delay stays for a while, in case it happens again.
    assert!(heard.delays[700] < 510.0, "{} ms after 1.5 s", heard.delays[700]);
    assert!(heard.delays[1900] < 60.0, "{} ms at the end", heard.delays[1900]);
}

#[test]
fn a_pause_of_the_sender_is_silence_and_not_loss() {
    let mut sent = packets(&speech(400), 0, 0);
    // Muted for a minute: sequence numbers go on, times jump.
    for packet in &mut sent[200..] {
        packet.at += Duration::from_secs(60);
        packet.timestamp += 60 * SAMPLE_RATE;
    }
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(67), 1.0);
    println!("{:?}", heard.stats);
    assert_eq!(heard.stats.lost, 0);
    assert!(heard.stats.concealed_samples <= 48_000 + 960);
    assert_eq!(heard.kinds[6000], Pulled::Silence);
    assert!(heard.kinds[6420..6700].iter().all(|&kind| kind == Pulled::Sound));
}

#[test]
fn another_stream_in_the_same_place_takes_over() {
    let mut sent = packets(&speech(150), 100, 5_000);
    let mut next = packets(&speech(150), 40_000, 3_000_000_000);
    next.iter_mut().for_each(|packet| packet.at += Duration::from_secs(3));
    sent.append(&mut next);
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(6), 1.0);
    let sound = heard.kinds[320..600]
        .iter()
        .filter(|&&kind| kind == Pulled::Sound)
        .count();
    assert!(sound > 270, "{sound} of 280 blocks");
}

#[test]
fn a_tone_keeps_its_pitch_through_jitter_and_drift() {
    let mut samples = vec![0.0; 500 * FRAME];
    Tone::new(440.0).fill(&mut samples);
    let sent = shaken(packets(&samples, 0, 0), 3, 40);
    let heard = play(JitterConfig::default(), sent, Duration::from_secs(10), 1.0002);
    let pitch = dominant_frequency(&heard.samples[240_000..288_000], SAMPLE_RATE).unwrap();
    assert!((pitch - 440.0).abs() < 3.0, "{pitch}");
}

#[test]
fn garbage_is_counted_and_dropped() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    let mut random = StdRng::seed_from_u64(5);
    let now = Instant::now();
    for n in 0..3000u32 {
        let payload: Vec<u8> = (0..random.random_range(0..60)).map(|_| random.random()).collect();
        buffer.push(MediaPacket {
            sequence: random.random(),
            timestamp: random.random(),
            marker: random.random(),
            payload: payload.into(),
            arrived: now + BLOCK_TIME * n,
        });
        let mut block = [0.0; BLOCK];
        buffer.pull(&mut block, now + BLOCK_TIME * n);
        assert!(block.iter().all(|sample| sample.is_finite()));
    }
    assert!(buffer.stats().malformed > 0);
}

#[test]
fn an_unread_buffer_stays_bounded() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    let start = Instant::now();
    for packet in packets(&speech(1000), 0, 0) {
        buffer.push(MediaPacket {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: false,
            payload: packet.payload,
            arrived: start + packet.at,
        });
    }
    assert!(buffer.packets.len() <= MAX_PACKETS);
    assert!(buffer.stats().discarded >= 700);
}
