//! What the packet chain and the tasks around it share about one connection: streams by
//! SSRC, their names, queues and counters. Locks are held for a lookup only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use confab_types::Bitrate;
use parking_lot::Mutex;
use rtc::interceptor::StreamInfo;
use tokio::sync::watch;

use crate::api::SenderReport;
use crate::streams::{Inbound, Negotiated, SentTrack};

/// The target before any feedback: enough for all three layers of a small camera.
pub(crate) const INITIAL_TARGET: Bitrate = Bitrate::kbps(1_000);
/// Assumed until measured.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

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
        let mid = track.mid();
        Some((mid, track.layers.get(layer)?.rid.clone()))
    }

    /// Notes the outcome of a negotiation.
    pub(crate) fn negotiated(&self, ssrc: u32, outcome: Option<(u8, Option<u8>)>) {
        if let Some((track, _)) = self.sent(ssrc) {
            track.set_negotiated(outcome.map(|(payload_type, level)| Negotiated { payload_type, level }));
        }
    }

    /// Notes on which sections the other side takes transport-wide numbers.
    pub(crate) fn set_numbered(&self, sections: HashMap<String, bool>) {
        *self.numbered.lock() = sections;
    }

    /// Whether this stream's packets get transport-wide numbers. Where they are not negotiated (LiveKit's sound) they
    /// would never be acknowledged, and count as lost.
    pub(crate) fn is_numbered(&self, ssrc: u32) -> bool {
        let mid = self.sent(ssrc).and_then(|(track, _)| track.mid());
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
            track.pli_received(layer, now);
        }
    }

    /// A NACK came for this stream.
    pub(crate) fn nack_received(&self, ssrc: u32) {
        if let Some((track, _)) = self.sent(ssrc) {
            track.nack_received();
        }
    }

    /// The receiver's own total of lost packets.
    pub(crate) fn reported_lost(&self, ssrc: u32, total: u32) {
        if let Some((track, _)) = self.sent(ssrc) {
            track.reported_lost(ssrc, total);
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
            inbound.reported(report);
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
