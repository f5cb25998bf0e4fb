//! Reading requests: bodies, and who calls. A browser's cookie counts only on a
//! request of its own site.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use confab_control::{ApiCredentials, AuthSession};
use confab_types::{Scope, Secret};
use confab_wire::rest::ErrorCode;
use serde::de::DeserializeOwned;

use super::{ApiError, App};

/// The session cookie's name.
pub(super) const SESSION_COOKIE: &str = "confab_session";
/// The refresh cookie's name.
pub(super) const REFRESH_COOKIE: &str = "confab_refresh";

/// A JSON body. Any content type: the browser's cookie rules do not depend on it.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|e| refused_body(&e))?;
        // Serde's text may quote the body, where a password is: only the place is told.
        serde_json::from_slice(&bytes).map(Self).map_err(|e| {
            let place = format!(
                "The body is not what this call takes (line {}, column {}).",
                e.line(),
                e.column()
            );
            ApiError::new(ErrorCode::BadRequest, place)
        })
    }
}

/// What to answer for a body that could not be read.
pub(super) fn refused_body(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::new(ErrorCode::TooLarge, "The body is over 64 KiB.")
    } else {
        ApiError::new(ErrorCode::BadRequest, "The body could not be read.")
    }
}

/// The session token of a request: bearer, or the cookie of a browser on its own site.
pub(super) fn session_token(headers: &HeaderMap) -> Result<Secret, ApiError> {
    if let Some(token) = bearer(headers) {
        return Ok(token);
    }
    let token = cookie(headers, SESSION_COOKIE).ok_or_else(ApiError::not_signed_in)?;
    check_same_site(headers)?;
    Ok(token)
}

/// `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim()))
}

/// An API key as Basic or as a JWT.
pub(super) fn api_credentials(headers: &HeaderMap) -> Option<ApiCredentials> {
    if let Some(jwt) = bearer(headers) {
        return Some(ApiCredentials::Jwt(jwt));
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (key, secret) = decoded.split_once(':')?;
    Some(ApiCredentials::Basic {
        key: key.to_owned(),
        secret: Secret::new(secret),
    })
}

/// A cookie's value.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<Secret> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, v)| *n == name && !v.is_empty())
        .map(|(_, v)| Secret::new(v))
}

/// A call with a cookie must come from this site's own pages: by Origin, else by Sec-Fetch-Site,
/// else by Referer. One that says nothing at all is refused.
pub(super) fn check_same_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let host = text("host").unwrap_or_default();
    let of_host = |url: &str| {
        let authority = url
            .split_once("://")
            .map(|(_, rest)| rest.split('/').next().unwrap_or_default());
        !host.is_empty() && authority.is_some_and(|a| a.eq_ignore_ascii_case(host))
    };
    let same = match (text("origin"), text("sec-fetch-site"), text("referer")) {
        (Some(origin), _, _) => of_host(origin),
        (None, Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, None, Some(referer)) => of_host(referer),
        (None, None, None) => false,
    };
    if same {
        Ok(())
    } else {
        Err(ApiError::new(
            ErrorCode::CrossSite,
            "A call with a cookie must come from this site's own pages.",
        ))
    }
}

/// The signed-in caller.
pub(super) struct Caller {
    /// Who.
    pub session: AuthSession,
    /// With which token.
    pub token: Secret,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = session_token(&parts.headers)?;
        let session = app.control.authenticate(&token).await?;
        Ok(Self { session, token })
    }
}

/// A caller who may administer the server.
pub(super) struct Administrator(#[allow(dead_code, reason = "that it exists is the check")] pub AuthSession);

impl FromRequestParts<Arc<App>> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.session.administrator && caller.session.has(Scope::Administer) {
            Ok(Self(caller.session))
        } else {
            Err(ApiError::new(
                ErrorCode::NotAllowed,
                "Only an administrator may do this.",
            ))
        }
    }
}

/// For axum's own rejections.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> axum::response::Response {
    tracing::error!("a request's handler failed");
    ApiError::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn a_cookie_counts_only_on_a_call_from_its_own_site() {
        let host = ("host", "calls.example:7880");
        for good in [
            ("origin", "https://calls.example:7880"),
            ("sec-fetch-site", "same-origin"),
            ("referer", "https://calls.example:7880/page"),
        ] {
            assert!(check_same_site(&headers(&[host, good])).is_ok(), "{good:?}");
        }
        for bad in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("referer", "https://evil.example/calls.example:7880"),
            ("x-nothing", "1"),
        ] {
            assert!(check_same_site(&headers(&[host, bad])).is_err(), "{bad:?}");
        }
        let lying = headers(&[
            host,
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "same-origin"),
        ]);
        assert!(check_same_site(&lying).is_err());
    }

    #[test]
    fn cookies_are_found_among_others() {
        let headers = headers(&[("cookie", "a=1; confab_session=abc; confab_refresh=def")]);
        assert_eq!(cookie(&headers, SESSION_COOKIE).unwrap().expose(), "abc");
        assert_eq!(cookie(&headers, REFRESH_COOKIE).unwrap().expose(), "def");
        assert!(cookie(&headers, "other").is_none());
    }
}
