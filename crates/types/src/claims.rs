//! The claims of a room token: LiveKit's access token, as its SDKs write and read it.

use serde::{Deserialize, Serialize};

use crate::{Grants, TrackSource};

/// A LiveKit access token's payload (JWT, HS256). Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The API key's name.
    pub iss: String,
    /// The participant's identity. Empty in server API tokens.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Not valid before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nbf: u64,
    /// Not valid after.
    pub exp: u64,
    /// Time of issue; not every SDK writes it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub iat: u64,
    /// The token's own id; names an admission in tokens of the REST call.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// The name shown to others: the nickname.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The participant's metadata; see [`ParticipantMetadata`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// What may be done, where.
    #[serde(default)]
    pub video: VideoGrant,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// LiveKit's `VideoGrant`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May make rooms (server API).
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    /// May list rooms (server API).
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    /// May moderate `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    /// May join `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    /// The room's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// May send tracks; absent means yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// May receive tracks; absent means yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// May send data; absent means as `can_publish`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// Sources it may send; empty means all, if `can_publish`. Names LiveKit writes that are not known here are kept out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can_publish_sources: Vec<String>,
    /// May change its own metadata, name and attributes; absent means no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Not shown to others.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
}

fn is_false(b: &bool) -> bool {
    !*b
}

impl VideoGrant {
    /// What a token with this grant may do inside its room.
    pub fn grants(&self) -> Grants {
        let can_publish = self.can_publish.unwrap_or(true);
        let named = |s: &TrackSource| {
            let name = match s {
                TrackSource::Camera => "camera",
                TrackSource::Microphone => "microphone",
                TrackSource::ScreenShare => "screen_share",
                TrackSource::ScreenShareAudio => "screen_share_audio",
            };
            self.can_publish_sources.is_empty() || self.can_publish_sources.iter().any(|n| n == name)
        };
        Grants {
            can_subscribe: self.can_subscribe.unwrap_or(true),
            can_publish_data: self.can_publish_data.unwrap_or(can_publish),
            can_publish_sources: TrackSource::ALL
                .into_iter()
                .filter(|s| can_publish && named(s))
                .collect(),
            room_admin: self.room_admin,
        }
    }

    /// A grant to join `room` with these rights.
    pub fn join(room: &str, grants: &Grants) -> Self {
        let may_send = !grants.can_publish_sources.is_empty();
        let sources = grants.can_publish_sources.iter().map(|s| {
            match s {
                TrackSource::Camera => "camera",
                TrackSource::Microphone => "microphone",
                TrackSource::ScreenShare => "screen_share",
                TrackSource::ScreenShareAudio => "screen_share_audio",
            }
            .to_owned()
        });
        Self {
            room_join: true,
            room: room.to_owned(),
            room_admin: grants.room_admin,
            can_publish: Some(may_send),
            can_subscribe: Some(grants.can_subscribe),
            can_publish_data: Some(grants.can_publish_data),
            can_publish_sources: sources.collect(),
            ..Self::default()
        }
    }
}

/// The metadata in tokens of the REST call, in OpenVidu's words: the nickname as
/// `clientData`, the account's name as `serverData`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParticipantMetadata {
    /// The nickname.
    pub client_data: String,
    /// The account's name.
    pub server_data: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    #[test]
    fn grants_survive_the_way_through_a_token() {
        for role in [Role::Subscriber, Role::Publisher, Role::Moderator] {
            let grants = role.grants();
            assert_eq!(VideoGrant::join("R", &grants).grants(), grants, "{role:?}");
        }
    }

    #[test]
    fn an_sdk_token_without_rights_named_may_do_everything_but_moderate() {
        let grant: VideoGrant = serde_json::from_str(r#"{"roomJoin":true,"room":"R"}"#).unwrap();
        let grants = grant.grants();
        assert!(grants.can_publish(TrackSource::Camera) && grants.can_subscribe && grants.can_publish_data);
        assert!(!grants.room_admin);
    }
}
