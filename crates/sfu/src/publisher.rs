//! The publisher side: offers of clients, and which announced track is on
//! which of their m-lines.

use std::time::Instant;

use confab_types::{ParticipantSid, TrackSid};
use str0m::change::SdpOffer;
use str0m::media::Mid;

use crate::connection::{ConnectionId, Fault};
use crate::room::Room;
use crate::sdp::{self, MediaLine};
use crate::track::{Binding, Track};
use crate::{Event, LinkState, SfuError, Target, TrackAnnouncement};

impl Room {
    /// A client's offer on its publisher connection; gives the answer, with all candidates. New ICE credentials in it
    /// are an ICE restart.
    pub fn publisher_offer(&mut self, now: Instant, who: &ParticipantSid, text: &str) -> Result<String, SfuError> {
        self.advance(now);
        let participant = self.participants.get(who).ok_or(SfuError::NoParticipant)?;
        if !sdp::is_bounded(text) {
            return Err(SfuError::MalformedSdp);
        }
        let offer = SdpOffer::from_sdp_string(text).map_err(|_| SfuError::MalformedSdp)?;
        let usable = |id: &ConnectionId| {
            self.connections
                .get(id)
                .is_some_and(|c| c.link != Some(LinkState::Failed) && c.rtc.is_alive())
        };
        let id = match participant.publisher.filter(usable) {
            Some(id) => id,
            None => self.replace_publisher(who),
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return Err(SfuError::NoParticipant);
        };
        let answer = match connection.guard(|rtc| rtc.sdp_api().accept_offer(offer)) {
            Ok(answer) => answer.to_sdp_string(),
            Err(Fault::Rtc(error)) => return Err(SfuError::UnusableSdp(error)),
            Err(Fault::Panicked) => {
                self.set_link(id, LinkState::Failed);
                return Err(SfuError::MalformedSdp);
            }
        };
        connection.lines = sdp::media_lines(text);
        connection.forget_streams();
        self.adopt_credentials(id, None);
        let answer = match self.connections.get(&id) {
            Some(connection) => sdp::finish(&answer, &connection.credentials),
            None => answer,
        };
        self.touch(id);
        self.bind_tracks(who);
        Ok(answer)
    }

    fn replace_publisher(&mut self, who: &ParticipantSid) -> ConnectionId {
        let id = self.open_connection(who, Target::Publisher);
        let old = self.participants.get_mut(who).and_then(|p| p.publisher.replace(id));
        if let Some(old) = old {
            self.close_connection(old);
        }
        id
    }

    /// str0m drew new credentials by itself (an ICE restart): put ours in their place.
    pub(crate) fn adopt_credentials(&mut self, id: ConnectionId, offered: Option<str0m::IceCreds>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.rtc.direct_api().local_ice_credentials() == connection.credentials {
            return;
        }
        let ours = offered.unwrap_or_else(|| (self.config.credentials)(id));
        connection.rtc.direct_api().set_local_ice_credentials(ours.clone());
        connection.credentials = ours;
    }

    /// Matches the participant's announced tracks with its m-lines, and ends those that lost theirs or their grant.
    pub(crate) fn bind_tracks(&mut self, who: &ParticipantSid) {
        let Some(participant) = self.participants.get(who) else {
            return;
        };
        let grants = participant.grants.clone();
        let Some(id) = participant.publisher else {
            self.revoke_unbound(who);
            return;
        };
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let own: Vec<(TrackSid, &Track)> = self
            .tracks
            .iter()
            .filter(|(_, t)| t.owner == *who)
            .map(|(s, t)| (s.clone(), t))
            .collect();
        let allowed: Vec<(&TrackSid, &TrackAnnouncement)> = own
            .iter()
            .filter(|(_, t)| grants.can_publish(t.announcement.source))
            .map(|(s, t)| (s, &t.announcement))
            .collect();
        let bindings = match_lines(&connection.lines, &allowed, &connection.bindings);
        let own: Vec<TrackSid> = own.into_iter().map(|(sid, _)| sid).collect();
        self.apply_bindings(who, id, &own, bindings);
    }

    fn apply_bindings(
        &mut self,
        who: &ParticipantSid,
        id: ConnectionId,
        own: &[TrackSid],
        bindings: Vec<(Mid, TrackSid)>,
    ) {
        let mut bound = Vec::new();
        for sid in own {
            let new = bindings.iter().find(|(_, s)| s == sid).map(|(mid, _)| Binding {
                connection: id,
                mid: *mid,
            });
            let Some(track) = self.tracks.get_mut(sid) else {
                continue;
            };
            if track.binding == new {
                continue;
            }
            if new.is_none() {
                self.end_track(sid);
                continue;
            }
            track.binding = new;
            track.pause_downlinks();
            bound.push(sid.clone());
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.bindings = bindings;
        }
        if !bound.is_empty() {
            self.schedule_tick();
            self.offer_to_auto_subscribers(who, &bound);
        }
    }

    /// Without a publisher connection nothing is bound; a track that was, ended.
    fn revoke_unbound(&mut self, who: &ParticipantSid) {
        let bound: Vec<TrackSid> = self
            .tracks
            .iter()
            .filter(|(_, t)| t.owner == *who && t.binding.is_some())
            .map(|(s, _)| s.clone())
            .collect();
        bound.iter().for_each(|sid| self.end_track(sid));
    }

    /// The participant's publisher connection is over: so are its tracks.
    pub(crate) fn end_tracks_of(&mut self, who: &ParticipantSid) {
        if let Some(id) = self.participants.get(who).and_then(|p| p.publisher)
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.bindings.clear();
            connection.lines.clear();
        }
        self.revoke_unbound(who);
    }

    fn end_track(&mut self, sid: &TrackSid) {
        let Some(track) = self.tracks.get_mut(sid) else { return };
        track.binding = None;
        track.live = false;
        track.layers = Default::default();
        track.pause_downlinks();
        let participant = track.owner.clone();
        self.emit(Event::TrackEnded {
            participant,
            track: sid.clone(),
        });
    }

    /// Takes a removed track off its m-line: what still arrives there is refused.
    pub(crate) fn unbind(&mut self, track: &Track, sid: &TrackSid) {
        let Some(binding) = track.binding else { return };
        if let Some(connection) = self.connections.get_mut(&binding.connection) {
            connection.bindings.retain(|(_, s)| s != sid);
        }
    }
}

/// Finds the track of an m-line, given what is matched already.
type Matcher<'a> = dyn Fn(&MediaLine, &[(Mid, TrackSid)]) -> Option<TrackSid> + 'a;

/// Which track is on which sending m-line: by cid, then what was matched before, then a lone waiting track of the same
/// kind (clients whose SDP does not name the track as AddTrack did).
fn match_lines(
    lines: &[MediaLine],
    tracks: &[(&TrackSid, &TrackAnnouncement)],
    before: &[(Mid, TrackSid)],
) -> Vec<(Mid, TrackSid)> {
    let mut matched: Vec<(Mid, TrackSid)> = Vec::new();
    let by_cid = |line: &MediaLine, _: &[(Mid, TrackSid)]| {
        let fits = |t: &TrackAnnouncement| t.kind == line.kind && line.track_id.as_deref() == Some(t.cid.as_str());
        tracks.iter().find(|(_, t)| fits(t)).map(|(s, _)| (*s).clone())
    };
    let as_before = |line: &MediaLine, _: &[(Mid, TrackSid)]| {
        let (_, sid) = before.iter().find(|(mid, _)| **mid == *line.mid)?;
        tracks
            .iter()
            .find(|(s, t)| *s == sid && t.kind == line.kind)
            .map(|(s, _)| (*s).clone())
    };
    let alone = |line: &MediaLine, matched: &[(Mid, TrackSid)]| {
        let mut waiting = tracks
            .iter()
            .filter(|(s, t)| t.kind == line.kind && matched.iter().all(|(_, taken)| taken != *s));
        let first = waiting.next()?;
        waiting.next().is_none().then(|| first.0.clone())
    };
    let passes: [&Matcher<'_>; 3] = [&by_cid, &as_before, &alone];
    for pass in passes {
        for line in lines.iter().filter(|l| l.sending) {
            let mid = Mid::from(line.mid.as_str());
            if matched.iter().any(|(m, _)| *m == mid) {
                continue;
            }
            if let Some(sid) = pass(line, &matched).filter(|sid| matched.iter().all(|(_, taken)| taken != sid)) {
                matched.push((mid, sid));
            }
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use confab_types::{TrackKind, TrackSource};

    use super::*;

    fn line(mid: &str, track: Option<&str>) -> MediaLine {
        MediaLine {
            mid: mid.into(),
            kind: TrackKind::Video,
            track_id: track.map(str::to_owned),
            sending: true,
        }
    }

    fn announced(n: u8, cid: &str) -> (TrackSid, TrackAnnouncement) {
        let sid = TrackSid::from_random([n; 12]);
        let source = TrackSource::Camera;
        (
            sid.clone(),
            TrackAnnouncement {
                sid,
                cid: cid.into(),
                kind: TrackKind::Video,
                source,
                muted: false,
            },
        )
    }

    #[test]
    fn the_cid_decides_even_against_an_earlier_guess() {
        let (a, b) = (announced(1, "cam"), announced(2, "screen"));
        let tracks = [(&a.0, &a.1), (&b.0, &b.1)];
        let before = [(Mid::from("0"), b.0.clone())];
        let matched = match_lines(
            &[
                line("0", Some("old")),
                line("1", Some("screen")),
                line("2", Some("cam")),
            ],
            &tracks,
            &before,
        );
        assert_eq!(
            matched,
            vec![(Mid::from("1"), b.0.clone()), (Mid::from("2"), a.0.clone())]
        );
    }

    #[test]
    fn a_lone_waiting_track_takes_an_unnamed_line_and_two_take_none() {
        let (a, b) = (announced(1, "x"), announced(2, "y"));
        assert_eq!(match_lines(&[line("0", None)], &[(&a.0, &a.1)], &[]).len(), 1);
        assert!(match_lines(&[line("0", None)], &[(&a.0, &a.1), (&b.0, &b.1)], &[]).is_empty());
        assert!(match_lines(&[line("0", Some("z"))], &[], &[]).is_empty());
    }
}
