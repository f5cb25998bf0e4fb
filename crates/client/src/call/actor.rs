//! The driver of a call: one task that owns everything of it. It feeds the state machine
//! with what happens on the signalling, the connections and the timers, carries out what the
//! machine says, and publishes snapshots.

use std::time::{Duration, Instant, SystemTime};

use confab_transport::{ConnectionConfig, ConnectionEvent, ConnectionState, ConnectionStats, TransportError};
use confab_types::{Claims, Secret};
use confab_wire::livekit as lk;
use confab_wire::rest::RoomTokenAnswer;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use super::data::Assembler;
use super::link::{Link, LinkEvent, Target};
use super::machine::{Input, Machine, Output};
use super::own::{Own, OwnNote};
use super::people::People;
use super::report::{CallReport, JoinTimes, SentTrack, ms};
use super::subscribe::Remotes;
use crate::api::{CallCommand, CallEvent, CallSnapshot, JoinOptions, JoinWith, Phase};
use crate::reconnect_strategy::wait_before;
use crate::rest::SessionError;
use crate::signal::{SignalError, SignalEvent, SignalSender};
use crate::wake::WakeWatch;

/// How long media may take to start. ICE over TCP takes a second on a good network, five behind a firewall that
/// drops; more waiting does not help.
const MEDIA_START: Duration = Duration::from_secs(15);
/// How long lost media may take to come back by itself before an attempt is made.
const MEDIA_GRACE: Duration = Duration::from_secs(2);
/// Figures that need looking (levels, flowing pictures) are looked at this often.
const TICK: Duration = Duration::from_millis(250);
/// Round trip and loss are told to buffers and codecs this often.
const MEASURE: Duration = Duration::from_secs(2);
/// How long leaving may take at the server before the call is over anyway.
const FAREWELL: Duration = Duration::from_secs(3);
/// Facts from connections and devices that may wait for the actor.
const NOTES: usize = 256;

/// Results of work done beside the actor.
pub(super) enum Note {
    Token(Result<RoomTokenAnswer, SessionError>),
    Signal(u64, Result<(SignalSender, mpsc::Receiver<SignalEvent>), SignalError>),
    Own(OwnNote),
    Device(String),
}

/// Everything of one call.
pub(super) struct Actor {
    pub(super) options: JoinOptions,
    pub(super) machine: Machine,
    pub(super) started: Instant,
    /// Signalling URL and token in use.
    pub(super) access: Option<(Url, Secret)>,
    pub(super) claims: Claims,
    pub(super) people: People,
    pub(super) room: lk::Room,
    pub(super) link: Option<Link>,
    pub(super) signal: Option<SignalSender>,
    signal_events: Option<mpsc::Receiver<SignalEvent>>,
    /// Which opening of the signalling counts; older results are late.
    pub(super) opening: u64,
    /// Which pair of connections counts.
    pub(super) joins: u64,
    pub(super) prepared: Option<(ConnectionConfig, JoinHandle<Result<Link, TransportError>>)>,
    pub(super) own: Own,
    pub(super) remotes: Remotes,
    pub(super) streams: Assembler,
    pub(super) times: JoinTimes,
    pub(super) signal_round_trip: Option<Duration>,
    pub(super) reconnects: u32,
    /// Of the connections before these, publisher and subscriber.
    pub(super) last_stats: (ConnectionStats, ConnectionStats),
    pub(super) last_sent: Vec<SentTrack>,
    pub(super) last_refused: bool,
    pub(super) phase: (Phase, Instant),
    pub(super) snapshot: watch::Sender<CallSnapshot>,
    pub(super) events: broadcast::Sender<CallEvent>,
    pub(super) notes: mpsc::Sender<Note>,
    note_queue: Option<mpsc::Receiver<Note>>,
    pub(super) link_events: mpsc::Sender<LinkEvent>,
    link_queue: Option<mpsc::Receiver<LinkEvent>>,
    retry_at: Option<Instant>,
    media_at: Option<Instant>,
    pub(super) farewell: JoinSet<()>,
}

impl Actor {
    pub(super) fn new(
        options: JoinOptions,
        snapshot: watch::Sender<CallSnapshot>,
        events: broadcast::Sender<CallEvent>,
    ) -> Self {
        let (notes, note_queue) = mpsc::channel(NOTES);
        let (link_events, link_queue) = mpsc::channel(NOTES);
        let started = Instant::now();
        Self {
            machine: Machine::new(matches!(options.with, JoinWith::Session(_))),
            started,
            access: None,
            claims: Claims::default(),
            people: People::default(),
            room: lk::Room::default(),
            link: None,
            signal: None,
            signal_events: None,
            opening: 0,
            joins: 0,
            prepared: None,
            own: Own::new(&options, notes.clone()),
            remotes: Remotes::new(&options, started, notes.clone()),
            streams: Assembler::default(),
            times: JoinTimes::default(),
            signal_round_trip: None,
            reconnects: 0,
            last_stats: Default::default(),
            last_sent: Vec::new(),
            last_refused: false,
            phase: (Phase::Connecting, started),
            snapshot,
            events,
            notes,
            note_queue: Some(note_queue),
            link_events,
            link_queue: Some(link_queue),
            retry_at: None,
            media_at: None,
            farewell: JoinSet::new(),
            options,
        }
    }

    /// Runs the call to its end; gives its last figures.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<CallCommand>,
        mut reports: mpsc::Receiver<oneshot::Sender<CallReport>>,
    ) -> CallReport {
        let mut notes = self.note_queue.take().expect("run is called once");
        let mut link_events = self.link_queue.take().expect("run is called once");
        let mut wake = WakeWatch::default();
        let mut measure = tokio::time::interval(MEASURE);
        measure.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if let Some(playout) = self.remotes.start_playout(&self.options.speaker) {
            self.own.audio.set_far_end(playout.far_end());
        }
        self.step(Input::Start).await;
        while !self.machine.ended() {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => self.step(Input::UserLeaves).await,
                },
                Some(reply) = reports.recv() => {
                    let _ = reply.send(self.report().await);
                }
                Some(note) = notes.recv() => self.note(note).await,
                Some(event) = link_events.recv() => self.link_event(event).await,
                event = next_signal(&mut self.signal_events) => self.signal_event(event).await,
                () = until(self.retry_at) => {
                    self.retry_at = None;
                    self.step(Input::RetryTimer).await;
                }
                () = until(self.media_at) => {
                    self.media_at = None;
                    self.step(Input::MediaTimer).await;
                }
                _ = tick.tick() => {
                    self.look();
                    if wake.slept(Instant::now(), SystemTime::now()) {
                        tracing::info!("the machine slept: connecting again");
                        self.step(Input::SignalLost).await;
                    }
                }
                _ = measure.tick() => self.measure().await,
            }
            self.publish_snapshot();
        }
        let report = self.report().await;
        self.close().await;
        report
    }

    /// One step of the machine and all it leads to.
    pub(super) async fn step(&mut self, input: Input) {
        tracing::debug!(?input, "call");
        for output in self.machine.handle(input) {
            self.carry_out(output).await;
        }
        if self.machine.ended() {
            self.publish_snapshot();
        }
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::FetchToken => self.fetch_token(),
            Output::OpenSignal { resume } => self.open_signal(resume),
            Output::CloseSignal => {
                self.opening += 1;
                self.signal = None;
                self.signal_events = None;
            }
            Output::DropMedia => {
                if let Some(link) = self.link.take() {
                    self.last_stats = tokio::join!(link.publisher.stats(), link.subscriber.stats());
                    self.last_refused |= self.own.was_refused();
                    self.last_sent = self.own.report(&self.last_stats.0.tracks, self.started.elapsed());
                    link.close();
                }
                self.own.unlinked();
                self.remotes.end_all(&self.last_stats.1.tracks);
            }
            Output::RestartIce => {
                if let (Some(link), Some(signal)) = (&mut self.link, &self.signal) {
                    link.restart_ice(signal).await;
                }
            }
            Output::WaitBefore(attempt) => {
                self.retry_at = Some(Instant::now() + wait_before(attempt, rand::random()));
            }
            Output::AwaitMedia { grace } => {
                self.media_at = Some(Instant::now() + if grace { MEDIA_GRACE } else { MEDIA_START });
            }
            Output::CancelTimers => (self.retry_at, self.media_at) = (None, None),
            Output::Phase(phase) => self.set_phase(phase),
            Output::TellServer => self.tell_server(),
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        if self.phase.0 == phase {
            return;
        }
        tracing::info!(?phase, "call");
        let same_kind = std::mem::discriminant(&self.phase.0) == std::mem::discriminant(&phase);
        if phase == Phase::Connected && self.times.connected_ms.is_none() {
            self.times.connected_ms = Some(ms(self.started.elapsed()));
        }
        if !same_kind && matches!(phase, Phase::Reconnecting { .. }) {
            self.reconnects += 1;
        }
        let since = if same_kind { self.phase.1 } else { Instant::now() };
        self.phase = (phase, since);
    }

    async fn note(&mut self, note: Note) {
        match note {
            Note::Token(Ok(answer)) => match answer.url.parse() {
                Ok(url) => {
                    self.times.token_ms.get_or_insert(ms(self.started.elapsed()));
                    self.use_token(url, answer.token);
                    self.step(Input::TokenReady).await;
                }
                Err(_) => {
                    self.token_failed("bad_answer", "the server named no address for the call", false)
                        .await
                }
            },
            Note::Token(Err(e)) => {
                let (code, message) = (e.code().to_owned(), e.to_string());
                self.token_failed(&code, &message, e.is_network()).await;
            }
            Note::Signal(opening, opened) if opening == self.opening => self.signal_opened(opened).await,
            Note::Signal(..) => {}
            Note::Own(note) => self.own_note(note).await,
            Note::Device(words) => {
                let _ = self.events.send(CallEvent::Device(words));
            }
        }
    }

    async fn token_failed(&mut self, code: &str, message: &str, retry: bool) {
        self.step(Input::TokenFailed {
            code: code.to_owned(),
            message: message.to_owned(),
            retry,
        })
        .await;
    }

    async fn signal_opened(&mut self, opened: Result<(SignalSender, mpsc::Receiver<SignalEvent>), SignalError>) {
        let message = opened.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let code = match opened {
            Ok((sender, events)) => {
                self.times.signal_ms.get_or_insert(ms(self.started.elapsed()));
                (self.signal, self.signal_events) = (Some(sender), Some(events));
                return;
            }
            Err(SignalError::Refused { status, message }) => {
                return self.step(Input::Refused { status, message }).await;
            }
            Err(SignalError::Untrusted(_)) => "tls",
            Err(_) => "unreachable",
        };
        self.step(Input::Unreachable {
            code: code.to_owned(),
            message,
        })
        .await;
    }

    async fn signal_event(&mut self, event: Option<SignalEvent>) {
        match event {
            Some(SignalEvent::Message(message)) => self.message(*message).await,
            Some(SignalEvent::RoundTrip(round_trip)) => self.signal_round_trip = Some(round_trip),
            Some(SignalEvent::Closed(error)) => {
                tracing::info!("signalling: {error}");
                self.lost_signal().await;
            }
            None => self.lost_signal().await,
        }
    }

    async fn lost_signal(&mut self) {
        self.signal_events = None;
        self.step(Input::SignalLost).await;
    }

    async fn link_event(
        &mut self,
        LinkEvent {
            generation,
            target,
            event,
        }: LinkEvent,
    ) {
        if self.link.as_ref().is_none_or(|l| l.generation != generation) {
            return;
        }
        match event {
            ConnectionEvent::LocalCandidate(candidate) => {
                if let (Some(link), Some(signal)) = (&self.link, &self.signal) {
                    link.trickle(signal, target, candidate);
                }
            }
            ConnectionEvent::State(state) => self.connection_state(target, state).await,
            ConnectionEvent::Track(track) => self.track_arrived(track),
            ConnectionEvent::Data { payload, .. } => self.data_arrived(&payload),
            ConnectionEvent::DataOpen { label } if target == Target::Publisher => {
                if let Some(link) = &mut self.link {
                    link.data_open(&label);
                }
            }
            _ => {}
        }
    }

    async fn connection_state(&mut self, target: Target, state: ConnectionState) {
        tracing::debug!(?target, ?state, "connection");
        let meaning = self.link.as_mut().and_then(|link| link.state(target, state));
        match meaning {
            Some(ConnectionState::Connected) => self.step(Input::MediaConnected).await,
            Some(ConnectionState::Disconnected) => self.step(Input::MediaDisconnected).await,
            Some(ConnectionState::Failed) => self.step(Input::MediaFailed).await,
            _ => {}
        }
    }

    /// Devices, threads and connections end; the server hears of it, within a bound.
    async fn close(&mut self) {
        if let Some((_, opening)) = self.prepared.take()
            && let Ok(Ok(link)) = opening.await
        {
            link.close();
        }
        self.own.close();
        self.remotes.close();
        let _ = tokio::time::timeout(FAREWELL, async { while self.farewell.join_next().await.is_some() {} }).await;
    }
}

async fn next_signal(events: &mut Option<mpsc::Receiver<SignalEvent>>) -> Option<SignalEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
