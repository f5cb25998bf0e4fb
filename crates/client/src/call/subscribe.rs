//! Others' tracks: each gets a decoder or a place in the mix, is decoded only while it is
//! shown, and is measured. The server is told what is shown, so that it sends no more.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confab_media::audio::{Playout, SpeakerTarget};
use confab_transport::{RemoteTrack, TrackStats};
use confab_types::{TrackKind, TrackSid};
use confab_wire::livekit::{self as lk, signal_request as req};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::actor::{Actor, Note};
use super::own_audio::device_events;
use super::publish::kind_of;
use super::remote_audio::RemoteSound;
use super::remote_video::RemotePicture;
use super::report::{ReceivedTrack, ms};
use crate::api::{JoinOptions, SpeakerSpec, VideoKey, VideoSink};

/// Nothing for this long: the track does not flow.
const STALLED: Duration = Duration::from_secs(1);
/// Tracks of one call that are kept in the report after their end.
const ENDED_KEPT: usize = 200;

/// When the first picture and sound of the call came, ms since its start.
#[derive(Debug, Default)]
pub struct Firsts {
    /// First decoded picture.
    pub frame: Option<f64>,
    /// First played sound.
    pub audio: Option<f64>,
}

/// What every received track shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) started: Instant,
    pub(super) firsts: Arc<Mutex<Firsts>>,
    pub(super) sink: Option<Arc<dyn VideoSink>>,
}

enum Media {
    Sound(RemoteSound),
    Picture(RemotePicture),
}

struct Remote {
    media: Media,
    /// The transport's id of it.
    track_id: String,
    mime: String,
    identity: String,
    source: String,
    began: Instant,
}

/// What the server should send of a video track.
type Wish = Option<(u32, u32)>;

/// All received tracks, and those that ended.
pub(super) struct Remotes {
    shared: Shared,
    record: Option<PathBuf>,
    tracks: HashMap<TrackSid, Remote>,
    ended: Vec<ReceivedTrack>,
    playout: Option<Playout>,
    wishes: HashMap<TrackSid, Wish>,
    told: HashMap<TrackSid, Wish>,
    volumes: HashMap<TrackSid, f32>,
    mids: HashMap<String, String>,
    notes: mpsc::Sender<Note>,
}

impl Remotes {
    pub(super) fn new(options: &JoinOptions, started: Instant, notes: mpsc::Sender<Note>) -> Self {
        let shared = Shared {
            started,
            firsts: Arc::default(),
            sink: options.sink.clone(),
        };
        Self {
            shared,
            record: options.record.clone(),
            tracks: HashMap::new(),
            ended: Vec::new(),
            playout: None,
            wishes: HashMap::new(),
            told: HashMap::new(),
            volumes: HashMap::new(),
            mids: HashMap::new(),
            notes,
        }
    }

    /// Starts mixing. Without a speaker the call goes on silently, and the person is told.
    pub(super) fn start_playout(&mut self, speaker: &SpeakerSpec) -> Option<&Playout> {
        match Playout::start(target(speaker), device_events(self.notes.clone())) {
            Ok(playout) => self.playout = Some(playout),
            Err(e) => {
                let _ = self.notes.try_send(Note::Device(e.to_string()));
            }
        }
        self.playout.as_ref()
    }

    pub(super) fn set_speaker(&self, speaker: &SpeakerSpec) {
        if let Some(playout) = &self.playout {
            playout.set_target(target(speaker));
        }
    }

    /// LiveKit names tracks by m-line too, for stacks that rewrite ids.
    pub(super) fn named_by(&mut self, mids: &HashMap<String, String>) {
        self.mids.extend(mids.iter().map(|(mid, id)| (mid.clone(), id.clone())));
    }

    fn begin(&mut self, sid: TrackSid, track: RemoteTrack, file_name: &str) {
        let (track_id, mime) = (track.track_id.clone(), track.mime.clone());
        self.ended(&sid, &[]);
        let record = |ext: &str| self.record.as_ref().map(|dir| dir.join(format!("{file_name}.{ext}")));
        let media = match (kind_of(&mime), &self.playout) {
            (TrackKind::Video, _) => {
                let wish = self.wishes.get(&sid).copied();
                let key = VideoKey::Remote(sid.clone());
                match RemotePicture::start(track, key, wish, record("y4m"), self.shared.clone()) {
                    Ok(picture) => Media::Picture(picture),
                    Err(e) => return tracing::warn!(%sid, "a video track cannot be decoded: {e}"),
                }
            }
            (TrackKind::Audio, Some(playout)) => {
                match RemoteSound::start(track, sid.as_str(), playout, record("wav"), self.shared.clone()) {
                    Ok(sound) => Media::Sound(sound),
                    Err(e) => return tracing::warn!(%sid, "an audio track cannot be decoded: {e}"),
                }
            }
            (TrackKind::Audio, None) => return,
        };
        if let (Media::Sound(sound), Some(volume)) = (&media, self.volumes.get(&sid)) {
            sound.set_volume(*volume);
        }
        tracing::info!(%sid, mime, "receiving");
        let remote = Remote {
            media,
            track_id,
            mime,
            identity: String::new(),
            source: String::new(),
            began: Instant::now(),
        };
        self.tracks.insert(sid, remote);
    }

    /// A track is gone; `stats`: the connection's last word on it.
    pub(super) fn ended(&mut self, sid: &TrackSid, stats: &[TrackStats]) {
        self.wishes.remove(sid);
        self.told.remove(sid);
        let Some(remote) = self.tracks.remove(sid) else { return };
        let mut report = describe(sid, &remote, stats);
        report.ended = true;
        if self.ended.len() < ENDED_KEPT {
            self.ended.push(report);
        }
        match remote.media {
            Media::Sound(sound) => sound.close(),
            Media::Picture(picture) => {
                picture.close();
                if let Some(sink) = &self.shared.sink {
                    sink.ended(&VideoKey::Remote(sid.clone()));
                }
            }
        }
    }

    /// All are gone; `stats`: the connection's last word on them.
    pub(super) fn end_all(&mut self, stats: &[TrackStats]) {
        let all: Vec<_> = self.tracks.keys().cloned().collect();
        for sid in all {
            self.ended(&sid, stats);
        }
        self.mids.clear();
    }

    /// What is shown now. Video tracks that are not named are neither sent nor decoded; later ones are, until the next
    /// list.
    pub(super) fn show(&mut self, shown: &[(VideoKey, (u32, u32))]) {
        let size_of = |sid: &TrackSid| {
            shown.iter().find_map(|(key, size)| match key {
                VideoKey::Remote(s) if s == sid => Some(*size),
                _ => None,
            })
        };
        for (sid, remote) in &self.tracks {
            if let Media::Picture(picture) = &remote.media {
                let wish = size_of(sid);
                picture.set_wish(wish);
                self.wishes.insert(sid.clone(), wish);
            }
        }
        for (key, size) in shown {
            if let VideoKey::Remote(sid) = key {
                self.wishes.insert(sid.clone(), Some(*size));
            }
        }
    }

    /// After a resume everything is told anew.
    pub(super) fn tell_wishes_again(&mut self) {
        self.told.clear();
    }

    /// Settings that the server does not know yet.
    fn untold(&mut self) -> Vec<lk::UpdateTrackSettings> {
        let mut settings = Vec::new();
        for (sid, wish) in &self.wishes {
            let is_video = self
                .tracks
                .get(sid)
                .is_some_and(|r| matches!(r.media, Media::Picture(_)));
            if !is_video || self.told.get(sid) == Some(wish) {
                continue;
            }
            let (width, height) = wish.unwrap_or_default();
            settings.push(lk::UpdateTrackSettings {
                track_sids: vec![sid.to_string()],
                disabled: wish.is_none(),
                width,
                height,
                quality: quality_for(height),
                ..Default::default()
            });
            self.told.insert(sid.clone(), *wish);
        }
        settings
    }

    pub(super) fn set_volume(&mut self, sid: &TrackSid, volume: f32) {
        self.volumes.insert(sid.clone(), volume);
        if let Some(Remote {
            media: Media::Sound(sound),
            ..
        }) = self.tracks.get(sid)
        {
            sound.set_volume(volume);
        }
    }

    pub(super) fn report(&self, stats: &[TrackStats]) -> Vec<ReceivedTrack> {
        let now = self.tracks.iter().map(|(sid, remote)| describe(sid, remote, stats));
        let mut all: Vec<_> = self.ended.iter().cloned().chain(now).collect();
        all.sort_by(|a, b| (&a.identity, &a.source, &a.sid).cmp(&(&b.identity, &b.source, &b.sid)));
        all
    }

    /// The connection's round trip: retransmissions are waited for accordingly.
    pub(super) fn measured(&self, round_trip: Duration) {
        for remote in self.tracks.values() {
            if let Media::Picture(picture) = &remote.media {
                picture.set_round_trip(round_trip);
            }
        }
    }

    /// First picture and sound of the call.
    pub(super) fn firsts(&self) -> (Option<f64>, Option<f64>) {
        let firsts = self.shared.firsts.lock();
        (firsts.frame, firsts.audio)
    }

    pub(super) fn close(&mut self) {
        self.end_all(&[]);
        if let Some(playout) = self.playout.take() {
            // Waits for its threads.
            tokio::task::spawn_blocking(move || drop(playout));
        }
    }
}

fn target(speaker: &SpeakerSpec) -> SpeakerTarget {
    match speaker {
        SpeakerSpec::Device(id) => SpeakerTarget::Device(id.clone()),
        SpeakerSpec::Null => SpeakerTarget::Null,
    }
}

/// For servers that look at the quality and not at the size.
fn quality_for(height: u32) -> i32 {
    let quality = match height {
        0..=180 => lk::VideoQuality::Low,
        181..=360 => lk::VideoQuality::Medium,
        _ => lk::VideoQuality::High,
    };
    quality as i32
}

fn describe(sid: &TrackSid, remote: &Remote, stats: &[TrackStats]) -> ReceivedTrack {
    let of_track = stats
        .iter()
        .find(|s| s.id == remote.track_id)
        .cloned()
        .unwrap_or_default();
    let (counts, video, audio) = match &remote.media {
        Media::Sound(sound) => (sound.counts(), None, Some(sound.figures())),
        Media::Picture(picture) => (picture.counts(), Some(picture.figures(remote.began.elapsed())), None),
    };
    let seconds = remote.began.elapsed().as_secs_f64().max(0.001);
    ReceivedTrack {
        sid: sid.to_string(),
        identity: remote.identity.clone(),
        source: remote.source.clone(),
        mime: remote.mime.clone(),
        ended: false,
        packets: counts.packets,
        bytes: counts.bytes,
        kbps: (counts.bytes as f64 * 8.0 / seconds / 1000.0 * 10.0).round() / 10.0,
        lost: of_track.lost,
        nacks: of_track.nacks,
        retransmissions: of_track.retransmissions,
        first_ms: counts.first.map(|at| ms(at.saturating_duration_since(remote.began))),
        video,
        audio,
    }
}

/// Packets of one track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// When its first picture or sound was there.
    pub(super) first: Option<Instant>,
    /// When its newest one was.
    pub(super) newest: Option<Instant>,
}

impl Actor {
    /// A track began on the subscriber connection.
    pub(super) fn track_arrived(&mut self, track: RemoteTrack) {
        let named = self.remotes.mids.get(&track.mid).cloned();
        let Some(sid) = sid_of(&track, named.as_deref()) else {
            tracing::debug!(
                stream = track.stream_id,
                track = track.track_id,
                "a track without a sid was passed over"
            );
            return;
        };
        let file_name = match self.people.track(&sid) {
            Some((person, about)) => format!("{}-{}-{sid}", file_safe(&person.nickname), source_word(about.source)),
            None => sid.to_string(),
        };
        self.remotes.begin(sid, track, &file_name);
        self.look();
        self.tell_wishes();
    }

    /// Tells the server what is shown.
    pub(super) fn tell_wishes(&mut self) {
        for settings in self.remotes.untold() {
            self.request(req::Message::TrackSetting(settings));
        }
    }

    /// Looks at what only shows by looking: names of tracks, whether they flow, publishing that takes too long.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        for (sid, remote) in &mut self.remotes.tracks {
            if remote.identity.is_empty()
                && let Some((person, track)) = self.people.track(sid)
            {
                remote.identity.clone_from(&person.identity);
                remote.source = source_word(track.source).to_owned();
            }
            let newest = match &remote.media {
                Media::Sound(sound) => sound.counts().newest,
                Media::Picture(picture) => picture.counts().newest,
            };
            let flowing = newest.is_some_and(|at| now.saturating_duration_since(at) < STALLED);
            self.people.flowing(sid, flowing);
        }
        (self.times.first_frame_ms, self.times.first_audio_ms) = self.remotes.firsts();
        self.own.check_time(now);
    }
}

/// The server's sid of a track: LiveKit writes it as the track half of msid, after a `|` in the stream half, or in the
/// offer's table of m-lines.
fn sid_of(track: &RemoteTrack, named: Option<&str>) -> Option<TrackSid> {
    let after_bar = track.stream_id.split_once('|').map(|(_, id)| id);
    [Some(track.track_id.as_str()), after_bar, named]
        .into_iter()
        .flatten()
        .find_map(|text| text.parse().ok())
}

/// Letters and digits only: names come from strangers.
fn file_safe(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(40)
        .collect();
    if safe.is_empty() { "_".to_owned() } else { safe }
}

fn source_word(source: confab_types::TrackSource) -> &'static str {
    use confab_types::TrackSource as S;
    match source {
        S::Camera => "camera",
        S::Microphone => "microphone",
        S::ScreenShare => "screen",
        S::ScreenShareAudio => "screen-audio",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_name_cannot_leave_the_recording_folder() {
        assert_eq!(file_safe("../../etc/passwd"), "______etc_passwd");
        assert_eq!(file_safe(""), "_");
    }

    #[test]
    fn small_tiles_ask_for_small_layers() {
        assert_eq!(quality_for(120), lk::VideoQuality::Low as i32);
        assert_eq!(quality_for(360), lk::VideoQuality::Medium as i32);
        assert_eq!(quality_for(720), lk::VideoQuality::High as i32);
    }
}
