//! What happens in a room by the clock: keyframe requests, layer choice,
//! speakers.

use std::time::Duration;

use confab_types::{Bitrate, ParticipantSid, TrackKind, TrackSid};
use str0m::media::KeyframeRequestKind;

use crate::Event;
use crate::allocation::Candidate;
use crate::room::Room;

/// How often a room with media looks around. More often costs wake-ups; less often delays layer switches.
const TICK: Duration = Duration::from_millis(100);

/// What is kept for retransmission, and how much of what is sent it may be; str0m's own defaults.
const RTX_PACKETS: usize = 1000;
const RTX_AGE: Duration = Duration::from_secs(3);
const RTX_SHARE: f32 = 0.15;

/// Kept free for each sound track under a cap: Opus with its headers.
const SOUND: Bitrate = Bitrate::kbps(40);

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
        let everyone: Vec<ParticipantSid> = self.participants.keys().cloned().collect();
        everyone.iter().for_each(|who| self.tell_prober(who));
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
        let mut sounds = 0;
        for sid in participant.lines.keys() {
            let Some(track) = self.tracks.get_mut(sid) else {
                continue;
            };
            let Some((wish, held)) = track.downlink_to(who).filter(|d| d.is_on()).map(|d| (d.wish, d.held)) else {
                continue;
            };
            match track.announcement.kind {
                _ if track.announcement.muted => {}
                TrackKind::Audio => sounds += 1,
                TrackKind::Video => wanted.push((sid.clone(), track.candidate(now, wish.max_layer, held))),
            }
        }
        let candidates: Vec<Candidate> = wanted.iter().map(|(_, c)| *c).collect();
        let reserved = Bitrate::bps(SOUND.as_bps() * sounds);
        let chosen = participant.allocator.allocate(&candidates, reserved);
        let mut told = Vec::new();
        for ((sid, _), choice) in wanted.iter().zip(chosen) {
            let Some(track) = self.tracks.get_mut(sid) else {
                continue;
            };
            if let Some(downlink) = track.downlink_to(who)
                && downlink.apply(choice)
            {
                told.push((sid.clone(), downlink.held));
            }
            track.want_keyframes_for_waiting();
        }
        for (track, paused) in told {
            if paused {
                self.forget_sent(who, &track);
            }
            let participant = who.clone();
            self.emit(Event::StreamPaused {
                participant,
                track,
                paused,
            });
        }
        self.keyframes_wanted = true;
    }

    /// Repairs of a picture that is held back would only take the room that sound needs.
    fn forget_sent(&mut self, who: &ParticipantSid, sid: &TrackSid) {
        let Some(downlink) = self.tracks.get_mut(sid).and_then(|t| t.downlink_to(who)) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&downlink.connection) else {
            return;
        };
        if let Some(stream) = connection.rtc.direct_api().stream_tx_by_mid(downlink.mid, None) {
            stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, Some(RTX_SHARE));
        }
    }

    /// Tells str0m's prober what to look for. It probes when the rate it is told grows, so under a cap the rate is
    /// lowered now and then, and told again a tick later.
    fn tell_prober(&mut self, who: &ParticipantSid) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(who) else {
            return;
        };
        let Some(connection) = participant.subscriber.and_then(|id| self.connections.get_mut(&id)) else {
            return;
        };
        let mut desired = participant.allocator.desired();
        if participant.allocator.is_capped() && participant.probing.is_due(now) {
            desired = Bitrate::bps(desired.as_bps() / 4);
        }
        if participant.probing.is_news(now, desired) {
            let desired = str0m::bwe::Bitrate::bps(desired.as_bps());
            connection.rtc.bwe().set_bitrate(str0m::bwe::Bitrate::ZERO, desired);
        }
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
