//! API keys: what backends sign their tokens with.

use confab_types::Secret;
use thiserror::Error;
use time::OffsetDateTime;

use crate::{Control, StorageError};

/// A key with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key's name: a token's `iss`.
    pub name: String,
    /// What tokens are signed with.
    pub secret: Secret,
}

/// Where a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// Made at the first run, used while no key is configured.
    Default,
    /// From `--keys`.
    Configured,
    /// From `key add`.
    Added,
}

/// A key in a list: without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyInfo {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: KeySource,
    /// When it was made; `None` for configured ones.
    pub created_at: Option<OffsetDateTime>,
}

/// How a backend proves an API key.
#[derive(Debug, Clone)]
pub enum ApiCredentials {
    /// HTTP Basic: name and secret.
    Basic {
        /// The key's name.
        key: String,
        /// Its secret.
        secret: Secret,
    },
    /// A JWT signed with it that names no participant and no room.
    Jwt(Secret),
}

/// Why a key was not added or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 1 to 64 letters, digits, `_`, `-` and `.`, or a name the server keeps for itself.
    #[error("{0:?} cannot name an API key")]
    BadName(String),
    /// Empty, or over 1024 bytes.
    #[error("the secret of the API key {0} is empty or too long")]
    BadSecret(String),
    /// There is one of that name.
    #[error("the API key {0} exists already")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no API key {0}")]
    NotFound(String),
    /// It comes from the command line; leave it out there.
    #[error("the API key {0} comes from the server's configuration")]
    Configured(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Control {
    /// Adds a key with a fresh secret. `None` makes up a name. The only time the secret is shown.
    pub async fn add_key(&self, name: Option<&str>) -> Result<ApiKey, KeyError> {
        todo!("{name:?}")
    }

    /// Every key that is good now.
    pub async fn list_keys(&self) -> Result<Vec<ApiKeyInfo>, KeyError> {
        todo!()
    }

    /// Removes a key; its tokens are worth nothing at once.
    pub async fn remove_key(&self, name: &str) -> Result<(), KeyError> {
        todo!("{name}")
    }

    /// The pair in use when none was configured, for the person hosting.
    pub fn default_key(&self) -> Option<ApiKey> {
        todo!()
    }
}
