//! The REST contract from the client's side: one request, one typed answer, and errors
//! that carry a code for programs and a sentence with a next step for people. Keeps no
//! session; `session` decides whose token goes with a request.

use std::time::Duration;

use confab_types::{Nickname, RoomName, Secret};
use confab_wire::rest::{
    ErrorBody, LoginRequest, RefreshRequest, RemoveUserRequest, RoomTokenAnswer, RoomTokenRequest, SessionAnswer,
    SessionInfo,
};
use reqwest::{Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use url::Url;

use crate::tls::{self, Fingerprint, Pins, Trust, Untrusted};

/// The largest answer that is read. Lists of rooms and audit rows stay far below.
const LARGEST_ANSWER: usize = 4 << 20;

/// Why a request, or the session behind it, failed. `Display` is the sentence for people.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Nothing answers there.
    #[error("{server} cannot be reached ({reason}); check the address, your network, and that the server runs")]
    Unreachable {
        /// Where.
        server: String,
        /// The system's words.
        reason: String,
    },
    /// It answers too slowly.
    #[error("{server} did not answer in time; try again")]
    TimedOut {
        /// Where.
        server: String,
    },
    /// Its certificate is not known: the person may accept the key once.
    #[error(
        "the certificate of {server} is not known; compare its fingerprint {fingerprint} with the host's before accepting it"
    )]
    TlsUnknown {
        /// Where.
        server: String,
        /// The key it showed.
        fingerprint: Fingerprint,
    },
    /// Its key is not the one accepted before.
    #[error(
        "the key of {server} changed since you accepted it; ask the host why, and remove the old key only if the answer is sound"
    )]
    TlsChanged {
        /// Where.
        server: String,
        /// The key accepted before.
        expected: Fingerprint,
        /// The key it showed.
        found: Fingerprint,
    },
    /// The server said no; code and sentence are its own.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The REST contract's code.
        code: String,
        /// For people.
        message: String,
        /// From Retry-After.
        retry_after: Option<Duration>,
    },
    /// Not an answer of this contract.
    #[error("{server} answered with something else than a Confab server would (HTTP {status}); check the address")]
    NotConfab {
        /// Where.
        server: String,
        /// HTTP status.
        status: u16,
    },
    /// There is no session and no loader gave one.
    #[error("you are not signed in; sign in again")]
    NotSignedIn,
    /// The address cannot be used.
    #[error("{url} is not an address of a server; it looks like https://calls.example.org")]
    BadAddress {
        /// What was given.
        url: String,
    },
}

impl SessionError {
    /// For programs: the contract's code, or the client's own.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::TlsUnknown { .. } => "tls_unknown",
            Self::TlsChanged { .. } => "tls_changed",
            Self::Refused { code, .. } => code,
            Self::NotConfab { .. } => "not_confab",
            Self::NotSignedIn => "not_signed_in",
            Self::BadAddress { .. } => "bad_address",
        }
    }

    /// The token that went along is not good (any more).
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// The network's fault, not the server's answer: worth trying again.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }
}

/// Talks to one server.
#[derive(Clone)]
pub struct RestClient {
    server: Url,
    http: reqwest::Client,
    trust: Trust,
}

impl RestClient {
    /// For this server, with the keys accepted so far; `timeout` bounds a whole request.
    pub fn new(server: &Url, pins: &Pins, timeout: Duration) -> Result<Self, SessionError> {
        let bad = || SessionError::BadAddress {
            url: server.to_string(),
        };
        if !matches!(server.scheme(), "http" | "https") || server.host_str().is_none() {
            return Err(bad());
        }
        let trust = tls::trust(server, pins, &[b"h2", b"http/1.1"]);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*trust.config).clone())
            .connect_timeout(Duration::from_secs(5).min(timeout))
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("confab/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| bad())?;
        Ok(Self {
            server: server.clone(),
            http,
            trust,
        })
    }

    /// `POST /api-login/login`
    pub async fn login(&self, request: &LoginRequest) -> Result<SessionAnswer, SessionError> {
        self.call(Method::POST, "/api-login/login", None, Some(request)).await
    }

    /// `POST /api-login/refresh`
    pub async fn refresh(&self, refresh: &Secret) -> Result<SessionAnswer, SessionError> {
        let body = RefreshRequest {
            refresh_token: Some(refresh.clone()),
        };
        self.call(Method::POST, "/api-login/refresh", None, Some(&body)).await
    }

    /// `POST /api-login/logout`
    pub async fn logout(&self, token: &Secret) -> Result<(), SessionError> {
        self.send::<()>(Method::POST, "/api-login/logout", Some(token), None)
            .await
            .map(drop)
    }

    /// `GET /api-login/session`
    pub async fn session(&self, token: &Secret) -> Result<SessionInfo, SessionError> {
        self.call::<(), _>(Method::GET, "/api-login/session", Some(token), None)
            .await
    }

    /// `POST /api-sessions/get-sessionid-token`
    pub async fn room_token(
        &self,
        token: &Secret,
        room: &RoomName,
        nickname: Option<&Nickname>,
    ) -> Result<RoomTokenAnswer, SessionError> {
        let body = RoomTokenRequest {
            session: room.clone(),
            nickname: nickname.cloned(),
        };
        self.call(
            Method::POST,
            "/api-sessions/get-sessionid-token",
            Some(token),
            Some(&body),
        )
        .await
    }

    /// `POST /api-sessions/remove-user`
    pub async fn remove_user(&self, token: &Secret, room: &RoomName, room_token: &Secret) -> Result<(), SessionError> {
        let body = RemoveUserRequest {
            session_name: room.clone(),
            token: room_token.clone(),
        };
        self.send(Method::POST, "/api-sessions/remove-user", Some(token), Some(&body))
            .await
            .map(drop)
    }

    /// Any call with a JSON answer.
    pub async fn call<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&B>,
    ) -> Result<A, SessionError> {
        let (status, bytes) = self.send(method, path, token, body).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.not_confab(status))
    }

    async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&B>,
    ) -> Result<(StatusCode, Vec<u8>), SessionError> {
        let url = self.server.join(path).map_err(|_| SessionError::BadAddress {
            url: self.server.to_string(),
        })?;
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut answer = request.send().await.map_err(|e| self.network_error(&e))?;
        let (status, retry_after) = (answer.status(), retry_after(answer.headers()));
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.network_error(&e))? {
            if bytes.len() + chunk.len() > LARGEST_ANSWER {
                return Err(self.not_confab(status));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((status, bytes));
        }
        let Ok(ErrorBody { error }) = serde_json::from_slice(&bytes) else {
            return Err(self.not_confab(status));
        };
        let message = plain_message(&error.code, &error.message, retry_after);
        Err(SessionError::Refused {
            status: status.as_u16(),
            code: error.code,
            message,
            retry_after,
        })
    }

    fn not_confab(&self, status: StatusCode) -> SessionError {
        SessionError::NotConfab {
            server: self.server.to_string(),
            status: status.as_u16(),
        }
    }

    fn network_error(&self, error: &reqwest::Error) -> SessionError {
        let server = Pins::authority(&self.server);
        match self.trust.take_refusal() {
            Some(Untrusted::Unknown { found }) => {
                return SessionError::TlsUnknown {
                    server,
                    fingerprint: found,
                };
            }
            Some(Untrusted::Changed { expected, found }) => {
                return SessionError::TlsChanged {
                    server,
                    expected,
                    found,
                };
            }
            None => {}
        }
        if error.is_timeout() && !error.is_connect() {
            return SessionError::TimedOut { server };
        }
        SessionError::Unreachable {
            server,
            reason: innermost(error),
        }
    }
}

/// The cause that says most: the last of the chain.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// Sentences for codes where the server's own may be terse; others keep the server's.
fn plain_message(code: &str, server_said: &str, retry_after: Option<Duration>) -> String {
    match code {
        "wrong_credentials" => "user name or password is wrong; check both and try again".to_owned(),
        "too_many_attempts" => match retry_after.map(|d| d.as_secs().div_ceil(60)) {
            Some(0 | 1) => "too many attempts; wait a minute and try again".to_owned(),
            Some(minutes) => format!("too many attempts; wait {minutes} minutes and try again"),
            None => "too many attempts; wait a while and try again".to_owned(),
        },
        "not_signed_in" | "session_over" => "your session is over; sign in again".to_owned(),
        _ if server_said.is_empty() => format!("the server refused this ({code})"),
        _ => server_said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_told_in_minutes() {
        let message = plain_message("too_many_attempts", "", Some(Duration::from_secs(870)));
        assert_eq!(message, "too many attempts; wait 15 minutes and try again");
    }

    #[test]
    fn an_address_without_a_host_is_named_as_such() {
        let url: Url = "mailto:someone@example.org".parse().unwrap();
        let error = RestClient::new(&url, &Pins::default(), Duration::from_secs(1))
            .err()
            .unwrap();
        assert_eq!(error.code(), "bad_address");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unreachable_and_the_next_step_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let client = RestClient::new(&url, &Pins::default(), Duration::from_secs(2)).unwrap();
        let error = client.session(&Secret::new("t")).await.unwrap_err();
        assert_eq!(error.code(), "unreachable");
        assert!(error.to_string().contains("check the address"), "{error}");
    }
}
