//! Sent tracks: encoded frames in, RTP packets out.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use confab_types::Bitrate;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use tokio::sync::mpsc;
use tracing::debug;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use crate::api::{EncodedFrame, LayerConfig, SendCodec, SendTrackConfig};
use crate::rtp_clock::{TrackClock, opus_samples};
use crate::setup;
use crate::streams::{Layer, Negotiated, SentTrack};
use crate::vp8::Packetizer;

/// Frames that may wait: a third of a second of three layers. Later ones would only add delay.
pub(crate) const FRAMES: usize = 32;

/// Not 0, which some stacks take for "none".
fn new_ssrc() -> u32 {
    rand::random_range(1..u32::MAX)
}

/// The layers of a track with their streams.
pub(crate) fn layers(codec: &SendCodec) -> Vec<Layer> {
    let layer = |rid: Option<&LayerConfig>, rtx| Layer {
        ssrc: new_ssrc(),
        rtx,
        rid: rid
            .and_then(|l| l.rid.as_ref())
            .map(|rid| Bytes::copy_from_slice(rid.as_bytes())),
    };
    match codec {
        SendCodec::Opus => vec![layer(None, None)],
        SendCodec::Vp8(layers) => layers.iter().map(|l| layer(Some(l), Some(new_ssrc()))).collect(),
    }
}

/// The library's description of the track.
pub(crate) fn media_track(config: &SendTrackConfig, layers: &[Layer]) -> MediaStreamTrack {
    let (kind, codec, bitrates): (_, RTCRtpCodec, Vec<u64>) = match &config.codec {
        SendCodec::Opus => (RtpCodecKind::Audio, setup::opus(), vec![0]),
        SendCodec::Vp8(layers) => (
            RtpCodecKind::Video,
            setup::vp8(),
            layers.iter().map(|l| l.max_bitrate.as_bps()).collect(),
        ),
    };
    let encodings = layers
        .iter()
        .zip(bitrates)
        .map(|(layer, bitrate)| RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                rid: layer
                    .rid
                    .as_ref()
                    .map(|rid| String::from_utf8_lossy(rid).into_owned())
                    .unwrap_or_default(),
                ssrc: Some(layer.ssrc),
                rtx: layer.rtx.map(|ssrc| RTCRtpRtxParameters { ssrc }),
                fec: None,
            },
            active: true,
            codec: codec.clone(),
            max_bitrate: u32::try_from(bitrate).unwrap_or(u32::MAX),
            ..Default::default()
        });
    MediaStreamTrack::new(
        config.stream_id.clone(),
        config.cid.clone(),
        config.cid.clone(),
        kind,
        encodings.collect(),
    )
}

/// What a track sends at most: its layers together, with room for retransmissions.
pub(crate) fn most(codec: &SendCodec) -> Bitrate {
    match codec {
        SendCodec::Opus => Bitrate::kbps(64),
        SendCodec::Vp8(layers) => Bitrate::bps(layers.iter().map(|l| l.max_bitrate.as_bps()).sum::<u64>() * 11 / 10),
    }
}

/// A new track's clock, with a random start.
pub(crate) fn clock(codec: &SendCodec, epoch: Instant) -> TrackClock {
    let rate = match codec {
        SendCodec::Opus => 48_000,
        SendCodec::Vp8(_) => 90_000,
    };
    TrackClock::new(epoch, rand::random(), rate)
}

struct LayerState {
    sequence: u16,
    vp8: Packetizer,
}

/// Turns the frames of one track into packets.
struct Sender {
    track: Arc<SentTrack>,
    layers: Vec<LayerState>,
}

impl Sender {
    fn new(track: Arc<SentTrack>) -> Self {
        let new = |_: &Layer| LayerState {
            // The upper half stays free: RFC 3711 advises against a wrap within the first packets.
            sequence: rand::random::<u16>() & 0x7fff,
            vp8: Packetizer::new(rand::random(), rand::random()),
        };
        let layers = track.layers.iter().map(new).collect();
        Self { track, layers }
    }

    fn packets(&mut self, frame: &EncodedFrame, negotiated: Negotiated) -> Vec<rtc::rtp::Packet> {
        let Some((state, layer)) = self.layers.get_mut(frame.layer).zip(self.track.layers.get(frame.layer)) else {
            return Vec::new();
        };
        let (payloads, timestamp) = if self.track.audio {
            (
                vec![frame.data.clone()],
                self.track.clock.lock().sound(frame.captured, opus_samples(&frame.data)),
            )
        } else {
            (
                state.vp8.packetize(&frame.data, frame.temporal),
                self.track.clock.lock().at(frame.captured),
            )
        };
        let last = payloads.len().saturating_sub(1);
        let packets = payloads.into_iter().enumerate().map(|(n, payload)| {
            let header = rtc::rtp::Header {
                version: 2,
                marker: n == last && !self.track.audio,
                payload_type: negotiated.payload_type,
                sequence_number: state.sequence,
                timestamp,
                ssrc: layer.ssrc,
                ..Default::default()
            };
            state.sequence = state.sequence.wrapping_add(1);
            let mut packet = rtc::rtp::Packet { header, payload };
            if let (Some(id), Some(level)) = (negotiated.level, frame.audio_level) {
                // RFC 6464: the top bit says voice; louder than -60 dBov is taken for it.
                let voice = if level < 60 { 0x80 } else { 0 };
                let _ = packet
                    .header
                    .set_extension(id, Bytes::copy_from_slice(&[voice | level.min(127)]));
            }
            packet
        });
        packets.collect()
    }
}

/// Sends frames until their sender or the connection is gone. `connected` says whether packets would get out.
pub(crate) async fn run(
    track: Arc<SentTrack>,
    writer: Arc<TrackLocalStaticRTP>,
    mut frames: mpsc::Receiver<EncodedFrame>,
    connected: tokio::sync::watch::Receiver<bool>,
) {
    let mut sender = Sender::new(track);
    let mut started = vec![false; sender.layers.len()];
    while let Some(frame) = frames.recv().await {
        let negotiated = sender.track.negotiated().filter(|_| *connected.borrow());
        let Some(negotiated) = negotiated else {
            started.fill(false);
            continue;
        };
        // Nothing can be decoded before a keyframe.
        let Some(started) = started.get_mut(frame.layer) else {
            continue;
        };
        if !*started && !sender.track.audio && !frame.keyframe {
            sender.track.want_all_keyframes(Instant::now());
            continue;
        }
        *started = true;
        for packet in sender.packets(&frame, negotiated) {
            if let Err(error) = writer.write_rtp(packet).await {
                debug!(%error, cid = sender.track.cid, "the track ended");
                return;
            }
        }
    }
}
