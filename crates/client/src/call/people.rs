//! Who is in the room: participants, their tracks, speakers and quality, out of LiveKit's
//! messages. Pure. Strings come from a server that is not trusted: they are bounded here and
//! shown as text elsewhere.

use std::collections::{BTreeMap, HashMap};

use confab_types::{ParticipantMetadata, ParticipantSid, Role, TrackKind, TrackSid, TrackSource};
use confab_wire::livekit as lk;

use crate::api::{ParticipantSnapshot, TrackSnapshot};

/// The longest name kept of a stranger.
const LONGEST_NAME: usize = 256;
/// The most attributes kept of a stranger.
const MOST_ATTRIBUTES: usize = 64;

/// What an update changed, for events and for the media behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Someone came.
    Joined(ParticipantSid),
    /// Someone left.
    Left {
        /// Who.
        sid: ParticipantSid,
        /// Identity, for unfinished streams.
        identity: String,
        /// Nickname, for the toast.
        nickname: String,
    },
    /// A track is no longer published.
    TrackEnded(TrackSid),
    /// The own grants changed.
    Permission,
}

struct Person {
    snapshot: ParticipantSnapshot,
    version: u32,
}

/// Everyone in the room, the own participant included.
#[derive(Default)]
pub struct People {
    me: Option<ParticipantSid>,
    moderator: bool,
    may_publish: Vec<TrackSource>,
    people: HashMap<ParticipantSid, Person>,
}

impl People {
    /// A `Join` came. `room_admin`: from the own token's grants.
    pub fn joined(&mut self, join: &lk::JoinResponse, room_admin: bool) -> Vec<Change> {
        let first = self.me.is_none();
        let before = std::mem::take(&mut self.people);
        self.me = None;
        self.moderator = room_admin;
        if let Some(info) = &join.participant {
            self.me = info.sid.parse().ok();
            self.take(info);
        }
        for info in &join.other_participants {
            self.take(info);
        }
        if first { Vec::new() } else { self.difference(&before) }
    }

    /// After a rejoin: who came and went meanwhile, by identity, and whose tracks ended.
    fn difference(&self, before: &HashMap<ParticipantSid, Person>) -> Vec<Change> {
        let known = |people: &HashMap<ParticipantSid, Person>, identity: &str| {
            people.values().any(|p| p.snapshot.identity == identity)
        };
        let mut changes = Vec::new();
        for (sid, person) in before {
            changes.extend(person.snapshot.tracks.iter().map(|t| Change::TrackEnded(t.sid.clone())));
            if !person.snapshot.is_self && !known(&self.people, &person.snapshot.identity) {
                changes.push(left(sid, person));
            }
        }
        for (sid, person) in &self.people {
            if !person.snapshot.is_self && !known(before, &person.snapshot.identity) {
                changes.push(Change::Joined(sid.clone()));
            }
        }
        changes
    }

    /// An `Update` came.
    pub fn update(&mut self, infos: &[lk::ParticipantInfo]) -> Vec<Change> {
        let mut changes = Vec::new();
        for info in infos {
            let Ok(sid) = info.sid.parse::<ParticipantSid>() else {
                continue;
            };
            if info.state == lk::participant_info::State::Disconnected as i32 {
                if self.me.as_ref() != Some(&sid)
                    && let Some(person) = self.people.remove(&sid)
                {
                    changes.extend(person.snapshot.tracks.iter().map(|t| Change::TrackEnded(t.sid.clone())));
                    changes.push(left(&sid, &person));
                }
                continue;
            }
            changes.extend(self.take(info));
        }
        changes
    }

    /// Takes a participant's newest description.
    fn take(&mut self, info: &lk::ParticipantInfo) -> Vec<Change> {
        let Ok(sid) = info.sid.parse::<ParticipantSid>() else {
            return Vec::new();
        };
        let is_self = self.me.as_ref() == Some(&sid);
        let old = self.people.get(&sid);
        if old.is_some_and(|o| info.version < o.version) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let mut snapshot = describe(info, sid.clone(), is_self);
        match old {
            None if !is_self => changes.push(Change::Joined(sid.clone())),
            None => {}
            Some(Person { snapshot: old, .. }) => {
                (snapshot.speaking, snapshot.level) = (old.speaking, old.level);
                snapshot.quality.clone_from(&old.quality);
                for track in &old.tracks {
                    match snapshot.tracks.iter_mut().find(|t| t.sid == track.sid) {
                        Some(same) => same.flowing = track.flowing,
                        None => changes.push(Change::TrackEnded(track.sid.clone())),
                    }
                }
            }
        }
        if is_self {
            let may_publish = sources(info.permission.as_ref());
            if may_publish != self.may_publish {
                self.may_publish = may_publish;
                changes.push(Change::Permission);
            }
            if self.moderator {
                snapshot.role = Role::Moderator;
            }
        }
        self.people.insert(
            sid,
            Person {
                snapshot,
                version: info.version,
            },
        );
        changes
    }

    /// `SpeakersChanged` came.
    pub fn speakers(&mut self, speakers: &[lk::SpeakerInfo]) {
        for speaker in speakers {
            if let Some(person) = self.by_text_sid(&speaker.sid) {
                person.snapshot.speaking = speaker.active;
                person.snapshot.level = if speaker.active {
                    speaker.level.clamp(0.0, 1.0)
                } else {
                    0.0
                };
            }
        }
    }

    /// `ConnectionQualityUpdate` came.
    pub fn quality(&mut self, updates: &[lk::ConnectionQualityInfo]) {
        for update in updates {
            let word = match lk::ConnectionQuality::try_from(update.quality) {
                Ok(lk::ConnectionQuality::Excellent) => "excellent",
                Ok(lk::ConnectionQuality::Good) => "good",
                Ok(lk::ConnectionQuality::Poor) => "poor",
                Ok(lk::ConnectionQuality::Lost) => "lost",
                Err(_) => continue,
            };
            if let Some(person) = self.by_text_sid(&update.participant_sid) {
                person.snapshot.quality = Some(word.to_owned());
            }
        }
    }

    fn by_text_sid(&mut self, sid: &str) -> Option<&mut Person> {
        self.people.get_mut(&sid.parse::<ParticipantSid>().ok()?)
    }

    /// The own track as the server just confirmed it.
    pub fn own_track(&mut self, info: &lk::TrackInfo) {
        let Some(me) = self.me.as_ref().and_then(|me| self.people.get_mut(me)) else {
            return;
        };
        let Some(track) = describe_track(info) else { return };
        match me.snapshot.tracks.iter_mut().find(|t| t.sid == track.sid) {
            Some(known) => *known = track,
            None => me.snapshot.tracks.push(track),
        }
    }

    /// An own track was unpublished.
    pub fn own_track_ended(&mut self, sid: &TrackSid) {
        if let Some(me) = self.me.as_ref().and_then(|me| self.people.get_mut(me)) {
            me.snapshot.tracks.retain(|t| &t.sid != sid);
        }
    }

    /// Changes a track's description; false if there is none.
    fn change_track(&mut self, sid: &TrackSid, change: impl FnOnce(&mut TrackSnapshot)) -> bool {
        let mut tracks = self.people.values_mut().flat_map(|p| &mut p.snapshot.tracks);
        tracks.find(|t| &t.sid == sid).map(change).is_some()
    }

    /// A track was muted or opened.
    pub fn muted(&mut self, sid: &TrackSid, muted: bool) -> bool {
        self.change_track(sid, |t| t.muted = muted)
    }

    /// Pictures or sound of a track arrive, or stopped doing so.
    pub fn flowing(&mut self, sid: &TrackSid, flowing: bool) -> bool {
        self.change_track(sid, |t| t.flowing = flowing)
    }

    /// A track and its owner.
    pub fn track(&self, sid: &TrackSid) -> Option<(&ParticipantSnapshot, &TrackSnapshot)> {
        self.people.values().find_map(|p| {
            let track = p.snapshot.tracks.iter().find(|t| &t.sid == sid)?;
            Some((&p.snapshot, track))
        })
    }

    /// The sid of whoever has this identity.
    pub fn sid_of(&self, identity: &str) -> Option<ParticipantSid> {
        self.people
            .values()
            .find(|p| p.snapshot.identity == identity)
            .map(|p| p.snapshot.sid.clone())
    }

    /// The own participant.
    pub fn me(&self) -> Option<&ParticipantSid> {
        self.me.as_ref()
    }

    /// Sources the own grants allow.
    pub fn may_publish(&self) -> &[TrackSource] {
        &self.may_publish
    }

    /// Whether the own token moderates.
    pub fn moderator(&self) -> bool {
        self.moderator
    }

    /// Everyone: the own participant first, then by join time.
    pub fn snapshot(&self) -> Vec<ParticipantSnapshot> {
        let mut all: Vec<_> = self.people.values().map(|p| p.snapshot.clone()).collect();
        all.sort_by(|a, b| {
            (!a.is_self, a.joined_at_ms, a.sid.as_str()).cmp(&(!b.is_self, b.joined_at_ms, b.sid.as_str()))
        });
        all
    }
}

fn left(sid: &ParticipantSid, person: &Person) -> Change {
    Change::Left {
        sid: sid.clone(),
        identity: person.snapshot.identity.clone(),
        nickname: person.snapshot.nickname.clone(),
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

fn describe(info: &lk::ParticipantInfo, sid: ParticipantSid, is_self: bool) -> ParticipantSnapshot {
    let metadata: ParticipantMetadata = serde_json::from_str(&info.metadata).unwrap_or_default();
    let identity = bounded(&info.identity);
    let or_identity = |text: &str| {
        if text.is_empty() {
            identity.clone()
        } else {
            bounded(text)
        }
    };
    let attributes: BTreeMap<_, _> = info
        .attributes
        .iter()
        .take(MOST_ATTRIBUTES)
        .map(|(k, v)| (bounded(k), bounded(v)))
        .collect();
    let may_publish = !sources(info.permission.as_ref()).is_empty();
    ParticipantSnapshot {
        sid,
        nickname: or_identity(&info.name),
        user: or_identity(&metadata.server_data),
        role: if may_publish { Role::Publisher } else { Role::Subscriber },
        is_self,
        joined_at_ms: if info.joined_at_ms > 0 {
            info.joined_at_ms
        } else {
            info.joined_at.saturating_mul(1000)
        },
        tracks: info.tracks.iter().filter_map(describe_track).collect(),
        speaking: false,
        level: 0.0,
        quality: None,
        attributes,
        identity,
    }
}

fn describe_track(info: &lk::TrackInfo) -> Option<TrackSnapshot> {
    let kind = match lk::TrackType::try_from(info.r#type) {
        Ok(lk::TrackType::Audio) => TrackKind::Audio,
        Ok(lk::TrackType::Video) => TrackKind::Video,
        _ => return None,
    };
    // A publisher that names no source: what it most likely is.
    let unnamed = if kind == TrackKind::Audio {
        TrackSource::Microphone
    } else {
        TrackSource::Camera
    };
    Some(TrackSnapshot {
        sid: info.sid.parse().ok()?,
        kind,
        source: source_from(info.source).unwrap_or(unnamed),
        muted: info.muted,
        size: (info.width, info.height),
        flowing: false,
    })
}

fn source_from(number: i32) -> Option<TrackSource> {
    match lk::TrackSource::try_from(number).ok()? {
        lk::TrackSource::Camera => Some(TrackSource::Camera),
        lk::TrackSource::Microphone => Some(TrackSource::Microphone),
        lk::TrackSource::ScreenShare => Some(TrackSource::ScreenShare),
        lk::TrackSource::ScreenShareAudio => Some(TrackSource::ScreenShareAudio),
        lk::TrackSource::Unknown => None,
    }
}

/// LiveKit's number for a source.
pub fn source_number(source: TrackSource) -> i32 {
    let named = match source {
        TrackSource::Camera => lk::TrackSource::Camera,
        TrackSource::Microphone => lk::TrackSource::Microphone,
        TrackSource::ScreenShare => lk::TrackSource::ScreenShare,
        TrackSource::ScreenShareAudio => lk::TrackSource::ScreenShareAudio,
    };
    named as i32
}

/// Sources a permission allows. Without a permission (an old server) nothing is assumed.
fn sources(permission: Option<&lk::ParticipantPermission>) -> Vec<TrackSource> {
    let Some(permission) = permission.filter(|p| p.can_publish) else {
        return Vec::new();
    };
    if permission.can_publish_sources.is_empty() {
        return TrackSource::ALL.to_vec();
    }
    permission
        .can_publish_sources
        .iter()
        .filter_map(|n| source_from(*n))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(sid: &str, version: u32) -> lk::ParticipantInfo {
        lk::ParticipantInfo {
            sid: sid.to_owned(),
            identity: format!("id-{sid}"),
            name: format!("nick-{sid}"),
            metadata: r#"{"clientData":"x","serverData":"ada"}"#.to_owned(),
            version,
            permission: Some(lk::ParticipantPermission {
                can_subscribe: true,
                can_publish: true,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn camera(sid: &str) -> lk::TrackInfo {
        lk::TrackInfo {
            sid: sid.to_owned(),
            r#type: lk::TrackType::Video as i32,
            source: 1,
            ..Default::default()
        }
    }

    fn room() -> People {
        let mut people = People::default();
        let join = lk::JoinResponse {
            participant: Some(person("PA_me", 1)),
            other_participants: vec![person("PA_b", 1)],
            ..Default::default()
        };
        assert!(people.joined(&join, false).is_empty());
        people
    }

    #[test]
    fn the_own_participant_comes_first_with_nickname_and_user_name() {
        let all = room().snapshot();
        assert!(all[0].is_self && !all[1].is_self);
        assert_eq!((all[1].nickname.as_str(), all[1].user.as_str()), ("nick-PA_b", "ada"));
    }

    #[test]
    fn coming_going_and_ended_tracks_are_told() {
        let mut people = room();
        let mut c = person("PA_c", 1);
        c.tracks.push(camera("TR_1"));
        assert_eq!(people.update(&[c.clone()]), [Change::Joined("PA_c".parse().unwrap())]);
        c.tracks.clear();
        c.version = 2;
        assert_eq!(
            people.update(&[c.clone()]),
            [Change::TrackEnded("TR_1".parse().unwrap())]
        );
        c.state = lk::participant_info::State::Disconnected as i32;
        assert!(matches!(&people.update(&[c])[..], [Change::Left { nickname, .. }] if nickname == "nick-PA_c"));
    }

    #[test]
    fn an_older_update_does_not_undo_a_newer_one() {
        let mut people = room();
        let mut b = person("PA_b", 5);
        b.name = "new".to_owned();
        people.update(&[b]);
        people.update(&[person("PA_b", 4)]);
        assert_eq!(people.snapshot()[1].nickname, "new");
    }

    #[test]
    fn grants_come_from_the_server_and_their_change_is_told() {
        let mut people = room();
        assert_eq!(people.may_publish(), TrackSource::ALL);
        let mut me = person("PA_me", 2);
        me.permission.as_mut().unwrap().can_publish_sources = vec![2];
        assert_eq!(people.update(&[me]), [Change::Permission]);
        assert_eq!(people.may_publish(), [TrackSource::Microphone]);
    }

    #[test]
    fn a_rejoin_tells_only_who_came_and_went_meanwhile() {
        let mut people = room();
        let (mut me, mut b) = (person("PA_me2", 1), person("PA_b2", 1));
        me.identity = "id-PA_me".to_owned();
        b.identity = "id-PA_b".to_owned();
        let join = lk::JoinResponse {
            participant: Some(me),
            other_participants: vec![b, person("PA_new", 1)],
            ..Default::default()
        };
        assert_eq!(people.joined(&join, false), [Change::Joined("PA_new".parse().unwrap())]);
    }

    #[test]
    fn speakers_and_quality_show_and_survive_an_update() {
        let mut people = room();
        people.speakers(&[lk::SpeakerInfo {
            sid: "PA_b".to_owned(),
            level: 7.0,
            active: true,
        }]);
        people.quality(&[lk::ConnectionQualityInfo {
            participant_sid: "PA_b".to_owned(),
            quality: lk::ConnectionQuality::Lost as i32,
            score: 0.0,
        }]);
        people.update(&[person("PA_b", 2)]);
        let b = &people.snapshot()[1];
        assert!(b.speaking && (b.level - 1.0).abs() < f32::EPSILON);
        assert_eq!(b.quality.as_deref(), Some("lost"));
    }
}
