//! What happens in a room by the clock: keyframe requests, layer choice,
//! speakers.

use std::time::Duration;

use confab_types::{Bitrate, ParticipantSid, TrackKind, TrackSid};
use str0m::media::KeyframeRequestKind;

use crate::Event;
use crate::allocation::{Allocator, Candidate};
use crate::room::Room;

/// How often a room with media looks around. More often costs wake-ups; less often delays layer switches.
const TICK: Duration = Duration::from_millis(100);

/// The prober may look for this much more than what is wanted now, so that a switch up finds room.
const HEADROOM: f64 = 1.2;

impl Room {
    /// Starts the clock if there is media and it stands still.
    pub(crate) fn schedule_tick(&mut self) {
        if self.next_tick.is_none() {
            self.next_tick = Some(self.now + TICK);
        }
    }

    pub(crate) fn tick(&mut self) {
        let busy = self.tracks.values().any(|t| t.binding.is_some()) || self.speakers.any();
        self.next_tick = busy.then(|| self.now + TICK);
        let now = self.now;
        for participant in self.participants.values_mut() {
            let sent = participant.sent.rate(now);
            participant.allocator.tick(now, sent);
        }
        self.allocate_all();
        self.keyframes_wanted = true;
        if self.speakers.is_due(now) {
            self.update_speakers();
        }
    }

    pub(crate) fn update_speakers(&mut self) {
        let now = self.now;
        let sounds = self
            .tracks
            .values_mut()
            .filter(|t| t.announcement.kind == TrackKind::Audio);
        let levels: Vec<(ParticipantSid, f32)> = sounds.map(|t| (t.owner.clone(), t.levels.take())).collect();
        if let Some(list) = self.speakers.update(now, levels) {
            self.emit(Event::Speakers(list));
        }
    }

    pub(crate) fn allocate_all(&mut self) {
        let everyone: Vec<ParticipantSid> = self.participants.keys().cloned().collect();
        everyone.iter().for_each(|who| self.allocate(who));
    }

    /// Chooses the layer of each track for a subscriber.
    pub(crate) fn allocate(&mut self, who: &ParticipantSid) {
        let Some(participant) = self.participants.get_mut(who) else {
            return;
        };
        let now = self.now;
        let mut wanted: Vec<(TrackSid, Candidate)> = Vec::new();
        for sid in participant.lines.keys() {
            let Some(track) = self.tracks.get_mut(sid) else {
                continue;
            };
            let Some(wish) = track.downlink_to(who).filter(|d| d.is_on()).map(|d| d.wish) else {
                continue;
            };
            if track.announcement.kind == TrackKind::Video && !track.announcement.muted {
                wanted.push((sid.clone(), track.candidate(now, wish.max_layer)));
            }
        }
        let candidates: Vec<Candidate> = wanted.iter().map(|(_, c)| *c).collect();
        let chosen = participant.allocator.allocate(&candidates);
        for ((sid, _), layer) in wanted.iter().zip(chosen) {
            let Some(track) = self.tracks.get_mut(sid) else {
                continue;
            };
            if let Some(downlink) = track.downlink_to(who) {
                // A layer that went silent with all others stays the target: it is where media will come back.
                downlink.target = layer.or(downlink.target);
            }
            track.want_keyframes_for_waiting();
        }
        self.keyframes_wanted = true;
        self.tell_prober(who, &candidates);
    }

    fn tell_prober(&mut self, who: &ParticipantSid, candidates: &[Candidate]) {
        let Some(participant) = self.participants.get_mut(who) else {
            return;
        };
        let Some(connection) = participant.subscriber.and_then(|id| self.connections.get_mut(&id)) else {
            return;
        };
        let desired = (Allocator::desired(candidates).as_bps() as f64 * HEADROOM) as u64;
        if !participant.is_news(Bitrate::bps(desired)) {
            return;
        }
        connection
            .rtc
            .bwe()
            .set_bitrate(str0m::bwe::Bitrate::ZERO, str0m::bwe::Bitrate::bps(desired));
    }

    /// Sends the keyframe requests that are due.
    pub(crate) fn ask_keyframes(&mut self) {
        let now = self.now;
        let mut asked = Vec::new();
        for track in self.tracks.values_mut() {
            let Some(binding) = track.binding.filter(|_| track.live) else {
                continue;
            };
            let Some(connection) = self.connections.get_mut(&binding.connection) else {
                continue;
            };
            for layer in &mut track.layers {
                if !layer.is_live(now) || !layer.keyframes.take_due(now) {
                    continue;
                }
                let mut direct = connection.rtc.direct_api();
                let Some(stream) = direct.stream_rx_by_mid(binding.mid, layer.rid) else {
                    continue;
                };
                stream.request_keyframe(KeyframeRequestKind::Pli);
                track.keyframe_requests += 1;
                asked.push(binding.connection);
            }
        }
        asked.into_iter().for_each(|id| self.touch(id));
    }
}
