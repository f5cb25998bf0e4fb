//! Sent tracks and received streams: names, queues and counters of each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use confab_types::Bitrate;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::api::{KeyframeRequest, ReceivedPacket, SenderReport, TrackStats};
use crate::rtp_clock::TrackClock;

/// Where a track's packets wait for their reader: about a second of 10 Mbps. More would only be latency.
const QUEUE_PACKETS: usize = 1024;
/// Keyframe requests closer together than this are one request for all their layers.
const REQUESTS_TOGETHER: Duration = Duration::from_millis(200);
/// Counts of one track, read by `stats`.
#[derive(Default)]
pub(crate) struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicI64,
    nacks: AtomicU64,
    retransmissions: AtomicU64,
    plis: AtomicU64,
}

impl Counters {
    /// A packet passed.
    pub(crate) fn packet(&self, bytes: u64, retransmitted: bool) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if retransmitted {
            self.retransmissions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As the outside sees them.
    pub(crate) fn stats(&self, id: String) -> TrackStats {
        TrackStats {
            id,
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            nacks: self.nacks.load(Ordering::Relaxed),
            retransmissions: self.retransmissions.load(Ordering::Relaxed),
            plis: self.plis.load(Ordering::Relaxed),
        }
    }
}

/// One layer of a sent track.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Its stream.
    pub(crate) ssrc: u32,
    /// Its retransmissions.
    pub(crate) rtx: Option<u32>,
    /// Its name, when there is more than one.
    pub(crate) rid: Option<Bytes>,
}

/// What the negotiation settled for a sent track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// RTP payload type.
    pub(crate) payload_type: u8,
    /// Id of the audio-level extension.
    pub(crate) level: Option<u8>,
}

/// A track that we send.
pub(crate) struct SentTrack {
    /// The client's id of it.
    pub(crate) cid: String,
    /// Sound goes ahead of everything in the pacer.
    pub(crate) audio: bool,
    /// What it sends at most.
    pub(crate) most: Bitrate,
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    /// Maps capture times to RTP times, the same for all layers.
    pub(crate) clock: Mutex<TrackClock>,
    /// Counts.
    pub(crate) counters: Counters,
    negotiated: Mutex<Option<Negotiated>>,
    mid: Mutex<Option<Bytes>>,
    keyframes: watch::Sender<KeyframeRequest>,
    last_request: Mutex<Option<Instant>>,
    lost: Mutex<HashMap<u32, u32>>,
}

impl SentTrack {
    /// Notes the outcome of a negotiation; `None`: nothing may be sent any more.
    pub(crate) fn set_negotiated(&self, outcome: Option<Negotiated>) {
        *self.negotiated.lock() = outcome;
    }

    /// The m-line's name.
    pub(crate) fn mid(&self) -> Option<Bytes> {
        self.mid.lock().clone()
    }

    /// The network wants a keyframe of this layer.
    pub(crate) fn pli_received(&self, layer: usize, now: Instant) {
        self.counters.plis.fetch_add(1, Ordering::Relaxed);
        self.want_keyframe(1u8.checked_shl(layer as u32).unwrap_or(0), now);
    }

    /// A NACK came.
    pub(crate) fn nack_received(&self) {
        self.counters.nacks.fetch_add(1, Ordering::Relaxed);
    }

    /// A receiver told its total of lost packets of one stream.
    pub(crate) fn reported_lost(&self, ssrc: u32, total: u32) {
        let mut lost = self.lost.lock();
        lost.insert(ssrc, total);
        self.counters
            .lost
            .store(lost.values().map(|l| i64::from(*l)).sum(), Ordering::Relaxed);
    }

    /// A track, and who hears of keyframe requests for it.
    pub(crate) fn new(
        cid: String,
        audio: bool,
        most: Bitrate,
        layers: Vec<Layer>,
        clock: TrackClock,
    ) -> (Arc<Self>, watch::Receiver<KeyframeRequest>) {
        let (keyframes, wanted) = watch::channel(KeyframeRequest::default());
        let track = Self {
            cid,
            audio,
            most,
            layers,
            clock: Mutex::new(clock),
            counters: Counters::default(),
            negotiated: Mutex::default(),
            mid: Mutex::default(),
            keyframes,
            last_request: Mutex::default(),
            lost: Mutex::default(),
        };
        (Arc::new(track), wanted)
    }

    /// What was negotiated; `None` while nothing may be sent.
    pub(crate) fn negotiated(&self) -> Option<Negotiated> {
        *self.negotiated.lock()
    }

    /// Sets the m-line's name.
    pub(crate) fn set_mid(&self, mid: &str) {
        *self.mid.lock() = Some(Bytes::copy_from_slice(mid.as_bytes()));
    }

    /// Asks the encoder for keyframes of the layers in the mask.
    pub(crate) fn want_keyframe(&self, mask: u8, now: Instant) {
        let together = self
            .last_request
            .lock()
            .replace(now)
            .is_some_and(|last| now.saturating_duration_since(last) < REQUESTS_TOGETHER);
        self.keyframes.send_modify(|request| {
            request.count += 1;
            request.layers = if together { request.layers | mask } else { mask };
        });
    }

    /// All layers at once: at the start and after an interruption.
    pub(crate) fn want_all_keyframes(&self, now: Instant) {
        if !self.audio {
            self.want_keyframe((1u16 << self.layers.len().min(8)).wrapping_sub(1) as u8, now);
        }
    }
}

/// A stream that we receive, with its packets waiting for the track's task.
pub(crate) struct Inbound {
    /// Its SSRC.
    pub(crate) ssrc: u32,
    /// e.g. `video/VP8`.
    pub(crate) mime: String,
    /// In Hz.
    pub(crate) clock_rate: u32,
    /// Counts.
    pub(crate) counters: Counters,
    /// The track's id, once the library told it.
    pub(crate) track_id: Mutex<String>,
    queue: Mutex<VecDeque<ReceivedPacket>>,
    ended: AtomicBool,
    wake: Notify,
    report: watch::Sender<Option<SenderReport>>,
}

impl Inbound {
    /// A stream that begins.
    pub(crate) fn new(ssrc: u32, mime: String, clock_rate: u32) -> Self {
        Self {
            ssrc,
            mime,
            clock_rate,
            counters: Counters::default(),
            track_id: Mutex::default(),
            queue: Mutex::default(),
            ended: AtomicBool::new(false),
            wake: Notify::new(),
            report: watch::Sender::new(None),
        }
    }

    /// Puts a packet in line; the oldest is dropped when nobody reads.
    pub(crate) fn push(&self, packet: ReceivedPacket) {
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUE_PACKETS {
            queue.pop_front();
        }
        queue.push_back(packet);
        drop(queue);
        self.wake.notify_one();
    }

    /// The next packet, if one waits.
    pub(crate) fn pop(&self) -> Option<ReceivedPacket> {
        self.queue.lock().pop_front()
    }

    /// The next packet; `None` when the stream ended.
    pub(crate) async fn next(&self) -> Option<ReceivedPacket> {
        loop {
            let wake = self.wake.notified();
            if let Some(packet) = self.pop() {
                return Some(packet);
            }
            if self.is_ended() {
                return None;
            }
            wake.await;
        }
    }

    /// No more packets will come.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether no more packets will come.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A sender report came.
    pub(crate) fn reported(&self, report: SenderReport) {
        self.report.send_replace(Some(report));
    }

    /// Sender reports as they come.
    pub(crate) fn reports(&self) -> watch::Receiver<Option<SenderReport>> {
        self.report.subscribe()
    }

    /// Counts a packet as it came, duplicates included.
    pub(crate) fn count(&self, bytes: u64, retransmitted: bool) {
        self.counters.packet(bytes, retransmitted);
    }

    /// Counts a keyframe request of ours.
    pub(crate) fn count_pli(&self) {
        self.counters.plis.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts NACKed numbers, and those given up or repaired.
    pub(crate) fn count_gaps(&self, nacks: u64, lost: i64) {
        self.counters.nacks.fetch_add(nacks, Ordering::Relaxed);
        self.counters.lost.fetch_add(lost, Ordering::Relaxed);
    }
}
