//! Letting people in: who may, who must wait until an old socket is shown to be
//! dead, and what a new participant is told.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use confab_control::{AdmissionId, AdmitError as ControlAdmitError, JoinCheck, TokenIssuer, VerifiedToken};
use confab_types::ParticipantSid;
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::actor::{RoomActor, TOKEN_REFRESH, enabled_codecs, patiently};
use super::command::{Admission, AdmitError, Attached, Intent};
use super::events::{Fact, LeftReason};
use super::info::leave;
use super::link::{Outgoing, SignalLink};
use super::member::Member;
use crate::ids;

/// A join that finds its holder's signalling open waits so long for a sign of life from it.
pub(super) const PROBE: Duration = Duration::from_millis(300);
/// Between the admission and the socket. Covers a slow upgrade; a client that vanishes holds its seat as long.
const TICKET_LIFE: Duration = Duration::from_secs(10);
/// What LiveKit tells clients, in seconds.
const PING_INTERVAL: i32 = 5;
const PING_TIMEOUT: i32 = 15;
/// The signalling protocol's version that these messages follow.
const PROTOCOL: i32 = 16;

/// Someone who was let in and has no socket yet.
pub(super) struct Ticket {
    pub number: u64,
    pub expires: Instant,
    pub what: TicketFor,
}

/// What the socket will be for.
pub(super) enum TicketFor {
    /// A new participant.
    Join {
        token: Box<VerifiedToken>,
        sid: ParticipantSid,
        admission: AdmissionId,
    },
    /// An old one.
    Resume(ParticipantSid),
    /// Nobody: it is told to start anew.
    Mismatch,
}

impl Ticket {
    /// Whether it is of this identity or participant sid.
    pub fn is_for(&self, who: &str) -> bool {
        matches!(&self.what, TicketFor::Join { token, sid, .. } if token.identity.as_str() == who || sid.as_str() == who)
    }
}

/// A join that waits for a sign of life of another socket.
pub(super) struct Probe {
    pub holder: Attached,
    pub deadline: Instant,
    token: Box<VerifiedToken>,
    reserve: bool,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Admission, AdmitError>>;

impl RoomActor {
    pub async fn on_admit(&mut self, token: VerifiedToken, intent: Intent, reserve: bool, reply: Reply) {
        let held_by = match intent {
            Intent::Resume(sid) => {
                let known = self.member(&sid).is_some_and(|m| m.identity == token.identity);
                let what = if known {
                    TicketFor::Resume(sid)
                } else {
                    TicketFor::Mismatch
                };
                let ticket = if reserve { self.ticket(what) } else { 0 };
                let _ = reply.send(Ok(Admission { ticket }));
                return;
            }
            Intent::Fresh { held_by } => held_by,
        };
        if let Some(holder) = held_by.as_ref().and_then(|sid| self.member(sid)) {
            let attached = holder.attached();
            let asked = holder
                .link
                .as_ref()
                .is_some_and(|l| !l.is_closed() && l.send(Outgoing::Probe).is_ok());
            if asked {
                debug!(participant = %attached.sid, "asking the token's holder for a sign of life");
                let deadline = Instant::now() + PROBE;
                self.probes.push(Probe {
                    holder: attached,
                    deadline,
                    token: Box::new(token),
                    reserve,
                    reply,
                });
                return;
            }
        }
        let outcome = self.admit(token, held_by, reserve).await;
        let _ = reply.send(outcome);
    }

    /// The holder's socket lives: the token is in use.
    pub fn on_link_alive(&mut self, from: &Attached) {
        let (alive, waiting) = std::mem::take(&mut self.probes)
            .into_iter()
            .partition(|p| p.holder == *from);
        self.probes = waiting;
        let alive: Vec<Probe> = alive;
        for probe in alive {
            let _ = probe.reply.send(Err(AdmitError::TokenVoid));
        }
    }

    /// The holder's socket is gone: those who wait for a sign of life from it wait no longer than this step.
    pub fn hurry_probes(&mut self, holder: impl Fn(&Attached) -> bool) {
        let now = Instant::now();
        self.probes
            .iter_mut()
            .filter(|p| holder(&p.holder))
            .for_each(|p| p.deadline = now);
    }

    /// The holder's socket said nothing in time: it counts as dead.
    pub async fn expire_probes(&mut self, now: Instant) {
        let (due, waiting): (Vec<Probe>, Vec<Probe>) = std::mem::take(&mut self.probes)
            .into_iter()
            .partition(|p| p.deadline <= now);
        self.probes = waiting;
        for probe in due {
            let outcome = self.admit(*probe.token, Some(probe.holder.sid), probe.reserve).await;
            let _ = probe.reply.send(outcome);
        }
    }

    pub async fn expire_tickets(&mut self, now: Instant) {
        let (due, kept): (Vec<Ticket>, Vec<Ticket>) = std::mem::take(&mut self.tickets)
            .into_iter()
            .partition(|t| t.expires <= now);
        self.tickets = kept;
        for ticket in due {
            if let TicketFor::Join { sid, admission, .. } = ticket.what {
                self.depart(&admission, &sid).await;
                self.someone_gone(now);
            }
        }
    }

    async fn admit(
        &mut self,
        token: VerifiedToken,
        held_by: Option<ParticipantSid>,
        reserve: bool,
    ) -> Result<Admission, AdmitError> {
        if !reserve {
            return Ok(Admission { ticket: 0 });
        }
        if let (Some(holder), Some(view)) = (&held_by, &token.admission) {
            self.depart(&view.id, holder).await;
        }
        let sid = ids::participant();
        let admitted = self.env.control.admit(&token, &sid).await.map_err(|e| match e {
            ControlAdmitError::Revoked | ControlAdmitError::Held { .. } => AdmitError::TokenVoid,
            ControlAdmitError::RoomFull => AdmitError::Full,
            ControlAdmitError::RoomLocked => AdmitError::Locked,
            ControlAdmitError::RoomNotOpen => AdmitError::Over,
            other => {
                error!(error = %other, "a join was not written");
                AdmitError::Unavailable
            }
        })?;
        self.came = true;
        for old in admitted.replaced.iter().chain(&held_by) {
            self.replace(old, &token).await;
        }
        Ok(Admission {
            ticket: self.ticket(TicketFor::Join {
                token: Box::new(token),
                sid,
                admission: admitted.admission,
            }),
        })
    }

    /// An older join of the same token or identity is gone for good.
    async fn replace(&mut self, old: &ParticipantSid, token: &VerifiedToken) {
        self.tickets
            .retain(|t| !matches!(&t.what, TicketFor::Join { sid, .. } if sid == old));
        let reason = match token.issuer {
            // The same person's own rejoin: the other socket is dead.
            TokenIssuer::Own => LeftReason::NetworkDisconnected,
            TokenIssuer::ApiKey(_) => LeftReason::ForceDisconnected,
        };
        self.remove_member(old, reason, lk::DisconnectReason::DuplicateIdentity)
            .await;
    }

    fn ticket(&mut self, what: TicketFor) -> u64 {
        let number = self.number();
        self.tickets.push(Ticket {
            number,
            expires: Instant::now() + TICKET_LIFE,
            what,
        });
        number
    }

    pub async fn on_attach(
        &mut self,
        ticket: u64,
        link: SignalLink,
        auto_subscribe: bool,
        client_protocol: i32,
    ) -> Option<Attached> {
        let at = self.tickets.iter().position(|t| t.number == ticket);
        match at.map(|at| self.tickets.swap_remove(at).what) {
            Some(TicketFor::Join { token, sid, admission }) => {
                self.join(*token, sid, admission, link, auto_subscribe, client_protocol)
                    .await
            }
            Some(TicketFor::Resume(sid)) => self.on_resume(&sid, link).await,
            Some(TicketFor::Mismatch) | None => {
                let _ = link.message(leave(
                    lk::DisconnectReason::StateMismatch,
                    lk::leave_request::Action::Reconnect,
                ));
                let _ = link.send(Outgoing::Close {
                    code: 1000,
                    reason: "unknown participant",
                });
                None
            }
        }
    }

    async fn join(
        &mut self,
        token: VerifiedToken,
        sid: ParticipantSid,
        admission: AdmissionId,
        link: SignalLink,
        auto_subscribe: bool,
        client_protocol: i32,
    ) -> Option<Attached> {
        let generation = self.number();
        let member = Member {
            sid: sid.clone(),
            identity: token.identity,
            name: token.claims.name,
            metadata: token.claims.metadata,
            attributes: BTreeMap::new(),
            grants: token.grants,
            hidden: token.claims.video.hidden,
            may_update: token.claims.video.can_update_own_metadata.unwrap_or(false),
            issuer: token.issuer,
            admission,
            joined_at: OffsetDateTime::now_utc(),
            active: false,
            version: 1,
            link: Some(link.clone()),
            generation,
            lost: None,
            tracks: Vec::new(),
            auto_subscribe,
            subscribed: HashMap::new(),
            offer_id: 0,
            publisher_link: None,
            subscriber_link: None,
            refresh_at: Instant::now() + TOKEN_REFRESH,
            client_protocol,
        };
        let grants = member.grants.clone();
        let added = patiently(
            self.env
                .engine
                .add_participant(&self.room.sid, &sid, grants, auto_subscribe),
        )
        .await;
        if let Err(e) = added {
            error!(error = %e, participant = %sid, "the media engine let nobody in");
            let _ = link.message(leave(
                lk::DisconnectReason::JoinFailure,
                lk::leave_request::Action::Disconnect,
            ));
            let _ = link.send(Outgoing::Close {
                code: 1011,
                reason: "join failed",
            });
            self.depart(&member.admission, &sid).await;
            self.someone_gone(Instant::now());
            return None;
        }
        info!(participant = %sid, identity = %member.identity, "joined");
        member.tell(Message::Join(self.join_response(&member)));
        let identity = member.identity.to_string();
        self.members.push(member);
        self.note(Fact::Joined {
            participant: sid.clone(),
            identity,
        });
        self.announce_to_others(&sid);
        self.all_qualities_to(&sid);
        self.requalify_all();
        Some(Attached { sid, generation })
    }

    fn announce_to_others(&self, sid: &ParticipantSid) {
        let Some(member) = self.member(sid).filter(|m| !m.hidden) else {
            return;
        };
        self.tell_others(
            sid,
            &Message::Update(lk::ParticipantUpdate {
                participants: vec![member.info()],
            }),
        );
    }

    fn join_response(&self, member: &Member) -> lk::JoinResponse {
        let mut room = self.lk_room();
        room.num_participants += 1;
        lk::JoinResponse {
            room: Some(room),
            participant: Some(member.info()),
            other_participants: self.members.iter().filter(|m| !m.hidden).map(Member::info).collect(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            // Who may not subscribe gets no offer; it would wait for one in vain.
            subscriber_primary: member.grants.can_subscribe,
            ping_timeout: PING_TIMEOUT,
            ping_interval: PING_INTERVAL,
            server_info: Some(server_info()),
            enabled_publish_codecs: enabled_codecs(),
            fast_publish: !member.grants.can_publish_sources.is_empty(),
            ..lk::JoinResponse::default()
        }
    }

    /// Marks a seat as departing; a fault of the database is logged, the room goes on.
    pub async fn depart(&self, admission: &AdmissionId, sid: &ParticipantSid) {
        match self.env.control.mark_departing(admission, sid).await {
            Ok(()) | Err(confab_control::AdmissionError::NotHeld) => {}
            Err(e) => warn!(error = %e, participant = %sid, "a departure was not written"),
        }
    }
}

/// Who we are.
pub(super) fn server_info() -> lk::ServerInfo {
    lk::ServerInfo {
        edition: lk::server_info::Edition::Standard as i32,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        node_id: "confab".to_owned(),
        ..lk::ServerInfo::default()
    }
}

/// What a verified token means for a fresh join or a resume.
pub fn intent(token: &VerifiedToken, reconnect: Option<ParticipantSid>) -> Intent {
    match (token.join_check(reconnect.as_ref()), reconnect) {
        (JoinCheck::Resume { participant }, _) => Intent::Resume(participant),
        // A backend's token names no admission; the room knows whether the participant is this identity's.
        (JoinCheck::Admit, Some(sid)) => Intent::Resume(sid),
        (JoinCheck::Held { by }, _) => Intent::Fresh { held_by: Some(by) },
        (JoinCheck::Admit, None) => Intent::Fresh { held_by: None },
    }
}
