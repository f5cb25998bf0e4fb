//! What a call measured about itself: times of joining, and for each track what came and
//! what was lost. Written by bots as JSON; shown by the app's diagnostics.

use std::time::Duration;

use serde::Serialize;

/// The figures of a call so far. Times in milliseconds since `Call::join`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallReport {
    /// The room's name.
    pub room: String,
    /// The room's sid.
    pub room_sid: Option<String>,
    /// The own participant's sid.
    pub participant_sid: Option<String>,
    /// The own identity.
    pub identity: Option<String>,
    /// How it ended; `None` while it goes on.
    pub ended: Option<String>,
    /// How long it has lasted.
    pub duration_ms: f64,
    /// Times of joining.
    pub join: JoinTimes,
    /// Resumes and rejoins.
    pub reconnects: u32,
    /// Connection to the server.
    pub network: NetworkReport,
    /// The server refused an own track, or never took it.
    pub publish_refused: bool,
    /// Own tracks.
    pub sent: Vec<SentTrack>,
    /// Others' tracks, ended ones included.
    pub received: Vec<ReceivedTrack>,
}

/// Milliseconds from `Call::join` to each step of the first join.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTimes {
    /// The room token is here.
    pub token_ms: Option<f64>,
    /// The WebSocket is open.
    pub signal_ms: Option<f64>,
    /// `JoinResponse` came.
    pub joined_ms: Option<f64>,
    /// The primary peer connection is up.
    pub connected_ms: Option<f64>,
    /// The first remote picture is decoded.
    pub first_frame_ms: Option<f64>,
    /// The first remote sound is decoded.
    pub first_audio_ms: Option<f64>,
}

/// Connection to the server.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkReport {
    /// `udp` or `tcp`.
    pub protocol: Option<String>,
    /// Of the chosen candidate pair.
    pub round_trip_ms: Option<f64>,
    /// Of signalling pings.
    pub signal_round_trip_ms: Option<f64>,
    /// The sending estimate.
    pub available_outgoing_kbps: Option<u64>,
    /// Publisher connection.
    pub bytes_sent: u64,
    /// Subscriber connection.
    pub bytes_received: u64,
}

/// An own track.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SentTrack {
    /// LiveKit's sid.
    pub sid: Option<String>,
    /// `camera`, `microphone`...
    pub source: String,
    /// Frames or packets that the encoder gave, all layers.
    pub frames: u64,
    /// Dropped because the network was behind.
    pub dropped: u64,
    /// Packets sent.
    pub packets: u64,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Over the whole call.
    pub kbps: f64,
    /// Retransmitted packets.
    pub retransmissions: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
    /// Lost, as receivers report.
    pub lost: i64,
    /// Pictures only: simulcast layers, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<SentLayer>,
    /// Sound only: when it began after silence, ms since 1970, at capture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub onsets: Vec<f64>,
}

/// A simulcast layer of an own track.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SentLayer {
    /// Pixels of its newest frame.
    pub size: (u32, u32),
    /// Frames encoded since the camera was last turned on.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Its share of what the network takes, now; 0 while it is off.
    pub target_kbps: u64,
}

/// Someone's track.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedTrack {
    /// LiveKit's sid.
    pub sid: String,
    /// The sender's identity.
    pub identity: String,
    /// `camera`, `microphone`...
    pub source: String,
    /// `video/VP8`, `audio/opus`.
    pub mime: String,
    /// Gone by now.
    pub ended: bool,
    /// RTP packets.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Over the track's life.
    pub kbps: f64,
    /// Never came.
    pub lost: i64,
    /// NACKs sent.
    pub nacks: u64,
    /// Came as retransmission.
    pub retransmissions: u64,
    /// Milliseconds from the track's start to its first picture or sound.
    pub first_ms: Option<f64>,
    /// Pictures only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoFigures>,
    /// Sound only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioFigures>,
}

/// Received pictures.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoFigures {
    /// Decoded.
    pub frames: u64,
    /// Given up undecoded.
    pub frames_dropped: u64,
    /// Pixels of the newest.
    pub size: (u32, u32),
    /// Over the track's life.
    pub fps: f64,
    /// Waits longer than three mean frame intervals, and than a mean one plus 150 ms.
    pub freezes: u32,
    /// Their sum.
    pub freeze_ms: f64,
    /// Mean time of decoding one picture.
    pub decode_ms: f32,
    /// PLIs sent.
    pub keyframe_requests: u64,
    /// Distinct timecodes read from a test pattern.
    pub timecodes: u64,
    /// From drawing to decoding, out of the pattern's timecode; both clocks must be one machine's.
    pub glass_to_glass_ms: Option<Percentiles>,
}

/// Received sound.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioFigures {
    /// Blocks of 10 ms played.
    pub blocks: u64,
    /// Of them made up by concealment.
    pub plc: u64,
    /// Packets brought back by Opus FEC.
    pub fec: u64,
    /// Share of concealed sound.
    pub concealed: f64,
    /// Jitter buffer, now.
    pub buffer_ms: f64,
    /// Newest level, dBFS.
    pub level_db: f32,
    /// The longest run of concealed sound.
    pub longest_gap_ms: f32,
    /// The strongest tone of the last tenth of a second, Hz; absent in silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tone_hz: Option<f32>,
    /// When sound began after silence, ms since 1970, at the mixer. With the sender's: mouth-to-ear without devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub onsets: Vec<f64>,
}

/// Order statistics of a series.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th.
    pub p95: f64,
    /// How many there were.
    pub count: usize,
}

impl Percentiles {
    /// Of these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let at = |share: f64| {
            sorted
                .get(((count.saturating_sub(1)) as f64 * share).round() as usize)
                .copied()
        };
        Some(Self {
            p50: at(0.5)?,
            p95: at(0.95)?,
            count,
        })
    }
}

/// Milliseconds with three decimals.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred_values_are_the_fiftieth_and_ninety_fifth() {
        let p = Percentiles::of((1..=101).map(f64::from)).unwrap();
        assert_eq!((p.p50, p.p95, p.count), (51.0, 96.0, 101));
        assert_eq!(Percentiles::of([]), None);
    }
}
