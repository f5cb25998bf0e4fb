//! API keys: what backends sign their tokens with.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use confab_types::{Secret, VideoGrant};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use time::OffsetDateTime;

use crate::jwt::{self, KeyRing, OWN_ISSUER, SigningKey};
use crate::store::keys::{self, KeyRow};
use crate::store::{self, Conn};
use crate::{Control, ControlConfig, StorageError, TokenIssuer};

/// The longest secret, in bytes.
const MAX_SECRET: usize = 1024;

/// Secrets of fewer bytes are pointed out at start-up; LiveKit's `devkey:secret` is one.
const SHORT_SECRET: usize = 32;

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
        let inner = &self.inner;
        let key = fresh(&inner.config, name.map(str::to_owned));
        check_name(&key.name)?;
        let mut write = inner.db.write().await?;
        let row = KeyRow {
            name: key.name.clone(),
            secret: key.secret.clone(),
            is_default: false,
            created_at: inner.now(),
        };
        if inner.keys.read().api.contains_key(&key.name) || !keys::insert(write.conn(), &row).await? {
            return Err(KeyError::Exists(key.name));
        }
        write.commit().await?;
        inner
            .keys
            .write()
            .api
            .insert(key.name.clone(), SigningKey::new(key.secret.clone()));
        tracing::info!(key = key.name, "API key added");
        Ok(key)
    }

    /// Every key that is good now.
    pub async fn list_keys(&self) -> Result<Vec<ApiKeyInfo>, KeyError> {
        let mut read = self.inner.db.read().await?;
        let configured = &self.inner.config.keys;
        let mut infos: Vec<_> = configured
            .iter()
            .map(|(name, _)| ApiKeyInfo {
                name: name.clone(),
                source: KeySource::Configured,
                created_at: None,
            })
            .collect();
        for row in keys::list(&mut read).await? {
            if !in_force(&row, configured) {
                continue;
            }
            let source = if row.is_default {
                KeySource::Default
            } else {
                KeySource::Added
            };
            infos.push(ApiKeyInfo {
                name: row.name,
                source,
                created_at: Some(row.created_at),
            });
        }
        Ok(infos)
    }

    /// Removes a key: its tokens, and the sessions that backends began with it, are worth nothing at once.
    pub async fn remove_key(&self, name: &str) -> Result<(), KeyError> {
        let inner = &self.inner;
        if inner.config.keys.iter().any(|(configured, _)| configured == name) {
            return Err(KeyError::Configured(name.to_owned()));
        }
        let mut write = inner.db.write().await?;
        if !keys::delete(write.conn(), name).await? {
            return Err(KeyError::NotFound(name.to_owned()));
        }
        store::sessions::end_all_of_key(write.conn(), name, inner.now_millis()).await?;
        write.commit().await?;
        inner.keys.write().api.remove(name);
        tracing::info!(key = name, "API key removed");
        Ok(())
    }

    /// The pair that was made at the first run and is in use while none is configured, for the person hosting.
    pub fn default_key(&self) -> Option<ApiKey> {
        let key = self.inner.default_key.as_ref()?;
        self.inner.keys.read().api.contains_key(&key.name).then(|| key.clone())
    }

    /// Whose key this is, if the credentials prove one.
    pub(crate) fn proven_key(&self, credentials: &ApiCredentials) -> Option<String> {
        match credentials {
            ApiCredentials::Basic { key, secret } => {
                let keys = self.inner.keys.read();
                let known = keys.api.get(key)?.secret().expose().as_bytes();
                // Of the hashes, so that the time tells nothing of the length either.
                let (known, given) = (Sha256::digest(known), Sha256::digest(secret.expose().as_bytes()));
                bool::from(known.ct_eq(&given)).then(|| key.clone())
            }
            ApiCredentials::Jwt(token) => {
                let find = |iss: &str| self.inner.keys.read().find(iss);
                let (issuer, claims) = jwt::verify_signature(token, find).ok()?;
                jwt::check_time(&claims, self.inner.now(), &self.inner.config.limits).ok()?;
                let TokenIssuer::ApiKey(name) = issuer else { return None };
                // A participant's token is signed with the key too, and must not become anybody's session:
                // only one that names nobody and nothing, or may make rooms, speaks for the backend itself.
                let grant = &claims.video;
                let backend = grant.room_create || *grant == VideoGrant::default();
                let names_nobody = claims.sub.is_empty() && !grant.room_join && grant.room.is_empty();
                (backend && names_nobody).then_some(name)
            }
        }
    }
}

/// One of the server's own keys, made at the first run.
pub(crate) async fn own_secret(conn: &mut Conn, config: &ControlConfig, name: &str) -> Result<Secret, StorageError> {
    let mut fresh = [0u8; 32];
    config.entropy.fill(&mut fresh);
    keys::own_secret(conn, name, &hex::encode(fresh)).await
}

/// The keys in force, and the default pair, made now if there is none and none is configured.
pub(crate) async fn load(
    conn: &mut Conn,
    config: &ControlConfig,
    own: Secret,
) -> Result<(KeyRing, Option<ApiKey>), KeyError> {
    let mut api = HashMap::new();
    for (name, secret) in &config.keys {
        check_name(name)?;
        if secret.expose().is_empty() || secret.expose().len() > MAX_SECRET {
            return Err(KeyError::BadSecret(name.clone()));
        }
        if secret.expose().len() < SHORT_SECRET {
            tracing::warn!(key = name, "the secret of this API key is short enough to be guessed");
        }
        if api.insert(name.clone(), SigningKey::new(secret.clone())).is_some() {
            return Err(KeyError::Exists(name.clone()));
        }
    }
    let mut rows = keys::list(conn).await?;
    if config.keys.is_empty() && rows.is_empty() {
        let key = fresh(config, None);
        let row = KeyRow {
            name: key.name,
            secret: key.secret,
            is_default: true,
            created_at: config.clock.now(),
        };
        keys::insert(conn, &row).await?;
        rows.push(row);
    }
    let mut default_key = None;
    for row in rows.into_iter().filter(|row| in_force(row, &config.keys)) {
        if row.is_default {
            default_key = Some(ApiKey {
                name: row.name.clone(),
                secret: row.secret.clone(),
            });
        }
        api.insert(row.name, SigningKey::new(row.secret));
    }
    Ok((
        KeyRing {
            own: SigningKey::new(own),
            api,
        },
        default_key,
    ))
}

/// Configured keys take the place of the default pair, and of a stored key of the same name.
fn in_force(row: &KeyRow, configured: &[(String, Secret)]) -> bool {
    let shadowed = configured.iter().any(|(name, _)| *name == row.name);
    !shadowed && (!row.is_default || configured.is_empty())
}

fn fresh(config: &ControlConfig, name: Option<String>) -> ApiKey {
    let (mut id, mut secret) = ([0u8; 6], [0u8; 32]);
    config.entropy.fill(&mut id);
    config.entropy.fill(&mut secret);
    let name = name.unwrap_or_else(|| format!("API{}", hex::encode(id)));
    ApiKey {
        name,
        secret: Secret::new(URL_SAFE_NO_PAD.encode(secret)),
    }
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let ok = (1..=64).contains(&name.len()) && name.chars().all(allowed) && name != OWN_ISSUER;
    if ok {
        Ok(())
    } else {
        Err(KeyError::BadName(name.to_owned()))
    }
}
