//! The life of a call as a pure state machine: what happened goes in, what to do comes
//! out. Knows no sockets, clock or randomness; `actor` carries out the outputs.
//!
//! ```text
//!            Start            TokenReady            Joined            MediaConnected
//!   Idle ------------> Token -----------> Opening ---------> Joined ---------------> Connected
//!                        ^  401, session     ^  |  ^            | MediaTimeout          |  | MediaDisconnected
//!                        +-------------------|--+  |            | MediaFailed           |  v
//!                                            |     +--Resumed---|--------+              | Shaky (grace)
//!                                   Retry    |                  v        |              v  |
//!                                            +--------------- Waiting <--+--------------+--+
//!   any --UserLeaves, Leave{DISCONNECT}, refused for good--> Ended
//! ```
//! A resume keeps the peer connections and the sid; a rejoin drops them and gets a new sid.

use crate::api::{EndReason, Phase};
use crate::reconnect_strategy::{SERVER_LOST_AFTER, may_resume};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The call begins. With a session the token is fetched first.
    Start,
    /// The room token is here.
    TokenReady,
    /// There is no token. `retry`: the network's fault.
    TokenFailed {
        /// The error's code.
        code: String,
        /// For people.
        message: String,
        /// Trying again may help.
        retry: bool,
    },
    /// The signalling did not open: nothing answers.
    Unreachable {
        /// The error's code.
        code: String,
        /// For people.
        message: String,
    },
    /// The server refused the token, the room or the resume.
    Refused {
        /// HTTP status.
        status: u16,
        /// For people.
        message: String,
    },
    /// `Join` came: in the room, media on its way.
    Joined,
    /// `Reconnect` came: the same participant again.
    Resumed,
    /// The signalling broke.
    SignalLost,
    /// `Leave` came.
    LeaveReceived(Leave),
    /// Media flows (again).
    MediaConnected,
    /// Media stopped; may come back by itself.
    MediaDisconnected,
    /// Media is over without help.
    MediaFailed,
    /// The person leaves.
    UserLeaves,
    /// The person does not want to wait.
    RetryNow,
    /// The wait before an attempt is over.
    RetryTimer,
    /// Media did not start, or did not come back by itself, in time.
    MediaTimer,
}

/// The server's `Leave`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Do not come back.
    Disconnect(Why),
    /// Come back as the same participant.
    Resume,
    /// Come back anew.
    Reconnect,
}

/// Why the server ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A moderator or backend removed the participant.
    Removed,
    /// The room ended.
    RoomEnded,
    /// The identity joined elsewhere.
    Duplicate,
    /// Anything else.
    Other,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Get a room token through the session.
    FetchToken,
    /// Open the signalling.
    OpenSignal {
        /// As the same participant.
        resume: bool,
    },
    /// Close the signalling socket.
    CloseSignal,
    /// Close both peer connections.
    DropMedia,
    /// Restart ICE on the publisher (after `Reconnect`).
    RestartIce,
    /// Come back with `RetryTimer` before attempt number `attempt`.
    WaitBefore(u32),
    /// Come back with `MediaTimer`: short grace, or the time for media to start.
    AwaitMedia {
        /// The short one.
        grace: bool,
    },
    /// Neither timer matters any more.
    CancelTimers,
    /// Tell people.
    Phase(Phase),
    /// Send `Leave` and void the token.
    TellServer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Token,
    Opening { resume: bool },
    Joined,
    Connected,
    Shaky,
    Waiting,
    Ended,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    state: State,
    /// The token comes from a session, which can give another.
    has_session: bool,
    /// Media has flowed in this call: failures are retried from now on.
    ever_connected: bool,
    /// A new token was fetched since the last join, so another 401 is final.
    fetched_anew: bool,
    /// The server said that it cannot resume this participant.
    resume_refused: bool,
    attempt: u32,
    unanswered: u32,
}

impl Machine {
    /// `has_session`: tokens come from a session.
    pub fn new(has_session: bool) -> Self {
        Self {
            state: State::Idle,
            has_session,
            ever_connected: false,
            fetched_anew: false,
            resume_refused: false,
            attempt: 0,
            unanswered: 0,
        }
    }

    /// Whether nothing more happens.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// One step.
    pub fn handle(&mut self, input: Input) -> Vec<Output> {
        if self.state == State::Ended {
            return Vec::new();
        }
        match input {
            Input::Start => self.start(),
            Input::TokenReady => self.open(false),
            Input::TokenFailed { retry: true, .. } | Input::Unreachable { .. } if self.ever_connected => {
                self.unanswered += 1;
                self.wait()
            }
            Input::TokenFailed { code, message, .. } | Input::Unreachable { code, message } => self.fail(code, message),
            Input::Refused { status, message } => self.refused(status, message),
            Input::Joined => self.joined(),
            Input::Resumed => self.resumed(),
            Input::SignalLost => self.signal_lost(),
            Input::LeaveReceived(leave) => self.leave(leave),
            Input::MediaConnected => self.media_connected(),
            Input::MediaDisconnected => self.media_disconnected(),
            Input::MediaFailed | Input::MediaTimer => self.media_failed(),
            Input::UserLeaves => {
                let mut outputs = vec![Output::TellServer];
                outputs.extend(self.end(EndReason::Left));
                outputs
            }
            Input::RetryNow | Input::RetryTimer => match self.state {
                State::Waiting => self.attempt(),
                State::Shaky if input == Input::RetryNow => self.interrupted(),
                _ => Vec::new(),
            },
        }
    }

    fn start(&mut self) -> Vec<Output> {
        let mut outputs = vec![Output::Phase(Phase::Connecting)];
        if self.has_session {
            self.state = State::Token;
            outputs.push(Output::FetchToken);
        } else {
            outputs.extend(self.open(false));
        }
        outputs
    }

    fn open(&mut self, resume: bool) -> Vec<Output> {
        self.state = State::Opening { resume };
        vec![Output::OpenSignal { resume }]
    }

    fn refused(&mut self, status: u16, message: String) -> Vec<Output> {
        match self.state {
            // Not as the same participant, then: rejoin at once.
            State::Opening { resume: true } => {
                self.resume_refused = true;
                self.attempt()
            }
            // The room ended meanwhile, or the token did: one new token.
            State::Opening { .. } if status == 401 && self.has_session && !self.fetched_anew => {
                self.fetched_anew = true;
                self.state = State::Token;
                vec![Output::FetchToken]
            }
            State::Opening { .. } if status >= 500 && self.ever_connected => {
                self.unanswered += 1;
                self.wait()
            }
            State::Opening { .. } => {
                let code = if status == 401 { "token_refused" } else { "refused" };
                self.fail(code.to_owned(), message)
            }
            _ => Vec::new(),
        }
    }

    fn joined(&mut self) -> Vec<Output> {
        self.state = State::Joined;
        self.resume_refused = false;
        self.unanswered = 0;
        vec![Output::AwaitMedia { grace: false }]
    }

    fn resumed(&mut self) -> Vec<Output> {
        self.state = State::Joined;
        self.unanswered = 0;
        vec![Output::RestartIce, Output::AwaitMedia { grace: false }]
    }

    fn media_connected(&mut self) -> Vec<Output> {
        if !matches!(self.state, State::Joined | State::Shaky) {
            return Vec::new();
        }
        self.state = State::Connected;
        self.ever_connected = true;
        self.fetched_anew = false;
        self.attempt = 0;
        vec![Output::CancelTimers, Output::Phase(Phase::Connected)]
    }

    fn media_disconnected(&mut self) -> Vec<Output> {
        if self.state != State::Connected {
            return Vec::new();
        }
        self.state = State::Shaky;
        vec![
            Output::Phase(Phase::Reconnecting { server_lost: false }),
            Output::AwaitMedia { grace: true },
        ]
    }

    fn media_failed(&mut self) -> Vec<Output> {
        match self.state {
            State::Joined if !self.ever_connected => self.fail(
                "media_blocked".to_owned(),
                "sound and picture cannot get through to the server; ask for UDP or TCP to its media port to be allowed"
                    .to_owned(),
            ),
            // It was resumed or rejoined in vain: no more resumes of this one.
            State::Joined => {
                self.resume_refused = true;
                self.wait()
            }
            State::Connected | State::Shaky => self.interrupted(),
            _ => Vec::new(),
        }
    }

    fn signal_lost(&mut self) -> Vec<Output> {
        match self.state {
            State::Joined | State::Opening { .. } if !self.ever_connected => self.fail(
                "unreachable".to_owned(),
                "the server broke the connection off while joining; try again".to_owned(),
            ),
            State::Opening { .. } => self.wait(),
            State::Joined | State::Connected | State::Shaky => self.interrupted(),
            _ => Vec::new(),
        }
    }

    /// Was fine until now: the first attempt is made at once.
    fn interrupted(&mut self) -> Vec<Output> {
        let mut outputs = vec![
            Output::CancelTimers,
            Output::Phase(Phase::Reconnecting { server_lost: false }),
            Output::CloseSignal,
        ];
        outputs.extend(self.attempt());
        outputs
    }

    fn wait(&mut self) -> Vec<Output> {
        self.state = State::Waiting;
        vec![
            Output::CancelTimers,
            Output::Phase(Phase::Reconnecting {
                server_lost: self.unanswered >= SERVER_LOST_AFTER,
            }),
            Output::CloseSignal,
            Output::WaitBefore(self.attempt),
        ]
    }

    fn attempt(&mut self) -> Vec<Output> {
        let resume = !self.resume_refused && may_resume(self.attempt);
        self.attempt += 1;
        let mut outputs = vec![Output::CancelTimers];
        if !resume {
            outputs.extend([Output::CloseSignal, Output::DropMedia]);
        }
        outputs.extend(self.open(resume));
        outputs
    }

    fn leave(&mut self, leave: Leave) -> Vec<Output> {
        match leave {
            Leave::Disconnect(why) => match why {
                Why::Removed => self.end(EndReason::Removed),
                Why::RoomEnded => self.end(EndReason::RoomEnded),
                Why::Duplicate => self.end(EndReason::Duplicate),
                Why::Other => self.fail(
                    "disconnected".to_owned(),
                    "the server ended this connection; join again".to_owned(),
                ),
            },
            Leave::Resume => self.interrupted(),
            Leave::Reconnect => {
                self.resume_refused = true;
                // Refused as an answer to a resume: no time is lost, and no phase changes.
                self.interrupted()
            }
        }
    }

    fn fail(&mut self, code: String, message: String) -> Vec<Output> {
        self.end(EndReason::Failed { code, message })
    }

    fn end(&mut self, reason: EndReason) -> Vec<Output> {
        self.state = State::Ended;
        vec![
            Output::CancelTimers,
            Output::CloseSignal,
            Output::DropMedia,
            Output::Phase(Phase::Ended(reason)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(has_session: bool) -> Machine {
        let mut machine = Machine::new(has_session);
        machine.handle(Input::Start);
        if has_session {
            machine.handle(Input::TokenReady);
        }
        machine.handle(Input::Joined);
        machine.handle(Input::MediaConnected);
        machine
    }

    fn unreachable() -> Input {
        Input::Unreachable {
            code: "unreachable".to_owned(),
            message: String::new(),
        }
    }

    fn refused(status: u16) -> Input {
        Input::Refused {
            status,
            message: String::new(),
        }
    }

    fn phase(outputs: &[Output]) -> Option<&Phase> {
        outputs
            .iter()
            .rev()
            .find_map(|o| if let Output::Phase(p) = o { Some(p) } else { None })
    }

    fn failure(outputs: &[Output]) -> Option<&str> {
        match phase(outputs) {
            Some(Phase::Ended(EndReason::Failed { code, .. })) => Some(code),
            _ => None,
        }
    }

    #[test]
    fn a_join_fetches_a_token_opens_the_signalling_and_waits_for_media() {
        let mut machine = Machine::new(true);
        let steps = [Input::Start, Input::TokenReady, Input::Joined, Input::MediaConnected].map(|i| machine.handle(i));
        assert!(steps[0].contains(&Output::FetchToken));
        assert_eq!(steps[1], [Output::OpenSignal { resume: false }]);
        assert_eq!(steps[2], [Output::AwaitMedia { grace: false }]);
        assert_eq!(phase(&steps[3]), Some(&Phase::Connected));
    }

    #[test]
    fn a_given_token_is_used_without_a_request() {
        let outputs = Machine::new(false).handle(Input::Start);
        assert!(!outputs.contains(&Output::FetchToken) && outputs.contains(&Output::OpenSignal { resume: false }));
    }

    #[test]
    fn what_fails_before_the_first_connection_ends_the_call_with_a_code() {
        let token_failed = Input::TokenFailed {
            code: "room_full".to_owned(),
            message: String::new(),
            retry: false,
        };
        let table: [(&[Input], &str); 5] = [
            (&[Input::Start, token_failed], "room_full"),
            (&[Input::Start, Input::TokenReady, unreachable()], "unreachable"),
            (&[Input::Start, Input::TokenReady, refused(404)], "refused"),
            (
                &[Input::Start, Input::TokenReady, Input::Joined, Input::MediaTimer],
                "media_blocked",
            ),
            (
                &[Input::Start, Input::TokenReady, Input::Joined, Input::SignalLost],
                "unreachable",
            ),
        ];
        for (inputs, code) in table {
            let mut machine = Machine::new(true);
            let last = inputs.iter().map(|i| machine.handle(i.clone())).last().unwrap();
            assert_eq!(failure(&last), Some(code), "{inputs:?}");
            assert!(machine.ended());
        }
    }

    #[test]
    fn an_interruption_is_answered_by_a_resume_at_once() {
        for input in [
            Input::SignalLost,
            Input::MediaFailed,
            Input::LeaveReceived(Leave::Resume),
        ] {
            let outputs = connected(false).handle(input.clone());
            assert_eq!(
                phase(&outputs),
                Some(&Phase::Reconnecting { server_lost: false }),
                "{input:?}"
            );
            assert_eq!(outputs.last(), Some(&Output::OpenSignal { resume: true }), "{input:?}");
            assert!(!outputs.contains(&Output::DropMedia), "{input:?}");
        }
    }

    #[test]
    fn a_refused_resume_becomes_a_rejoin_at_once() {
        for answer in [refused(401), refused(404), Input::LeaveReceived(Leave::Reconnect)] {
            let mut machine = connected(false);
            machine.handle(Input::SignalLost);
            let outputs = machine.handle(answer.clone());
            assert!(outputs.contains(&Output::DropMedia), "{answer:?}");
            assert_eq!(
                outputs.last(),
                Some(&Output::OpenSignal { resume: false }),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_resume_restarts_ice_and_ends_connected() {
        let mut machine = connected(false);
        machine.handle(Input::SignalLost);
        assert!(machine.handle(Input::Resumed).contains(&Output::RestartIce));
        assert_eq!(phase(&machine.handle(Input::MediaConnected)), Some(&Phase::Connected));
    }

    #[test]
    fn a_void_token_is_replaced_once_through_the_session() {
        let mut machine = connected(true);
        machine.handle(Input::LeaveReceived(Leave::Reconnect));
        assert_eq!(machine.handle(refused(401)), [Output::FetchToken]);
        machine.handle(Input::TokenReady);
        assert_eq!(failure(&machine.handle(refused(401))), Some("token_refused"));
    }

    #[test]
    fn without_a_session_a_void_token_ends_the_call() {
        let mut machine = connected(false);
        machine.handle(Input::LeaveReceived(Leave::Reconnect));
        assert_eq!(failure(&machine.handle(refused(401))), Some("token_refused"));
    }

    #[test]
    fn an_unreachable_server_is_retried_with_growing_waits_and_called_lost() {
        let mut machine = connected(false);
        machine.handle(Input::SignalLost);
        for attempt in 1..6 {
            let outputs = machine.handle(unreachable());
            assert!(outputs.contains(&Output::WaitBefore(attempt)));
            let server_lost = attempt >= SERVER_LOST_AFTER;
            assert_eq!(phase(&outputs), Some(&Phase::Reconnecting { server_lost }));
            machine.handle(Input::RetryTimer);
        }
    }

    #[test]
    fn after_three_resumes_the_call_is_rejoined() {
        let mut machine = connected(false);
        let mut last = machine.handle(Input::SignalLost);
        let mut resumes = 0;
        while last.contains(&Output::OpenSignal { resume: true }) {
            resumes += 1;
            machine.handle(unreachable());
            last = machine.handle(Input::RetryNow);
        }
        assert_eq!(resumes, 3);
        assert!(last.contains(&Output::DropMedia));
    }

    #[test]
    fn media_that_comes_back_by_itself_needs_no_attempt() {
        let mut machine = connected(false);
        let outputs = machine.handle(Input::MediaDisconnected);
        assert!(outputs.contains(&Output::AwaitMedia { grace: true }));
        assert_eq!(phase(&machine.handle(Input::MediaConnected)), Some(&Phase::Connected));
        machine.handle(Input::MediaDisconnected);
        assert!(
            machine
                .handle(Input::MediaTimer)
                .contains(&Output::OpenSignal { resume: true })
        );
    }

    #[test]
    fn the_server_can_end_a_call_for_three_reasons() {
        let table = [
            (Why::Removed, EndReason::Removed),
            (Why::RoomEnded, EndReason::RoomEnded),
            (Why::Duplicate, EndReason::Duplicate),
        ];
        for (why, reason) in table {
            let outputs = connected(true).handle(Input::LeaveReceived(Leave::Disconnect(why)));
            assert_eq!(phase(&outputs), Some(&Phase::Ended(reason)));
            assert!(!outputs.contains(&Output::TellServer));
        }
    }

    #[test]
    fn leaving_tells_the_server_in_every_state() {
        for steps in 0..4 {
            let mut machine = Machine::new(true);
            let inputs = [Input::Start, Input::TokenReady, Input::Joined, Input::MediaConnected];
            for input in inputs.into_iter().take(steps) {
                machine.handle(input);
            }
            let outputs = machine.handle(Input::UserLeaves);
            assert!(outputs.contains(&Output::TellServer));
            assert_eq!(phase(&outputs), Some(&Phase::Ended(EndReason::Left)));
            assert!(machine.handle(Input::RetryNow).is_empty());
        }
    }
}
