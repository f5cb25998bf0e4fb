//! A client's messages, one by one. None of them is trusted: what is allowed is
//! decided by the grants, and what is malformed is answered or ignored.

use confab_types::ParticipantSid;
use confab_wire::livekit as lk;
use lk::signal_request::Message as Request;
use lk::signal_response::Message;
use serde::Deserialize;
use tracing::{debug, trace};

use super::actor::{RoomActor, patiently};
use super::command::Attached;
use super::events::LeftReason;
use super::info::millis;
use crate::engine::{EngineError, Target};

/// LiveKit's bounds for what participants say of themselves.
const MAX_METADATA: usize = 64 * 1024;
const MAX_NAME: usize = 128;
const MAX_ATTRIBUTES: usize = 64 * 1024;

/// A candidate as browsers write it (`RTCIceCandidateInit`).
#[derive(Deserialize)]
struct CandidateInit {
    #[serde(default)]
    candidate: String,
}

impl RoomActor {
    pub async fn on_signal(&mut self, from: Attached, message: Request) {
        // A late word from a replaced socket, or from someone who was removed.
        if !self.members.iter().any(|m| m.attached() == from) {
            return;
        }
        let sid = from.sid;
        trace!(participant = %sid, "signal");
        match message {
            Request::Offer(offer) => self.on_offer(&sid, offer).await,
            Request::Answer(answer) => self.on_answer(&sid, answer).await,
            Request::Trickle(trickle) => self.on_trickle(&sid, &trickle).await,
            Request::AddTrack(request) => self.on_add_track(&sid, request).await,
            Request::Mute(mute) => self.on_mute(&sid, &mute).await,
            Request::Subscription(wanted) => {
                let tracks = wanted
                    .track_sids
                    .iter()
                    .chain(wanted.participant_tracks.iter().flat_map(|p| &p.track_sids));
                let tracks: Vec<String> = tracks.cloned().collect();
                self.set_subscriptions(&sid, &tracks, wanted.subscribe).await;
            }
            Request::TrackSetting(setting) => self.on_track_setting(&sid, &setting).await,
            Request::Leave(_) => self.on_leave(&sid).await,
            Request::UpdateMetadata(update) => self.on_update_metadata(&sid, update),
            Request::Ping(_) => self.tell(&sid, Message::Pong(now_millis())),
            Request::PingReq(ping) => {
                self.tell(
                    &sid,
                    Message::PongResp(lk::Pong {
                        last_ping_timestamp: ping.timestamp,
                        timestamp: now_millis(),
                    }),
                );
            }
            Request::SyncState(state) => self.on_sync_state(&sid, state).await,
            Request::UpdateAudioTrack(update) => self.on_update_audio(&sid, &update),
            Request::PublishDataTrackRequest(request) => {
                let request = lk::request_response::Request::PublishDataTrack(request);
                self.refuse(
                    &sid,
                    0,
                    lk::request_response::Reason::UnsupportedType,
                    "data tracks are not offered",
                    Some(request),
                );
            }
            // Tolerated: nothing here depends on them.
            other => debug!(participant = %sid, kind = name_of(&other), "message without effect"),
        }
    }

    pub fn tell(&self, sid: &ParticipantSid, message: Message) {
        if let Some(member) = self.member(sid) {
            member.tell(message);
        }
    }

    /// Answers a request that is not granted.
    pub fn refuse(
        &self,
        sid: &ParticipantSid,
        request_id: u32,
        reason: lk::request_response::Reason,
        message: &str,
        request: Option<lk::request_response::Request>,
    ) {
        debug!(participant = %sid, message, "request refused");
        self.tell(
            sid,
            Message::RequestResponse(lk::RequestResponse {
                request_id,
                reason: reason as i32,
                message: message.to_owned(),
                request,
            }),
        );
    }

    async fn on_offer(&mut self, sid: &ParticipantSid, offer: lk::SessionDescription) {
        let id = offer.id;
        match patiently(self.env.engine.publisher_offer(&self.room.sid, sid, offer.sdp)).await {
            Ok(sdp) => self.tell(
                sid,
                Message::Answer(lk::SessionDescription {
                    r#type: "answer".into(),
                    sdp,
                    id,
                    ..lk::SessionDescription::default()
                }),
            ),
            Err(e) => self.on_negotiation_error(sid, &e).await,
        }
    }

    async fn on_answer(&mut self, sid: &ParticipantSid, answer: lk::SessionDescription) {
        let expected = self.member(sid).map_or(0, |m| m.offer_id);
        // Older clients send no id.
        if answer.id != 0 && answer.id != expected {
            debug!(participant = %sid, id = answer.id, expected, "answer to an older offer");
            return;
        }
        if let Err(e) = patiently(self.env.engine.subscriber_answer(&self.room.sid, sid, answer.sdp)).await {
            self.on_negotiation_error(sid, &e).await;
        }
    }

    /// SDP that cannot be used ends the participant: its connection could never carry anything.
    async fn on_negotiation_error(&mut self, sid: &ParticipantSid, error: &EngineError) {
        debug!(participant = %sid, %error, "negotiation failed");
        if let Some(admission) = self.member(sid).map(|m| m.admission.clone()) {
            self.depart(&admission, sid).await;
        }
        self.remove_member(sid, LeftReason::ForceDisconnected, lk::DisconnectReason::MediaFailure)
            .await;
    }

    async fn on_trickle(&mut self, sid: &ParticipantSid, trickle: &lk::TrickleRequest) {
        let target = match lk::SignalTarget::try_from(trickle.target) {
            Ok(lk::SignalTarget::Publisher) => Target::Publisher,
            Ok(lk::SignalTarget::Subscriber) => Target::Subscriber,
            Err(_) => return,
        };
        let Ok(init) = serde_json::from_str::<CandidateInit>(&trickle.candidate_init) else {
            debug!(participant = %sid, "unreadable candidate");
            return;
        };
        // The empty candidate says that no more will come.
        if init.candidate.is_empty() {
            return;
        }
        let candidate = init.candidate.strip_prefix("a=").unwrap_or(&init.candidate).to_owned();
        if let Err(e) = patiently(self.env.engine.trickle(&self.room.sid, sid, target, candidate)).await {
            debug!(participant = %sid, error = %e, "candidate not used");
        }
    }

    fn on_update_metadata(&mut self, sid: &ParticipantSid, update: lk::UpdateParticipantMetadata) {
        use lk::request_response::{Reason, Request};
        let Some(member) = self.member(sid) else { return };
        let own = member.issuer == confab_control::TokenIssuer::Own;
        let wants_more = (!update.name.is_empty() && update.name != member.name)
            || (!update.metadata.is_empty() && update.metadata != member.metadata);
        // People may raise a hand (attributes); name and metadata say who they are and come from the token.
        let allowed = member.may_update || (own && !wants_more);
        let id = update.request_id;
        if !allowed {
            let text = "does not have permission to update own metadata";
            self.refuse(sid, id, Reason::NotAllowed, text, Some(Request::UpdateMetadata(update)));
            return;
        }
        if !self.apply_update(sid, &update.name, &update.metadata, &update.attributes) {
            self.refuse(
                sid,
                id,
                Reason::LimitExceeded,
                "name, metadata or attributes are too long",
                Some(Request::UpdateMetadata(update)),
            );
            return;
        }
        self.announce(sid);
        let ok = lk::RequestResponse {
            request_id: id,
            reason: Reason::Ok as i32,
            message: String::new(),
            request: Some(Request::UpdateMetadata(update)),
        };
        self.tell(sid, Message::RequestResponse(ok));
    }

    /// Changes what is not empty. An attribute with an empty value is removed. `false`: over the bounds.
    pub fn apply_update(
        &mut self,
        sid: &ParticipantSid,
        name: &str,
        metadata: &str,
        attributes: &std::collections::HashMap<String, String>,
    ) -> bool {
        let Some(member) = self.member_mut(sid) else {
            return true;
        };
        let mut merged = member.attributes.clone();
        for (key, value) in attributes {
            if value.is_empty() {
                merged.remove(key);
            } else {
                merged.insert(key.clone(), value.clone());
            }
        }
        let size: usize = merged.iter().map(|(k, v)| k.len() + v.len()).sum();
        if name.len() > MAX_NAME || metadata.len() > MAX_METADATA || size > MAX_ATTRIBUTES {
            return false;
        }
        member.attributes = merged;
        if !name.is_empty() {
            name.clone_into(&mut member.name);
        }
        if !metadata.is_empty() {
            metadata.clone_into(&mut member.metadata);
        }
        true
    }

    /// After a resume: what the client still wants. Its SDP is not needed, the ICE restart brings new.
    async fn on_sync_state(&mut self, sid: &ParticipantSid, state: lk::SyncState) {
        if let Some(wanted) = state.subscription {
            self.set_subscriptions(sid, &wanted.track_sids, wanted.subscribe).await;
        }
    }
}

/// Milliseconds since 1970.
fn now_millis() -> i64 {
    millis(time::OffsetDateTime::now_utc())
}

fn name_of(message: &Request) -> &'static str {
    match message {
        Request::UpdateLayers(_) => "update_layers",
        Request::SubscriptionPermission(_) => "subscription_permission",
        Request::Simulate(_) => "simulate",
        Request::UpdateVideoTrack(_) => "update_video_track",
        _ => "other",
    }
}
