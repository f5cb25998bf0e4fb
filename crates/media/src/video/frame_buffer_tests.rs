//! The frame buffer under loss, reordering, duplicates and wrap-around, in virtual time.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};

use super::*;
use crate::video::testing::Packetizer;

const FRAME: Duration = Duration::from_millis(33);

/// A stream of numbered frames: the payload names the frame and its temporal layer.
struct Stream {
    packetizer: Packetizer,
    start: Instant,
    frame: u32,
    /// `Some`: L1T3.
    layered: bool,
}

impl Stream {
    fn new(sequence: u16, layered: bool) -> Self {
        Self {
            packetizer: Packetizer::new(sequence, 32_700, 20),
            start: Instant::now(),
            frame: 0,
            layered,
        }
    }

    fn time(&self) -> Instant {
        self.start + FRAME * self.frame
    }

    /// The next frame, in three packets.
    fn next(&mut self, keyframe: bool) -> Vec<MediaPacket> {
        let mut data = vec![0u8; 50];
        data[0] = u8::from(!keyframe);
        data[3..6].copy_from_slice(&[0x9d, 0x01, 0x2a]);
        data[10..14].copy_from_slice(&self.frame.to_be_bytes());
        let temporal = self.layered.then_some(match (keyframe, self.frame % 4) {
            (true, _) | (_, 0) => (0, false),
            (_, 2) => (1, true),
            (_, n) => (2, n == 1),
        });
        let packets = self.packetizer.frame(self.frame * 3000, temporal, &data, self.time());
        self.frame += 1;
        packets
    }
}

fn number(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.data[10..14].try_into().unwrap())
}

/// Frames handed out and keyframes asked for.
fn drain(buffer: &mut FrameBuffer, now: Instant) -> (Vec<u32>, usize) {
    let (mut frames, mut asked) = (Vec::new(), 0);
    while let Some(action) = buffer.poll(now) {
        match action {
            Action::Decode(frame) => frames.push(number(&frame)),
            Action::RequestKeyframe => asked += 1,
        }
    }
    (frames, asked)
}

#[test]
fn frames_come_out_whole_and_in_order_across_the_wrap() {
    let mut stream = Stream::new(65_500, false);
    let mut buffer = FrameBuffer::new();
    for expected in 0..100 {
        let now = stream.time();
        stream.next(expected == 0).into_iter().for_each(|p| buffer.push(p));
        assert_eq!(drain(&mut buffer, now), (vec![expected], 0));
    }
    assert!(buffer.is_empty());
}

#[test]
fn packets_that_overtake_each_other_change_nothing() {
    let mut stream = Stream::new(65_530, false);
    let mut buffer = FrameBuffer::new();
    let mut out = Vec::new();
    let mut rng = StdRng::seed_from_u64(5);
    let mut waiting: Vec<MediaPacket> = Vec::new();
    for frame in 0..200 {
        let now = stream.time();
        waiting.extend(stream.next(frame == 0));
        // Every two frames come shuffled and partly twice.
        if frame % 2 == 1 {
            while !waiting.is_empty() {
                let packet = waiting.swap_remove(rng.random_range(0..waiting.len()));
                if rng.random_bool(0.05) {
                    buffer.push(packet.clone());
                }
                buffer.push(packet);
            }
        }
        let (frames, asked) = drain(&mut buffer, now);
        assert_eq!(asked, 0, "frame {frame}");
        out.extend(frames);
    }
    let got: Vec<u32> = (0..out.len() as u32).collect();
    assert_eq!(out, got);
    assert!(out.len() == 200 && buffer.stats().late_or_duplicate > 10);
}

#[test]
fn a_retransmission_brings_everything_back_without_a_keyframe() {
    let mut stream = Stream::new(0, false);
    let mut buffer = FrameBuffer::new();
    stream.next(true).into_iter().for_each(|p| buffer.push(p));
    let mut lost = stream.next(false);
    let late = lost.remove(1);
    lost.into_iter().for_each(|p| buffer.push(p));
    stream.next(false).into_iter().for_each(|p| buffer.push(p));
    assert_eq!(drain(&mut buffer, stream.time()), (vec![0], 0));
    buffer.push(late);
    assert_eq!(
        drain(&mut buffer, stream.time() + Duration::from_millis(80)),
        (vec![1, 2], 0)
    );
}

#[test]
fn what_never_comes_is_given_up_for_a_keyframe() {
    let mut stream = Stream::new(0, false);
    let mut buffer = FrameBuffer::new();
    stream.next(true).into_iter().for_each(|p| buffer.push(p));
    stream.next(false).into_iter().skip(1).for_each(|p| buffer.push(p));
    let (mut asked_at, mut frames) = (None, Vec::new());
    for _ in 0..30 {
        let now = stream.time();
        let asked = asked_at.is_some_and(|at| now > at + FRAME * 3);
        stream
            .next(asked && frames.len() < 2)
            .into_iter()
            .for_each(|p| buffer.push(p));
        let (got, asks) = drain(&mut buffer, now);
        frames.extend(got);
        if asks > 0 {
            assert_eq!((asks, asked_at), (1, None), "asked twice within {ASK_AGAIN:?}");
            asked_at = Some(now);
        }
    }
    let waited = asked_at.unwrap() - (stream.start + FRAME * 2);
    assert!(
        waited >= MIN_PATIENCE && waited < MIN_PATIENCE + FRAME * 2,
        "{waited:?}"
    );
    assert_eq!(frames[0], 0);
    assert!(
        frames.len() > 10 && frames.windows(2).skip(1).all(|w| w[1] == w[0] + 1),
        "{frames:?}"
    );
}

#[test]
fn a_lost_upper_temporal_frame_stops_the_picture_for_a_moment_only() {
    let mut stream = Stream::new(0, true);
    let mut buffer = FrameBuffer::new();
    let mut frames = Vec::new();
    for frame in 0..40 {
        let now = stream.time();
        let packets = stream.next(frame == 0);
        // Frame 9 is in layer 2 and no other frame needs it.
        packets
            .into_iter()
            .filter(|p| frame != 9 || !p.marker)
            .for_each(|p| buffer.push(p));
        let (got, asked) = drain(&mut buffer, now);
        assert_eq!(asked, 0);
        frames.extend(got);
    }
    let expected: Vec<u32> = (0..40).filter(|f| *f != 9).collect();
    assert_eq!(frames, expected);
    assert_eq!(buffer.stats().skips, 1);
}

#[test]
fn layers_that_the_server_left_out_are_not_missed() {
    let mut stream = Stream::new(100, true);
    let mut buffer = FrameBuffer::new();
    let mut sequence = 500u16;
    let mut frames = Vec::new();
    for frame in 0..40 {
        let now = stream.time();
        for mut packet in stream.next(frame == 0) {
            let upper = parse(&packet.payload)
                .unwrap()
                .0
                .temporal
                .is_some_and(|(id, _)| id == 2);
            if !upper {
                // The server closes the gap in the numbers.
                packet.sequence = sequence;
                sequence += 1;
                buffer.push(packet);
            }
        }
        frames.extend(drain(&mut buffer, now).0);
    }
    assert_eq!(frames, (0..40).step_by(2).collect::<Vec<u32>>());
}

#[test]
fn padding_between_frames_is_passed_over() {
    let mut stream = Stream::new(0, false);
    let mut buffer = FrameBuffer::new();
    for frame in 0..5 {
        let now = stream.time();
        stream.next(frame == 0).into_iter().for_each(|p| buffer.push(p));
        buffer.push(stream.packetizer.packet(0, false, Bytes::new(), now));
        assert_eq!(drain(&mut buffer, now), (vec![frame], 0));
    }
    assert!(buffer.len() <= 1);
}

#[test]
fn joining_in_the_middle_asks_for_a_keyframe_soon_and_not_all_the_time() {
    let mut stream = Stream::new(0, false);
    let mut buffer = FrameBuffer::new();
    let mut asked = Vec::new();
    for _ in 0..31 {
        let now = stream.time();
        stream.next(false).into_iter().for_each(|p| buffer.push(p));
        if drain(&mut buffer, now).1 > 0 {
            asked.push(now - stream.start);
        }
    }
    assert!(
        asked[0] >= FIRST_KEYFRAME_WAIT && asked[0] < FIRST_KEYFRAME_WAIT + FRAME * 2,
        "{asked:?}"
    );
    assert!((2..=4).contains(&asked.len()), "{asked:?}");
}

#[test]
fn a_sender_that_starts_over_with_other_numbers_is_followed() {
    let mut buffer = FrameBuffer::new();
    for first in [60_000, 100, 40_000, 39_000] {
        let mut stream = Stream::new(first, false);
        let mut frames = Vec::new();
        for frame in 0..60 {
            let now = stream.time();
            stream.next(frame % 30 == 0).into_iter().for_each(|p| buffer.push(p));
            frames.extend(drain(&mut buffer, now).0);
        }
        assert!(frames.contains(&59), "numbers from {first}: {frames:?}");
    }
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut buffer = FrameBuffer::new();
    let mut stream = Stream::new(0, false);
    for _ in 0..5000 {
        stream.next(false).into_iter().for_each(|p| buffer.push(p));
        assert!(buffer.len() <= MAX_PACKETS);
    }
}

/// Loss with retransmission after a round trip: what a call over a bad network sees.
fn lossy_run(seed: u64, loss: f64, layered: bool, round_trip: Duration) -> (Vec<u32>, Duration, u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut stream = Stream::new(rng.random(), layered);
    let mut buffer = FrameBuffer::new();
    buffer.set_round_trip(round_trip);
    let mut flying: BTreeMap<(Instant, u32), MediaPacket> = BTreeMap::new();
    let (mut frames, mut last, mut longest) = (Vec::new(), stream.start, Duration::ZERO);
    let (mut counter, mut keyframe_at) = (0u32, Some(stream.start));
    for step in 0..10_000u32 {
        let now = stream.start + Duration::from_millis(u64::from(step));
        if now >= stream.time() {
            let keyframe = keyframe_at.take_if(|at| now >= *at).is_some();
            for packet in stream.next(keyframe) {
                let mut at = now + Duration::from_millis(rng.random_range(20..30));
                // Each attempt may be lost; the next comes a round trip later.
                while rng.random_bool(loss) {
                    at += round_trip + Duration::from_millis(10);
                }
                counter += 1;
                flying.insert((at, counter), packet);
            }
        }
        while flying.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            let ((at, _), packet) = flying.pop_first().unwrap();
            buffer.push(MediaPacket { arrived: at, ..packet });
        }
        while let Some(action) = buffer.poll(now) {
            match action {
                Action::Decode(frame) => {
                    longest = longest.max(now - last);
                    last = now;
                    frames.push(number(&frame));
                }
                Action::RequestKeyframe => {
                    keyframe_at.get_or_insert(now + round_trip);
                }
            }
        }
    }
    (frames, longest, buffer.stats().keyframe_requests)
}

#[test]
fn ten_percent_loss_freezes_nothing_for_a_second() {
    for seed in 0..10 {
        for layered in [false, true] {
            let (frames, longest, _) = lossy_run(seed, 0.10, layered, Duration::from_millis(50));
            assert!(frames.windows(2).all(|w| w[0] < w[1]), "out of order");
            let least = if layered { 200 } else { 280 };
            assert!(frames.len() >= least, "seed {seed}: {} of 300 frames", frames.len());
            assert!(
                longest < Duration::from_millis(450),
                "seed {seed}, layered {layered}: stood still for {longest:?}"
            );
        }
    }
}

#[test]
fn thirty_percent_loss_keeps_moving() {
    for seed in 0..5 {
        let (frames, longest, _) = lossy_run(seed, 0.30, true, Duration::from_millis(50));
        assert!(
            frames.len() > 120 && longest < Duration::from_secs(1),
            "{} frames, {longest:?}",
            frames.len()
        );
    }
}

proptest! {
    #[test]
    fn hostile_packets_never_panic_and_never_pile_up(
        packets in proptest::collection::vec(
            (any::<u16>(), any::<u32>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..24), 0u64..400),
            0..300,
        ),
        round_trip in any::<u64>(),
    ) {
        let mut buffer = FrameBuffer::new();
        buffer.set_round_trip(Duration::from_millis(round_trip));
        let mut now = Instant::now();
        for (sequence, timestamp, marker, payload, wait) in packets {
            now += Duration::from_millis(wait);
            // Half of them near each other, so that frames come together.
            let sequence = if timestamp % 2 == 0 { sequence % 32 } else { sequence };
            buffer.push(MediaPacket { sequence, timestamp: timestamp % 8, marker, payload: payload.into(), arrived: now });
            let mut actions = 0;
            while let Some(action) = buffer.poll(now) {
                actions += 1;
                prop_assert!(actions < 400, "poll never ends");
                if let Action::Decode(frame) = action {
                    prop_assert!(!frame.data.is_empty());
                }
            }
            let _ = buffer.next_timeout();
            prop_assert!(buffer.len() <= MAX_PACKETS);
        }
    }
}
