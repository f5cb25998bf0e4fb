//! The room's task: its state, its loop, its clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use confab_control::Room;
use confab_types::ParticipantSid;
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::RoomEnv;
use super::admit::{Probe, Ticket};
use super::command::{EndReason, RoomCommand, RoomView};
use super::events::{Fact, LeftReason, RoomEvent};
use super::info::{leave, millis};
use super::member::Member;
use crate::engine::{EngineError, EngineEvent};

/// How long a participant without signalling is kept for a resume.
pub(super) const KEPT_WITHOUT_SIGNALLING: Duration = Duration::from_secs(20);
/// The same while its media still flows. Longer survives a longer outage of the signalling alone; a
/// vanished client whose last packet looked healthy is shown for as long.
pub(super) const KEPT_WITH_MEDIA: Duration = Duration::from_secs(40);
/// After a restart of the server everyone gets this long to come back.
const KEPT_AFTER_RESTART: Duration = Duration::from_secs(60);
/// How often a participant gets a new token.
pub(super) const TOKEN_REFRESH: Duration = Duration::from_secs(300);
/// An engine that answers nothing for so long is broken.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);
/// Disconnects are told again to those who resume within this time.
const REMEMBER_GONE: Duration = Duration::from_secs(60);

/// Everything of a room.
pub(super) struct RoomActor {
    pub env: RoomEnv,
    pub room: Room,
    pub metadata: String,
    pub members: Vec<Member>,
    pub tickets: Vec<Ticket>,
    pub probes: Vec<Probe>,
    pub next_number: u64,
    pub gone: Vec<(Instant, lk::ParticipantInfo)>,
    pub speakers: HashMap<ParticipantSid, f32>,
    sequence: u64,
    /// The room ends when nobody is in it at this time.
    pub empty_until: Instant,
    /// Someone was in.
    pub came: bool,
    over: Option<EndReason>,
    ended_replies: Vec<oneshot::Sender<()>>,
}

/// Waits for the engine, but not forever.
pub(super) async fn patiently<T>(call: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    tokio::time::timeout(ENGINE_PATIENCE, call)
        .await
        .unwrap_or(Err(EngineError::Gone))
}

impl RoomActor {
    pub fn new(room: Room, restored: bool, env: RoomEnv) -> Self {
        let now = Instant::now();
        let empty_until = now
            + if restored {
                KEPT_AFTER_RESTART
            } else {
                room.empty_timeout
            };
        Self {
            metadata: room.metadata.clone(),
            env,
            room,
            members: Vec::new(),
            tickets: Vec::new(),
            probes: Vec::new(),
            next_number: 1,
            gone: Vec::new(),
            speakers: HashMap::new(),
            sequence: 0,
            empty_until,
            came: restored,
            over: None,
            ended_replies: Vec::new(),
        }
    }

    /// Runs until the room is over. Consumes the room, so that nothing can be asked of it afterwards.
    pub async fn run(mut self, mut mailbox: mpsc::Receiver<RoomCommand>) {
        let mut facts = match patiently(self.env.engine.open_room(&self.room.sid)).await {
            Ok(facts) => facts,
            Err(e) => {
                error!(error = %e, "the media engine did not open the room");
                self.finish(EndReason::Empty).await;
                return;
            }
        };
        info!("room opened");
        while self.over.is_none() {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                fact = facts.recv() => match fact {
                    Some(fact) => self.on_fact(fact).await,
                    None => self.on_fact(EngineEvent::RoomFailed).await,
                },
                command = mailbox.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => self.over = Some(EndReason::Empty),
                },
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.on_time(Instant::now()).await;
        }
        let reason = self.over.unwrap_or(EndReason::Empty);
        self.finish(reason).await;
    }

    /// The room shall end after this step.
    pub fn end(&mut self, reason: EndReason) {
        self.over.get_or_insert(reason);
    }

    async fn on_command(&mut self, command: RoomCommand) {
        match command {
            RoomCommand::Admit {
                token,
                intent,
                reserve,
                reply,
            } => self.on_admit(*token, intent, reserve, reply).await,
            RoomCommand::Attach {
                ticket,
                link,
                auto_subscribe,
                client_protocol,
                reply,
            } => {
                let attached = self.on_attach(ticket, link, auto_subscribe, client_protocol).await;
                let _ = reply.send(attached);
            }
            RoomCommand::Signal { from, message } => self.on_signal(from, *message).await,
            RoomCommand::LinkLost { from } => self.on_link_lost(&from).await,
            RoomCommand::LinkAlive { from } => self.on_link_alive(&from),
            RoomCommand::TokenIssued => {
                if !self.came {
                    self.empty_until = Instant::now() + self.room.empty_timeout;
                }
            }
            RoomCommand::End { reason, reply } => {
                self.ended_replies.push(reply);
                self.end(reason);
            }
            RoomCommand::View { reply } => {
                let view = self.view().await;
                let _ = reply.send(view);
            }
            other => self.on_moderation(other).await,
        }
    }

    /// When something is due next.
    fn next_deadline(&self) -> Instant {
        let lost = self
            .members
            .iter()
            .filter_map(|m| m.lost.map(|l| self.kept_until(m, l)));
        let refresh = self.members.iter().filter(|m| m.link.is_some()).map(|m| m.refresh_at);
        let lower = self
            .members
            .iter()
            .flat_map(|m| m.tracks.iter().filter_map(|t| t.lower_at));
        let tickets = self.tickets.iter().map(|t| t.expires);
        let probes = self.probes.iter().map(|p| p.deadline);
        let empty = self.is_empty().then_some(self.empty_until);
        // A room with nothing due looks at the clock once an hour.
        let idle = Instant::now() + Duration::from_secs(3600);
        lost.chain(refresh)
            .chain(lower)
            .chain(tickets)
            .chain(probes)
            .chain(empty)
            .min()
            .map_or(idle, |t| t.min(idle))
    }

    async fn on_time(&mut self, now: Instant) {
        self.expire_probes(now).await;
        self.expire_tickets(now).await;
        let overdue: Vec<ParticipantSid> = self
            .members
            .iter()
            .filter(|m| m.lost.is_some_and(|l| self.kept_until(m, l) <= now))
            .map(|m| m.sid.clone())
            .collect();
        for sid in overdue {
            self.remove_member(
                &sid,
                LeftReason::NetworkDisconnected,
                lk::DisconnectReason::ConnectionTimeout,
            )
            .await;
        }
        self.lower_qualities(now);
        self.refresh_tokens(now).await;
        self.gone.retain(|(at, _)| now.duration_since(*at) < REMEMBER_GONE);
        if self.is_empty() && now >= self.empty_until {
            self.end(EndReason::Empty);
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.tickets.is_empty()
    }

    fn kept_until(&self, member: &Member, lost: super::member::Lost) -> Instant {
        lost.since
            + if member.media_alive() {
                KEPT_WITH_MEDIA
            } else {
                KEPT_WITHOUT_SIGNALLING
            }
    }

    async fn refresh_tokens(&mut self, now: Instant) {
        for member in self
            .members
            .iter_mut()
            .filter(|m| m.link.is_some() && m.refresh_at <= now)
        {
            member.refresh_at = now + TOKEN_REFRESH;
            match self.env.control.refresh_room_token(&member.admission).await {
                Ok(fresh) => member.tell(Message::RefreshToken(fresh.token.expose().to_owned())),
                Err(e) => warn!(error = %e, participant = %member.sid, "no new token"),
            }
        }
    }

    /// Numbers an event and shows it to observers.
    pub fn note(&mut self, fact: Fact) {
        self.sequence += 1;
        debug!(sequence = self.sequence, ?fact, "event");
        let event = RoomEvent {
            room: self.room.sid.clone(),
            name: self.room.name.clone(),
            sequence: self.sequence,
            at: OffsetDateTime::now_utc(),
            fact,
        };
        // Nobody listening is fine.
        let _ = self.env.events.send(Arc::new(event));
    }

    /// A number used once in this room.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn member(&self, sid: &ParticipantSid) -> Option<&Member> {
        self.members.iter().find(|m| m.sid == *sid)
    }

    pub fn member_mut(&mut self, sid: &ParticipantSid) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.sid == *sid)
    }

    /// By identity or participant sid.
    pub fn named(&self, who: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|m| m.identity.as_str() == who || m.sid.as_str() == who)
    }

    /// Tells everyone but one.
    pub fn tell_others(&self, but: &ParticipantSid, message: &Message) {
        for member in self.members.iter().filter(|m| m.sid != *but) {
            member.tell(message.clone());
        }
    }

    /// Tells everyone how a participant is now.
    pub fn announce(&mut self, sid: &ParticipantSid) {
        let Some(member) = self.member_mut(sid) else { return };
        member.version += 1;
        let info = member.info();
        let hidden = member.hidden;
        let update = Message::Update(lk::ParticipantUpdate {
            participants: vec![info],
        });
        member.tell(update.clone());
        if !hidden {
            self.tell_others(sid, &update);
        }
    }

    /// The room in LiveKit's words.
    pub fn lk_room(&self) -> lk::Room {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        lk::Room {
            sid: self.room.sid.to_string(),
            name: self.room.name.to_string(),
            empty_timeout: seconds(self.room.empty_timeout),
            departure_timeout: seconds(self.room.departure_timeout),
            max_participants: self.room.size_limit.unwrap_or(0),
            creation_time: self.room.created_at.unix_timestamp(),
            creation_time_ms: millis(self.room.created_at),
            enabled_codecs: enabled_codecs(),
            metadata: self.metadata.clone(),
            num_participants: count(self.members.iter().filter(|m| !m.hidden).count()),
            num_publishers: count(self.members.iter().filter(|m| m.tracks.iter().any(|t| t.shown)).count()),
            ..lk::Room::default()
        }
    }

    async fn view(&self) -> RoomView {
        RoomView {
            name: self.room.name.clone(),
            sid: self.room.sid.clone(),
            created_at: self.room.created_at,
            participants: self.members.iter().map(Member::view).collect(),
            counters: patiently(self.env.engine.counters(&self.room.sid))
                .await
                .unwrap_or_default(),
        }
    }

    /// Everyone is told, everything is closed and written.
    async fn finish(mut self, reason: EndReason) {
        use lk::leave_request::Action;
        let stopping = reason == EndReason::ServerShutdown;
        let (why, action) = match reason {
            EndReason::Deleted => (lk::DisconnectReason::RoomDeleted, Action::Disconnect),
            EndReason::Empty => (lk::DisconnectReason::RoomClosed, Action::Disconnect),
            EndReason::ServerShutdown => (lk::DisconnectReason::ServerShutdown, Action::Reconnect),
        };
        for member in std::mem::take(&mut self.members) {
            member.tell(leave(why, action));
            if let Some(link) = &member.link {
                let _ = link.send(super::Outgoing::Close {
                    code: 1000,
                    reason: "the room is over",
                });
            }
            let left = if stopping {
                LeftReason::NetworkDisconnected
            } else {
                LeftReason::ForceDisconnected
            };
            self.note_tracks_gone(&member, left);
            self.note(Fact::Left {
                participant: member.sid.clone(),
                reason: left,
            });
        }
        self.env.engine.close_room(&self.room.sid).await;
        if !stopping {
            let why = if reason == EndReason::Deleted {
                confab_control::EndReason::Deleted
            } else {
                confab_control::EndReason::Empty
            };
            if let Err(e) = self.env.control.end_room(&self.room.sid, why).await {
                error!(error = %e, "the room's end was not written");
            }
            self.note(Fact::RoomEnded);
        }
        for reply in self.ended_replies {
            let _ = reply.send(());
        }
    }
}

/// What may be sent.
pub(super) fn enabled_codecs() -> Vec<lk::Codec> {
    ["video/VP8", "audio/opus"]
        .map(|mime| lk::Codec {
            mime: mime.to_owned(),
            fmtp_line: String::new(),
        })
        .to_vec()
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
