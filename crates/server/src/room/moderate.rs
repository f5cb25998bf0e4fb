//! What moderators, administrators and backends ask of a room.

use confab_wire::livekit as lk;
use lk::signal_response::Message;
use tracing::{info, warn};

use super::actor::{RoomActor, patiently};
use super::command::RoomCommand;
use super::events::LeftReason;
use super::info::grants;
use super::member::Member;

impl RoomActor {
    pub async fn on_moderation(&mut self, command: RoomCommand) {
        match command {
            RoomCommand::Remove { who, reason, reply } => {
                let found = self.named(&who).map(|m| m.sid.clone());
                let removed = match found {
                    Some(sid) => {
                        self.remove_member(&sid, reason, lk::DisconnectReason::ParticipantRemoved)
                            .await
                    }
                    None => false,
                };
                self.tickets.retain(|t| !t.is_for(&who));
                let _ = reply.send(removed);
            }
            RoomCommand::List { reply } => {
                let _ = reply.send(self.members.iter().map(Member::info).collect());
            }
            RoomCommand::Info { reply } => {
                let _ = reply.send(self.lk_room());
            }
            RoomCommand::MuteTrack {
                who,
                track,
                muted,
                reply,
            } => {
                let outcome = self.mute_by_force(&who, &track, muted).await;
                let _ = reply.send(outcome);
            }
            RoomCommand::UpdateParticipant { change, reply } => {
                let outcome = self.update_participant(*change).await;
                let _ = reply.send(outcome);
            }
            RoomCommand::UpdateSubscriptions { who, tracks, on, reply } => {
                let found = self.named(&who).map(|m| m.sid.clone());
                if let Some(sid) = &found {
                    self.set_subscriptions(sid, &tracks, on).await;
                }
                let _ = reply.send(found.is_some());
            }
            RoomCommand::SendData { request, reply } => {
                self.on_send_data(*request).await;
                let _ = reply.send(());
            }
            RoomCommand::SetMetadata { metadata, reply } => {
                self.metadata = metadata;
                let update = Message::RoomUpdate(lk::RoomUpdate {
                    room: Some(self.lk_room()),
                });
                for member in &self.members {
                    member.tell(update.clone());
                }
                let _ = reply.send(self.lk_room());
            }
            // Handled by the loop itself.
            _ => {}
        }
    }

    async fn mute_by_force(&mut self, who: &str, track: &str, muted: bool) -> Option<lk::TrackInfo> {
        let sid = self.named(who)?.sid.clone();
        let info = self.set_muted(&sid, track, muted).await?;
        self.tell(
            &sid,
            Message::Mute(lk::MuteTrackRequest {
                sid: track.to_owned(),
                muted,
            }),
        );
        Some(info)
    }

    async fn update_participant(&mut self, change: lk::UpdateParticipantRequest) -> Option<lk::ParticipantInfo> {
        let sid = self.named(&change.identity)?.sid.clone();
        self.apply_update(&sid, &change.name, &change.metadata, &change.attributes);
        if let Some(permission) = change.permission {
            let member = self.member_mut(&sid)?;
            member.grants = grants(&permission, member.grants.room_admin);
            member.may_update = permission.can_update_metadata;
            member.hidden = permission.hidden;
            let now = member.grants.clone();
            let forbidden: Vec<_> = member
                .tracks
                .iter()
                .filter(|t| !now.can_publish(t.source))
                .map(|t| t.sid.clone())
                .collect();
            info!(participant = %sid, "grants changed");
            if let Err(e) = patiently(self.env.engine.set_grants(&self.room.sid, &sid, now)).await {
                warn!(participant = %sid, error = %e, "the media engine kept the old grants; the participant is removed");
                self.remove_member(
                    &sid,
                    LeftReason::ForceDisconnected,
                    lk::DisconnectReason::ParticipantRemoved,
                )
                .await;
                return None;
            }
            for track in forbidden {
                self.end_track(&sid, &track, LeftReason::ForceUnpublished).await;
            }
        }
        self.announce(&sid);
        self.requalify_all();
        self.member(&sid).map(Member::info)
    }
}
