//! One peer connection: an `Rtc` with what the room keeps beside it. Faults in
//! it (str0m's errors and even panics) end this connection alone.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use confab_types::{ParticipantSid, TrackSid};
use str0m::media::{Mid, Rid};
use str0m::net::Receive;
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{IceCreds, Input, Output, Rtc, RtcError};
use tracing::warn;

use crate::data::DataChannels;
use crate::room::RoomConfig;
use crate::sdp::MediaLine;
use crate::{Layer, LinkState, Target};

/// Names a connection within its room. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u32);

/// Where the estimator of a new subscriber connection starts. Video is not paced by it (see `forwarding`), so it only
/// matters until the first feedback.
const FIRST_ESTIMATE: str0m::bwe::Bitrate = str0m::bwe::Bitrate::kbps(1500);

/// How often a subscriber connection tells its losses.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The largest data message taken. LiveKit's SDKs cut theirs at 15 kB, and a few of the default 256 kB each would be
/// a lot to hold for a busy room.
const MAX_MESSAGE_BYTES: u32 = 64 * 1024;

/// SSRCs remembered per publisher; a client that invents more is slowed down, not served.
const MAX_STREAMS: usize = 256;

/// A peer connection of the room.
pub(crate) struct Connection {
    pub rtc: Rtc,
    pub owner: ParticipantSid,
    pub target: Target,
    /// When str0m wants to be called.
    pub timeout: Instant,
    /// When its newest packet reached the machine.
    pub received: Instant,
    /// What a STUN packet for this connection must name.
    pub credentials: IceCreds,
    pub link: Option<LinkState>,
    pub data: DataChannels,
    /// In the room's list of connections to pump.
    pub dirty: bool,
    /// The client's m-lines, by its last offer.
    pub lines: Vec<MediaLine>,
    /// Which track is on which m-line.
    pub bindings: Vec<(Mid, TrackSid)>,
    pub clock: CaptureClock,
    streams: HashMap<Ssrc, Stream>,
}

/// What an SSRC turned out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    pub mid: Mid,
    pub rid: Option<Rid>,
    pub layer: Layer,
}

impl Connection {
    /// A new connection, with its candidates.
    pub fn new(
        config: &RoomConfig,
        now: Instant,
        owner: ParticipantSid,
        target: Target,
        credentials: IceCreds,
    ) -> Self {
        let mut builder = Rtc::builder()
            .set_rtp_mode(true)
            .set_ice_lite(true)
            .set_local_ice_credentials(credentials.clone())
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_sctp_max_message_size(MAX_MESSAGE_BYTES);
        if target == Target::Subscriber {
            builder = builder
                .enable_bwe(Some(FIRST_ESTIMATE))
                .set_stats_interval(Some(STATS_EVERY));
        }
        if let Some(certificate) = &config.certificate {
            builder = builder.set_dtls_cert(certificate.clone());
        }
        let mut rtc = builder.build(now);
        for candidate in &config.candidates {
            rtc.add_local_candidate(candidate.clone());
        }
        Self {
            rtc,
            owner,
            target,
            timeout: now,
            received: now,
            credentials,
            link: None,
            data: DataChannels::default(),
            dirty: false,
            lines: Vec::new(),
            bindings: Vec::new(),
            clock: CaptureClock::default(),
            streams: HashMap::new(),
        }
    }

    /// Runs something on the `Rtc`; an error or a panic means that the connection is lost.
    pub fn guard<T>(&mut self, run: impl FnOnce(&mut Rtc) -> Result<T, RtcError>) -> Result<T, Fault> {
        match catch_unwind(AssertUnwindSafe(|| run(&mut self.rtc))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Fault::Rtc(error)),
            Err(_) => {
                warn!(owner = %self.owner, target = ?self.target, "a peer connection panicked; it is closed");
                self.rtc = Rtc::builder().build(self.timeout);
                self.rtc.disconnect();
                Err(Fault::Panicked)
            }
        }
    }

    /// Hands in a packet.
    pub fn receive(&mut self, now: Instant, packet: Receive<'_>) -> Result<(), Fault> {
        self.guard(|rtc| rtc.handle_input(Input::Receive(now, packet)))
    }

    /// Moves the time on.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        self.guard(|rtc| rtc.handle_input(Input::Timeout(now)))
    }

    /// The next output.
    pub fn poll(&mut self) -> Result<Output, Fault> {
        self.guard(Rtc::poll_output)
    }

    /// The m-line and layer of an incoming stream.
    pub fn stream(&mut self, ssrc: Ssrc) -> Option<Stream> {
        if let Some(known) = self.streams.get(&ssrc) {
            return Some(*known);
        }
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_rx(&ssrc)?;
        let rid = stream.rid();
        let found = Stream {
            mid: stream.mid(),
            rid,
            layer: Layer::from_rid(rid.as_deref()),
        };
        if self.streams.len() < MAX_STREAMS {
            self.streams.insert(ssrc, found);
        }
        Some(found)
    }

    /// Forgets the SSRCs: an m-line may carry another track now.
    pub fn forget_streams(&mut self) {
        self.streams.clear();
    }

    /// The track on an m-line.
    pub fn track_on(&self, mid: Mid) -> Option<&TrackSid> {
        self.bindings.iter().find(|(m, _)| *m == mid).map(|(_, track)| track)
    }
}

/// Why a connection could not go on.
#[derive(Debug)]
pub(crate) enum Fault {
    Rtc(RtcError),
    Panicked,
}

/// Maps a sender's RTP times to our clock by its sender reports, the same way for all its tracks, so that sound and
/// picture keep their relation in the reports that we send on (RFC 3550 section 6.4.1).
#[derive(Debug, Default)]
pub(crate) struct CaptureClock {
    anchor: Option<(SystemTime, Instant)>,
}

/// A mapping further off than this is a sender whose clock jumped: start anew.
const MAX_SKEW: Duration = Duration::from_secs(5);

impl CaptureClock {
    /// When a packet was captured; without a report, when it arrived.
    pub fn captured(&mut self, packet: &RtpPacket, clock: u32) -> Instant {
        let arrived = packet.timestamp;
        let Some(report) = &packet.last_sender_info else {
            return arrived;
        };
        let ticks = packet.header.timestamp.wrapping_sub(report.rtp_time.numer() as u32) as i32;
        let micros = i64::from(ticks) * 1_000_000 / i64::from(clock.max(1));
        let distance = Duration::from_micros(micros.unsigned_abs());
        let captured = if micros < 0 {
            report.ntp_time.checked_sub(distance)
        } else {
            report.ntp_time.checked_add(distance)
        };
        let Some(captured) = captured else { return arrived };
        let (ntp, instant) = *self.anchor.get_or_insert((captured, arrived));
        let mapped = match captured.duration_since(ntp) {
            Ok(later) => instant.checked_add(later),
            Err(earlier) => instant.checked_sub(earlier.duration()),
        };
        let skew = |m: Instant| {
            m.saturating_duration_since(arrived)
                .max(arrived.saturating_duration_since(m))
        };
        match mapped {
            Some(mapped) if skew(mapped) <= MAX_SKEW => mapped,
            _ => {
                self.anchor = Some((captured, arrived));
                arrived
            }
        }
    }
}
