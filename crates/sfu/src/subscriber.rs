//! The subscriber side: offers towards clients, one outstanding at a time, and
//! the m-lines in them.
//!
//! An m-line that is no longer wanted goes inactive and is used again: by the
//! same track when it is subscribed to again, by another when it is gone.

use std::time::Instant;

use confab_types::{ParticipantSid, TrackKind, TrackSid};
use str0m::Rtc;
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, Reliability};
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};

use crate::connection::Fault;
use crate::downlink::Downlink;
use crate::participant::{Line, Msid, Participant};
use crate::rewrite::Rewriter;
use crate::room::Room;
use crate::sdp;
use crate::{DataKind, Event, LinkState, SfuError, Target, TrackWish};

impl Room {
    /// The client's answer to the last offer. One that answers nothing (a repeated answer) is ignored.
    pub fn subscriber_answer(&mut self, now: Instant, who: &ParticipantSid, text: &str) -> Result<(), SfuError> {
        self.advance(now);
        let participant = self.participants.get_mut(who).ok_or(SfuError::NoParticipant)?;
        if text.len() > sdp::MAX_SDP_BYTES {
            return Err(SfuError::MalformedSdp);
        }
        let answer = SdpAnswer::from_sdp_string(text).map_err(|_| SfuError::MalformedSdp)?;
        let Some(id) = participant.subscriber else {
            return Err(SfuError::NoParticipant);
        };
        let Some((pending, _)) = participant.negotiation.outstanding.take() else {
            return Ok(());
        };
        let restart = participant.negotiation.restart_credentials.take();
        let Some(connection) = self.connections.get_mut(&id) else {
            return Err(SfuError::NoParticipant);
        };
        match connection.guard(|rtc| rtc.sdp_api().accept_answer(pending, answer)) {
            Ok(()) => {}
            Err(Fault::Rtc(error)) => {
                // Its m-lines are in an unknown state on both sides: only a new join helps.
                self.set_link(id, LinkState::Failed);
                return Err(SfuError::UnusableSdp(error));
            }
            Err(Fault::Panicked) => {
                self.set_link(id, LinkState::Failed);
                return Err(SfuError::MalformedSdp);
            }
        }
        participant.spare.agreed();
        self.adopt_credentials(id, restart);
        self.touch(id);
        self.refresh_downlinks(who);
        self.offer_if_needed(who);
        Ok(())
    }

    /// A new offer that restarts ICE. If an offer waits for its answer (it may be lost with the signalling connection),
    /// that one is told again first and the restart follows its answer.
    pub fn restart_subscriber(&mut self, now: Instant, who: &ParticipantSid) -> Result<(), SfuError> {
        self.advance(now);
        let participant = self.participants.get_mut(who).ok_or(SfuError::NoParticipant)?;
        if participant.subscriber.is_none() {
            return Err(SfuError::NotAllowed);
        }
        participant.negotiation.restart = true;
        participant.negotiation.needed = true;
        if let Some((_, sdp)) = &participant.negotiation.outstanding {
            let event = Event::SubscriberOffer {
                participant: who.clone(),
                sdp: sdp.clone(),
            };
            self.emit(event);
        }
        self.offer_if_needed(who);
        Ok(())
    }

    pub(crate) fn open_subscriber(&mut self, who: &ParticipantSid) {
        let id = self.open_connection(who, Target::Subscriber);
        if let Some(participant) = self.participants.get_mut(who) {
            participant.subscriber = Some(id);
        }
        self.subscribe_to_all(who);
    }

    /// Subscribes to everything there is, if the participant wants so, and offers.
    pub(crate) fn subscribe_to_all(&mut self, who: &ParticipantSid) {
        if self.participants.get(who).is_some_and(|p| p.auto_subscribe) {
            let others: Vec<TrackSid> = self
                .tracks
                .iter()
                .filter(|(_, t)| t.owner != *who && t.binding.is_some())
                .map(|(sid, _)| sid.clone())
                .collect();
            others.iter().for_each(|sid| self.set_wanted(who, sid, true));
        }
        self.renegotiate(who);
    }

    /// New tracks on the way: offer them to everyone who takes all.
    pub(crate) fn offer_to_auto_subscribers(&mut self, owner: &ParticipantSid, tracks: &[TrackSid]) {
        let takers: Vec<ParticipantSid> = self
            .participants
            .iter()
            .filter(|(who, p)| *who != owner && p.auto_subscribe && p.grants.can_subscribe)
            .map(|(who, _)| who.clone())
            .collect();
        for who in takers {
            for track in tracks {
                // Somebody who unsubscribed keeps it so.
                if self
                    .participants
                    .get(&who)
                    .is_some_and(|p| !p.lines.contains_key(track))
                {
                    self.set_wanted(&who, track, true);
                }
            }
            self.renegotiate(&who);
        }
    }

    pub(crate) fn set_wanted(&mut self, who: &ParticipantSid, sid: &TrackSid, on: bool) {
        let Some(kind) = self.tracks.get(sid).map(|t| t.announcement.kind) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(who) else {
            return;
        };
        let line = participant.lines.entry(sid.clone()).or_insert_with(|| Line {
            kind,
            mid: None,
            wanted: false,
            wish: TrackWish::default(),
            orphaned: false,
        });
        line.wanted = on;
        if !on && let Some(downlink) = self.tracks.get_mut(sid).and_then(|t| t.downlink_to(who)) {
            downlink.active = false;
            downlink.rewriter.pause();
        }
    }

    pub(crate) fn renegotiate(&mut self, who: &ParticipantSid) {
        if let Some(participant) = self.participants.get_mut(who) {
            participant.negotiation.needed = true;
        }
        self.offer_if_needed(who);
    }

    /// Makes an offer, unless nothing changed or one is outstanding.
    pub(crate) fn offer_if_needed(&mut self, who: &ParticipantSid) {
        let Some(participant) = self.participants.get_mut(who) else {
            return;
        };
        let Some(id) = participant.subscriber else { return };
        if !participant.negotiation.needed || participant.negotiation.outstanding.is_some() {
            return;
        }
        participant.negotiation.needed = false;
        let Some(connection) = self
            .connections
            .get_mut(&id)
            .filter(|c| c.link != Some(LinkState::Failed))
        else {
            return;
        };
        let restart = std::mem::take(&mut participant.negotiation.restart);
        let channels = !std::mem::replace(&mut participant.negotiation.channels_offered, true);
        let Participant { lines, spare, .. } = participant;
        let rtc = &mut connection.rtc;
        let mut changes: Vec<(Mid, Direction)> =
            lines.values().filter_map(|line| direction_change(rtc, line)).collect();
        let mut added: Vec<(&mut Line, Msid)> = Vec::new();
        for (sid, line) in lines.iter_mut().filter(|(_, line)| line.wanted && line.mid.is_none()) {
            let Some(track) = self.tracks.get(sid) else { continue };
            let name = Msid {
                stream: format!("{}|{sid}", track.owner),
                track: sid.to_string(),
            };
            match spare.take(line.kind, &name) {
                Some(mid) => {
                    renew_stream(rtc, mid);
                    line.mid = Some(mid);
                    changes.push((mid, Direction::SendOnly));
                }
                None => added.push((line, name)),
            }
        }
        let mut api = rtc.sdp_api();
        if channels {
            add_channels(&mut api);
        }
        for (mid, direction) in changes {
            api.set_direction(mid, direction);
        }
        for (line, Msid { stream, track }) in added {
            let kind = media_kind(line.kind);
            line.mid = Some(api.add_media(kind, Direction::SendOnly, Some(stream), Some(track), None));
        }
        if restart {
            api.ice_restart(true);
        }
        let applied = api.apply();
        let gone = lines.values().filter(|line| line.orphaned);
        spare
            .retiring
            .extend(gone.filter_map(|line| Some((line.mid?, line.kind))));
        lines.retain(|_, line| !line.orphaned);
        let Some((offer, pending)) = applied else { return };
        let credentials = match restart {
            true => (self.config.credentials)(id),
            false => connection.credentials.clone(),
        };
        let text = sdp::renamed(&offer.to_sdp_string(), &participant.spare.names);
        let text = sdp::finish(&text, &credentials);
        if restart {
            participant.negotiation.restart_credentials = Some(credentials);
        }
        participant.negotiation.outstanding = Some((pending, text.clone()));
        self.touch(id);
        self.emit(Event::SubscriberOffer {
            participant: who.clone(),
            sdp: text,
        });
    }

    /// Brings the downlinks in line with what is negotiated and connected.
    pub(crate) fn refresh_downlinks(&mut self, who: &ParticipantSid) {
        let Some(participant) = self.participants.get(who) else {
            return;
        };
        let Some(id) = participant.subscriber else { return };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let up = matches!(connection.link, Some(LinkState::Connected | LinkState::Disconnected));
        for (sid, line) in &participant.lines {
            let (Some(mid), Some(track)) = (line.mid, self.tracks.get_mut(sid)) else {
                continue;
            };
            let Some(pt) = payload_type(&connection.rtc, mid, line.kind) else {
                continue;
            };
            let active = up && line.wanted;
            if track.downlink_to(who).is_none() {
                track.downlinks.push(Downlink {
                    subscriber: who.clone(),
                    connection: id,
                    mid,
                    pt,
                    kind: line.kind,
                    active: false,
                    wish: line.wish,
                    target: None,
                    rewriter: Rewriter::default(),
                    held: false,
                });
            }
            let Some(downlink) = track.downlink_to(who) else {
                continue;
            };
            downlink.pt = pt;
            if active && !downlink.active {
                downlink.rewriter.pause();
                if let Some(stream) = connection.rtc.direct_api().stream_tx_by_mid(mid, None) {
                    // The sender paces already, and the estimate of a connection that sent nothing yet would hold back
                    // the first picture. Congestion is met by choosing layers.
                    stream.set_unpaced(true);
                }
            }
            downlink.active = active;
        }
        self.allocate(who);
        self.keyframes_wanted = true;
    }
}

/// A new SSRC for an m-line that gets another track: to its receiver it is another stream.
fn renew_stream(rtc: &mut Rtc, mid: Mid) {
    let mut direct = rtc.direct_api();
    let Some((old, has_rtx)) = direct
        .stream_tx_by_mid(mid, None)
        .map(|s| (s.ssrc(), s.rtx().is_some()))
    else {
        return;
    };
    let main = direct.new_ssrc();
    let rtx = std::iter::repeat_with(|| direct.new_ssrc()).find(|rtx| *rtx != main);
    direct.remove_stream_tx(old);
    direct.declare_stream_tx(main, rtx.filter(|_| has_rtx), mid, None);
}

/// The direction that a known m-line must change to.
fn direction_change(rtc: &Rtc, line: &Line) -> Option<(Mid, Direction)> {
    let mid = line.mid?;
    let now = rtc.media(mid)?.direction();
    let then = if line.wanted {
        Direction::SendOnly
    } else {
        Direction::Inactive
    };
    (now != then).then_some((mid, then))
}

/// The payload type for a track's codec on an m-line that is negotiated for sending.
fn payload_type(rtc: &Rtc, mid: Mid, kind: TrackKind) -> Option<Pt> {
    let media = rtc.media(mid)?;
    if !media.direction().is_sending() || media.disabled() {
        return None;
    }
    let codec = match kind {
        TrackKind::Audio => Codec::Opus,
        TrackKind::Video => Codec::Vp8,
    };
    let params = rtc.codec_config().params();
    params
        .iter()
        .find(|p| p.spec().codec == codec && media.remote_pts().contains(&p.pt()))
        .map(|p| p.pt())
}

fn media_kind(kind: TrackKind) -> MediaKind {
    match kind {
        TrackKind::Audio => MediaKind::Audio,
        TrackKind::Video => MediaKind::Video,
    }
}

/// `_reliable` is ordered and repaired; `_lossy` sends once and in whatever order.
fn add_channels(api: &mut str0m::change::SdpApi<'_>) {
    api.add_channel_with_config(ChannelConfig {
        label: DataKind::Reliable.label().into(),
        ..Default::default()
    });
    api.add_channel_with_config(ChannelConfig {
        label: DataKind::Lossy.label().into(),
        ordered: false,
        reliability: Reliability::MaxRetransmits { retransmits: 0 },
        ..Default::default()
    });
}
