//! Between the project's words and LiveKit's.

use confab_types::{Grants, TrackKind, TrackSource};
use confab_wire::livekit as lk;

/// LiveKit's number of a source.
pub fn to_lk_source(source: TrackSource) -> lk::TrackSource {
    match source {
        TrackSource::Camera => lk::TrackSource::Camera,
        TrackSource::Microphone => lk::TrackSource::Microphone,
        TrackSource::ScreenShare => lk::TrackSource::ScreenShare,
        TrackSource::ScreenShareAudio => lk::TrackSource::ScreenShareAudio,
    }
}

/// From LiveKit's number; `None` for an unknown one.
pub fn from_lk_source(source: i32) -> Option<TrackSource> {
    match lk::TrackSource::try_from(source).ok()? {
        lk::TrackSource::Camera => Some(TrackSource::Camera),
        lk::TrackSource::Microphone => Some(TrackSource::Microphone),
        lk::TrackSource::ScreenShare => Some(TrackSource::ScreenShare),
        lk::TrackSource::ScreenShareAudio => Some(TrackSource::ScreenShareAudio),
        lk::TrackSource::Unknown => None,
    }
}

/// Sound or picture.
pub(super) fn kind_of(source: TrackSource) -> TrackKind {
    match source {
        TrackSource::Camera | TrackSource::ScreenShare => TrackKind::Video,
        TrackSource::Microphone | TrackSource::ScreenShareAudio => TrackKind::Audio,
    }
}

/// The stream that a source belongs to: camera and microphone are one.
pub(super) fn stream_of(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
    }
}

/// LiveKit's permission of a participant. An empty list of sources means all there,
/// so it goes with `can_publish = false` only.
pub(super) fn permission(grants: &Grants, hidden: bool, can_update_metadata: bool) -> lk::ParticipantPermission {
    lk::ParticipantPermission {
        can_subscribe: grants.can_subscribe,
        can_publish: !grants.can_publish_sources.is_empty(),
        can_publish_data: grants.can_publish_data,
        can_publish_sources: grants
            .can_publish_sources
            .iter()
            .map(|s| to_lk_source(*s) as i32)
            .collect(),
        hidden,
        can_update_metadata,
        ..lk::ParticipantPermission::default()
    }
}

/// The grants that a permission stands for; moderating is not part of it and stays as it was.
pub(super) fn grants(permission: &lk::ParticipantPermission, room_admin: bool) -> Grants {
    let named: Vec<TrackSource> = permission
        .can_publish_sources
        .iter()
        .filter_map(|s| from_lk_source(*s))
        .collect();
    let sources = match (permission.can_publish, permission.can_publish_sources.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => TrackSource::ALL.to_vec(),
        (true, false) => named,
    };
    Grants {
        can_subscribe: permission.can_subscribe,
        can_publish_data: permission.can_publish_data,
        can_publish_sources: sources,
        room_admin,
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(at: time::OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// A `Leave`.
pub(super) fn leave(reason: lk::DisconnectReason, action: lk::leave_request::Action) -> lk::signal_response::Message {
    lk::signal_response::Message::Leave(lk::LeaveRequest {
        can_reconnect: action != lk::leave_request::Action::Disconnect,
        reason: reason as i32,
        action: action as i32,
        regions: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use confab_types::Role;

    #[test]
    fn a_permission_says_the_same_as_the_grants() {
        for role in [Role::Subscriber, Role::Publisher, Role::Moderator] {
            let g = role.grants();
            assert_eq!(grants(&permission(&g, false, false), g.room_admin), g, "{role:?}");
        }
    }

    #[test]
    fn an_empty_list_of_sources_never_turns_into_all() {
        let none = Grants {
            can_publish_sources: Vec::new(),
            ..Role::Publisher.grants()
        };
        assert!(!permission(&none, false, false).can_publish);
    }
}
