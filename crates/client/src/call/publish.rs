//! Publishing the own microphone and camera in a call: mutes from both sides, force-unpublish,
//! grants that change, and the same again after a rejoin. A device that fails leaves a problem
//! in the snapshot, and the call goes on.

use confab_media::DeviceError;
use confab_types::{TrackKind, TrackSid, TrackSource};
use confab_wire::livekit::{self as lk, request_response, signal_request as req};

use super::actor::Actor;
use super::own::OwnNote;
use super::own_audio::sentence;
use super::publication::Stage;
use crate::api::CallEvent;

impl Actor {
    /// Publishes what became possible.
    async fn publish(&mut self) {
        if let (Some(link), Some(signal)) = (&mut self.link, &self.signal)
            && self.own.announce(link, signal).await
        {
            link.negotiate(signal, false).await;
        }
    }

    /// A device was opened, failed to open, or was lost.
    pub(super) async fn own_note(&mut self, note: OwnNote) {
        let own = &mut self.own;
        match note {
            OwnNote::Microphone(opening, Ok(sender)) => {
                if own.audio.opened(opening, sender, !own.microphone.wanted) {
                    own.microphone.problem = None;
                    self.publish().await;
                    self.tell_mutes();
                }
            }
            OwnNote::Microphone(opening, Err(e)) => {
                if own.audio.failed(opening) {
                    own.microphone.problem = Some(sentence(&e));
                    self.tell_device(&e);
                }
            }
            OwnNote::Camera(opening, Ok(opened)) => {
                if own.video.opened(opening, opened) {
                    own.camera.problem = None;
                    self.publish().await;
                    self.tell_mutes();
                }
            }
            OwnNote::Camera(opening, Err(e)) | OwnNote::CameraLost(opening, e) => {
                if own.video.failed(opening) {
                    own.camera.problem = Some(sentence(&e));
                    self.tell_device(&e);
                    self.tell_mutes();
                }
            }
            OwnNote::CameraBack(opening) => {
                if own.video.failed(opening) {
                    own.camera.problem = None;
                }
            }
        }
    }

    fn tell_device(&self, error: &DeviceError) {
        let _ = self.events.send(CallEvent::Device(sentence(error)));
    }

    /// Microphone on or off. Off keeps the device open.
    pub(super) async fn turn_microphone(&mut self, on: bool) {
        let own = &mut self.own;
        own.microphone.wanted = on;
        own.microphone.problem = None;
        own.audio.set_muted(!on);
        if own.microphone.device_wanted() {
            own.audio.open();
        }
        self.publish().await;
        self.tell_mutes();
    }

    /// Camera on or off. Off closes the device.
    pub(super) async fn turn_camera(&mut self, on: bool) {
        let own = &mut self.own;
        own.camera.wanted = on;
        own.camera.problem = None;
        if own.camera.device_wanted() {
            own.video.open();
        } else {
            own.video.close();
        }
        self.publish().await;
        self.tell_mutes();
    }

    /// Tells the server what it does not know yet about mutes, and the people's list with it.
    fn tell_mutes(&mut self) {
        let own = &mut self.own;
        let states = [
            (own.microphone.wanted && own.audio.is_open(), &mut own.microphone),
            (own.camera.wanted && own.video.is_open(), &mut own.camera),
        ];
        for (on, publication) in states {
            let Some(sid) = publication.sid().cloned() else {
                continue;
            };
            if publication.muted != on {
                continue;
            }
            publication.muted = !on;
            self.people.muted(&sid, !on);
            if let Some(signal) = &self.signal {
                signal.send(req::Message::Mute(lk::MuteTrackRequest {
                    sid: sid.to_string(),
                    muted: !on,
                }));
            }
        }
    }

    /// The server took a track.
    #[allow(clippy::unused_async, reason = "handlers of one table, awaited alike")]
    pub(super) async fn track_published(&mut self, published: lk::TrackPublishedResponse) {
        let Some(info) = published.track else { return };
        let Ok(sid) = info.sid.parse::<TrackSid>() else { return };
        let Some(publication) = self.own.by_cid(&published.cid) else {
            return;
        };
        tracing::info!(%sid, source = ?publication.source, "published");
        publication.stage = Stage::Published(sid);
        publication.muted = info.muted;
        publication.problem = None;
        self.people.own_track(&info);
        self.tell_mutes();
    }

    /// A moderator muted a track: capture stops, then the server is answered.
    #[allow(clippy::unused_async, reason = "handlers of one table, awaited alike")]
    pub(super) async fn muted_by_server(&mut self, mute: &lk::MuteTrackRequest) {
        let Some(publication) = self.own.by_sid(&mute.sid) else {
            return;
        };
        // Nobody but the person turns a microphone or camera on.
        if !mute.muted {
            return;
        }
        let source = publication.source;
        publication.wanted = false;
        // Told again below, as the answer.
        publication.muted = false;
        match source {
            TrackSource::Camera => self.own.video.close(),
            _ => self.own.audio.set_muted(true),
        }
        self.tell_mutes();
        let _ = self.events.send(CallEvent::MutedByModerator(source));
    }

    /// The server dropped a track by force.
    pub(super) async fn unpublished_by_server(&mut self, sid: &TrackSid) {
        let Some(publication) = self.own.by_sid(sid.as_str()) else {
            return;
        };
        let source = publication.source;
        publication.wanted = false;
        publication.problem = Some("It was stopped by the host".to_owned());
        self.unpublish(source).await;
    }

    /// The own grants changed while in the room.
    pub(super) async fn permission_changed(&mut self) {
        self.own.allow(self.people.may_publish());
        for source in [TrackSource::Microphone, TrackSource::Camera] {
            let publication = if source == TrackSource::Camera {
                &self.own.camera
            } else {
                &self.own.microphone
            };
            if publication.allowed == Some(false) && publication.stage != Stage::Not {
                self.unpublish(source).await;
            }
        }
        self.publish().await;
    }

    /// The server answered a request: only refusals of tracks matter.
    pub(super) async fn request_answered(&mut self, response: &lk::RequestResponse) {
        use request_response::{Reason, Request};
        let accepted = matches!(Reason::try_from(response.reason), Ok(Reason::Ok | Reason::Queued));
        let Some(Request::AddTrack(request)) = &response.request else {
            return;
        };
        let Some(publication) = self.own.by_cid(&request.cid).filter(|_| !accepted) else {
            return;
        };
        let source = publication.source;
        let why = if response.message.is_empty() {
            "the server does not allow it"
        } else {
            &response.message
        };
        publication.problem = Some(format!("Not sent: {why}"));
        self.own.refused = true;
        if !self.own.force {
            self.unpublish(source).await;
        }
    }

    async fn unpublish(&mut self, source: TrackSource) {
        let own = &mut self.own;
        let publication = match source {
            TrackSource::Camera => {
                own.video.close();
                own.video.disconnect();
                &mut own.camera
            }
            _ => {
                own.audio.close();
                own.audio.outlet.connect(None);
                &mut own.microphone
            }
        };
        if let Some(sid) = publication.sid().cloned() {
            self.people.own_track_ended(&sid);
        }
        let cid = publication.cid.clone();
        publication.reset();
        if let (Some(link), Some(signal)) = (&mut self.link, &self.signal) {
            match link.publisher.remove_track(&cid).await {
                Ok(()) => link.negotiate(signal, false).await,
                Err(e) => tracing::debug!("a track was not removed: {e}"),
            }
        }
    }
}

/// Sound or picture.
pub(super) fn kind_of(mime: &str) -> TrackKind {
    if mime.to_ascii_lowercase().starts_with("video/") {
        TrackKind::Video
    } else {
        TrackKind::Audio
    }
}
