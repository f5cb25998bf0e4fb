//! The adaptive jitter buffer of one received Opus stream, on NetEq's design.
//!
//! Packets go in as they come, 10 ms blocks come out as they are played. A missing packet is taken from the copy in
//! the next one (FEC) if that is there, else invented (PLC). While nothing comes the sound is continued and the play
//! position held, so that a packet that is only late is still heard; the delay this costs is worked off by taking out
//! pitch periods. Pure: the caller brings the time.

mod adjust;
mod delay;
mod stats;
mod stretch;

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::opus::{MAX_PACKET_SAMPLES, OpusDecoder, OpusError, carries_fec};
use super::{BLOCK, SAMPLE_RATE};
use crate::api::MediaPacket;
use delay::DelayManager;
pub use stats::{JitterStats, Pulled};

/// Packets held at most: six seconds of 20 ms. Only an unread buffer fills up.
const MAX_PACKETS: usize = 300;
/// A jump of RTP time beyond this is another stream, not a pause: one hour.
const MAX_PAUSE: i64 = 3600 * SAMPLE_RATE as i64;
/// A loss longer than this is not invented but waited out: 200 ms.
const MAX_INVENTED: i64 = SAMPLE_RATE as i64 / 5;
/// Invented sound stays as loud for 100 ms, and is gone after 200: nobody hears a robot.
const FADE_AFTER: usize = SAMPLE_RATE as usize / 10;
const FADE_LENGTH: usize = SAMPLE_RATE as usize / 10;
/// After a second without packets the stream counts as paused.
const GIVE_UP: usize = SAMPLE_RATE as usize;
/// Share of the newest measurement in the delay's average.
const DELAY_RATE: f64 = 0.1;
/// How alike two periods must be to be joined, at first; each refusal lowers it a little, to the least.
const LIKENESS: f32 = 0.9;
/// Samples over which a step at a joint is smoothed: 2.5 ms.
const DECLICK: usize = 120;
/// Sequence numbers remembered to tell a duplicate from a late packet.
const SEEN: usize = 512;
/// Opus payloads up to this size only say that silence goes on (DTX).
const DTX_BYTES: usize = 2;

/// How a buffer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterConfig {
    /// Use the copies that packets carry; off only for comparison.
    pub fec: bool,
    /// Least delay. Lower is faster and conceals more.
    pub min_delay_ms: u32,
    /// Most delay. Beyond it late packets are lost rather than waited for.
    pub max_delay_ms: u32,
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self {
            fec: true,
            min_delay_ms: 15,
            max_delay_ms: 500,
        }
    }
}

#[derive(Debug)]
struct Stored {
    sequence: i64,
    samples: usize,
    payload: Bytes,
}

/// Where playing stands.
///
/// ```text
/// Waiting --enough delay--> Playing --paused, long loss, nothing for 1 s--> Waiting
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Playing,
}

/// Continues 16-bit sequence numbers and 32-bit times without wrap-around.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: i64,
    timestamp: i64,
}

/// One stream's buffer.
pub struct JitterBuffer {
    config: JitterConfig,
    decoder: OpusDecoder,
    delays: DelayManager,
    packets: BTreeMap<i64, Stored>,
    state: State,
    newest: Option<Newest>,
    /// Media time of the next sample to decode.
    next_time: i64,
    /// Sequence number of the last packet decoded.
    last_sequence: i64,
    /// Samples invented while the position was held.
    held: i64,
    /// The gap before the packet of this media time is counted already.
    gap_counted: i64,
    /// Sequence numbers that came lately, by their remainder.
    seen: Box<[i64; SEEN]>,
    /// The last packet said that silence goes on.
    in_dtx: bool,
    /// Decoded and not given out yet.
    ready: Vec<f32>,
    ready_kind: Pulled,
    /// Given out last: what a pitch period is compared with.
    past: Vec<f32>,
    /// Run of invented samples, reset by received ones.
    concealed_run: usize,
    /// The next appended samples do not continue the last ones.
    joint: bool,
    delay_ms: f64,
    since_stretch: u32,
    likeness: f32,
    stats: JitterStats,
}

impl JitterBuffer {
    /// An empty buffer.
    pub fn new(config: JitterConfig) -> Result<Self, OpusError> {
        Ok(Self {
            config,
            decoder: OpusDecoder::new()?,
            delays: DelayManager::new(config.min_delay_ms, config.max_delay_ms),
            packets: BTreeMap::new(),
            state: State::Waiting,
            newest: None,
            next_time: i64::MIN,
            last_sequence: 0,
            held: 0,
            gap_counted: i64::MIN,
            seen: Box::new([i64::MIN; SEEN]),
            in_dtx: false,
            ready: Vec::with_capacity(2 * MAX_PACKET_SAMPLES),
            ready_kind: Pulled::Silence,
            past: vec![0.0; stretch::LENGTHEN_PAST],
            concealed_run: 0,
            joint: true,
            delay_ms: 0.0,
            since_stretch: 0,
            likeness: LIKENESS,
            stats: JitterStats::default(),
        })
    }

    /// Takes a packet as it came, in any order.
    pub fn push(&mut self, packet: MediaPacket) {
        self.stats.received += 1;
        let Some(samples) = OpusDecoder::packet_samples(&packet.payload) else {
            self.stats.malformed += 1;
            return;
        };
        let Newest { sequence, timestamp } = self.unwrap(&packet);
        let seen = &mut self.seen[sequence.rem_euclid(SEEN as i64) as usize];
        if *seen == sequence || self.packets.contains_key(&timestamp) {
            self.stats.duplicates += 1;
            return;
        }
        *seen = sequence;
        self.delays.arrived(timestamp, samples, packet.arrived);
        if self.next_time != i64::MIN && timestamp + samples as i64 <= self.next_time {
            // Too late to be heard, in time to teach how long to wait.
            self.stats.late += 1;
            return;
        }
        self.packets.insert(
            timestamp,
            Stored {
                sequence,
                samples,
                payload: packet.payload,
            },
        );
        while self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
            self.stats.discarded += 1;
        }
    }

    /// Gives the next 10 ms. Called once for every 10 ms played.
    pub fn pull(&mut self, out: &mut [f32; BLOCK], now: Instant) -> Pulled {
        self.measure(now);
        while self.ready.len() < BLOCK {
            self.produce(now);
        }
        self.adjust(now);
        let kind = self.ready_kind;
        out.copy_from_slice(&self.ready[..BLOCK]);
        self.ready.drain(..BLOCK);
        if self.ready.is_empty() {
            self.ready_kind = Pulled::Silence;
        } else if kind == Pulled::Concealed {
            self.ready_kind = Pulled::Sound;
        }
        self.past.drain(..BLOCK.min(self.past.len()));
        self.past.extend_from_slice(out);
        let surplus = self.past.len().saturating_sub(stretch::LENGTHEN_PAST);
        self.past.drain(..surplus);
        self.stats.samples += BLOCK as u64;
        kind
    }

    /// Counts and state.
    pub fn stats(&self) -> JitterStats {
        JitterStats {
            delay_ms: self.delay_ms as f32,
            target_ms: self.delays.target_ms() as f32,
            ..self.stats
        }
    }

    fn unwrap(&mut self, packet: &MediaPacket) -> Newest {
        let first = Newest {
            sequence: i64::from(packet.sequence),
            timestamp: i64::from(packet.timestamp),
        };
        let Some(newest) = self.newest else {
            self.newest = Some(first);
            return first;
        };
        let sequence_step = i64::from(packet.sequence.wrapping_sub(newest.sequence as u16) as i16);
        let time_step = i64::from(packet.timestamp.wrapping_sub(newest.timestamp as u32) as i32);
        let contradicts = time_step != 0 && (time_step < 0) != (sequence_step < 0);
        let restarted = contradicts || time_step.abs() > MAX_PAUSE;
        if restarted {
            self.restart();
            self.newest = Some(first);
            return first;
        }
        let here = Newest {
            sequence: newest.sequence + sequence_step,
            timestamp: newest.timestamp + time_step,
        };
        if sequence_step > 0 {
            self.newest = Some(here);
        } else if sequence_step < 0 {
            self.stats.reordered += 1;
        }
        here
    }

    /// Another stream took over: nothing of the old one fits.
    fn restart(&mut self) {
        self.stats.discarded += self.packets.len() as u64;
        self.packets.clear();
        self.next_time = i64::MIN;
        self.gap_counted = i64::MIN;
        self.seen.fill(i64::MIN);
        self.wait();
        self.delays.restart();
    }

    fn wait(&mut self) {
        self.state = State::Waiting;
        self.held = 0;
        self.joint = true;
    }

    fn measure(&mut self, now: Instant) {
        if self.state == State::Playing {
            let position = self.next_time - self.ready.len() as i64;
            let delay = self.delays.delay_ms(position, now);
            self.delay_ms += DELAY_RATE * (delay - self.delay_ms);
        }
    }

    /// Appends something to `ready`, or changes the state.
    fn produce(&mut self, now: Instant) {
        match self.state {
            State::Waiting => self.produce_waiting(now),
            State::Playing => self.produce_playing(),
        }
    }

    fn produce_waiting(&mut self, now: Instant) {
        let target = self.delays.target_ms();
        // The newest packet that has waited long enough: what gathered before it would only be heard late.
        let ripe = self
            .packets
            .keys()
            .rev()
            .copied()
            .find(|&time| self.delays.delay_ms(time, now) >= target);
        let Some(time) = ripe else { return self.append_silence() };
        let kept = self.packets.split_off(&time);
        self.stats.discarded += self.packets.len() as u64;
        self.packets = kept;
        self.state = State::Playing;
        self.next_time = time;
        self.last_sequence = self
            .packets
            .first_key_value()
            .map_or(0, |(_, first)| first.sequence - 1);
        self.delay_ms = self.delays.delay_ms(time - self.ready.len() as i64, now);
        self.concealed_run = 0;
    }

    fn produce_playing(&mut self) {
        let Some((&time, first)) = self.packets.first_key_value() else {
            return self.produce_nothing_there();
        };
        let (sequence, samples) = (first.sequence, first.samples as i64);
        if time + samples <= self.next_time {
            self.packets.pop_first();
            self.stats.late += 1;
            return;
        }
        if time <= self.next_time {
            return self.decode_first();
        }
        if sequence == self.last_sequence + 1 {
            // Nothing is missing: the sender paused (muted, or DTX).
            return self.wait();
        }
        if self.gap_counted != time {
            self.gap_counted = time;
            self.count_lost(((time - self.next_time) / samples).max(1) as u64);
        }
        // What was invented while holding stands for what is lost.
        let stood_in = self.held.min(time - self.next_time);
        self.next_time += stood_in;
        self.delay_ms -= stood_in as f64 * 1000.0 / f64::from(SAMPLE_RATE);
        self.held = 0;
        match time - self.next_time {
            0 => {}
            gap if gap > MAX_INVENTED => self.wait(),
            gap => self.fill_gap(gap, samples),
        }
    }

    /// Fills up to `gap` missing samples before the first packet, of `samples`.
    fn fill_gap(&mut self, gap: i64, samples: i64) {
        if gap <= samples && self.correct_from_next(gap as usize) {
            self.next_time += gap;
            return;
        }
        // The decoder invents whole multiples of 2.5 ms.
        let piece = gap.min(if gap > samples {
            (gap - samples).min(BLOCK as i64)
        } else {
            BLOCK as i64
        });
        let whole = (piece / DECLICK as i64) * DECLICK as i64;
        if whole > 0 {
            self.conceal(whole as usize, true);
            self.next_time += whole;
        } else {
            self.next_time += piece.max(1);
        }
    }

    fn count_lost(&mut self, packets: u64) {
        self.stats.lost += packets;
        for _ in 0..packets.min(10) {
            self.delays.played(true);
        }
    }

    fn correct_from_next(&mut self, gap: usize) -> bool {
        if !self.config.fec {
            return false;
        }
        let Some((_, next)) = self.packets.first_key_value() else {
            return false;
        };
        if !carries_fec(&next.payload) {
            return false;
        }
        let mut frame = [0.0; MAX_PACKET_SAMPLES];
        let samples = next.samples;
        if self.decoder.decode_fec(&next.payload, &mut frame[..samples]).is_err() {
            return false;
        }
        self.stats.fec += 1;
        self.joint |= gap < samples;
        self.append_sound(&frame[samples - gap..samples]);
        true
    }

    fn decode_first(&mut self) {
        let Some((time, packet)) = self.packets.pop_first() else {
            return;
        };
        let mut frame = [0.0; MAX_PACKET_SAMPLES];
        self.last_sequence = packet.sequence;
        self.held = 0;
        self.in_dtx = packet.payload.len() <= DTX_BYTES;
        match self.decoder.decode(&packet.payload, &mut frame) {
            Ok(samples) => {
                let skip = ((self.next_time - time).max(0) as usize).min(samples);
                self.joint |= skip > 0;
                self.append_sound(&frame[skip..samples]);
                self.delays.played(false);
                self.next_time = time + samples as i64;
            }
            Err(error) => {
                tracing::trace!(%error, "packet not decoded");
                self.stats.malformed += 1;
                self.count_lost(1);
                let missing = (time + packet.samples as i64 - self.next_time).max(0);
                let pieces = (missing as usize).div_ceil(BLOCK);
                (0..pieces).for_each(|_| self.conceal(BLOCK, true));
                self.next_time += missing;
            }
        }
    }

    /// The next packet is late or lost, or the sender paused: goes on with what was heard.
    fn produce_nothing_there(&mut self) {
        if self.in_dtx {
            // Silence as the sender said: the decoder makes its comfort noise.
            self.conceal(BLOCK, false);
            self.held += BLOCK as i64;
            return;
        }
        self.conceal(BLOCK, true);
        self.held += BLOCK as i64;
        if self.concealed_run >= GIVE_UP {
            self.wait();
        } else {
            self.delay_ms += 10.0;
        }
    }

    fn conceal(&mut self, samples: usize, counted: bool) {
        let mut piece = [0.0; BLOCK];
        let piece = &mut piece[..samples.min(BLOCK)];
        let before = self.concealed_run;
        let audible = before < FADE_AFTER + FADE_LENGTH || !counted;
        if audible && let Err(error) = self.decoder.conceal(piece) {
            tracing::trace!(%error, "nothing could be invented");
        }
        if counted {
            for (index, sample) in piece.iter_mut().enumerate() {
                let into_fade = (before + index).saturating_sub(FADE_AFTER) as f32;
                *sample *= (1.0 - into_fade / FADE_LENGTH as f32).max(0.0);
            }
            self.concealed_run += piece.len();
            let gap_ms = self.concealed_run as f32 * 1000.0 / SAMPLE_RATE as f32;
            self.stats.longest_gap_ms = self.stats.longest_gap_ms.max(gap_ms);
            self.stats.plc += 1;
            self.stats.concealed_samples += piece.len() as u64;
        }
        self.append(piece);
        self.ready_kind = if counted { Pulled::Concealed } else { Pulled::Sound };
    }

    fn append_sound(&mut self, samples: &[f32]) {
        // Faded away: the decoder's state continues, the ear's does not.
        self.joint |= self.concealed_run > FADE_AFTER;
        self.concealed_run = 0;
        self.append(samples);
        if self.ready_kind == Pulled::Silence {
            self.ready_kind = Pulled::Sound;
        }
    }

    fn append_silence(&mut self) {
        self.append(&[0.0; BLOCK]);
        // The next sound starts at a joint too.
        self.joint = true;
    }

    fn append(&mut self, samples: &[f32]) {
        let start = self.ready.len();
        let last = self.ready.last().or(self.past.last()).copied().unwrap_or(0.0);
        self.ready.extend_from_slice(samples);
        if std::mem::take(&mut self.joint) {
            let Some(&first) = samples.first() else { return };
            let step = last - first;
            for (index, sample) in self.ready[start..].iter_mut().take(DECLICK).enumerate() {
                *sample += step * (1.0 - index as f32 / DECLICK as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests;
