//! What each message of the signalling means for the call. Unknown ones are passed over.

use confab_types::TrackSid;
use confab_wire::livekit::{self as lk, leave_request::Action, signal_request as req, signal_response::Message};

use super::actor::Actor;
use super::data::{CHAT_TOPIC, Received};
use super::machine::{Input, Leave, Why};
use super::people::Change;
use super::report::ms;
use crate::api::CallEvent;

impl Actor {
    /// Takes a message.
    pub(super) async fn message(&mut self, message: Message) {
        match message {
            Message::Join(join) => self.joined(join).await,
            Message::Reconnect(_) => self.resumed().await,
            Message::Answer(answer) => {
                if let (Some(link), Some(signal)) = (&mut self.link, &self.signal) {
                    link.answered(signal, answer).await;
                }
            }
            Message::Offer(offer) => {
                if let (Some(link), Some(signal)) = (&mut self.link, &self.signal) {
                    self.remotes.named_by(&offer.mid_to_track_id);
                    link.offered(signal, offer).await;
                }
            }
            Message::Trickle(trickle) => {
                if let Some(link) = &self.link {
                    link.candidate(&trickle).await;
                }
            }
            Message::Update(update) => {
                let changes = self.people.update(&update.participants);
                self.changed(changes).await;
            }
            Message::TrackPublished(published) => self.track_published(published).await,
            Message::TrackUnpublished(unpublished) => {
                if let Ok(sid) = unpublished.track_sid.parse::<TrackSid>() {
                    self.unpublished_by_server(&sid).await;
                }
            }
            Message::Mute(mute) => self.muted_by_server(&mute).await,
            Message::Leave(leave) => self.step(Input::LeaveReceived(meaning(&leave))).await,
            Message::SpeakersChanged(changed) => self.people.speakers(&changed.speakers),
            Message::ConnectionQuality(update) => self.people.quality(&update.updates),
            Message::RoomUpdate(update) => {
                if let Some(room) = update.room {
                    self.room = room;
                }
            }
            Message::SubscribedQualityUpdate(update) => self.own.qualities(&update),
            Message::RefreshToken(token) => self.refresh_token(token),
            Message::RequestResponse(response) => self.request_answered(&response).await,
            other => tracing::trace!(?other, "passed over"),
        }
    }

    async fn joined(&mut self, join: lk::JoinResponse) {
        self.times.joined_ms.get_or_insert(ms(self.started.elapsed()));
        if let Some(room) = &join.room {
            self.room = room.clone();
        }
        let changes = self.people.joined(&join, self.claims.video.room_admin);
        self.step(Input::Joined).await;
        self.changed(changes).await;
        self.join_media(&join).await;
    }

    async fn resumed(&mut self) {
        if let Some(signal) = &self.signal {
            signal.send(req::Message::SyncState(self.own.sync_state()));
        }
        self.remotes.tell_wishes_again();
        self.step(Input::Resumed).await;
        // Wishes are told on the new socket.
        self.tell_wishes();
    }

    /// Tells others' coming and going, ends what is gone.
    pub(super) async fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Joined(sid) => {
                    let _ = self.events.send(CallEvent::Joined(sid));
                }
                Change::Left {
                    sid,
                    identity,
                    nickname,
                } => {
                    self.streams.forget(&identity);
                    let _ = self.events.send(CallEvent::Left(sid, nickname));
                }
                Change::TrackEnded(sid) => self.remotes.ended(&sid, &[]),
                Change::Permission => self.permission_changed().await,
            }
        }
    }

    /// A data channel message came.
    pub(super) fn data_arrived(&mut self, payload: &[u8]) {
        let Some(received) = self.streams.handle(payload) else {
            return;
        };
        let sender = |sid: &str, identity: &str| sid.parse().ok().or_else(|| self.people.sid_of(identity));
        let event = match received {
            Received::Text {
                id,
                topic,
                from_sid,
                from_identity,
                text,
            } => {
                let Some(from) = sender(&from_sid, &from_identity) else {
                    return;
                };
                if topic == CHAT_TOPIC {
                    CallEvent::Chat { id, from, text }
                } else {
                    CallEvent::Data {
                        from: Some(from),
                        topic,
                        payload: text.into_bytes(),
                    }
                }
            }
            Received::Packet {
                topic,
                from_sid,
                from_identity,
                payload,
            } => CallEvent::Data {
                from: sender(&from_sid, &from_identity),
                topic,
                payload,
            },
        };
        let _ = self.events.send(event);
    }
}

/// A `Leave` in the machine's words. Servers before protocol 13 write `can_reconnect` only.
fn meaning(leave: &lk::LeaveRequest) -> Leave {
    use lk::DisconnectReason as R;
    match Action::try_from(leave.action) {
        Ok(Action::Resume) => Leave::Resume,
        Ok(Action::Reconnect) => Leave::Reconnect,
        _ if leave.can_reconnect => Leave::Reconnect,
        _ => Leave::Disconnect(match R::try_from(leave.reason) {
            Ok(R::ParticipantRemoved) => Why::Removed,
            Ok(R::RoomDeleted | R::RoomClosed) => Why::RoomEnded,
            Ok(R::DuplicateIdentity) => Why::Duplicate,
            _ => Why::Other,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_actions_of_a_leave_are_understood() {
        let leave = |action: Action, reason: lk::DisconnectReason, can_reconnect| {
            meaning(&lk::LeaveRequest {
                action: action as i32,
                reason: reason as i32,
                can_reconnect,
                ..Default::default()
            })
        };
        use lk::DisconnectReason as R;
        let table = [
            (leave(Action::Resume, R::UnknownReason, false), Leave::Resume),
            (leave(Action::Reconnect, R::StateMismatch, false), Leave::Reconnect),
            (leave(Action::Disconnect, R::UnknownReason, true), Leave::Reconnect),
            (
                leave(Action::Disconnect, R::ParticipantRemoved, false),
                Leave::Disconnect(Why::Removed),
            ),
            (
                leave(Action::Disconnect, R::RoomDeleted, false),
                Leave::Disconnect(Why::RoomEnded),
            ),
            (
                leave(Action::Disconnect, R::DuplicateIdentity, false),
                Leave::Disconnect(Why::Duplicate),
            ),
            (
                leave(Action::Disconnect, R::ServerShutdown, false),
                Leave::Disconnect(Why::Other),
            ),
        ];
        for (got, expected) in table {
            assert_eq!(got, expected);
        }
    }
}
