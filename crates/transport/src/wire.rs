//! What the packet chain and the tasks around it share about one connection: streams by
//! SSRC, their names, queues and counters. Locks are held for a lookup only.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use confab_types::Bitrate;
use parking_lot::Mutex;
use rtc::interceptor::StreamInfo;
use tokio::sync::{Notify, watch};

use crate::api::{KeyframeRequest, ReceivedPacket, SenderReport, TrackStats};
use crate::rtp_clock::TrackClock;

/// Where a track's packets wait for their reader: about a second of 10 Mbps. More would only be latency.
const QUEUE_PACKETS: usize = 1024;
/// Keyframe requests closer together than this are one request for all their layers.
const REQUESTS_TOGETHER: Duration = Duration::from_millis(200);
/// The target before any feedback: enough for all three layers of a small camera.
pub(crate) const INITIAL_TARGET: Bitrate = Bitrate::kbps(1_000);
/// Assumed until measured.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

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
    fn packet(&self, bytes: u64, retransmitted: bool) {
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
    fn new(ssrc: u32, mime: String, clock_rate: u32) -> Self {
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

#[derive(Default)]
struct Streams {
    sent: HashMap<u32, (Arc<SentTrack>, usize)>,
    received: HashMap<u32, Arc<Inbound>>,
}

/// See the module's text.
pub(crate) struct Wire {
    streams: Mutex<Streams>,
    round_trip_micros: AtomicU64,
    /// Sections of the other side's last description, and whether it takes transport-wide numbers there.
    numbered: Mutex<HashMap<String, bool>>,
    target: watch::Sender<Bitrate>,
    /// A test of the path, in bits a second, that the next packet should be followed by.
    probe: Mutex<Option<f64>>,
    /// When the packets of the last test left.
    probe_window: Mutex<Option<(Instant, Instant)>>,
}

impl Wire {
    /// Nothing sent, nothing received.
    pub(crate) fn new() -> Self {
        let micros = INITIAL_ROUND_TRIP.as_micros() as u64;
        Self {
            streams: Mutex::default(),
            round_trip_micros: AtomicU64::new(micros),
            numbered: Mutex::default(),
            target: watch::Sender::new(INITIAL_TARGET),
            probe: Mutex::default(),
            probe_window: Mutex::default(),
        }
    }

    /// A track is about to be sent.
    pub(crate) fn add_sent(&self, track: &Arc<SentTrack>) {
        let mut streams = self.streams.lock();
        for (index, layer) in track.layers.iter().enumerate() {
            streams.sent.insert(layer.ssrc, (track.clone(), index));
        }
    }

    /// A track is sent no longer.
    pub(crate) fn remove_sent(&self, cid: &str) {
        self.streams.lock().sent.retain(|_, (track, _)| track.cid != cid);
    }

    /// Every sent track.
    pub(crate) fn sent_tracks(&self) -> Vec<Arc<SentTrack>> {
        let streams = self.streams.lock();
        let mut tracks: Vec<Arc<SentTrack>> = Vec::new();
        for (track, layer) in streams.sent.values() {
            if *layer == 0 {
                tracks.push(track.clone());
            }
        }
        tracks
    }

    fn sent(&self, ssrc: u32) -> Option<(Arc<SentTrack>, usize)> {
        self.streams.lock().sent.get(&ssrc).cloned()
    }

    /// The sent track of a primary stream.
    pub(crate) fn sent_track(&self, ssrc: u32) -> Option<Arc<SentTrack>> {
        self.sent(ssrc).map(|(track, _)| track)
    }

    /// The mid and rid of a primary stream.
    pub(crate) fn names_of(&self, ssrc: u32) -> Option<(Option<Bytes>, Option<Bytes>)> {
        let (track, layer) = self.sent(ssrc)?;
        let mid = track.mid.lock().clone();
        Some((mid, track.layers.get(layer)?.rid.clone()))
    }

    /// Notes the outcome of a negotiation.
    pub(crate) fn negotiated(&self, ssrc: u32, outcome: Option<(u8, Option<u8>)>) {
        if let Some((track, _)) = self.sent(ssrc) {
            *track.negotiated.lock() = outcome.map(|(payload_type, level)| Negotiated { payload_type, level });
        }
    }

    /// Notes on which sections the other side takes transport-wide numbers.
    pub(crate) fn set_numbered(&self, sections: HashMap<String, bool>) {
        *self.numbered.lock() = sections;
    }

    /// Whether this stream's packets get transport-wide numbers. Where they are not negotiated (LiveKit's sound) they
    /// would never be acknowledged, and count as lost.
    pub(crate) fn is_numbered(&self, ssrc: u32) -> bool {
        let mid = self.sent(ssrc).and_then(|(track, _)| track.mid.lock().clone());
        let numbered = self.numbered.lock();
        mid.and_then(|mid| numbered.get(std::str::from_utf8(&mid).ok()?).copied())
            .unwrap_or(true)
    }

    /// Orders a test of the path at a rate.
    pub(crate) fn order_probe(&self, rate: f64) {
        *self.probe.lock() = Some(rate);
    }

    /// The test to be sent now.
    pub(crate) fn take_probe(&self) -> Option<f64> {
        self.probe.lock().take()
    }

    /// A test left.
    pub(crate) fn probe_left(&self, first: Instant, last: Instant) {
        *self.probe_window.lock() = Some((first, last));
    }

    /// When the last test left, told once.
    pub(crate) fn take_probe_window(&self) -> Option<(Instant, Instant)> {
        self.probe_window.lock().take()
    }

    /// What all negotiated tracks could send, in bits a second.
    pub(crate) fn wanted(&self) -> f64 {
        let tracks = self.sent_tracks();
        tracks
            .iter()
            .filter(|t| t.negotiated().is_some())
            .map(|t| t.most.as_bps() as f64)
            .sum()
    }

    /// Counts a packet on its way out.
    pub(crate) fn count_sent(&self, ssrc: u32, bytes: u64, retransmitted: bool) {
        if let Some((track, _)) = self.sent(ssrc) {
            track.counters.packet(bytes, retransmitted);
        }
    }

    /// The network wants a keyframe of this stream.
    pub(crate) fn keyframe_wanted(&self, ssrc: u32, now: Instant) {
        if let Some((track, layer)) = self.sent(ssrc) {
            track.counters.plis.fetch_add(1, Ordering::Relaxed);
            track.want_keyframe(1u8.checked_shl(layer as u32).unwrap_or(0), now);
        }
    }

    /// A NACK came for this stream.
    pub(crate) fn nack_received(&self, ssrc: u32) {
        if let Some((track, _)) = self.sent(ssrc) {
            track.counters.nacks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The receiver's own total of lost packets.
    pub(crate) fn reported_lost(&self, ssrc: u32, total: u32) {
        if let Some((track, _)) = self.sent(ssrc) {
            let mut lost = track.lost.lock();
            lost.insert(ssrc, total);
            track
                .counters
                .lost
                .store(lost.values().map(|l| i64::from(*l)).sum(), Ordering::Relaxed);
        }
    }

    /// A remote stream was bound; each negotiation binds those that go on once more, and they keep their queue.
    pub(crate) fn inbound_began(&self, info: &StreamInfo) -> Arc<Inbound> {
        let mut streams = self.streams.lock();
        let held = streams
            .received
            .get(&info.ssrc)
            .filter(|inbound| !inbound.is_ended() && inbound.mime == info.mime_type);
        if let Some(held) = held {
            return held.clone();
        }
        let inbound = Arc::new(Inbound::new(info.ssrc, info.mime_type.clone(), info.clock_rate));
        streams.received.insert(info.ssrc, inbound.clone());
        inbound
    }

    /// A stream now belongs to another track: its queue ends, and a new one takes its place.
    pub(crate) fn renew_inbound(&self, old: &Inbound) -> Arc<Inbound> {
        old.end();
        let inbound = Arc::new(Inbound::new(old.ssrc, old.mime.clone(), old.clock_rate));
        self.streams.lock().received.insert(old.ssrc, inbound.clone());
        inbound
    }

    /// A remote stream was unbound.
    pub(crate) fn inbound_ended(&self, ssrc: u32) {
        self.streams.lock().received.remove(&ssrc);
    }

    /// A remote stream.
    pub(crate) fn inbound(&self, ssrc: u32) -> Option<Arc<Inbound>> {
        self.streams.lock().received.get(&ssrc).cloned()
    }

    /// Every remote stream.
    pub(crate) fn inbounds(&self) -> Vec<Arc<Inbound>> {
        self.streams.lock().received.values().cloned().collect()
    }

    /// A sender report of a remote stream.
    pub(crate) fn sender_report(&self, ssrc: u32, report: SenderReport) {
        if let Some(inbound) = self.inbound(ssrc) {
            inbound.report.send_replace(Some(report));
        }
    }

    /// The newest round trip.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_micros.load(Ordering::Relaxed))
    }

    /// A round trip was measured.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        self.round_trip_micros
            .store(round_trip.as_micros() as u64, Ordering::Relaxed);
    }

    /// What the network takes.
    pub(crate) fn target(&self) -> Bitrate {
        *self.target.borrow()
    }

    /// Follows what the network takes.
    pub(crate) fn targets(&self) -> watch::Receiver<Bitrate> {
        self.target.subscribe()
    }

    /// The estimator's newest word; told on only when it changed by more than 1 %.
    pub(crate) fn set_target(&self, target: Bitrate) {
        self.target.send_if_modified(|held| {
            let changed = held.as_bps().abs_diff(target.as_bps()) * 100 > held.as_bps();
            if changed {
                *held = target;
            }
            changed
        });
    }
}
