//! Publishing: announcing, muting, ending tracks. The grants decide.

use confab_types::{ParticipantSid, TrackKind, TrackSid, TrackSource};
use confab_wire::livekit as lk;
use lk::request_response::{Reason, Request};
use lk::signal_response::Message;
use tracing::{info, warn};

use super::actor::{RoomActor, patiently};
use super::events::{Fact, LeftReason};
use super::info::{from_lk_source, kind_of, stream_of};
use super::member::Track;
use crate::engine::TrackAnnouncement;
use crate::ids;

/// More than any client sends; bounds what one participant can make everyone else keep.
const MAX_TRACKS: usize = 16;
/// LiveKit's bound for a track's name, and enough for any id.
const MAX_TEXT: usize = 256;
/// Simulcast has three layers.
const MAX_LAYERS: usize = 3;

impl RoomActor {
    pub async fn on_add_track(&mut self, sid: &ParticipantSid, request: lk::AddTrackRequest) {
        let Some(member) = self.member(sid) else { return };
        if let Some(known) = member.tracks.iter().find(|t| t.cid == request.cid) {
            // Asked twice: the same answer twice.
            let track = Some(known.info.clone());
            return self.tell(
                sid,
                Message::TrackPublished(lk::TrackPublishedResponse {
                    cid: request.cid,
                    track,
                }),
            );
        }
        let (kind, source) = match checked_source(&request) {
            Ok(found) => found,
            Err(text) => return self.refuse(sid, 0, Reason::UnsupportedType, text, Some(Request::AddTrack(request))),
        };
        let unknown_source = from_lk_source(request.source).is_none();
        let everything = TrackSource::ALL.iter().all(|s| member.grants.can_publish(*s));
        if !member.grants.can_publish(source) || (unknown_source && !everything) {
            warn!(participant = %sid, ?source, "publishing refused");
            return self.refuse(
                sid,
                0,
                Reason::NotAllowed,
                "the grants do not allow this source",
                Some(Request::AddTrack(request)),
            );
        }
        if member.tracks.len() >= MAX_TRACKS {
            return self.refuse(
                sid,
                0,
                Reason::LimitExceeded,
                "too many tracks",
                Some(Request::AddTrack(request)),
            );
        }
        let track = new_track(request, kind, source);
        self.publish(sid, track).await;
    }

    async fn publish(&mut self, sid: &ParticipantSid, track: Track) {
        let announcement = TrackAnnouncement {
            sid: track.sid.clone(),
            cid: track.cid.clone(),
            kind: track.kind,
            source: track.source,
            muted: track.info.muted,
        };
        if let Err(e) = patiently(self.env.engine.announce_track(&self.room.sid, sid, announcement)).await {
            warn!(participant = %sid, error = %e, "the media engine refused a track");
            return self.refuse(sid, 0, Reason::NotAllowed, "the media engine refused the track", None);
        }
        info!(participant = %sid, track = %track.sid, source = ?track.source, "track announced");
        let answer = lk::TrackPublishedResponse {
            cid: track.cid.clone(),
            track: Some(track.info.clone()),
        };
        let (track_sid, muted) = (track.sid.clone(), track.info.muted);
        if let Some(member) = self.member_mut(sid) {
            member.tracks.push(track);
        }
        self.tell(sid, Message::TrackPublished(answer));
        if muted {
            // No media will come to say that it is live.
            self.show_track(sid, &track_sid);
        }
    }

    /// Others learn of a track; the event goes out.
    pub fn show_track(&mut self, sid: &ParticipantSid, track: &TrackSid) {
        let Some(found) = self.member_mut(sid).and_then(|m| m.track_mut(track.as_str())) else {
            return;
        };
        if std::mem::replace(&mut found.shown, true) {
            return;
        }
        let fact = Fact::TrackPublished {
            participant: sid.clone(),
            track: track.clone(),
            kind: found.kind,
            source: found.source,
        };
        self.announce(sid);
        self.note(fact);
    }

    /// The owner mutes or unmutes.
    pub async fn on_mute(&mut self, sid: &ParticipantSid, mute: &lk::MuteTrackRequest) {
        self.set_muted(sid, &mute.sid, mute.muted).await;
    }

    /// Mutes or unmutes, and tells everyone. `None`: no such track.
    pub async fn set_muted(&mut self, sid: &ParticipantSid, track: &str, muted: bool) -> Option<lk::TrackInfo> {
        let found = self.member_mut(sid)?.track_mut(track)?;
        let changed = found.info.muted != muted;
        found.info.muted = muted;
        let (info, track_sid) = (found.info.clone(), found.sid.clone());
        if changed {
            self.env.engine.set_muted(&self.room.sid, sid, &track_sid, muted).await;
            self.announce(sid);
        }
        Some(info)
    }

    /// A track is over.
    pub async fn end_track(&mut self, sid: &ParticipantSid, track: &TrackSid, reason: LeftReason) {
        let Some(member) = self.member_mut(sid) else { return };
        let Some(at) = member.tracks.iter().position(|t| t.sid == *track) else {
            return;
        };
        let ended = member.tracks.remove(at);
        self.env.engine.remove_track(&self.room.sid, sid, track).await;
        for member in &mut self.members {
            member.subscribed.remove(track);
        }
        info!(participant = %sid, track = %track, "track ended");
        self.tell(
            sid,
            Message::TrackUnpublished(lk::TrackUnpublishedResponse {
                track_sid: track.to_string(),
            }),
        );
        if ended.shown {
            self.announce(sid);
            self.note(Fact::TrackUnpublished {
                participant: sid.clone(),
                track: track.clone(),
                reason,
            });
        }
    }

    /// Sound processing changed.
    pub fn on_update_audio(&mut self, sid: &ParticipantSid, update: &lk::UpdateLocalAudioTrack) {
        let Some(track) = self.member_mut(sid).and_then(|m| m.track_mut(&update.track_sid)) else {
            return;
        };
        track.info.audio_features = update.features.iter().copied().take(16).collect();
        if track.shown {
            self.announce(sid);
        }
    }
}

/// Kind and source of a request. A track without a source counts as camera or microphone.
fn checked_source(request: &lk::AddTrackRequest) -> Result<(TrackKind, TrackSource), &'static str> {
    let kind = match lk::TrackType::try_from(request.r#type) {
        Ok(lk::TrackType::Audio) => TrackKind::Audio,
        Ok(lk::TrackType::Video) => TrackKind::Video,
        _ => return Err("only sound and picture can be published"),
    };
    if request.cid.is_empty()
        || request.cid.len() > MAX_TEXT
        || request.name.len() > MAX_TEXT
        || request.stream.len() > MAX_TEXT
    {
        return Err("the track's id or name is empty or too long");
    }
    let source = from_lk_source(request.source).unwrap_or(match kind {
        TrackKind::Audio => TrackSource::Microphone,
        TrackKind::Video => TrackSource::Camera,
    });
    if kind_of(source) != kind {
        return Err("the source does not go with the kind of track");
    }
    Ok((kind, source))
}

fn new_track(request: lk::AddTrackRequest, kind: TrackKind, source: TrackSource) -> Track {
    let sid = ids::track();
    let layers: Vec<lk::VideoLayer> = request.layers.into_iter().take(MAX_LAYERS).collect();
    let default_mime = match kind {
        TrackKind::Audio => "audio/opus",
        TrackKind::Video => "video/VP8",
    };
    let codec = lk::SimulcastCodecInfo {
        mime_type: default_mime.to_owned(),
        cid: request.cid.clone(),
        layers: layers.clone(),
        video_layer_mode: lk::video_layer::Mode::OneSpatialLayerPerStream as i32,
        ..lk::SimulcastCodecInfo::default()
    };
    let stream = if request.stream.is_empty() {
        stream_of(source).to_owned()
    } else {
        request.stream
    };
    let info = lk::TrackInfo {
        sid: sid.to_string(),
        r#type: request.r#type,
        name: request.name,
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers,
        mime_type: default_mime.to_owned(),
        codecs: vec![codec],
        stereo: request.stereo,
        disable_red: true,
        encryption: request.encryption,
        stream,
        audio_features: request.audio_features.into_iter().take(16).collect(),
        backup_codec_policy: request.backup_codec_policy,
        ..lk::TrackInfo::default()
    };
    Track {
        sid,
        cid: request.cid,
        kind,
        source,
        info,
        live: false,
        shown: false,
        wanted: None,
        lower_at: None,
    }
}
