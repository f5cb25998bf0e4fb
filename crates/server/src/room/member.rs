//! One participant and its tracks, as the room keeps them.

use std::collections::{BTreeMap, HashMap};

use confab_control::{AdmissionId, TokenIssuer};
use confab_types::{Grants, ParticipantSid, TrackKind, TrackSid, TrackSource};
use confab_wire::livekit as lk;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::command::{Attached, ParticipantView, TrackView};
use super::info::{millis, permission};
use super::link::SignalLink;
use crate::engine::{Layer, LinkState, Target, TrackWish};

/// A published track.
#[derive(Debug)]
pub(super) struct Track {
    /// The server's id.
    pub sid: TrackSid,
    /// The client's id.
    pub cid: String,
    /// Sound or picture.
    pub kind: TrackKind,
    /// From where; what the grants are checked for.
    pub source: TrackSource,
    /// As told to everyone.
    pub info: lk::TrackInfo,
    /// Media arrived.
    pub live: bool,
    /// Others were told of it.
    pub shown: bool,
    /// The highest layer that anyone wants, as last told to the sender.
    pub wanted: Option<Option<Layer>>,
    /// When to tell it that less is wanted.
    pub lower_at: Option<Instant>,
}

/// What a member receives of one track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscribed {
    /// At all.
    pub on: bool,
    /// At most so much.
    pub wish: TrackWish,
}

/// Since when and until when a member without signalling is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    /// Signalling ended.
    pub since: Instant,
    /// Its seat is marked as departing.
    pub departing: bool,
}

/// A participant.
#[derive(Debug)]
pub(super) struct Member {
    pub sid: ParticipantSid,
    pub identity: confab_types::Identity,
    pub name: String,
    pub metadata: String,
    pub attributes: BTreeMap<String, String>,
    pub grants: Grants,
    pub issuer: TokenIssuer,
    pub hidden: bool,
    /// May change its name and metadata.
    pub may_update: bool,
    pub admission: AdmissionId,
    pub joined_at: OffsetDateTime,
    pub active: bool,
    pub version: u32,
    pub link: Option<SignalLink>,
    pub generation: u64,
    pub lost: Option<Lost>,
    pub tracks: Vec<Track>,
    pub auto_subscribe: bool,
    pub subscribed: HashMap<TrackSid, Subscribed>,
    /// Id of the last subscriber offer.
    pub offer_id: u32,
    pub publisher_link: Option<LinkState>,
    pub subscriber_link: Option<LinkState>,
    pub refresh_at: Instant,
    pub client_protocol: i32,
}

impl Member {
    /// How its present socket names itself.
    pub fn attached(&self) -> Attached {
        Attached {
            sid: self.sid.clone(),
            generation: self.generation,
        }
    }

    /// Queues a message. A socket that is too slow is cut and reports itself lost.
    pub fn tell(&self, message: lk::signal_response::Message) {
        if let Some(link) = &self.link {
            let _ = link.message(message);
        }
    }

    /// Whether either connection carries media.
    pub fn media_alive(&self) -> bool {
        [self.publisher_link, self.subscriber_link].contains(&Some(LinkState::Connected))
    }

    /// Notes a connection's state.
    pub fn set_link(&mut self, target: Target, state: LinkState) {
        match target {
            Target::Publisher => self.publisher_link = Some(state),
            Target::Subscriber => self.subscriber_link = Some(state),
        }
    }

    /// Its connection quality in LiveKit's words, from the link states.
    pub fn quality(&self) -> lk::ConnectionQualityInfo {
        let states = [self.publisher_link, self.subscriber_link];
        let (quality, score) =
            if states.contains(&Some(LinkState::Failed)) || states.contains(&Some(LinkState::Disconnected)) {
                (lk::ConnectionQuality::Lost, 0.0)
            } else if states.contains(&Some(LinkState::Connected)) {
                (lk::ConnectionQuality::Excellent, 5.0)
            } else {
                (lk::ConnectionQuality::Good, 3.5)
            };
        lk::ConnectionQualityInfo {
            participant_sid: self.sid.to_string(),
            quality: quality as i32,
            score,
        }
    }

    /// As told to everyone.
    pub fn info(&self) -> lk::ParticipantInfo {
        let state = if self.active {
            lk::participant_info::State::Active
        } else {
            lk::participant_info::State::Joined
        };
        lk::ParticipantInfo {
            sid: self.sid.to_string(),
            identity: self.identity.to_string(),
            state: state as i32,
            tracks: self.tracks.iter().filter(|t| t.shown).map(|t| t.info.clone()).collect(),
            metadata: self.metadata.clone(),
            joined_at: self.joined_at.unix_timestamp(),
            joined_at_ms: millis(self.joined_at),
            name: self.name.clone(),
            version: self.version,
            permission: Some(permission(&self.grants, self.hidden, self.may_update)),
            is_publisher: self.tracks.iter().any(|t| t.shown),
            attributes: self.attributes.clone().into_iter().collect(),
            client_protocol: self.client_protocol,
            ..lk::ParticipantInfo::default()
        }
    }

    /// Its last word.
    pub fn gone_info(&self, reason: lk::DisconnectReason) -> lk::ParticipantInfo {
        lk::ParticipantInfo {
            state: lk::participant_info::State::Disconnected as i32,
            disconnect_reason: reason as i32,
            tracks: Vec::new(),
            version: self.version + 1,
            ..self.info()
        }
    }

    /// For the live page.
    pub fn view(&self) -> ParticipantView {
        ParticipantView {
            sid: self.sid.clone(),
            identity: self.identity.to_string(),
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            connected: self.link.as_ref().is_some_and(|l| !l.is_closed()),
            grants: self.grants.clone(),
            tracks: self.tracks.iter().map(Track::view).collect(),
        }
    }

    /// One of its tracks.
    pub fn track_mut(&mut self, sid: &str) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|t| t.sid.as_str() == sid)
    }

    /// What it receives of a track.
    pub fn subscription(&self, track: &TrackSid) -> Subscribed {
        self.subscribed.get(track).copied().unwrap_or(Subscribed {
            on: self.auto_subscribe && self.grants.can_subscribe,
            wish: TrackWish {
                enabled: true,
                max_layer: Layer::High,
            },
        })
    }
}

impl Track {
    fn view(&self) -> TrackView {
        TrackView {
            sid: self.sid.to_string(),
            name: self.info.name.clone(),
            kind: self.kind,
            source: self.source,
            muted: self.info.muted,
            live: self.live,
        }
    }
}
