//! One bot: signs in (or takes a token), joins, stays, reports.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use confab_client::api::{CallCommand, CallEvent, EndReason, JoinOptions, JoinWith, Phase, SessionStart, SpeakerSpec};
use confab_client::call::{Call, CallHandle, CallReport};
use confab_client::session::{SessionConfig, SessionError, SessionManager};
use confab_client::tls::{Fingerprint, Pins};
use confab_media::{AudioSourceSpec, VideoSourceSpec};
use confab_types::{CameraQuality, InvalidId, RoomName, Secret};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

/// How often a bot looks for first pictures and sounds to tell.
const LOOK: Duration = Duration::from_millis(500);

/// How a bot gets in.
#[derive(Debug, Clone)]
pub enum Access {
    /// Through the REST contract.
    SignIn {
        /// The server.
        server: Url,
        /// The account.
        user: String,
        /// Its password.
        password: Secret,
        /// The room.
        room: String,
        /// The name others see.
        nickname: String,
        /// The server's key, when its certificate is self-signed.
        pin: Option<Fingerprint>,
    },
    /// With a token, at any LiveKit server.
    Token {
        /// `ws://` or `wss://`.
        url: Url,
        /// The access token.
        token: Secret,
    },
}

/// What a bot does.
#[derive(Debug, Clone)]
pub struct BotConfig {
    /// How it gets in.
    pub access: Access,
    /// Pictures to send.
    pub camera: VideoSourceSpec,
    /// Sound to send.
    pub microphone: AudioSourceSpec,
    /// Camera quality.
    pub quality: CameraQuality,
    /// How long it stays once connected; `None`: until told to stop or the call ends.
    pub duration: Option<Duration>,
    /// Where received tracks are written.
    pub record: Option<PathBuf>,
    /// Use ICE-TCP only.
    pub tcp_only: bool,
    /// Announce and send tracks whatever the grants say: for tests of what a server refuses.
    pub force_publish: bool,
    /// A chat message to send once connected.
    pub say: Option<String>,
}

/// Something worth a line.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum BotEvent {
    /// In the room, media connected.
    Joined {
        /// The room's name.
        room: String,
        /// The own sid.
        participant: String,
        /// Since the start, signing in included.
        ms: f64,
    },
    /// The connection was lost and is being made again.
    Reconnecting,
    /// Someone came.
    ParticipantJoined {
        /// Their sid.
        participant: String,
    },
    /// Someone left.
    ParticipantLeft {
        /// Their sid.
        participant: String,
        /// Their nickname.
        nickname: String,
    },
    /// The first picture or sound of a track.
    FirstMedia {
        /// The track.
        track: String,
        /// Its sender.
        identity: String,
        /// `camera`, `microphone`...
        source: String,
        /// Since the track began.
        ms: f64,
    },
    /// A chat message.
    Chat {
        /// The sender's sid.
        from: String,
        /// The text.
        text: String,
    },
    /// A device or a moderator said something.
    Notice {
        /// In words.
        text: String,
    },
    /// Over.
    Left {
        /// Why.
        reason: String,
    },
}

/// What a bot measured.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BotReport {
    /// Signing in, ms; absent with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in_ms: Option<f64>,
    /// The call's own figures.
    #[serde(flatten)]
    pub call: CallReport,
}

/// Why a bot could not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BotError {
    /// The room's name cannot be used.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// Signing in failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The call failed, or ended otherwise than by leaving.
    #[error("{reason}")]
    Ended {
        /// Why.
        reason: EndReason,
        /// What was measured until then.
        report: Box<BotReport>,
    },
}

/// Runs a bot until its time is over, `stop` is cancelled or the call ends. Events go to `events`, in order.
pub async fn run(
    config: BotConfig,
    events: mpsc::UnboundedSender<BotEvent>,
    stop: CancellationToken,
) -> Result<BotReport, BotError> {
    let started = Instant::now();
    let (with, room, nickname, sign_in_ms, session) = match config.access {
        Access::Token { url, token } => {
            // The room is the token's; the name here is not used.
            (
                JoinWith::Token { url, token },
                "token".parse()?,
                String::new(),
                None,
                None,
            )
        }
        Access::SignIn {
            server,
            user,
            password,
            room,
            nickname,
            pin,
        } => {
            let room: RoomName = room.parse()?;
            let pins = Pins::default();
            if let Some(pin) = pin {
                pins.accept(&server, pin);
            }
            let manager = SessionManager::new(SessionConfig {
                pins,
                ..SessionConfig::default()
            });
            let device = Some("confab-bot".to_owned());
            manager
                .start(SessionStart::Credentials {
                    server,
                    user,
                    password,
                    scopes: None,
                    device,
                })
                .await?;
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            (
                JoinWith::Session(manager.clone()),
                room,
                nickname,
                Some(ms),
                Some(manager),
            )
        }
    };
    let handle = Call::join(JoinOptions {
        with,
        room,
        nickname,
        camera_on: config.camera != VideoSourceSpec::None,
        microphone_on: config.microphone != AudioSourceSpec::None,
        camera: config.camera,
        microphone: config.microphone,
        quality: config.quality,
        speaker: SpeakerSpec::Null,
        sink: None,
        record: config.record,
        tcp_only: config.tcp_only,
        force_publish: config.force_publish,
    });
    let plan = Plan {
        started,
        duration: config.duration,
        say: config.say,
    };
    let reason = follow(&handle, plan, &events, &stop).await;
    let _ = events.send(BotEvent::Left {
        reason: reason.to_string(),
    });
    let report = BotReport {
        sign_in_ms,
        call: handle.report().await,
    };
    if let Some(session) = session
        && let Err(e) = session.stop().await
    {
        tracing::debug!("not signed out: {e}");
    }
    match reason {
        EndReason::Left => Ok(report),
        reason => Err(BotError::Ended {
            reason,
            report: Box::new(report),
        }),
    }
}

/// What a bot does in the call.
struct Plan {
    started: Instant,
    duration: Option<Duration>,
    say: Option<String>,
}

/// Tells what happens until the call is over; leaves when it is time.
async fn follow(
    handle: &CallHandle,
    mut plan: Plan,
    events: &mpsc::UnboundedSender<BotEvent>,
    stop: &CancellationToken,
) -> EndReason {
    let (mut snapshots, mut happened) = (handle.snapshot(), handle.events());
    let (mut seen, mut connected, mut leave_at) = (HashSet::new(), false, None);
    let mut look = tokio::time::interval(LOOK);
    let mut stopped = false;
    loop {
        tokio::select! {
            _ = snapshots.changed() => {
                let snapshot = snapshots.borrow_and_update().clone();
                match snapshot.phase {
                    Phase::Ended(reason) => return wait_closed(handle, reason).await,
                    Phase::Connected if !connected => {
                        connected = true;
                        if let Some(text) = plan.say.take() {
                            handle.send(CallCommand::Chat(text));
                        }
                        leave_at = leave_at.or(plan.duration.map(|d| tokio::time::Instant::now() + d));
                        let _ = events.send(BotEvent::Joined {
                            room: snapshot.room,
                            participant: snapshot.me.map(|m| m.to_string()).unwrap_or_default(),
                            ms: plan.started.elapsed().as_secs_f64() * 1000.0,
                        });
                    }
                    Phase::Reconnecting { .. } if connected => {
                        connected = false;
                        let _ = events.send(BotEvent::Reconnecting);
                    }
                    _ => {}
                }
            }
            event = happened.recv() => {
                if let Some(event) = event.ok().and_then(told) {
                    let _ = events.send(event);
                }
            }
            _ = look.tick() => first_media(handle, &mut seen, events).await,
            () = async { tokio::time::sleep_until(leave_at.unwrap_or_else(tokio::time::Instant::now)).await },
                if leave_at.is_some() && !stopped =>
            {
                stopped = true;
                handle.send(CallCommand::Leave);
            }
            () = stop.cancelled(), if !stopped => {
                stopped = true;
                handle.send(CallCommand::Leave);
            }
        }
    }
}

async fn wait_closed(handle: &CallHandle, reason: EndReason) -> EndReason {
    handle.closed().await;
    reason
}

async fn first_media(handle: &CallHandle, seen: &mut HashSet<String>, events: &mpsc::UnboundedSender<BotEvent>) {
    for track in handle.report().await.received {
        if let Some(ms) = track.first_ms
            && seen.insert(track.sid.clone())
        {
            let (identity, source) = (track.identity, track.source);
            let _ = events.send(BotEvent::FirstMedia {
                track: track.sid,
                identity,
                source,
                ms,
            });
        }
    }
}

fn told(event: CallEvent) -> Option<BotEvent> {
    match event {
        CallEvent::Joined(sid) => Some(BotEvent::ParticipantJoined {
            participant: sid.to_string(),
        }),
        CallEvent::Left(sid, nickname) => Some(BotEvent::ParticipantLeft {
            participant: sid.to_string(),
            nickname,
        }),
        CallEvent::Chat { from, text, .. } => Some(BotEvent::Chat {
            from: from.to_string(),
            text,
        }),
        CallEvent::Device(text) => Some(BotEvent::Notice { text }),
        CallEvent::MutedByModerator(_) => Some(BotEvent::Notice {
            text: "muted by a moderator".to_owned(),
        }),
        _ => None,
    }
}
