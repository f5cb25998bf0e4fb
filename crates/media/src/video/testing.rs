//! Pictures and packets for this crate's own tests.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{I420, MediaPacket};

/// A picture of one luma value.
pub fn grey(width: u32, height: u32, luma: u8) -> I420 {
    let pixels = (width * height) as usize;
    let mut data = vec![128; pixels * 3 / 2];
    data[..pixels].fill(luma);
    I420 {
        width,
        height,
        data: data.into(),
        time: Instant::now(),
    }
}

/// Peak signal-to-noise ratio of two luma planes of one size, in dB.
pub fn luma_psnr(a: &I420, b: &I420) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let sum: u64 = a
        .y()
        .iter()
        .zip(b.y())
        .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
        .sum();
    10.0 * (255.0f64.powi(2) / (sum as f64 / a.y().len() as f64).max(1e-6)).log10()
}

/// Splits encoded frames into RTP payloads as RFC 7741 says, with 15-bit picture ids.
pub struct Packetizer {
    sequence: u16,
    picture_id: u16,
    tl0: u8,
    max: usize,
}

impl Packetizer {
    pub fn new(sequence: u16, picture_id: u16, max: usize) -> Self {
        Self {
            sequence,
            picture_id,
            tl0: 250,
            max,
        }
    }

    /// Packets of one frame; `temporal` is (TID, Y).
    pub fn frame(
        &mut self,
        timestamp: u32,
        temporal: Option<(u8, bool)>,
        data: &[u8],
        at: Instant,
    ) -> Vec<MediaPacket> {
        if temporal.is_some_and(|t| t.0 == 0) {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let chunks: Vec<&[u8]> = data.chunks(self.max).collect();
        let last = chunks.len() - 1;
        let packets = chunks
            .iter()
            .enumerate()
            .map(|(i, chunk)| {
                let mut payload = BytesMut::new();
                payload.put_u8(0x80 | if i == 0 { 0x10 } else { 0 });
                payload.put_u8(0x80 | if temporal.is_some() { 0x60 } else { 0 });
                payload.put_u16(0x8000 | (self.picture_id & 0x7fff));
                if let Some((tid, sync)) = temporal {
                    payload.put_u8(self.tl0);
                    payload.put_u8((tid << 6) | if sync { 0x20 } else { 0 });
                }
                payload.put_slice(chunk);
                self.packet(timestamp, i == last, payload.freeze(), at)
            })
            .collect();
        self.picture_id = self.picture_id.wrapping_add(1);
        packets
    }

    /// One packet with the next sequence number, for padding.
    pub fn packet(&mut self, timestamp: u32, marker: bool, payload: Bytes, arrived: Instant) -> MediaPacket {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        MediaPacket {
            sequence,
            timestamp,
            marker,
            payload,
            arrived,
        }
    }
}

/// Waits for a condition, at most 10 s.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not in 10 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
