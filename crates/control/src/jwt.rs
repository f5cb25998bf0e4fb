//! Signing and checking JWTs: HS256 and nothing else, keys found by `iss` in
//! memory. Must not know what the claims stand for.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use confab_types::{Claims, Secret};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use time::OffsetDateTime;

use crate::{Limits, TokenIssuer};

/// The `iss` of the server's own tokens; no API key may have this name.
pub(crate) const OWN_ISSUER: &str = "confab";

/// The longest token that is looked at, in bytes; LiveKit's SDKs write under 2 KiB.
const MAX_BYTES: usize = 16 * 1024;

/// A key to sign and check with.
#[derive(Clone)]
pub(crate) struct SigningKey(Secret);

impl SigningKey {
    pub(crate) fn new(secret: Secret) -> Self {
        Self(secret)
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    /// Signs.
    pub(crate) fn sign(&self, claims: &Claims) -> Secret {
        let key = EncodingKey::from_secret(self.0.expose().as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key);
        Secret::new(token.expect("plain claims can be signed with HS256"))
    }
}

/// Why a JWT is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadJwt {
    Invalid,
    Expired,
    NotYetValid,
}

/// The part of a payload that says whose key to try. Not trusted.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// Checks algorithm and signature, not the time. `key_of` finds a key by the token's `iss`.
pub(crate) fn verify_signature(
    token: &Secret,
    key_of: impl FnOnce(&str) -> Option<(TokenIssuer, SigningKey)>,
) -> Result<(TokenIssuer, Claims), BadJwt> {
    let token = token.expose();
    if token.len() > MAX_BYTES {
        return Err(BadJwt::Invalid);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| BadJwt::Invalid)?;
    let payload = token.split('.').nth(1).ok_or(BadJwt::Invalid)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| BadJwt::Invalid)?;
    let issuer: Issuer = serde_json::from_slice(&payload).map_err(|_| BadJwt::Invalid)?;
    // A header may name no key: not by id (but for the issuer's own name), not inline, not by URL.
    let names_a_key = header.kid.as_ref().is_some_and(|kid| *kid != issuer.iss)
        || header.jwk.is_some()
        || header.jku.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some()
        || header.crit.is_some();
    if header.alg != Algorithm::HS256 || names_a_key {
        return Err(BadJwt::Invalid);
    }
    let (issuer, key) = key_of(&issuer.iss).ok_or(BadJwt::Invalid)?;
    let mut validation = Validation::new(Algorithm::HS256);
    // The library would read the machine's clock; ours is injected.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let key = DecodingKey::from_secret(key.0.expose().as_bytes());
    let data = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|_| BadJwt::Invalid)?;
    Ok((issuer, data.claims))
}

/// Checks `nbf` and `exp`.
pub(crate) fn check_time(claims: &Claims, now: OffsetDateTime, limits: &Limits) -> Result<(), BadJwt> {
    let now = seconds(now);
    let leeway = limits.leeway.as_secs();
    if claims.exp.saturating_add(leeway) <= now {
        return Err(BadJwt::Expired);
    }
    if claims.nbf > now.saturating_add(leeway) {
        return Err(BadJwt::NotYetValid);
    }
    Ok(())
}

/// When a token was issued, as far as it says: `iat`, else `nbf`, else the beginning of time.
pub(crate) fn issued_at(claims: &Claims) -> i64 {
    let at = if claims.iat > 0 { claims.iat } else { claims.nbf };
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Seconds since 1970, rounded down.
pub(crate) fn seconds(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp()).unwrap_or(0)
}

/// The keys in force: the server's own and the API keys.
pub(crate) struct KeyRing {
    pub(crate) own: SigningKey,
    pub(crate) api: HashMap<String, SigningKey>,
}

impl KeyRing {
    /// The key of an `iss`.
    pub(crate) fn find(&self, iss: &str) -> Option<(TokenIssuer, SigningKey)> {
        if iss == OWN_ISSUER {
            return Some((TokenIssuer::Own, self.own.clone()));
        }
        self.api
            .get_key_value(iss)
            .map(|(name, key)| (TokenIssuer::ApiKey(name.clone()), key.clone()))
    }
}
