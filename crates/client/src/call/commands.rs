//! What a person asks for in a call, carried out.

use bytes::Bytes;
use confab_wire::livekit::{self as lk, signal_request as req};

use super::actor::Actor;
use super::data::{self, CHAT_TOPIC};
use super::link::{LOSSY, RELIABLE};
use super::machine::Input;
use crate::api::{CallCommand, CallEvent};
use crate::signal::unix_ms;

impl Actor {
    /// Carries out one command.
    pub(super) async fn command(&mut self, command: CallCommand) {
        match command {
            CallCommand::Microphone(on) => self.turn_microphone(on).await,
            CallCommand::Camera(on) => self.turn_camera(on).await,
            CallCommand::MicrophoneSource(source) => self.own.set_microphone_source(source),
            CallCommand::CameraSource(source) => self.own.set_camera_source(source),
            CallCommand::Speaker(speaker) => self.remotes.set_speaker(&speaker),
            CallCommand::Show(shown) => {
                self.own.show(&shown);
                self.remotes.show(&shown);
                self.tell_wishes();
            }
            CallCommand::Volume(who, volume) => {
                let tracks = self
                    .people
                    .snapshot()
                    .into_iter()
                    .find(|p| p.sid == who)
                    .map(|p| p.tracks);
                for track in tracks.unwrap_or_default() {
                    self.remotes.set_volume(&track.sid, volume);
                }
            }
            CallCommand::Chat(text) => self.chat(text).await,
            CallCommand::Attributes(attributes) => {
                let update = lk::UpdateParticipantMetadata {
                    attributes: attributes.into_iter().collect(),
                    ..Default::default()
                };
                self.request(req::Message::UpdateMetadata(update));
            }
            CallCommand::Data {
                topic,
                payload,
                reliable,
            } => match data::user_message(&topic, payload, reliable) {
                Ok(message) => self.send_data(if reliable { RELIABLE } else { LOSSY }, message).await,
                Err(e) => tracing::warn!(topic, "not sent: {e}"),
            },
            CallCommand::RetryNow => self.step(Input::RetryNow).await,
            CallCommand::Leave => self.step(Input::UserLeaves).await,
        }
    }

    /// Sends a request on the signalling, if there is one.
    pub(super) fn request(&self, message: req::Message) {
        if let Some(signal) = &self.signal {
            signal.send(message);
        }
    }

    /// Sends a text stream; the own copy is told as an event, like everyone's.
    async fn chat(&mut self, text: String) {
        let id = uuid::Uuid::new_v4().to_string();
        let messages = match data::text_stream(&id, CHAT_TOPIC, &text, unix_ms()) {
            Ok(messages) => messages,
            Err(e) => {
                let _ = self.events.send(CallEvent::Device(e.to_string()));
                return;
            }
        };
        for message in messages {
            self.send_data(RELIABLE, message).await;
        }
        if let Some(from) = self.people.me().cloned() {
            let _ = self.events.send(CallEvent::Chat { id, from, text });
        }
    }

    async fn send_data(&mut self, label: &'static str, message: Vec<u8>) {
        if let (Some(link), Some(signal)) = (&mut self.link, &self.signal) {
            link.send_data(signal, label, Bytes::from(message)).await;
        }
    }
}
