//! What the rest of the app sees of a peer connection.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use confab_types::Bitrate;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

/// How a connection is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// STUN and TURN servers the signalling named.
    pub ice_servers: Vec<IceServer>,
    /// Offer `a=setup:passive`, so that the server speaks first in DTLS (one interval saved). Only for our own server.
    pub passive_setup: bool,
    /// Gather loopback candidates too (a server on this computer).
    pub loopback: bool,
    /// Use ICE-TCP beside UDP (dial the server's passive TCP candidates).
    pub tcp: bool,
    /// Never use UDP: for networks that block it, and for tests of that.
    pub tcp_only: bool,
}

/// A STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:` or `turn:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: String,
    /// For TURN.
    pub credential: String,
}

/// A fact about a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// A local candidate to trickle: `RTCIceCandidateInit` fields.
    LocalCandidate(CandidateInit),
    /// The connection's state changed.
    State(ConnectionState),
    /// A remote track began.
    Track(RemoteTrack),
    /// A message on a data channel.
    Data {
        /// The channel's label.
        label: String,
        /// The message.
        payload: Bytes,
    },
    /// A data channel can be written to.
    DataOpen {
        /// The channel's label.
        label: String,
    },
}

/// `RTCIceCandidateInit`, as LiveKit's Trickle carries it in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CandidateInit {
    /// `candidate:...`
    pub candidate: String,
    /// The m-line's mid.
    pub sdp_mid: Option<String>,
    /// The m-line's index.
    pub sdp_mline_index: Option<u16>,
}

/// The standard's `RTCPeerConnectionState`, as far as anyone acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not yet.
    Connecting,
    /// Media flows.
    Connected,
    /// Packets stopped; may come back.
    Disconnected,
    /// Over, unless ICE restarts.
    Failed,
    /// Closed by us.
    Closed,
}

/// One simulcast layer to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerConfig {
    /// LiveKit's rids: `q`, `h`, `f`. A single layer has none.
    pub rid: Option<String>,
    /// The most it takes.
    pub max_bitrate: Bitrate,
}

/// A track to send.
#[derive(Debug, Clone)]
pub struct SendTrackConfig {
    /// The client's id of the track: becomes the track half of `a=msid`.
    pub cid: String,
    /// The stream half of `a=msid`.
    pub stream_id: String,
    /// What it is.
    pub codec: SendCodec,
}

/// What a sent track holds.
#[derive(Debug, Clone)]
pub enum SendCodec {
    /// Opus at 48 kHz.
    Opus,
    /// VP8, one entry a layer, lowest first.
    Vp8(Vec<LayerConfig>),
}

/// An encoded VP8 frame of one layer, or an Opus packet (`layer` 0).
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    /// Index into the layers of the track.
    pub layer: usize,
    /// Capture time on the monotonic clock. The RTP time is computed from it, so that sound and picture stay together.
    pub captured: Instant,
    /// Whether a decoder can start here.
    pub keyframe: bool,
    /// VP8 temporal layer, 0 being the base, and whether it can be switched up to here. `None`: no temporal layers.
    pub temporal: Option<Temporal>,
    /// Sound only: the loudness for the audio-level extension, dBov 0 (loudest) to 127.
    pub audio_level: Option<u8>,
    /// The payload.
    pub data: Bytes,
}

/// VP8 temporal layering of one frame (RFC 7741: TID, Y, TL0PICIDX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporal {
    /// TID.
    pub id: u8,
    /// Y: depends only on the base layer.
    pub sync: bool,
}

/// The sending half of a track. Cheap to clone; never blocks an encoder.
#[derive(Clone)]
pub struct TrackSender {
    /// Where frames go. Full means the network is behind: the frame is dropped and counted.
    pub frames: mpsc::Sender<EncodedFrame>,
    /// Layers (as a bit mask) that a keyframe is wanted of; reading it does not clear it. Bumps on every request.
    pub keyframe_requests: watch::Receiver<KeyframeRequest>,
    /// The cid it was made with, for removal.
    pub cid: String,
}

/// Who wants a keyframe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyframeRequest {
    /// Grows with every request.
    pub count: u64,
    /// Which layers the newest request is for: bit `n` is layer `n`.
    pub layers: u8,
}

/// A received RTP packet in its track's primary stream: retransmissions unwrapped, duplicates dropped.
#[derive(Debug, Clone)]
pub struct ReceivedPacket {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// Payload without RTP header and padding.
    pub payload: Bytes,
    /// When it came.
    pub arrived: Instant,
    /// It came as a retransmission.
    pub retransmitted: bool,
}

/// Maps a track's RTP time to the sender's wall clock (RFC 3550 sender report), for lip-sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// The same moment in RTP time.
    pub rtp: u32,
}

/// A track that the other side sends.
#[derive(Debug)]
pub struct RemoteTrack {
    /// The stream half of `a=msid`.
    pub stream_id: String,
    /// The track half of `a=msid`.
    pub track_id: String,
    /// The m-line.
    pub mid: String,
    /// e.g. `video/VP8`, `audio/opus`.
    pub mime: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Packets; ends when the track does. Holds about a second; the oldest are dropped when nobody reads.
    pub packets: mpsc::Receiver<ReceivedPacket>,
    /// Asks the sender for a keyframe; throttled inside.
    pub keyframes: KeyframeAsker,
    /// The newest sender report.
    pub sender_report: watch::Receiver<Option<SenderReport>>,
}

/// Asks for keyframes. `try_send(())` on a full channel is fine: one is on its way.
#[derive(Debug, Clone)]
pub struct KeyframeAsker(pub mpsc::Sender<()>);

impl KeyframeAsker {
    /// Asks; never blocks.
    pub fn ask(&self) {
        // A full channel already holds a request.
        let _ = self.0.try_send(());
    }
}

/// Measured about a connection, now.
#[derive(Debug, Clone, Default)]
pub struct ConnectionStats {
    /// Round trip of the chosen pair.
    pub round_trip: Option<Duration>,
    /// The chosen pair is `udp` or `tcp`.
    pub protocol: Option<String>,
    /// What the network takes, as estimated; sending side only.
    pub available_outgoing: Option<Bitrate>,
    /// Totals since the start.
    pub bytes_sent: u64,
    /// Totals since the start.
    pub bytes_received: u64,
    /// By track (cid when sent, track id when received).
    pub tracks: Vec<TrackStats>,
}

/// Measured about one track.
#[derive(Debug, Clone, Default)]
pub struct TrackStats {
    /// The cid (sent) or track id (received).
    pub id: String,
    /// Packets sent or received, retransmissions included.
    pub packets: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Packets that never came (received), or that the receiver reported lost (sent).
    pub lost: i64,
    /// NACKs sent (received track) or got (sent track).
    pub nacks: u64,
    /// Retransmissions got (received track) or sent (sent track).
    pub retransmissions: u64,
    /// PLIs sent or got.
    pub plis: u64,
}

/// Why a connection could not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The library refused; the text is its own.
    #[error("{what}: {source}")]
    WebRtc {
        /// What was tried.
        what: &'static str,
        /// The library's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Closed before.
    #[error("the connection is closed")]
    Closed,
    /// No such channel, track or layer.
    #[error("{0} is not known here")]
    Unknown(String),
}

/// A peer connection. The trait is what lets tests stand in for the network, and another stack for `webrtc`.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Makes and sets a local offer.
    async fn create_offer(&self, ice_restart: bool) -> Result<String, TransportError>;
    /// Sets the answer to it.
    async fn set_answer(&self, sdp: &str) -> Result<(), TransportError>;
    /// Sets a remote offer and answers it (candidates trickle).
    async fn answer_offer(&self, sdp: &str) -> Result<String, TransportError>;
    /// Adds a remote candidate; before a remote description it is kept.
    async fn add_candidate(&self, candidate: CandidateInit) -> Result<(), TransportError>;
    /// Adds a track to send; an offer must follow.
    async fn add_track(&self, config: SendTrackConfig) -> Result<TrackSender, TransportError>;
    /// Stops a sent track; an offer must follow.
    async fn remove_track(&self, cid: &str) -> Result<(), TransportError>;
    /// Opens a data channel before the first offer.
    async fn open_data_channel(
        &self,
        label: &str,
        ordered: bool,
        max_retransmits: Option<u16>,
    ) -> Result<(), TransportError>;
    /// Sends on a data channel, ours or the other side's, waiting for room in its buffer.
    async fn send_data(&self, label: &str, payload: Bytes) -> Result<(), TransportError>;
    /// What the network takes now: encoders follow it.
    fn target_bitrate(&self) -> watch::Receiver<Bitrate>;
    /// Figures now.
    async fn stats(&self) -> ConnectionStats;
    /// Closes it; events end.
    async fn close(&self);
}
