//! Figures of a connection, from the library's statistics and our own counters.

use std::time::{Duration, Instant};

use rtc::statistics::report::{RTCStatsReport, RTCStatsReportEntry};
use webrtc::peer_connection::{PeerConnection, StatsSelector};

use crate::api::ConnectionStats;
use crate::wire::Wire;

/// The round trip of the chosen pair.
pub(crate) fn round_trip(report: &RTCStatsReport) -> Option<Duration> {
    let pair = report
        .candidate_pairs()
        .filter(|p| p.nominated)
        .max_by_key(|p| p.last_packet_received_timestamp)?;
    Duration::try_from_secs_f64(pair.current_round_trip_time)
        .ok()
        .filter(|d| !d.is_zero())
}

fn protocol(report: &RTCStatsReport) -> Option<String> {
    let pair = report
        .candidate_pairs()
        .filter(|p| p.nominated)
        .max_by_key(|p| p.last_packet_received_timestamp)?;
    match report.get(&pair.local_candidate_id)? {
        RTCStatsReportEntry::LocalCandidate(candidate) => Some(candidate.protocol.to_lowercase()),
        _ => None,
    }
}

/// All of it, now.
pub(crate) async fn collect(pc: &dyn PeerConnection, wire: &Wire) -> ConnectionStats {
    let report = pc.get_stats(Instant::now(), StatsSelector::None).await;
    let transport = report.transport();
    let sent = wire.sent_tracks();
    let available_outgoing = (!sent.is_empty()).then(|| wire.target());
    let mut tracks: Vec<_> = sent
        .iter()
        .map(|track| track.counters.stats(track.cid.clone()))
        .collect();
    tracks.extend(
        wire.inbounds()
            .iter()
            .map(|inbound| inbound.counters.stats(inbound.track_id.lock().clone())),
    );
    ConnectionStats {
        round_trip: round_trip(&report),
        protocol: protocol(&report),
        available_outgoing,
        bytes_sent: transport.map_or(0, |t| t.bytes_sent),
        bytes_received: transport.map_or(0, |t| t.bytes_received),
        tracks,
    }
}
