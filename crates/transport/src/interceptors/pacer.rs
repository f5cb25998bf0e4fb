//! Spreads what leaves, so that a keyframe's forty packets do not fill the queue of a home
//! router at once. The rate is 2.5 times the target, as libwebrtc's: the encoder keeps the
//! target, the pacer only its bursts. Sound and RTCP never wait, retransmissions go ahead
//! of new video.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Attribute, Packet, StreamInfo, TaggedPacket};

use super::{Belt, Probe, Stage};
use crate::wire::Wire;

/// Headroom over the target. Lower adds latency to keyframes, higher lets bursts through.
const FACTOR: f64 = 2.5;
/// What may leave at once, as time at the rate: also how long a timer sleeps at least.
const BURST: Duration = Duration::from_millis(5);
/// The queue is emptied within this time, even if the rate must be exceeded: older video is of no use.
const LONGEST_WAIT: f64 = 0.8;
/// Bounds the memory if even that fails.
const MOST_PACKETS: usize = 4096;
/// IP, UDP and SRTP around each payload, with the RTP header.
const OVERHEAD: usize = 68;

/// See the module's text.
pub(crate) struct Pacer {
    wire: Arc<Wire>,
    audio: Vec<u32>,
    again: VecDeque<TaggedPacket>,
    video: VecDeque<TaggedPacket>,
    queued_bits: f64,
    /// Sent ahead of the rate.
    debt_bits: f64,
    paid: Option<Instant>,
    due: Option<Instant>,
    test: Test,
}

/// A burst at its own rate, beside the media.
#[derive(Default)]
struct Test {
    packets: VecDeque<TaggedPacket>,
    due: Option<Instant>,
    began: Option<Instant>,
}

fn bits(packet: &TaggedPacket) -> f64 {
    match &packet.message.packet {
        Packet::Rtp(rtp) => (rtp.payload.len() + OVERHEAD) as f64 * 8.0,
        _ => 0.0,
    }
}

impl Pacer {
    /// Follows the target in `wire`.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            audio: Vec::new(),
            again: VecDeque::new(),
            video: VecDeque::new(),
            queued_bits: 0.0,
            debt_bits: 0.0,
            paid: None,
            due: None,
            test: Test::default(),
        }
    }

    fn release_test(&mut self, now: Instant, belt: &mut Belt) {
        while let Some(due) = self.test.due.filter(|due| *due <= now) {
            let Some(mut packet) = self.test.packets.pop_front() else {
                self.wire.probe_left(self.test.began.take().unwrap_or(now), now);
                self.test.due = None;
                return;
            };
            let rate = packet.message.custom::<Probe>().map_or(f64::INFINITY, |probe| probe.0);
            self.test.due = Some(due + Duration::from_secs_f64(bits(&packet) / rate.max(1.0)));
            self.test.began.get_or_insert(now);
            packet.now = now;
            belt.write.push_back(packet);
        }
    }

    fn rate(&self) -> f64 {
        (self.wire.target().as_bps() as f64 * FACTOR).max(self.queued_bits / LONGEST_WAIT)
    }

    fn release(&mut self, now: Instant, belt: &mut Belt) {
        let rate = self.rate();
        let passed = self
            .paid
            .replace(now)
            .map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.debt_bits = (self.debt_bits - rate * passed).max(0.0);
        let burst = rate * BURST.as_secs_f64();
        while self.debt_bits < burst {
            let Some(mut packet) = self.again.pop_front().or_else(|| self.video.pop_front()) else {
                break;
            };
            let size = bits(&packet);
            self.queued_bits = (self.queued_bits - size).max(0.0);
            self.debt_bits += size;
            // The history behind us must see when it really left.
            packet.now = packet.now.max(now);
            belt.write.push_back(packet);
        }
        let waiting = !(self.again.is_empty() && self.video.is_empty());
        self.due = waiting
            .then(|| now + Duration::from_secs_f64(self.debt_bits / rate.max(1.0)).max(Duration::from_millis(1)));
    }
}

impl Stage for Pacer {
    fn outbound(&mut self, packet: TaggedPacket, belt: &mut Belt) {
        let Packet::Rtp(rtp) = &packet.message.packet else {
            belt.write.push_back(packet);
            return;
        };
        let now = packet.now;
        let ssrc = rtp.header.ssrc;
        if self.audio.contains(&ssrc) {
            self.debt_bits += bits(&packet);
            belt.write.push_back(packet);
            return;
        }
        if packet.message.custom::<Probe>().is_some() {
            self.test.packets.push_back(packet);
            self.test.due.get_or_insert(now);
            return;
        }
        let retransmission = packet.message.has(&Attribute::Retransmission);
        if self.video.len() >= MOST_PACKETS {
            if !retransmission {
                self.wire.keyframe_wanted(ssrc, now);
            }
            return;
        }
        self.queued_bits += bits(&packet);
        if retransmission {
            &mut self.again
        } else {
            &mut self.video
        }
        .push_back(packet);
        if self.due.is_none_or(|due| due <= now) {
            self.release(now, belt);
        }
    }

    fn timeout(&mut self, now: Instant, belt: &mut Belt) {
        self.release_test(now, belt);
        if self.due.is_some_and(|due| due <= now) {
            self.release(now, belt);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        match (self.due, self.test.due) {
            (Some(media), Some(test)) => Some(media.min(test)),
            (media, test) => media.or(test),
        }
    }

    fn bind_local(&mut self, info: &StreamInfo) {
        if info.mime_type.starts_with("audio/") {
            self.audio.push(info.ssrc);
        }
    }

    fn unbind_local(&mut self, info: &StreamInfo) {
        self.audio.retain(|ssrc| *ssrc != info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use confab_types::Bitrate;

    use super::super::testing::{rtp, video};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pacer(target: Bitrate) -> Pacer {
        let wire = Arc::new(Wire::new());
        wire.set_target(target);
        let mut pacer = Pacer::new(wire);
        pacer.bind_local(&StreamInfo {
            ssrc: 5,
            mime_type: "audio/opus".into(),
            ..Default::default()
        });
        pacer.bind_local(&video(1, 2));
        pacer
    }

    /// Runs until the queue is empty; returns (ssrc, ms) of each packet.
    fn drain(pacer: &mut Pacer, belt: &mut Belt, start: Instant) -> Vec<(u32, u128)> {
        let mut left = Vec::new();
        loop {
            while let Some(packet) = belt.write.pop_front() {
                let Packet::Rtp(rtp) = &packet.message.packet else {
                    continue;
                };
                left.push((rtp.header.ssrc, (packet.now - start).as_millis()));
            }
            let Some(due) = pacer.next_timeout() else { return left };
            pacer.timeout(due, belt);
        }
    }

    #[test]
    fn a_keyframe_leaves_at_two_and_a_half_times_the_target() {
        let (mut pacer, mut belt, start) = (pacer(Bitrate::kbps(800)), Belt::default(), Instant::now());
        for n in 0..50 {
            pacer.outbound(rtp(start, 1, n, &[0; 1132]), &mut belt);
        }
        let left = drain(&mut pacer, &mut belt, start);
        assert_eq!(left.len(), 50);
        // 50 packets of 1,200 bytes at 2 Mbps: 240 ms.
        assert!((215..=245).contains(&left[49].1), "{left:?}");
        let most_at_once = left.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).max();
        assert!(most_at_once <= Some(3), "{left:?}");
    }

    #[test]
    fn sound_does_not_wait_behind_a_keyframe() {
        let (mut pacer, mut belt, start) = (pacer(Bitrate::kbps(800)), Belt::default(), Instant::now());
        for n in 0..50 {
            pacer.outbound(rtp(start, 1, n, &[0; 1132]), &mut belt);
        }
        belt.write.clear();
        pacer.outbound(rtp(start + MS, 5, 0, &[0; 80]), &mut belt);
        assert_eq!(belt.write.len(), 1);
    }

    #[test]
    fn a_sender_that_ignores_the_target_still_sees_no_second_of_delay() {
        let (mut pacer, mut belt, start) = (pacer(Bitrate::kbps(100)), Belt::default(), Instant::now());
        for n in 0..1000 {
            pacer.outbound(rtp(start, 1, n, &[0; 1132]), &mut belt);
        }
        let left = drain(&mut pacer, &mut belt, start);
        assert_eq!(left.len(), 1000);
        assert!(left[900].1 < 2500, "{:?}", left[900]);
    }
}
