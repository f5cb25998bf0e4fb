//! Figures of a connection, from the library's statistics and our own counters.

use std::time::{Duration, Instant};

use rtc::statistics::report::{RTCStatsReport, RTCStatsReportEntry};
use rtc::statistics::stats::ice_candidate_pair::RTCIceCandidatePairStats;
use webrtc::peer_connection::{PeerConnection, StatsSelector};

use crate::api::ConnectionStats;
use crate::wire::Wire;

/// The chosen pair. The report names it in the transport; `nominated` is not kept after an ICE restart.
fn chosen(report: &RTCStatsReport) -> Option<&RTCIceCandidatePairStats> {
    let selected = report
        .transport()
        .map(|t| t.selected_candidate_pair_id.as_str())
        .filter(|id| !id.is_empty());
    let named = selected.and_then(|id| report.candidate_pairs().find(|pair| pair.stats.id.ends_with(id)));
    named.or_else(|| {
        report
            .candidate_pairs()
            .max_by_key(|pair| pair.last_packet_received_timestamp)
    })
}

/// The round trip of the chosen pair.
pub(crate) fn round_trip(report: &RTCStatsReport) -> Option<Duration> {
    Duration::try_from_secs_f64(chosen(report)?.current_round_trip_time)
        .ok()
        .filter(|d| !d.is_zero())
}

/// `udp` or `tcp`. The pair names its candidates by their bare ids, the report's entries carry a prefix.
fn protocol(report: &RTCStatsReport) -> Option<String> {
    let pair = chosen(report)?;
    report.iter().find_map(|entry| match entry {
        RTCStatsReportEntry::LocalCandidate(local) if local.stats.id.ends_with(&pair.local_candidate_id) => {
            Some(local.protocol.to_lowercase())
        }
        _ => None,
    })
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
