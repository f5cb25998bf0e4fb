//! From the client's snapshot to what the UI draws. Pure: no clock, no I/O.

use std::collections::HashMap;
use std::time::Instant;

use confab_client::api::{CallSnapshot, OwnTrack, ParticipantSnapshot, Phase, VideoKey};
use confab_types::{ParticipantSid, TrackSource};

use crate::dto::{CallPhase, ChatMessage, OwnDevice, PersonView, Reaction, VideoTile};

/// What the shell knows of a call beside the client's snapshot.
#[derive(Debug, Default, Clone)]
pub struct CallExtras {
    /// Chat so far, oldest first.
    pub chat: Vec<ChatMessage>,
    /// Who raised a hand, and when (ms since 1970).
    pub hands: HashMap<ParticipantSid, f64>,
    /// The last reaction of each.
    pub reactions: HashMap<ParticipantSid, Reaction>,
    /// Own volume for each; absent: 1.
    pub volumes: HashMap<ParticipantSid, f32>,
}

/// The most chat messages kept: a day-long call with a line a minute, and bounded memory.
const MAX_CHAT: usize = 2000;

impl CallExtras {
    /// Adds a message; the oldest goes when there are too many.
    pub fn add_chat(&mut self, message: ChatMessage) {
        if self.chat.len() == MAX_CHAT {
            self.chat.remove(0);
        }
        self.chat.push(message);
    }
}

/// Gives a picture its number and its size.
pub trait Tiles {
    /// Number and pixel size of a picture.
    fn tile(&self, video: &VideoKey) -> (u16, (u32, u32));
}

/// Where a call stands, in the UI's words; `None` once it is over.
pub fn phase(phase: &Phase) -> Option<CallPhase> {
    Some(match phase {
        Phase::Connecting => CallPhase::Connecting,
        Phase::Connected => CallPhase::Connected,
        Phase::Reconnecting { server_lost: false } => CallPhase::Reconnecting,
        Phase::Reconnecting { server_lost: true } => CallPhase::ServerLost,
        Phase::Ended(_) => return None,
    })
}

/// Whole seconds in the present phase.
pub fn phase_seconds(snapshot: &CallSnapshot, now: Instant) -> u32 {
    u32::try_from(now.saturating_duration_since(snapshot.phase_since).as_secs()).unwrap_or(u32::MAX)
}

/// The own microphone or camera.
pub fn own_device(track: &OwnTrack) -> OwnDevice {
    OwnDevice {
        on: track.on,
        busy: track.busy,
        problem: track.problem.clone(),
    }
}

/// Everyone, in the snapshot's order (self first, then by join time).
pub fn people(snapshot: &CallSnapshot, extras: &CallExtras, tiles: &dyn Tiles) -> Vec<PersonView> {
    snapshot
        .participants
        .iter()
        .map(|p| person(p, snapshot, extras, tiles))
        .collect()
}

fn person(p: &ParticipantSnapshot, call: &CallSnapshot, extras: &CallExtras, tiles: &dyn Tiles) -> PersonView {
    let on = |source| match (p.is_self, source) {
        (true, TrackSource::Microphone) => call.microphone.on,
        (true, TrackSource::Camera) => call.camera.on,
        _ => p.tracks.iter().any(|t| t.source == source && !t.muted),
    };
    PersonView {
        sid: p.sid.to_string(),
        nickname: p.nickname.clone(),
        user: p.user.clone(),
        role: p.role.as_str().into(),
        is_self: p.is_self,
        microphone_on: on(TrackSource::Microphone),
        camera_on: on(TrackSource::Camera),
        speaking: p.speaking,
        level: p.level,
        quality: p.quality.clone().unwrap_or_else(|| "unknown".into()),
        video: on(TrackSource::Camera)
            .then(|| video(p, TrackSource::Camera, tiles))
            .flatten(),
        screen: on(TrackSource::ScreenShare)
            .then(|| video(p, TrackSource::ScreenShare, tiles))
            .flatten(),
        hand_up_at: extras.hands.get(&p.sid).copied(),
        reaction: extras.reactions.get(&p.sid).cloned(),
        volume: extras.volumes.get(&p.sid).copied().unwrap_or(1.0),
        reconnecting: p.quality.as_deref() == Some("lost"),
    }
}

fn video(p: &ParticipantSnapshot, source: TrackSource, tiles: &dyn Tiles) -> Option<VideoTile> {
    let (key, stalled) = if p.is_self {
        (VideoKey::Own(source), false)
    } else {
        let track = p.tracks.iter().find(|t| t.source == source)?;
        (VideoKey::Remote(track.sid.clone()), !track.flowing)
    };
    let (key, (width, height)) = tiles.tile(&key);
    Some(VideoTile {
        key,
        width,
        height,
        mirror: p.is_self && source == TrackSource::Camera,
        stalled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use confab_client::api::TrackSnapshot;
    use confab_types::{Role, TrackKind};

    struct Fixed;
    impl Tiles for Fixed {
        fn tile(&self, video: &VideoKey) -> (u16, (u32, u32)) {
            (if matches!(video, VideoKey::Own(_)) { 1 } else { 2 }, (640, 480))
        }
    }

    fn participant(sid: &str, is_self: bool, muted: bool) -> ParticipantSnapshot {
        let track = |source, kind, sid: &str| TrackSnapshot {
            sid: sid.parse().unwrap(),
            kind,
            source,
            muted,
            size: (640, 480),
            flowing: true,
        };
        ParticipantSnapshot {
            sid: sid.parse().unwrap(),
            identity: "ada-1".into(),
            nickname: "Ada".into(),
            user: "ada".into(),
            role: Role::Publisher,
            is_self,
            joined_at_ms: 0,
            tracks: vec![
                track(TrackSource::Camera, TrackKind::Video, "TR_v"),
                track(TrackSource::Microphone, TrackKind::Audio, "TR_a"),
            ],
            speaking: false,
            level: 0.0,
            quality: None,
            attributes: Default::default(),
        }
    }

    fn snapshot(participants: Vec<ParticipantSnapshot>) -> CallSnapshot {
        CallSnapshot {
            phase: Phase::Connected,
            phase_since: Instant::now(),
            room: "R".into(),
            room_sid: None,
            me: None,
            may_publish: vec![],
            moderator: false,
            participants,
            microphone: OwnTrack {
                on: true,
                ..OwnTrack::default()
            },
            camera: OwnTrack {
                on: true,
                ..OwnTrack::default()
            },
            speaking_while_muted: false,
        }
    }

    #[test]
    fn only_the_own_picture_is_mirrored() {
        let call = snapshot(vec![
            participant("PA_me", true, false),
            participant("PA_you", false, false),
        ]);
        let people = people(&call, &CallExtras::default(), &Fixed);
        assert!(people[0].video.as_ref().unwrap().mirror);
        assert!(!people[1].video.as_ref().unwrap().mirror);
    }

    #[test]
    fn a_muted_camera_shows_no_picture() {
        let call = snapshot(vec![participant("PA_you", false, true)]);
        let people = people(&call, &CallExtras::default(), &Fixed);
        assert!(people[0].video.is_none() && !people[0].camera_on && !people[0].microphone_on);
    }
}
