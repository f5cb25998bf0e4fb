//! Facts from the media engine, and what becomes of them.

use confab_types::ParticipantSid;
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use tracing::{debug, error};

use super::actor::RoomActor;
use super::command::EndReason;
use super::events::LeftReason;
use crate::engine::{EngineEvent, LinkState, Target};

/// Levels that differ by less are not told again.
const LEVEL_STEP: f32 = 0.05;

impl RoomActor {
    pub async fn on_fact(&mut self, fact: EngineEvent) {
        match fact {
            EngineEvent::SubscriberOffer { participant, sdp } => self.on_subscriber_offer(&participant, sdp),
            EngineEvent::Link {
                participant,
                target,
                state,
            } => self.on_link_state(&participant, target, state).await,
            EngineEvent::TrackLive {
                participant,
                track,
                mime,
                mid,
            } => {
                let found = self.member_mut(&participant).and_then(|m| m.track_mut(track.as_str()));
                let Some(found) = found else { return };
                found.live = true;
                found.info.mid.clone_from(&mid);
                found.info.mime_type.clone_from(&mime);
                if let Some(codec) = found.info.codecs.first_mut() {
                    codec.mid = mid;
                    codec.mime_type = mime;
                }
                if found.shown {
                    self.announce(&participant)
                } else {
                    self.show_track(&participant, &track)
                }
                self.requalify_all();
            }
            EngineEvent::TrackEnded { participant, track } => {
                self.end_track(&participant, &track, LeftReason::ClientDisconnected)
                    .await;
            }
            EngineEvent::Data {
                participant,
                kind,
                payload,
            } => self.on_data(&participant, kind, &payload).await,
            EngineEvent::StreamPaused {
                participant,
                track,
                paused,
            } => self.on_stream_paused(&participant, track.as_str(), paused),
            EngineEvent::Speakers(speakers) => self.on_speakers(&speakers),
            EngineEvent::RoomFailed => {
                error!("the room's media failed");
                // Everyone is told to join anew, into a new run of the room.
                self.fail();
                self.end(EndReason::Empty);
            }
        }
    }

    fn on_subscriber_offer(&mut self, participant: &ParticipantSid, sdp: String) {
        let Some(member) = self.member_mut(participant) else {
            return;
        };
        member.offer_id = member.offer_id.wrapping_add(1).max(1);
        let id = member.offer_id;
        // While its socket is lost nobody reads this; a resume makes a new offer.
        member.tell(Message::Offer(lk::SessionDescription {
            r#type: "offer".into(),
            sdp,
            id,
            ..lk::SessionDescription::default()
        }));
    }

    async fn on_link_state(&mut self, participant: &ParticipantSid, target: Target, state: LinkState) {
        debug!(%participant, ?target, ?state, "link");
        let Some(member) = self.member_mut(participant) else {
            return;
        };
        let before = member.quality();
        member.set_link(target, state);
        let quality = member.quality();
        let becomes_active = state == LinkState::Connected && !member.active;
        if becomes_active {
            member.active = true;
            self.announce(participant);
        }
        if quality.quality != before.quality {
            let update = Message::ConnectionQuality(lk::ConnectionQualityUpdate { updates: vec![quality] });
            self.tell(participant, update.clone());
            self.tell_others(participant, &update);
        }
        self.on_media_lost(participant).await;
    }

    /// Tells a newcomer everyone's connection quality.
    pub fn all_qualities_to(&self, sid: &ParticipantSid) {
        let updates: Vec<_> = self
            .members
            .iter()
            .filter(|m| !m.hidden)
            .map(super::member::Member::quality)
            .collect();
        self.tell(sid, Message::ConnectionQuality(lk::ConnectionQualityUpdate { updates }));
    }

    /// Tells a subscriber that a picture stands still for want of its bandwidth, or moves again.
    fn on_stream_paused(&mut self, subscriber: &ParticipantSid, track: &str, paused: bool) {
        let owner = self
            .members
            .iter()
            .find(|m| m.tracks.iter().any(|t| t.sid.as_str() == track));
        let Some(owner) = owner.map(|m| m.sid.to_string()) else {
            return;
        };
        let state = if paused {
            lk::StreamState::Paused
        } else {
            lk::StreamState::Active
        };
        let update = lk::StreamStateUpdate {
            stream_states: vec![lk::StreamStateInfo {
                participant_sid: owner,
                track_sid: track.to_owned(),
                state: state.into(),
            }],
        };
        if let Some(member) = self.member_mut(subscriber) {
            member.tell(Message::StreamStateUpdate(update));
        }
    }

    fn on_speakers(&mut self, now: &[(ParticipantSid, f32)]) {
        let now: Vec<(ParticipantSid, f32)> = now
            .iter()
            .filter(|(sid, _)| self.member(sid).is_some_and(|m| !m.hidden))
            .cloned()
            .collect();
        let mut speakers = Vec::new();
        for (sid, level) in &now {
            let told = self.speakers.get(sid);
            if told.is_none_or(|before| (before - level).abs() >= LEVEL_STEP) {
                speakers.push(lk::SpeakerInfo {
                    sid: sid.to_string(),
                    level: *level,
                    active: true,
                });
                self.speakers.insert(sid.clone(), *level);
            }
        }
        let silent: Vec<ParticipantSid> = self
            .speakers
            .keys()
            .filter(|sid| !now.iter().any(|(s, _)| s == *sid))
            .cloned()
            .collect();
        for sid in silent {
            self.speakers.remove(&sid);
            speakers.push(lk::SpeakerInfo {
                sid: sid.to_string(),
                level: 0.0,
                active: false,
            });
        }
        if speakers.is_empty() {
            return;
        }
        let update = Message::SpeakersChanged(lk::SpeakersChanged { speakers });
        for member in &self.members {
            member.tell(update.clone());
        }
    }

    fn fail(&self) {
        for member in &self.members {
            member.tell(super::info::leave(
                lk::DisconnectReason::MediaFailure,
                lk::leave_request::Action::Reconnect,
            ));
        }
    }
}
