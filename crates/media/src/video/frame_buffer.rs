//! Packets in, in any order; complete frames that a decoder can use out, in order.
//! Decides when to wait for a retransmission, when to skip, and when only a keyframe
//! helps. Pure: the time is given, nothing is sent from here.
//!
//! ```text
//!            keyframe complete                    gap, and packets behind it
//! WaitKey ----------------------> Flowing ------------------------------------> Blocked
//!    ^                               ^   gap filled, skippable, or a keyframe      | patience over:
//!    |                               +---------------------------------------------+ asks, goes on waiting
//!    +-- buffer full, sequence jump, decoder failed <------------------------------+
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::MediaPacket;
use crate::video::depacketize::{Descriptor, parse};
use crate::video::vp8::is_keyframe;

/// Packets kept: a second of 20 Mbps. More would be memory for frames too late to show.
const MAX_PACKETS: usize = 2048;
/// A sequence number this far from the newest is another stream, not a late packet.
const JUMP: i64 = 3000;
/// This many packets in a row that are too old mean the sender's numbers went back.
const STALE_RUN: u32 = 60;
/// How long a frame that can be missed is waited for: packets that only overtook each other arrive within it.
const REORDER_WAIT: Duration = Duration::from_millis(25);
/// Bounds of the wait for a frame that cannot be missed; within them it is 2.5 round trips.
const MIN_PATIENCE: Duration = Duration::from_millis(120);
const MAX_PATIENCE: Duration = Duration::from_millis(600);
/// A keyframe is asked for again after this, or 1.5 round trips if that is longer.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How long packets may come without a keyframe at the very start: the sender was asked by the server already.
const FIRST_KEYFRAME_WAIT: Duration = Duration::from_millis(150);

/// A frame that can be decoded now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// RTP timestamp.
    pub timestamp: u32,
    /// A decoder can start here.
    pub keyframe: bool,
    /// Temporal layer, 0 without layers.
    pub temporal_id: u8,
    /// The VP8 frame.
    pub data: Bytes,
    /// When its last packet came.
    pub complete: Instant,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Decode this.
    Decode(Frame),
    /// Ask the sender for a keyframe.
    RequestKeyframe,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Packets pushed.
    pub packets: u64,
    /// Packets that were there already, or whose frame was passed.
    pub late_or_duplicate: u64,
    /// Payloads that are not VP8.
    pub malformed: u64,
    /// Frames handed out.
    pub frames: u64,
    /// Times that frames were skipped.
    pub skips: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
}

struct Stored {
    timestamp: u32,
    marker: bool,
    /// `None`: padding, which only fills its sequence number.
    part: Option<(Descriptor, Bytes)>,
    arrived: Instant,
}

/// The last frame handed out.
#[derive(Clone, Copy)]
struct Position {
    last_sequence: i64,
    tl0_index: Option<u8>,
}

/// A complete frame found among the packets.
struct Candidate {
    first: i64,
    last: i64,
    descriptor: Descriptor,
    keyframe: bool,
}

/// Puts frames together.
pub struct FrameBuffer {
    packets: BTreeMap<i64, Stored>,
    newest: Option<i64>,
    position: Option<Position>,
    /// Since when the next frame is missing though later packets are here.
    blocked_since: Option<Instant>,
    first_packet: Option<Instant>,
    asked: Option<Instant>,
    round_trip: Duration,
    stale_run: u32,
    stats: BufferStats,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuffer {
    /// An empty buffer that waits for a keyframe.
    pub fn new() -> Self {
        Self {
            packets: BTreeMap::new(),
            newest: None,
            position: None,
            blocked_since: None,
            first_packet: None,
            asked: None,
            round_trip: Duration::from_millis(50),
            stale_run: 0,
            stats: BufferStats::default(),
        }
    }

    /// The connection's round trip: retransmissions are waited for accordingly.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.min(Duration::from_secs(5));
    }

    /// Totals.
    pub fn stats(&self) -> BufferStats {
        self.stats
    }

    /// Packets held.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Takes a packet in.
    pub fn push(&mut self, packet: MediaPacket) {
        self.stats.packets += 1;
        let sequence = self.unwrap_sequence(packet.sequence);
        let passed = self.position.is_some_and(|p| sequence <= p.last_sequence);
        if passed || self.packets.contains_key(&sequence) {
            self.stats.late_or_duplicate += 1;
            self.stale_run += u32::from(passed);
            if self.stale_run < STALE_RUN {
                return;
            }
            self.restart();
        }
        self.stale_run = 0;
        let part = if packet.payload.is_empty() {
            None
        } else {
            match parse(&packet.payload) {
                Ok(part) => Some(part),
                Err(_) => {
                    self.stats.malformed += 1;
                    return;
                }
            }
        };
        if self.newest.is_some_and(|newest| (sequence - newest).abs() > JUMP) || self.packets.len() >= MAX_PACKETS {
            self.restart();
        }
        self.first_packet.get_or_insert(packet.arrived);
        self.newest = Some(self.newest.map_or(sequence, |newest| newest.max(sequence)));
        let Some(part) = part else {
            self.packets.insert(
                sequence,
                Stored {
                    timestamp: packet.timestamp,
                    marker: false,
                    part: None,
                    arrived: packet.arrived,
                },
            );
            return;
        };
        let stored = Stored {
            timestamp: packet.timestamp,
            marker: packet.marker,
            part: Some(part),
            arrived: packet.arrived,
        };
        self.packets.insert(sequence, stored);
    }

    /// What to do now. Call until `None`, after every packet and when [`Self::next_timeout`] is reached.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.pass_padding();
        if let Some(candidate) = self.next_decodable(now) {
            return Some(Action::Decode(self.hand_out(&candidate)));
        }
        if self.position.is_some() {
            self.note_blockage(now);
        }
        self.wants_keyframe(now).then(|| {
            self.asked = Some(now);
            self.stats.keyframe_requests += 1;
            Action::RequestKeyframe
        })
    }

    /// When [`Self::poll`] may have something new without another packet.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.position.is_none() {
            let first = self.first_packet?;
            return Some(
                self.asked
                    .map_or(first + FIRST_KEYFRAME_WAIT, |asked| asked + self.ask_again()),
            );
        }
        let since = self.blocked_since?;
        let stuck = since + self.patience();
        let ask = self.asked.map_or(stuck, |asked| stuck.max(asked + self.ask_again()));
        Some(if self.has_upper_layers() {
            ask.min(since + REORDER_WAIT)
        } else {
            ask
        })
    }

    /// The decoder could not use a frame: nothing but a keyframe helps.
    pub fn decoder_failed(&mut self) {
        self.lose_position();
    }

    /// Forgets everything but totals, as for a new stream.
    pub fn restart(&mut self) {
        self.packets.clear();
        self.newest = None;
        self.stale_run = 0;
        self.first_packet = None;
        self.lose_position();
    }

    fn lose_position(&mut self) {
        self.position = None;
        self.blocked_since = None;
    }

    fn unwrap_sequence(&self, sequence: u16) -> i64 {
        match self.newest {
            None => i64::from(sequence),
            Some(newest) => newest + i64::from(sequence.wrapping_sub(newest as u16) as i16),
        }
    }

    fn patience(&self) -> Duration {
        self.round_trip.mul_f32(2.5).clamp(MIN_PATIENCE, MAX_PATIENCE)
    }

    fn ask_again(&self) -> Duration {
        ASK_AGAIN.max(self.round_trip.mul_f32(1.5))
    }

    fn wants_keyframe(&self, now: Instant) -> bool {
        let Some(first) = self.first_packet else { return false };
        let stuck = match self.position {
            // The gap may still be filled, so the position stays.
            Some(_) => self.blocked_since.is_some_and(|since| now >= since + self.patience()),
            None => self.stats.frames > 0 || now >= first + FIRST_KEYFRAME_WAIT,
        };
        stuck && self.asked.is_none_or(|asked| now >= asked + self.ask_again())
    }

    /// Padding right behind the last frame needs no frame of its own.
    fn pass_padding(&mut self) {
        let Some(position) = &mut self.position else { return };
        while self
            .packets
            .get(&(position.last_sequence + 1))
            .is_some_and(|stored| stored.part.is_none())
        {
            position.last_sequence += 1;
            self.packets.remove(&position.last_sequence);
        }
    }

    fn note_blockage(&mut self, now: Instant) {
        let Some(position) = self.position else { return };
        let next = self.packets.first_key_value().map(|(sequence, _)| *sequence);
        // Blocked: a packet is missing before one that is here. A frame whose end has not come yet is not blocked.
        let missing = next.is_some_and(|next| next > position.last_sequence + 1) || self.has_hole();
        self.blocked_since = missing.then(|| self.blocked_since.unwrap_or(now));
    }

    fn has_hole(&self) -> bool {
        match (self.packets.first_key_value(), self.packets.last_key_value()) {
            (Some((first, _)), Some((last, _))) => (last - first + 1) as usize > self.packets.len(),
            _ => false,
        }
    }

    fn has_upper_layers(&self) -> bool {
        self.position.is_some_and(|p| p.tl0_index.is_some())
    }

    /// The next frame in order; else a keyframe further on; else, after a short wait, a frame that does not need what is missing.
    fn next_decodable(&self, now: Instant) -> Option<Candidate> {
        if let Some(position) = self.position
            && let Some(next) = self.candidate_at(position.last_sequence + 1)
        {
            return Some(next);
        }
        let mut waited_reorder = self.blocked_since.is_some_and(|since| now >= since + REORDER_WAIT);
        waited_reorder &= self.has_upper_layers();
        let mut skippable = None;
        for (&sequence, stored) in &self.packets {
            let Some((descriptor, data)) = &stored.part else {
                continue;
            };
            if !descriptor.start {
                continue;
            }
            let worth_a_look = starts_keyframe(data)
                || (waited_reorder && skippable.is_none() && self.needs_only_what_came(descriptor));
            if let Some(candidate) = worth_a_look.then(|| self.candidate_at(sequence)).flatten() {
                if candidate.keyframe {
                    return Some(candidate);
                }
                skippable = Some(candidate);
            }
        }
        skippable
    }

    /// A base frame that follows the last base frame, or an upper one that needs only that base frame.
    fn needs_only_what_came(&self, descriptor: &Descriptor) -> bool {
        let Some(last) = self.position.and_then(|p| p.tl0_index) else {
            return false;
        };
        match (descriptor.tl0_index, descriptor.temporal) {
            (Some(index), Some((0, _))) => index == last.wrapping_add(1),
            (Some(index), Some((_, true))) => index == last,
            _ => false,
        }
    }

    /// The complete frame that starts at a sequence number.
    fn candidate_at(&self, first: i64) -> Option<Candidate> {
        let start = self.packets.get(&first)?;
        let (descriptor, data) = start.part.as_ref().filter(|(descriptor, _)| descriptor.start)?;
        let mut last = first;
        let mut stored = start;
        loop {
            if stored.marker {
                break;
            }
            let next = self.packets.get(&(last + 1))?;
            // A sender that sets no marker: the next frame's start ends this one.
            if next.timestamp != start.timestamp {
                break;
            }
            (last, stored) = (last + 1, next);
        }
        Some(Candidate {
            first,
            last,
            descriptor: *descriptor,
            keyframe: starts_keyframe(data),
        })
    }

    fn hand_out(&mut self, candidate: &Candidate) -> Frame {
        let skipped = self.position.is_some_and(|p| candidate.first != p.last_sequence + 1);
        self.stats.skips += u64::from(skipped);
        let rest = self.packets.split_off(&(candidate.last + 1));
        let mut frame = std::mem::replace(&mut self.packets, rest).split_off(&candidate.first);
        let parts = || frame.values().filter_map(|stored| stored.part.as_ref());
        let data = match frame.len() {
            1 => parts().next().map(|(_, data)| data.clone()).unwrap_or_default(),
            _ => {
                let mut all = BytesMut::with_capacity(parts().map(|(_, data)| data.len()).sum());
                parts().for_each(|(_, data)| all.extend_from_slice(data));
                all.freeze()
            }
        };
        let complete = frame.values().map(|stored| stored.arrived).max();
        let (_, start) = frame.pop_first().unzip();
        let temporal_id = candidate.descriptor.temporal.map_or(0, |(id, _)| id);
        // Only base frames move the base index on; without one the last stays.
        let before = self.position.and_then(|p| p.tl0_index);
        let tl0_index = match candidate.descriptor.temporal {
            Some((0, _)) | None => candidate.descriptor.tl0_index,
            Some(_) => before,
        };
        self.position = Some(Position {
            last_sequence: candidate.last,
            tl0_index,
        });
        self.blocked_since = None;
        if candidate.keyframe {
            self.asked = None;
        }
        self.stats.frames += 1;
        Frame {
            timestamp: start.as_ref().map_or(0, |s| s.timestamp),
            keyframe: candidate.keyframe,
            temporal_id,
            data,
            complete: complete.or(start.map(|s| s.arrived)).unwrap_or_else(Instant::now),
        }
    }
}

/// Whether a frame's first part belongs to a keyframe; parts too short to hold the start code go by their first bit.
fn starts_keyframe(data: &[u8]) -> bool {
    if data.len() >= 10 {
        is_keyframe(data)
    } else {
        data.first().is_some_and(|first| first & 1 == 0)
    }
}

#[cfg(test)]
#[path = "frame_buffer_tests.rs"]
mod tests;
