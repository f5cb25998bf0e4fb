//! Frames that name themselves, and what it takes to send and gather them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use confab_transport::{EncodedFrame, ReceivedPacket, TrackSender};
use rtc::rtp::codec::vp8::Vp8Packet;
use rtc::rtp::packetizer::Depacketizer;

/// A frame whose content follows from its layer and number.
pub fn frame(layer: usize, number: u32, length: usize) -> Bytes {
    let mut data = vec![0u8; length.max(16)];
    // VP8's frame tag: bit 0 clear is a keyframe.
    data[0] = if number.is_multiple_of(30) { 0x10 } else { 0x11 };
    data[1] = layer as u8;
    data[2..6].copy_from_slice(&number.to_be_bytes());
    for (n, byte) in data.iter_mut().enumerate().skip(6) {
        *byte = (n as u32 ^ number) as u8;
    }
    Bytes::from(data)
}

/// Whether a frame is what its number says; its layer and number.
pub fn check(data: &[u8]) -> Option<(usize, u32)> {
    let (layer, number) = (
        *data.get(1)? as usize,
        u32::from_be_bytes(data.get(2..6)?.try_into().ok()?),
    );
    (frame(layer, number, data.len()) == data).then_some((layer, number))
}

/// Gathers packets of one VP8 stream into whole frames.
#[derive(Default)]
pub struct Frames {
    packets: BTreeMap<u64, (u32, bool, Bytes)>,
    highest: u64,
}

impl Frames {
    /// With a sequence number of 16 bits.
    pub fn add_received(&mut self, packet: &ReceivedPacket) {
        let distance = packet.sequence.wrapping_sub(self.highest as u16) as i16;
        let sequence = if self.packets.is_empty() {
            1 << 32 | u64::from(packet.sequence)
        } else {
            self.highest.wrapping_add_signed(distance.into())
        };
        self.add(sequence, packet.timestamp, packet.marker, packet.payload.clone());
    }

    /// With an extended sequence number.
    pub fn add(&mut self, sequence: u64, timestamp: u32, marker: bool, payload: Bytes) {
        self.highest = self.highest.max(sequence);
        assert!(
            self.packets.insert(sequence, (timestamp, marker, payload)).is_none(),
            "a duplicate came through"
        );
    }

    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Packets missing between the first and the last.
    pub fn gaps(&self) -> u64 {
        match (self.packets.first_key_value(), self.packets.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last - first + 1 - self.packets.len() as u64,
            _ => 0,
        }
    }

    /// The numbers of the whole, intact frames, and their RTP times.
    pub fn whole(&self) -> BTreeMap<u32, u32> {
        let mut frames = BTreeMap::new();
        let mut data: Option<Vec<u8>> = None;
        let mut last = 0;
        for (sequence, (timestamp, marker, payload)) in &self.packets {
            let mut vp8 = Vp8Packet::default();
            let Ok(part) = vp8.depacketize(payload) else { continue };
            if vp8.s == 1 {
                data = Some(Vec::new());
            } else if *sequence != last + 1 {
                data = None;
            }
            last = *sequence;
            if let Some(data) = &mut data {
                data.extend_from_slice(&part);
            }
            if *marker
                && let Some(data) = data.take()
                && let Some((_, number)) = check(&data)
            {
                frames.insert(number, *timestamp);
            }
        }
        frames
    }

    /// Numbers missing between the first and the last whole frame.
    pub fn missing(&self) -> BTreeSet<u32> {
        let whole = self.whole();
        let (Some(first), Some(last)) = (whole.keys().next(), whole.keys().last()) else {
            return BTreeSet::new();
        };
        (*first..=*last).filter(|n| !whole.contains_key(n)).collect()
    }
}

/// Sends `count` frames of all layers at 30 a second, sizes by layer; keyframes are four times as large.
pub async fn send_video(sender: TrackSender, sizes: Vec<usize>, count: u32) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_micros(33_333));
    for number in 0..count {
        ticks.tick().await;
        let captured = start + Duration::from_micros(33_333) * number;
        let keyframe = number.is_multiple_of(30);
        for (layer, size) in sizes.iter().enumerate() {
            let length = if keyframe { size * 4 } else { *size };
            let frame = EncodedFrame {
                layer,
                captured,
                keyframe,
                temporal: None,
                audio_level: None,
                data: frame(layer, number, length),
            };
            sender.frames.send(frame).await.unwrap();
        }
    }
}

/// Sends `count` packets of 20 ms that look like Opus.
pub async fn send_audio(sender: TrackSender, count: u32) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for number in 0..count {
        ticks.tick().await;
        let mut data = vec![31 << 3; 80];
        data[1..5].copy_from_slice(&number.to_be_bytes());
        let captured = start + Duration::from_millis(20) * number;
        let frame = EncodedFrame {
            layer: 0,
            captured,
            keyframe: true,
            temporal: None,
            audio_level: Some(30),
            data: data.into(),
        };
        sender.frames.send(frame).await.unwrap();
    }
}
