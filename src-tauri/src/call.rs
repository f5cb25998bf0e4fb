//! The actions around a call: joining, what one does in it, leaving, and the task
//! that follows it until its end.

use std::sync::Arc;
use std::time::Duration;

use confab_client::api::{CallCommand, CallEvent, CallSnapshot, JoinOptions, JoinWith, Phase, VideoSink};
use confab_client::call::{Call, CallHandle};
use confab_types::{Nickname, ParticipantSid, RoomName};

use crate::call_view::CallExtras;
use crate::dto::{Busy, ChatMessage, DeviceKindDto, FigureView, ModerateAction, QrView, Reaction, Screen, UiError};
use crate::model::ActiveCall;
use crate::shell::{Answer, Shell, now_ms};
use crate::summary::{Minutes, summary};

/// Topics of the app's own data packets.
const HAND: &str = "confab.hand";
const REACTION: &str = "confab.reaction";
/// A chat message's bound, in characters: what one can still read in the panel.
const MAX_CHAT: usize = 4000;
/// A reaction is one grapheme; the longest emoji (a family with skin tones) stays below this many bytes.
const MAX_REACTION: usize = 48;
/// Leaving waits this long for the server to be told.
const LEAVE_TIME: Duration = Duration::from_secs(3);

impl Shell {
    /// Joins the room of the form.
    #[allow(clippy::unused_async, reason = "an action like the others, which its command awaits")]
    pub async fn join_call(&self) -> Answer<()> {
        let _busy = self.begin(Busy::Joining)?;
        let (room, nickname, manager) = self.read(|m| {
            (
                m.lobby.room.clone(),
                m.lobby.nickname.clone(),
                m.session.as_ref().map(|s| s.manager.clone()),
            )
        });
        let manager = manager.ok_or_else(|| UiError::new("not_signed_in", "you are not signed in; sign in again"))?;
        let room: RoomName = room
            .parse()
            .map_err(|e| UiError::new("bad_room", &format!("{e}; choose another room name")).at("room"))?;
        let nickname: Nickname = nickname
            .parse()
            .map_err(|e| UiError::new("bad_nickname", &format!("{e}; choose another nickname")).at("nickname"))?;
        self.remember(|s| {
            s.room = room.to_string();
            s.nickname = nickname.to_string();
        });
        self.close_preview();
        let sink: Arc<dyn VideoSink> = Arc::new(self.hub.clone());
        let options = self.read(|m| JoinOptions {
            with: JoinWith::Session(manager),
            room,
            nickname: nickname.to_string(),
            camera: m.lobby.camera_spec(),
            microphone: m.lobby.microphone_spec(),
            camera_on: m.lobby.camera_on,
            microphone_on: m.lobby.microphone_on,
            quality: m.lobby.quality,
            speaker: m.lobby.speaker_spec(),
            sink: Some(sink),
            record: None,
            tcp_only: false,
            force_publish: false,
        });
        self.start_call(options);
        Ok(())
    }

    /// Joins the last room again.
    #[allow(clippy::unused_async, reason = "an action like the others, which its command awaits")]
    pub async fn rejoin(&self) -> Answer<()> {
        if let Some(handle) = self.read(|m| m.call.as_ref().map(|c| c.handle.clone())) {
            handle.send(CallCommand::RetryNow);
            return Ok(());
        }
        match self.read(|m| m.last_join.clone()) {
            Some(options) => self.start_call(options),
            None => self.enter_lobby(),
        }
        Ok(())
    }

    fn start_call(&self, options: JoinOptions) {
        self.hub.clear();
        let _inside = self.runtime.enter();
        let handle = Arc::new(Call::join(options.clone()));
        let snapshot = handle.snapshot().borrow().clone();
        let invite = self.read(|m| {
            invite_text(
                m.session.as_ref().map(|s| s.view.server.as_str()),
                options.room.as_str(),
            )
        });
        let call = ActiveCall {
            handle: handle.clone(),
            snapshot,
            extras: CallExtras::default(),
            joined_at: None,
            most_people: 0,
            minutes: Minutes::default(),
            invite_qr: qr(&invite),
            invite,
            hand_up: None,
            companion: None,
        };
        self.update(|m| {
            m.call = Some(call);
            m.summary = None;
            m.last_join = Some(options);
            m.screen = Screen::Call;
        });
        let shell = self.clone();
        self.spawn(async move { shell.follow_call(handle).await });
    }

    /// Follows a call: snapshots, events, what the page shows, and the clock.
    async fn follow_call(&self, handle: Arc<CallHandle>) {
        let mut snapshots = handle.snapshot();
        let mut events = handle.events();
        let mut wishes = self.hub.wishes();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                changed = snapshots.changed() => {
                    let snapshot = snapshots.borrow_and_update().clone();
                    let over = matches!(snapshot.phase, Phase::Ended(_));
                    self.take_snapshot(snapshot);
                    if over || changed.is_err() {
                        break;
                    }
                }
                Ok(event) = events.recv() => self.take_event(&handle, event),
                Ok(()) = wishes.changed() => handle.send(CallCommand::Show(wishes.borrow_and_update().clone())),
                _ = second.tick() => self.tick(&handle).await,
            }
        }
        self.call_ended(&handle).await;
    }

    fn take_snapshot(&self, snapshot: CallSnapshot) {
        self.update(|m| {
            let Some(call) = m.call.as_mut() else { return };
            if snapshot.phase == Phase::Connected && call.joined_at.is_none() {
                call.joined_at = Some(now_ms());
            }
            let people = u32::try_from(snapshot.participants.len()).unwrap_or(u32::MAX);
            call.most_people = call.most_people.max(people);
            let present = |sid: &ParticipantSid| snapshot.participants.iter().any(|p| p.sid == *sid);
            call.extras.hands.retain(|sid, _| present(sid));
            call.extras.reactions.retain(|sid, _| present(sid));
            call.snapshot = snapshot;
        });
    }

    async fn tick(&self, handle: &CallHandle) {
        self.update(|m| {
            let Some(call) = m.call.as_mut() else { return };
            let quality = call
                .snapshot
                .participants
                .iter()
                .find(|p| p.is_self)
                .and_then(|p| p.quality.clone());
            if call.joined_at.is_some() {
                let lost = matches!(call.snapshot.phase, Phase::Reconnecting { .. });
                call.minutes.tick(if lost { Some("lost") } else { quality.as_deref() });
            }
            let now = now_ms();
            call.extras.reactions.retain(|_, r| now - r.at < 4000.0);
        });
        if let Some(path) = &self.args.report {
            let report = handle.report().await;
            let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
            let new = path.with_extension("new");
            if std::fs::write(&new, text)
                .and_then(|()| std::fs::rename(&new, path))
                .is_err()
            {
                tracing::warn!(path = %path.display(), "the report could not be written");
            }
        }
    }

    fn take_event(&self, handle: &CallHandle, event: CallEvent) {
        match event {
            CallEvent::Chat { id, from, text } => self.take_chat(id, &from, text),
            CallEvent::Data {
                from: Some(from),
                topic,
                payload,
            } => self.take_data(&from, &topic, &payload),
            CallEvent::Joined(sid) => {
                let hand = self.read(|m| m.call.as_ref().and_then(|c| c.hand_up));
                let own = self.read(|m| m.call.as_ref().and_then(|c| c.snapshot.me.clone())) == Some(sid);
                if let (Some(at), false) = (hand, own) {
                    // Newcomers learn of hands that were up before.
                    handle.send(hand_packet(at));
                }
            }
            CallEvent::MutedByModerator(_) => self.toast("A moderator muted you.", false),
            CallEvent::Device(words) => self.toast(words, false),
            _ => {}
        }
    }

    fn take_chat(&self, id: String, from: &ParticipantSid, text: String) {
        self.update(|m| {
            let Some(call) = m.call.as_mut() else { return };
            let Some(person) = call.snapshot.participants.iter().find(|p| p.sid == *from) else {
                return;
            };
            let message = ChatMessage {
                id,
                from: person.nickname.clone(),
                own: person.is_self,
                text: text.chars().take(MAX_CHAT).collect(),
                at: now_ms(),
            };
            call.extras.add_chat(message);
        });
    }

    fn take_data(&self, from: &ParticipantSid, topic: &str, payload: &[u8]) {
        let Ok(text) = std::str::from_utf8(payload) else { return };
        self.update(|m| {
            let Some(call) = m.call.as_mut() else { return };
            if !call.snapshot.participants.iter().any(|p| p.sid == *from) {
                return;
            }
            match topic {
                HAND => match text.parse::<f64>() {
                    Ok(at) if at > 0.0 => {
                        call.extras.hands.insert(from.clone(), at);
                    }
                    _ => {
                        call.extras.hands.remove(from);
                    }
                },
                REACTION if is_reaction(text) => {
                    let reaction = Reaction {
                        emoji: text.to_owned(),
                        at: now_ms(),
                    };
                    call.extras.reactions.insert(from.clone(), reaction);
                }
                _ => {}
            }
        });
    }

    /// The call is over: the page after it, or back to the form when it never began.
    async fn call_ended(&self, handle: &CallHandle) {
        let report = handle.report().await;
        let figures = figures(&serde_json::to_value(&report).unwrap_or_default());
        let never_in = self.update(|m| {
            let call = m.call.take()?;
            let Phase::Ended(reason) = &call.snapshot.phase else {
                return None;
            };
            let Some(joined_at) = call.joined_at else {
                return Some(reason.clone());
            };
            let seconds = ((now_ms() - joined_at) / 1000.0).max(0.0) as u32;
            m.summary = Some(summary(
                &call.snapshot,
                reason,
                seconds,
                call.most_people,
                call.minutes,
                figures,
            ));
            m.screen = Screen::Summary;
            None
        });
        self.hub.clear();
        if let Some(reason) = never_in {
            self.enter_lobby();
            let sentence = reason.to_string();
            let error = UiError::new("join_failed", &sentence);
            self.toast(format!("{} {}", error.message, error.next).trim(), true);
        }
        if self.read(|m| m.screen == Screen::Summary && m.hosting.as_ref().is_some_and(|h| h.trial)) {
            tracing::debug!("the trial's server stays until the page is closed, for Rejoin");
        }
    }

    /// Leaves the call.
    pub async fn leave(&self) -> Answer<()> {
        let _busy = self.begin(Busy::Leaving)?;
        self.leave_now().await;
        Ok(())
    }

    /// Leaves the call, if in one, and waits until the server knows.
    pub async fn leave_now(&self) {
        let Some(handle) = self.read(|m| m.call.as_ref().map(|c| c.handle.clone())) else {
            return;
        };
        handle.send(CallCommand::Leave);
        let _ = tokio::time::timeout(LEAVE_TIME, handle.closed()).await;
    }

    /// Closes the page after a call.
    pub fn dismiss_summary(&self) {
        self.update(|m| m.summary = None);
        self.open_lobby(None);
    }

    fn send(&self, command: CallCommand) {
        if let Some(handle) = self.read(|m| m.call.as_ref().map(|c| c.handle.clone())) {
            handle.send(command);
        }
    }

    /// Microphone on or off.
    pub fn set_microphone(&self, on: bool) {
        self.send(CallCommand::Microphone(on));
    }

    /// Camera on or off.
    pub fn set_camera(&self, on: bool) {
        self.send(CallCommand::Camera(on));
    }

    /// From the tray.
    pub fn toggle_microphone(&self) {
        let on = self.read(|m| m.call.as_ref().is_some_and(|c| c.snapshot.microphone.on));
        self.set_microphone(!on);
    }

    /// From the tray.
    pub fn toggle_camera(&self) {
        let on = self.read(|m| m.call.as_ref().is_some_and(|c| c.snapshot.camera.on));
        self.set_camera(!on);
    }

    /// Uses the newly chosen device.
    pub fn switch_device(&self, kind: DeviceKindDto) {
        let command = self.read(|m| match kind {
            DeviceKindDto::Camera => CallCommand::CameraSource(m.lobby.camera_spec()),
            DeviceKindDto::Microphone => CallCommand::MicrophoneSource(m.lobby.microphone_spec()),
            DeviceKindDto::Speaker => CallCommand::Speaker(m.lobby.speaker_spec()),
        });
        self.send(command);
    }

    /// Sends a chat message.
    pub fn send_chat(&self, text: &str) -> Answer<()> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        if text.chars().count() > MAX_CHAT {
            return Err(UiError::new(
                "too_large",
                "the message is too long; send it in parts of 4000 characters",
            ));
        }
        self.send(CallCommand::Chat(text.to_owned()));
        // It comes back as an event, like everyone's.
        Ok(())
    }

    /// Hand up or down, for everyone to see.
    pub fn raise_hand(&self, up: bool) {
        let at = now_ms();
        self.send(hand_packet(if up { at } else { 0.0 }));
        self.update(|m| {
            let Some(call) = m.call.as_mut() else { return };
            call.hand_up = up.then_some(at);
            let Some(me) = call.snapshot.me.clone() else { return };
            if up {
                call.extras.hands.insert(me, at);
            } else {
                call.extras.hands.remove(&me);
            }
        });
    }

    /// Sends a reaction.
    pub fn react(&self, emoji: &str) -> Answer<()> {
        if !is_reaction(emoji) {
            return Err(UiError::new(
                "bad_request",
                "this is not a reaction; choose one of the menu",
            ));
        }
        self.send(CallCommand::Data {
            topic: REACTION.into(),
            payload: emoji.as_bytes().to_vec(),
            reliable: true,
        });
        self.update(|m| {
            let Some(call) = m.call.as_mut() else { return };
            let Some(me) = call.snapshot.me.clone() else { return };
            call.extras.reactions.insert(
                me,
                Reaction {
                    emoji: emoji.to_owned(),
                    at: now_ms(),
                },
            );
        });
        Ok(())
    }

    /// Own volume for someone.
    pub fn set_volume(&self, sid: &str, volume: f32) -> Answer<()> {
        let bad = || {
            UiError::new(
                "bad_request",
                "there is no such person in the call; look at the list again",
            )
        };
        let sid: ParticipantSid = sid.parse().map_err(|_| bad())?;
        let volume = if volume.is_finite() {
            volume.clamp(0.0, 1.0)
        } else {
            1.0
        };
        self.send(CallCommand::Volume(sid.clone(), volume));
        self.update(|m| m.call.as_mut().map(|c| c.extras.volumes.insert(sid, volume)));
        Ok(())
    }

    /// Moderation is offered where the server lets this participant moderate; so far the page shows none of it.
    #[allow(clippy::unused_async, reason = "an action like the others, which its command awaits")]
    pub async fn moderate(&self, _action: ModerateAction) -> Answer<()> {
        Err(UiError::new(
            "not_allowed",
            "you may not moderate this call; ask a moderator",
        ))
    }
}

fn hand_packet(at: f64) -> CallCommand {
    CallCommand::Data {
        topic: HAND.into(),
        payload: format!("{at:.0}").into_bytes(),
        reliable: true,
    }
}

/// A short text without letters, digits or control characters: an emoji, whatever its parts.
fn is_reaction(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_REACTION
        && text
            .chars()
            .all(|c| !c.is_alphanumeric() && !c.is_control() && !c.is_whitespace() && !c.is_ascii())
}

/// What to send to others. The server's address is what they need; passwords are not in it.
fn invite_text(server: Option<&str>, room: &str) -> String {
    let mut link = url::Url::parse("confab://join").unwrap_or_else(|_| unreachable!("a constant address is valid"));
    if let Some(server) = server {
        link.query_pairs_mut().append_pair("server", server);
    }
    link.query_pairs_mut().append_pair("room", room);
    link.to_string()
}

/// The invite as a QR code.
fn qr(text: &str) -> Option<QrView> {
    let code = qrcode::QrCode::new(text.as_bytes()).ok()?;
    let size = code.width();
    let colours = code.to_colors();
    let mut path = String::new();
    for (i, colour) in colours.iter().enumerate() {
        if *colour == qrcode::Color::Dark {
            path.push_str(&format!("M{} {}h1v1h-1z", i % size, i / size));
        }
    }
    Some(QrView {
        size: u32::try_from(size).ok()?,
        path,
    })
}

/// The figures of the page after a call, out of the report.
fn figures(report: &serde_json::Value) -> Vec<FigureView> {
    let mut figures = Vec::new();
    let mut add = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            figures.push(FigureView {
                label: label.into(),
                value,
            });
        }
    };
    let ms = |value: &serde_json::Value| value.as_f64().map(|v| format!("{v:.0} ms"));
    add("Time to join", ms(&report["join"]["connectedMs"]));
    add("Round trip", ms(&report["network"]["roundTripMs"]));
    let received = || report["received"].as_array().into_iter().flatten();
    let sum = |name: &str| received().filter_map(|t| t.get(name)?.as_u64()).sum::<u64>();
    let packets = sum("packets");
    add(
        "Packets lost",
        (packets > 0).then(|| format!("{:.1} %", sum("lost") as f64 * 100.0 / packets as f64)),
    );
    let freezes = || received().filter_map(|t| t["video"]["freezes"].as_u64());
    add(
        "Picture freezes",
        freezes().next().map(|_| freezes().sum::<u64>().to_string()),
    );
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_an_emoji_and_nothing_else() {
        assert!(is_reaction("👍🏽") && is_reaction("❤️"));
        assert!(!is_reaction("<b>") && !is_reaction("hello") && !is_reaction(""));
    }

    #[test]
    fn an_invite_names_server_and_room() {
        let invite = invite_text(Some("https://calls.example.org"), "Weekly planning");
        assert_eq!(
            invite,
            "confab://join?server=https%3A%2F%2Fcalls.example.org&room=Weekly+planning"
        );
        assert!(qr(&invite).is_some_and(|q| q.size >= 21 && q.path.starts_with('M')));
    }
}
