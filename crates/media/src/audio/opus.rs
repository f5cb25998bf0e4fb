//! Opus at 48 kHz mono, 20 ms a packet, with in-band forward error correction (RFC 6716, RFC 7587).

use bytes::Bytes;
use confab_types::Bitrate;
use opusic_c::{
    Application, Bitrate as OpusBitrate, Channels, Decoder, Encoder, ErrorCode, InbandFec, SampleRate, Signal,
};
use thiserror::Error;

use super::FRAME;

/// The longest packet Opus knows: 120 ms.
pub const MAX_PACKET_SAMPLES: usize = 5760;

/// Room for one packet: 20 ms at 510 kbps, the codec's most, and a little.
const MAX_PACKET_BYTES: usize = 1500;

/// Why Opus refused.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpusError {
    /// The codec could not be set up.
    #[error("Opus could not be set up: {0}")]
    Setup(&'static str),
    /// A block could not be encoded.
    #[error("Opus could not encode: {0}")]
    Encode(&'static str),
    /// The packet is damaged, or not Opus.
    #[error("not a valid Opus packet: {0}")]
    Decode(&'static str),
}

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusConfig {
    /// Target. 32 kbps is clear wide-band speech with error correction; music wants 64 or more.
    pub bitrate: Bitrate,
    /// Loss to prepare for, percent. More strengthens the correction at the cost of quality without loss; at 0 none is sent.
    pub expected_loss: u8,
    /// Send almost nothing in silence. Off: the level and the packet flow stay steady.
    pub dtx: bool,
    /// 0 to 10: CPU against quality.
    pub complexity: u8,
}

impl Default for OpusConfig {
    fn default() -> Self {
        Self {
            bitrate: Bitrate::kbps(32),
            expected_loss: 10,
            dtx: false,
            complexity: 8,
        }
    }
}

/// Encodes 20 ms blocks.
pub struct OpusEncoder {
    inner: Encoder,
}

impl OpusEncoder {
    /// Sets up an encoder.
    pub fn new(config: OpusConfig) -> Result<Self, OpusError> {
        let setup = |error: ErrorCode| OpusError::Setup(error.message());
        let mut inner = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).map_err(setup)?;
        inner.set_signal(Signal::Voice).map_err(setup)?;
        inner.set_inband_fec(InbandFec::Mode1).map_err(setup)?;
        inner.set_complexity(config.complexity.min(10)).map_err(setup)?;
        inner.set_dtx(config.dtx).map_err(setup)?;
        let mut encoder = Self { inner };
        encoder.set_bitrate(config.bitrate)?;
        encoder.set_expected_loss(config.expected_loss)?;
        Ok(encoder)
    }

    /// Changes the target; the codec takes 6 to 510 kbps.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), OpusError> {
        let bps = bitrate.as_bps().clamp(6_000, 510_000) as u32;
        self.inner
            .set_bitrate(OpusBitrate::Value(bps))
            .map_err(|error| OpusError::Setup(error.message()))
    }

    /// Changes the loss to prepare for, in percent.
    pub fn set_expected_loss(&mut self, percent: u8) -> Result<(), OpusError> {
        self.inner
            .set_packet_loss(percent.min(100))
            .map_err(|error| OpusError::Setup(error.message()))
    }

    /// Encodes 20 ms.
    pub fn encode(&mut self, samples: &[f32; FRAME]) -> Result<Bytes, OpusError> {
        let mut packet = [0u8; MAX_PACKET_BYTES];
        let len = self
            .inner
            .encode_float_to_slice(samples, &mut packet)
            .map_err(|error| OpusError::Encode(error.message()))?;
        Ok(Bytes::copy_from_slice(&packet[..len]))
    }
}

/// Decodes packets, and makes up for missing ones.
pub struct OpusDecoder {
    inner: Decoder,
}

impl OpusDecoder {
    /// Sets up a decoder. Stereo packets come out as mono.
    pub fn new() -> Result<Self, OpusError> {
        let inner =
            Decoder::new(Channels::Mono, SampleRate::Hz48000).map_err(|error| OpusError::Setup(error.message()))?;
        Ok(Self { inner })
    }

    /// Samples a packet holds, without decoding it; `None` for what is not Opus.
    pub fn packet_samples(packet: &[u8]) -> Option<usize> {
        if packet.is_empty() {
            return None;
        }
        match opusic_c::utils::get_nb_samples(packet, SampleRate::Hz48000) {
            Ok(samples) if samples > 0 && samples <= MAX_PACKET_SAMPLES => Some(samples),
            _ => None,
        }
    }

    /// Decodes a packet into `out`, which must hold it; gives the number of samples.
    pub fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, OpusError> {
        if packet.is_empty() {
            return Err(OpusError::Decode("empty"));
        }
        self.inner
            .decode_float_to_slice(packet, out, false)
            .map_err(|error| OpusError::Decode(error.message()))
    }

    /// Decodes the copy of the lost packet that `next`, the one after it, carries; `out` is as long as the lost one.
    /// Where it carries none the loss is concealed.
    pub fn decode_fec(&mut self, next: &[u8], out: &mut [f32]) -> Result<usize, OpusError> {
        if next.is_empty() {
            return Err(OpusError::Decode("empty"));
        }
        self.inner
            .decode_float_to_slice(next, out, true)
            .map_err(|error| OpusError::Decode(error.message()))
    }

    /// Invents `out.len()` samples (a multiple of 2.5 ms) that continue what was heard.
    pub fn conceal(&mut self, out: &mut [f32]) -> Result<usize, OpusError> {
        self.inner
            .decode_float_to_slice(&[], out, false)
            .map_err(|error| OpusError::Decode(error.message()))
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.inner.reset().map_err(|error| OpusError::Setup(error.message()))
    }
}

/// Whether a packet carries a copy of the one before it: the low-bit-rate redundancy flag (RFC 6716 section 4.2.4) of
/// single-frame packets in the SILK and hybrid modes.
pub fn carries_fec(packet: &[u8]) -> bool {
    let Some(&toc) = packet.first() else { return false };
    let configuration = toc >> 3;
    if configuration >= 16 || toc & 3 != 0 {
        return false;
    }
    // After the voice-activity flag of each 20 ms frame comes the redundancy flag, high bits first.
    let silk_frames: i32 = match configuration {
        0..12 => [1, 1, 2, 3][usize::from(configuration & 3)],
        _ => 1,
    };
    let stereo = toc & 4 != 0;
    packet.get(1).is_some_and(|first| {
        first >> (7 - silk_frames) & 1 == 1 || (stereo && first >> (6 - 2 * silk_frames).max(0) & 1 == 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::generate::Voice;
    use crate::audio::meter::snr_db;

    fn frames(count: usize) -> Vec<[f32; FRAME]> {
        let mut voice = Voice::continuous(140.0);
        (0..count)
            .map(|_| {
                let mut frame = [0.0; FRAME];
                voice.fill(&mut frame);
                frame
            })
            .collect()
    }

    #[test]
    fn a_lost_frame_sounds_better_from_the_next_packet_than_invented() {
        let frames = frames(300);
        let mut encoder = OpusEncoder::new(OpusConfig::default()).unwrap();
        let packets: Vec<_> = frames.iter().map(|frame| encoder.encode(frame).unwrap()).collect();
        let mut whole = OpusDecoder::new().unwrap();
        let mut corrected = OpusDecoder::new().unwrap();
        let mut concealed = OpusDecoder::new().unwrap();
        let (mut reference, mut with_fec, mut with_plc) = (Vec::new(), Vec::new(), Vec::new());
        for (index, packet) in packets.iter().enumerate() {
            let mut out = [[0.0f32; FRAME]; 3];
            whole.decode(packet, &mut out[0]).unwrap();
            let lost = index > 20 && index % 10 == 5 && index + 1 < packets.len();
            if lost {
                corrected.decode_fec(&packets[index + 1], &mut out[1]).unwrap();
                concealed.conceal(&mut out[2]).unwrap();
                reference.extend_from_slice(&out[0]);
                with_fec.extend_from_slice(&out[1]);
                with_plc.extend_from_slice(&out[2]);
            } else {
                corrected.decode(packet, &mut out[1]).unwrap();
                concealed.decode(packet, &mut out[2]).unwrap();
            }
        }
        let (fec, plc) = (snr_db(&reference, &with_fec), snr_db(&reference, &with_plc));
        println!("in lost frames: correction {fec:.1} dB, concealment {plc:.1} dB");
        assert!(fec > plc + 2.0, "correction {fec:.1} dB, concealment {plc:.1} dB");
    }

    #[test]
    fn packets_tell_their_length_and_whether_they_correct() {
        let mut encoder = OpusEncoder::new(OpusConfig::default()).unwrap();
        let packets: Vec<_> = frames(50).iter().map(|frame| encoder.encode(frame).unwrap()).collect();
        assert!(
            packets
                .iter()
                .all(|packet| OpusDecoder::packet_samples(packet) == Some(FRAME))
        );
        let correcting = packets.iter().filter(|packet| carries_fec(packet)).count();
        assert!(correcting > 25, "{correcting} of 50 packets carry a copy");
        assert_eq!(OpusDecoder::packet_samples(&[]), None);
    }

    #[test]
    fn damaged_packets_are_refused_without_harm() {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut out = [0.0; MAX_PACKET_SAMPLES];
        let mut refused = 0;
        for seed in 0u32..2000 {
            let bytes: Vec<u8> = (0..seed % 40)
                .map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i) >> 13) as u8)
                .collect();
            refused += u32::from(decoder.decode(&bytes, &mut out).is_err());
            assert!(out.iter().all(|sample| sample.is_finite()));
        }
        assert!(refused > 0);
    }
}
