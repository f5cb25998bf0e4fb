//! Going away and coming back: lost sockets, resumes, departures.
//!
//! ```text
//!  connected --socket lost--> lost --resume--> connected
//!      |                        |
//!      |                        +--20 s (40 s while media flows)--> gone
//!      +--Leave, removed--> gone                (its seat is held for 20 s unless it was removed)
//! ```

use confab_types::ParticipantSid;
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::actor::{RoomActor, patiently};
use super::admit::server_info;
use super::command::Attached;
use super::events::{Fact, LeftReason};
use super::info::leave;
use super::link::{Outgoing, SignalLink};
use super::member::{Lost, Member};

impl RoomActor {
    /// A socket ended without `Leave`: the participant stays for a while.
    pub async fn on_link_lost(&mut self, from: &Attached) {
        let now = Instant::now();
        let Some(member) = self.members.iter_mut().find(|m| m.attached() == *from) else {
            return;
        };
        if member.lost.is_some() {
            return;
        }
        info!(participant = %member.sid, "signalling lost");
        member.link = None;
        let departing = !member.media_alive();
        member.lost = Some(Lost { since: now, departing });
        let (admission, sid) = (member.admission.clone(), member.sid.clone());
        if departing {
            self.depart(&admission, &sid).await;
        }
        self.hurry_probes(|holder| holder == from);
    }

    /// The media of a lost participant ended too: now its seat is departing.
    pub async fn on_media_lost(&mut self, sid: &ParticipantSid) {
        let Some(member) = self.member_mut(sid) else { return };
        let alive = member.media_alive();
        let Some(lost) = member.lost.as_mut().filter(|l| !l.departing && !alive) else {
            return;
        };
        lost.departing = true;
        let admission = member.admission.clone();
        self.depart(&admission, sid).await;
    }

    /// The same participant with a new socket: `Reconnect` first, then everyone's state, then new ICE.
    pub async fn on_resume(&mut self, sid: &ParticipantSid, link: SignalLink) -> Option<Attached> {
        let refuse = |link: &SignalLink| {
            let _ = link.message(leave(
                lk::DisconnectReason::StateMismatch,
                lk::leave_request::Action::Reconnect,
            ));
            let _ = link.send(Outgoing::Close {
                code: 1000,
                reason: "unknown participant",
            });
        };
        let Some(member) = self.member(sid) else {
            refuse(&link);
            return None;
        };
        if let Err(e) = self.env.control.resume(&member.admission, sid).await {
            debug!(error = %e, participant = %sid, "no resume");
            refuse(&link);
            return None;
        }
        let generation = self.number();
        let lost_since = {
            let member = self.member_mut(sid)?;
            if let Some(old) = member.link.replace(link.clone()) {
                let _ = old.send(Outgoing::Close {
                    code: 1000,
                    reason: "resumed elsewhere",
                });
            }
            member.generation = generation;
            member.lost.take().map(|l| l.since)
        };
        info!(participant = %sid, "resumed");
        let _ = link.message(Message::Reconnect(lk::ReconnectResponse {
            server_info: Some(server_info()),
            ..lk::ReconnectResponse::default()
        }));
        let missed = lost_since.map_or(Vec::new(), |since| {
            self.gone
                .iter()
                .filter(|(at, _)| *at >= since)
                .map(|(_, i)| i.clone())
                .collect()
        });
        let present = self
            .members
            .iter()
            .filter(|m| !m.hidden || m.sid == *sid)
            .map(Member::info);
        let participants = missed.into_iter().chain(present).collect();
        let _ = link.message(Message::Update(lk::ParticipantUpdate { participants }));
        let _ = link.message(Message::RoomUpdate(lk::RoomUpdate {
            room: Some(self.lk_room()),
        }));
        self.all_qualities_to(sid);
        if self.member(sid).is_some_and(|m| m.grants.can_subscribe)
            && let Err(e) = patiently(self.env.engine.restart_subscriber(&self.room.sid, sid)).await
        {
            warn!(error = %e, participant = %sid, "no ICE restart");
        }
        Some(Attached {
            sid: sid.clone(),
            generation,
        })
    }

    /// The participant said `Leave`.
    pub async fn on_leave(&mut self, sid: &ParticipantSid) {
        let Some(admission) = self.member(sid).map(|m| m.admission.clone()) else {
            return;
        };
        self.depart(&admission, sid).await;
        self.remove_member(
            sid,
            LeftReason::ClientDisconnected,
            lk::DisconnectReason::ClientInitiated,
        )
        .await;
    }

    /// Takes a participant out and tells everyone. Its own socket is told why, and closed.
    pub async fn remove_member(&mut self, sid: &ParticipantSid, reason: LeftReason, why: lk::DisconnectReason) -> bool {
        let Some(at) = self.members.iter().position(|m| m.sid == *sid) else {
            return false;
        };
        let member = self.members.remove(at);
        info!(participant = %sid, reason = reason.as_str(), "left");
        if let Some(link) = &member.link {
            if why != lk::DisconnectReason::ClientInitiated {
                member.tell(leave(why, lk::leave_request::Action::Disconnect));
            }
            let _ = link.send(Outgoing::Close {
                code: 1000,
                reason: "left",
            });
        }
        self.env.engine.remove_participant(&self.room.sid, sid).await;
        self.speakers.remove(sid);
        let now = Instant::now();
        if !member.hidden {
            let info = member.gone_info(why);
            self.tell_others(
                sid,
                &Message::Update(lk::ParticipantUpdate {
                    participants: vec![info.clone()],
                }),
            );
            self.gone.push((now, info));
        }
        self.note_tracks_gone(&member, reason);
        self.note(Fact::Left {
            participant: sid.clone(),
            reason,
        });
        self.someone_gone(member.lost.map_or(now, |l| l.since));
        self.hurry_probes(|holder| holder.sid == *sid);
        self.requalify_all();
        true
    }

    /// Streams end before their participant does.
    pub fn note_tracks_gone(&mut self, member: &Member, reason: LeftReason) {
        for track in member.tracks.iter().filter(|t| t.shown) {
            self.note(Fact::TrackUnpublished {
                participant: member.sid.clone(),
                track: track.sid.clone(),
                reason,
            });
        }
    }

    /// The room's last minute starts when the last one is gone.
    pub fn someone_gone(&mut self, at: Instant) {
        self.empty_until = self.empty_until.max(at + self.room.departure_timeout);
        if self.came {
            self.empty_until = at + self.room.departure_timeout;
        }
    }
}
