//! The own microphone and camera with their publications: what is open, wanted, allowed and
//! announced. What happens to them in a call is in `publish`.

use std::time::{Duration, Instant};

use confab_media::audio::AudioSender;
use confab_media::{AudioSourceSpec, DeviceError, VideoSourceSpec};
use confab_transport::{SendCodec, SendTrackConfig, TrackStats};
use confab_types::{Grants, TrackSource};
use confab_wire::livekit::{self as lk, signal_request as req};
use tokio::sync::mpsc;

use super::actor::Note;
use super::link::Link;
use super::own_audio::OwnAudio;
use super::own_video::{CameraOpened, OwnVideo};
use super::people::source_number;
use super::publication::{PUBLISH_TIMEOUT, Publication, Stage};
use super::report::SentTrack;
use crate::api::{JoinOptions, OwnTrack, VideoKey};
use crate::signal::SignalSender;

/// LiveKit's SDKs group microphone and camera under this stream: receivers keep them in step.
const STREAM: &str = "camera";
/// A request that old counts as refused in the report.
const UNANSWERED: Duration = Duration::from_secs(2);
/// Expected loss told to the codec at the least, percent.
const LEAST_LOSS: u8 = 5;

/// What devices tell.
pub(super) enum OwnNote {
    /// The microphone was opened, or not.
    Microphone(u64, Result<AudioSender, DeviceError>),
    /// The camera was opened, or not.
    Camera(u64, Result<CameraOpened, DeviceError>),
    /// The open camera failed.
    CameraLost(u64, DeviceError),
    /// It delivers again.
    CameraBack(u64),
}

/// The own microphone and camera.
pub(super) struct Own {
    pub(super) audio: OwnAudio,
    pub(super) video: OwnVideo,
    pub(super) microphone: Publication,
    pub(super) camera: Publication,
    /// Packets sent and lost at the last look.
    heard: (u64, u64),
    /// Whatever the grants say.
    pub(super) force: bool,
    /// The server said no to a track.
    pub(super) refused: bool,
}

impl Own {
    pub(super) fn new(options: &JoinOptions, notes: mpsc::Sender<Note>) -> Self {
        let audio = OwnAudio::new(options.microphone.clone(), notes.clone());
        let video = OwnVideo::new(options, notes);
        Self {
            microphone: Publication::new(TrackSource::Microphone, options.microphone_on && audio.exists()),
            camera: Publication::new(TrackSource::Camera, options.camera_on && video.exists()),
            audio,
            video,
            heard: (0, 0),
            force: options.force_publish,
            refused: false,
        }
    }

    /// The token says what the server will allow: devices open while the connection is made.
    pub(super) fn presume(&mut self, grants: &Grants) {
        self.allow(&grants.can_publish_sources);
    }

    /// On a new join, with what the server allows.
    pub(super) fn linked(&mut self, may_publish: &[TrackSource]) {
        self.allow(may_publish);
    }

    pub(super) fn allow(&mut self, may_publish: &[TrackSource]) {
        for publication in [&mut self.microphone, &mut self.camera] {
            publication.allowed = Some(self.force || may_publish.contains(&publication.source));
        }
        if self.microphone.device_wanted() {
            self.audio.open();
        }
        if self.camera.device_wanted() {
            self.video.open();
        }
    }

    /// The connections are gone: nothing is published, devices stay.
    pub(super) fn unlinked(&mut self) {
        self.audio.outlet.connect(None);
        self.video.disconnect();
        for publication in [&mut self.microphone, &mut self.camera] {
            publication.reset();
        }
    }

    /// Asks the server to take what is open, wanted and allowed. True: an offer must follow.
    pub(super) async fn announce(&mut self, link: &Link, signal: &SignalSender) -> bool {
        let microphone = self.microphone.device_wanted() && self.audio.is_open();
        let microphone = microphone && self.announce_microphone(link, signal).await;
        let camera = self.camera.device_wanted() && self.video.is_open();
        let camera = camera && self.announce_camera(link, signal).await;
        microphone || camera
    }

    async fn announce_microphone(&mut self, link: &Link, signal: &SignalSender) -> bool {
        let publication = &mut self.microphone;
        if publication.stage != Stage::Not {
            return false;
        }
        signal.send(req::Message::AddTrack(lk::AddTrackRequest {
            name: "microphone".to_owned(),
            r#type: lk::TrackType::Audio as i32,
            disable_red: true,
            ..add_track(publication)
        }));
        let outlet = &self.audio.outlet;
        match link
            .publisher
            .add_track(track_config(publication, SendCodec::Opus))
            .await
        {
            Ok(sender) => outlet.connect(Some(sender)),
            Err(e) => {
                publication.problem = Some(format!("The microphone cannot be sent ({e}); turn it off and on again"))
            }
        }
        publication.stage = Stage::Asked(Instant::now());
        true
    }

    async fn announce_camera(&mut self, link: &Link, signal: &SignalSender) -> bool {
        let publication = &mut self.camera;
        if publication.stage != Stage::Not {
            return false;
        }
        let (width, height) = self.video.size();
        signal.send(req::Message::AddTrack(lk::AddTrackRequest {
            name: "camera".to_owned(),
            r#type: lk::TrackType::Video as i32,
            width,
            height,
            layers: self.video.layers(),
            ..add_track(publication)
        }));
        let codec = SendCodec::Vp8(self.video.layer_configs());
        match link.publisher.add_track(track_config(publication, codec)).await {
            Ok(sender) => self.video.connect(sender, link.publisher.target_bitrate()),
            Err(e) => publication.problem = Some(format!("The camera cannot be sent ({e}); turn it off and on again")),
        }
        publication.stage = Stage::Asked(Instant::now());
        true
    }

    pub(super) fn set_microphone_source(&mut self, source: AudioSourceSpec) {
        self.audio.set_source(source);
        self.microphone.problem = None;
        if self.microphone.device_wanted() {
            self.audio.open();
        }
    }

    pub(super) fn set_camera_source(&mut self, source: VideoSourceSpec) {
        self.video.set_source(source);
        self.camera.problem = None;
        if self.camera.device_wanted() {
            self.video.open();
        }
    }

    /// Which own pictures are shown, and how large.
    pub(super) fn show(&mut self, shown: &[(VideoKey, (u32, u32))]) {
        let own = shown.iter().find(|(key, _)| *key == VideoKey::Own(TrackSource::Camera));
        self.video.show(own.map(|(_, size)| *size));
    }

    /// Nobody watches some layers, or somebody does again.
    pub(super) fn qualities(&mut self, update: &lk::SubscribedQualityUpdate) {
        if self.camera.sid().is_some_and(|sid| sid.as_str() == update.track_sid) {
            self.video.qualities(update);
        }
    }

    /// Publishing that the server never answered ends as a problem.
    pub(super) fn check_time(&mut self, now: Instant) {
        for publication in [&mut self.microphone, &mut self.camera] {
            if let Stage::Asked(since) = publication.stage
                && now.saturating_duration_since(since) > PUBLISH_TIMEOUT
                && publication.problem.is_none()
            {
                publication.problem = Some("The server does not take it; turn it off and on again".to_owned());
            }
        }
    }

    pub(super) fn microphone_view(&self) -> OwnTrack {
        self.microphone.view(self.audio.is_open())
    }

    pub(super) fn camera_view(&self) -> OwnTrack {
        self.camera.view(self.video.is_open())
    }

    pub(super) fn speaking_while_muted(&self) -> bool {
        !self.microphone.wanted && self.audio.speaking_while_muted()
    }

    /// What is published, for a resume.
    pub(super) fn sync_state(&self) -> lk::SyncState {
        let published = [&self.microphone, &self.camera].into_iter().filter_map(|p| {
            let track = lk::TrackInfo {
                sid: p.sid()?.to_string(),
                ..Default::default()
            };
            Some(lk::TrackPublishedResponse {
                cid: p.cid.clone(),
                track: Some(track),
            })
        });
        lk::SyncState {
            publish_tracks: published.collect(),
            ..Default::default()
        }
    }

    pub(super) fn close(&mut self) {
        self.audio.close();
        self.video.close();
    }

    /// `lived`: how long the call has lasted.
    pub(super) fn report(&self, stats: &[TrackStats], lived: Duration) -> Vec<SentTrack> {
        let tracks = [
            (&self.microphone, &self.audio.outlet, "microphone"),
            (&self.camera, &self.video.outlet, "camera"),
        ];
        let tracks = tracks.into_iter().map(|(publication, outlet, source)| {
            let (frames, dropped) = outlet.counts();
            let of_track = stats
                .iter()
                .find(|s| s.id == publication.cid)
                .cloned()
                .unwrap_or_default();
            let is_sound = publication.source == TrackSource::Microphone;
            SentTrack {
                sid: publication.sid().map(ToString::to_string),
                source: source.to_owned(),
                frames,
                dropped,
                packets: of_track.packets,
                bytes: of_track.bytes,
                kbps: (of_track.bytes as f64 * 0.08 / lived.as_secs_f64().max(0.001)).round() / 10.0,
                retransmissions: of_track.retransmissions,
                keyframe_requests: outlet.keyframe_requests(),
                lost: of_track.lost,
                onsets: if is_sound {
                    self.audio.onsets.lock().all()
                } else {
                    Vec::new()
                },
                layers: if is_sound {
                    Vec::new()
                } else {
                    self.video.layer_reports()
                },
            }
        });
        tracks.filter(|t| t.sid.is_some() || t.frames > 0).collect()
    }

    /// A track was refused, or asked for and never taken.
    pub(super) fn was_refused(&self) -> bool {
        self.refused
            || [&self.microphone, &self.camera]
                .iter()
                .any(|p| matches!(p.stage, Stage::Asked(since) if since.elapsed() > UNANSWERED))
    }

    /// Prepares the codec for the loss that receivers report.
    pub(super) fn measured(&mut self, stats: &[TrackStats]) {
        let Some(track) = stats.iter().find(|s| s.id == self.microphone.cid) else {
            return;
        };
        let (packets, lost) = (track.packets, track.lost.max(0).cast_unsigned());
        let (sent, gone) = (packets.saturating_sub(self.heard.0), lost.saturating_sub(self.heard.1));
        // Too few packets say nothing.
        if sent >= 50 {
            self.heard = (packets, lost);
            let percent = (gone * 100).div_ceil(sent.max(1)).min(40);
            // At least the usual loss of wireless networks: FEC costs little and must be there before the loss is.
            self.audio
                .set_expected_loss(u8::try_from(percent).unwrap_or(40).max(LEAST_LOSS));
        }
    }

    pub(super) fn by_sid(&mut self, sid: &str) -> Option<&mut Publication> {
        [&mut self.microphone, &mut self.camera]
            .into_iter()
            .find(|p| p.sid().is_some_and(|s| s.as_str() == sid))
    }

    pub(super) fn by_cid(&mut self, cid: &str) -> Option<&mut Publication> {
        [&mut self.microphone, &mut self.camera]
            .into_iter()
            .find(|p| p.cid == cid)
    }
}

fn add_track(publication: &Publication) -> lk::AddTrackRequest {
    lk::AddTrackRequest {
        cid: publication.cid.clone(),
        source: source_number(publication.source),
        stream: STREAM.to_owned(),
        ..Default::default()
    }
}

fn track_config(publication: &Publication, codec: SendCodec) -> SendTrackConfig {
    SendTrackConfig {
        cid: publication.cid.clone(),
        stream_id: STREAM.to_owned(),
        codec,
    }
}
