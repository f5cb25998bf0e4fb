//! Roles, the grants they stand for, and scopes. The grants of a token are what
//! the server enforces, whatever a client sends.

use serde::{Deserialize, Serialize};

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackKind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// Where a track comes from. The names are LiveKit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackSource {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A screen or window.
    ScreenShare,
    /// The sound of a shared screen.
    ScreenShareAudio,
}

impl TrackSource {
    /// Every source.
    pub const ALL: [Self; 4] = [
        Self::Camera,
        Self::Microphone,
        Self::ScreenShare,
        Self::ScreenShareAudio,
    ];
}

/// A named set of grants in a room, from OpenVidu's sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Watches and listens; may chat.
    Subscriber,
    /// Also sends camera, microphone and screen.
    Publisher,
    /// Also mutes, removes and ends.
    Moderator,
}

impl Role {
    /// The grants that this role stands for.
    pub fn grants(self) -> Grants {
        let may_send = self != Self::Subscriber;
        Grants {
            can_subscribe: true,
            can_publish_data: true,
            can_publish_sources: if may_send {
                TrackSource::ALL.to_vec()
            } else {
                Vec::new()
            },
            room_admin: self == Self::Moderator,
        }
    }

    /// The name used in JSON, on the command line and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscriber => "subscriber",
            Self::Publisher => "publisher",
            Self::Moderator => "moderator",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        [Self::Subscriber, Self::Publisher, Self::Moderator]
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or(UnknownName)
    }
}

/// A word that names no role or scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

/// What a participant may do in a room, as enforced by the sfu.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// May receive tracks.
    pub can_subscribe: bool,
    /// May send data packets (chat, reactions).
    pub can_publish_data: bool,
    /// Which sources it may send. Empty: none.
    pub can_publish_sources: Vec<TrackSource>,
    /// May moderate this room.
    pub room_admin: bool,
}

impl Grants {
    /// Whether a track of this source may be sent.
    pub fn can_publish(&self, source: TrackSource) -> bool {
        self.can_publish_sources.contains(&source)
    }
}

/// What a signed-in session may be used for. Never wider than the account's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Enter rooms.
    Join,
    /// Send media in them.
    Publish,
    /// Moderate them.
    Moderate,
    /// Administer the server.
    Administer,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Join, Self::Publish, Self::Moderate, Self::Administer];

    /// Whether an account with this role and right can be given the scope.
    pub fn allowed_for(self, role: Role, administrator: bool) -> bool {
        match self {
            Self::Join => true,
            Self::Publish => role >= Role::Publisher,
            Self::Moderate => role >= Role::Moderator,
            Self::Administer => administrator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_may_send_nothing_but_data() {
        let grants = Role::Subscriber.grants();
        assert!(TrackSource::ALL.iter().all(|s| !grants.can_publish(*s)));
        assert!(grants.can_subscribe && grants.can_publish_data && !grants.room_admin);
    }

    #[test]
    fn scopes_are_never_wider_than_the_role() {
        assert!(Scope::Publish.allowed_for(Role::Publisher, false));
        assert!(!Scope::Publish.allowed_for(Role::Subscriber, true));
        assert!(!Scope::Administer.allowed_for(Role::Moderator, false));
    }

    #[test]
    fn roles_are_written_in_lower_case() {
        assert_eq!(serde_json::to_string(&Role::Moderator).unwrap(), "\"moderator\"");
        assert_eq!("publisher".parse(), Ok(Role::Publisher));
    }
}
