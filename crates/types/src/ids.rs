//! Validated names and ids. `TryFrom<String>` is the only way in, so a value of
//! one of these types is always within its bounds and free of control characters.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is not a valid id or name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// Nothing left after trimming white space.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// More characters than allowed.
    #[error("{what} has more than {max} characters")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// The bound, in characters.
        max: usize,
    },
    /// A character that may not be in it.
    #[error("{what} has a character that is not allowed: {found:?}")]
    BadCharacter {
        /// Which kind of name.
        what: &'static str,
        /// The first such character.
        found: char,
    },
    /// A server-made id without its prefix.
    #[error("{what} does not start with {prefix}")]
    BadPrefix {
        /// Which kind of id.
        what: &'static str,
        /// The prefix it must have.
        prefix: &'static str,
    },
}

/// Direction overrides and invisible characters that make one name look like another.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn check_text(what: &'static str, text: &str, max: usize, allowed: fn(char) -> bool) -> Result<String, InvalidId> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidId::Empty { what });
    }
    if text.chars().count() > max {
        return Err(InvalidId::TooLong { what, max });
    }
    match text.chars().find(|&c| !allowed(c)) {
        Some(found) => Err(InvalidId::BadCharacter { what, found }),
        None => Ok(text.to_owned()),
    }
}

fn shown_text(c: char) -> bool {
    !c.is_control() && !is_deceptive(c)
}

fn name_text(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+')
}

fn id_text(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                let check: fn(&'static str, &str) -> Result<String, InvalidId> = $check;
                check($what, &text).map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn check_sid(what: &'static str, prefix: &'static str, text: &str) -> Result<String, InvalidId> {
    let text = check_text(what, text, 64, id_text)?;
    if !text.starts_with(prefix) {
        return Err(InvalidId::BadPrefix { what, prefix });
    }
    Ok(text)
}

text_id!(
    /// A room's name, chosen by people: 1 to 128 visible characters.
    RoomName, "the room name", |what, text| check_text(what, text, 128, shown_text)
);
text_id!(
    /// A person's name in one call: 1 to 64 visible characters.
    Nickname, "the nickname", |what, text| check_text(what, text, 64, shown_text)
);
text_id!(
    /// An account's name: 1 to 64 letters, digits and `.` `_` `-` `@` `+`.
    UserName, "the user name", |what, text| check_text(what, text, 64, name_text)
);
text_id!(
    /// A participant's stable identity in a room (LiveKit's `sub`): 1 to 256 visible characters.
    Identity, "the identity", |what, text| check_text(what, text, 256, shown_text)
);
text_id!(
    /// The server's id of a room, new for each run of it: `RM_...`.
    RoomSid, "the room id", |what, text| check_sid(what, "RM_", text)
);
text_id!(
    /// The server's id of one join: `PA_...`.
    ParticipantSid, "the participant id", |what, text| check_sid(what, "PA_", text)
);
text_id!(
    /// The server's id of a track: `TR_...`.
    TrackSid, "the track id", |what, text| check_sid(what, "TR_", text)
);

/// Base-62 digits, so that an id is safe in URLs, SDP and file names.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Twelve base-62 digits out of 12 random bytes: about 71 bits, the same length as LiveKit's.
fn digits(random: [u8; 12]) -> String {
    random
        .iter()
        .map(|b| char::from(DIGITS[usize::from(*b) % DIGITS.len()]))
        .collect()
}

macro_rules! from_random {
    ($($name:ident $prefix:literal),*) => {$(
        impl $name {
            /// A new id out of random bytes that the caller draws.
            pub fn from_random(random: [u8; 12]) -> Self {
                Self(format!(concat!($prefix, "{}"), digits(random)))
            }
        }
    )*};
}
from_random!(RoomSid "RM_", ParticipantSid "PA_", TrackSid "TR_");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!("  Ada ".parse::<Nickname>().unwrap().as_str(), "Ada");
        assert_eq!(" ".parse::<Nickname>(), Err(InvalidId::Empty { what: "the nickname" }));
        assert!("x".repeat(65).parse::<Nickname>().is_err());
    }

    #[test]
    fn direction_overrides_are_refused_in_names() {
        assert!("evil\u{202e}gnp".parse::<RoomName>().is_err());
        assert!("a\nb".parse::<RoomName>().is_err());
        assert!("Grüße 你好".parse::<RoomName>().is_ok());
    }

    #[test]
    fn server_ids_need_their_prefix() {
        assert!("TR_abc".parse::<TrackSid>().is_ok());
        assert!("PA_abc".parse::<TrackSid>().is_err());
        assert!(RoomSid::from_random([7; 12]).as_str().parse::<RoomSid>().is_ok());
    }
}
