//! The signed-in session, after Video.io's session manager: started with credentials and
//! scopes or with a token (then no request is made), observed, stopped, renewed. A call that
//! finds the session over waits for one renewal, shared with all others that wait: first the
//! refresh token, then the loader, once; afterwards each call is repeated once. Keeps nothing
//! on disk and knows nothing of calls.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use confab_types::{Nickname, RoomName, Secret};
use confab_wire::rest::{LoginRequest, RoomTokenAnswer, SessionAnswer};
use futures::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use url::Url;

use crate::api::{Session, SessionLoader, SessionStart};
use crate::rest::RestClient;
pub use crate::rest::SessionError;
use crate::tls::Pins;

/// How sessions are kept.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Keys of servers that were accepted.
    pub pins: Pins,
    /// The most one request takes.
    pub timeout: Duration,
    /// How long before its end a session is refreshed; never more than a fifth of what is left.
    pub refresh_ahead: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            pins: Pins::default(),
            timeout: Duration::from_secs(15),
            refresh_ahead: Duration::from_secs(60),
        }
    }
}

/// The session manager. Cheap to clone.
#[derive(Clone)]
pub struct SessionManager(Arc<Inner>);

struct Inner {
    config: SessionConfig,
    session: watch::Sender<Option<Session>>,
    loader: Mutex<Option<Arc<dyn SessionLoader>>>,
    renewal: Mutex<Renewal>,
    clients: Mutex<HashMap<Url, RestClient>>,
    refresher: Mutex<Option<AbortHandle>>,
}

type Outcome = Result<Session, SessionError>;

/// The renewal that runs, and how the newest one ended.
#[derive(Default)]
struct Renewal {
    running: Option<Shared<BoxFuture<'static, Outcome>>>,
    /// How many have ended. A call that began before the newest ended shares its outcome.
    ended: u64,
    last: Option<Outcome>,
}

impl SessionManager {
    /// Without a session.
    pub fn new(config: SessionConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            session: watch::Sender::new(None),
            loader: Mutex::default(),
            renewal: Mutex::default(),
            clients: Mutex::default(),
            refresher: Mutex::default(),
        }))
    }

    /// The keys of servers that were accepted; shared.
    pub fn pins(&self) -> &Pins {
        &self.0.config.pins
    }

    /// Starts a session in place of the one there is.
    pub async fn start(&self, start: SessionStart) -> Outcome {
        let session = self.0.begin(start).await?;
        self.set(Some(session.clone()));
        Ok(session)
    }

    /// The session, if there is one.
    pub fn get(&self) -> Option<Session> {
        self.0.session.borrow().clone()
    }

    /// Tells each change, by `watch`.
    pub fn observe(&self) -> watch::Receiver<Option<Session>> {
        self.0.session.subscribe()
    }

    /// Ends the session here at once, then on the server. An unreachable server is reported, the session is over here
    /// all the same.
    pub async fn stop(&self) -> Result<(), SessionError> {
        let Some(session) = self.get() else { return Ok(()) };
        self.set(None);
        let client = self.0.client(&session.server)?;
        match client.logout(&session.token).await {
            Err(e) if e.is_unauthorized() => Ok(()),
            other => other,
        }
    }

    /// Who gives a session when a call needs one.
    pub fn set_loader(&self, loader: Arc<dyn SessionLoader>) {
        *self.0.loader.lock() = Some(loader);
    }

    /// A token for a room.
    pub async fn room_token(
        &self,
        room: &RoomName,
        nickname: Option<&Nickname>,
    ) -> Result<RoomTokenAnswer, SessionError> {
        self.authenticated(|client, token| async move { client.room_token(&token, room, nickname).await })
            .await
    }

    /// Voids a room token: leaving, told to the backend.
    pub async fn remove_user(&self, room: &RoomName, room_token: &Secret) -> Result<(), SessionError> {
        self.authenticated(|client, token| async move { client.remove_user(&token, room, room_token).await })
            .await
    }

    /// Any authenticated call with JSON in and out, e.g. those under `/api-admin`.
    pub async fn request<B, A>(&self, method: Method, path: &str, body: Option<&B>) -> Result<A, SessionError>
    where
        B: Serialize + Sync,
        A: DeserializeOwned,
    {
        self.authenticated(|client, token| {
            let method = method.clone();
            async move { client.call(method, path, Some(&token), body).await }
        })
        .await
    }

    /// Runs a call with the session's token; renews the session and repeats the call once if it is over or absent.
    async fn authenticated<A, F, R>(&self, call: F) -> Result<A, SessionError>
    where
        F: Fn(RestClient, Secret) -> R,
        R: Future<Output = Result<A, SessionError>>,
    {
        let began = self.0.renewal.lock().ended;
        let used = self.get();
        if let Some(session) = &used {
            match call(self.0.client(&session.server)?, session.token.clone()).await {
                Err(e) if e.is_unauthorized() => {}
                answer => return answer,
            }
        }
        let renewed = self.renewed(used.as_ref(), began).await?;
        call(self.0.client(&renewed.server)?, renewed.token).await
    }

    /// Joins the renewal that runs, shares the outcome of one that ended since `began`, or starts one.
    async fn renewed(&self, used: Option<&Session>, began: u64) -> Outcome {
        let running = {
            let mut renewal = self.0.renewal.lock();
            let now = self.get();
            match (&renewal.running, now) {
                // Someone renewed it (or signed in) while this call was under way.
                (None, Some(now)) if used.is_none_or(|u| u.token != now.token) => return Ok(now),
                (None, _) if renewal.ended > began => {
                    return renewal.last.clone().unwrap_or(Err(SessionError::NotSignedIn));
                }
                (Some(running), _) => running.clone(),
                (None, _) => {
                    let running = self.clone().renew().boxed().shared();
                    renewal.running = Some(running.clone());
                    // A caller that goes away must not stop it for the others.
                    tokio::spawn(running.clone());
                    running
                }
            }
        };
        running.await
    }

    async fn renew(self) -> Outcome {
        let expired = self.get();
        let outcome = self.0.renew(expired.clone()).await;
        match &outcome {
            Ok(session) => self.set(Some(session.clone())),
            // Nobody gave a new one: the old one is over. A network error leaves it as it is.
            Err(e) if !e.is_network() && self.get().map(|s| s.token) == expired.map(|s| s.token) => self.set(None),
            Err(_) => {}
        }
        let mut renewal = self.0.renewal.lock();
        renewal.running = None;
        renewal.ended += 1;
        renewal.last = Some(outcome.clone());
        outcome
    }

    fn set(&self, session: Option<Session>) {
        let refreshes = session.as_ref().is_some_and(|s| s.refresh.is_some());
        self.0.session.send_replace(session);
        let task = refreshes.then(|| tokio::spawn(refresh_ahead(Arc::downgrade(&self.0))).abort_handle());
        // The refresher that called this is not aborted by it: it ends by itself on its next look.
        let old = std::mem::replace(&mut *self.0.refresher.lock(), task);
        if let Some(old) = old
            && tokio::task::try_id() != Some(old.id())
        {
            old.abort();
        }
    }
}

impl Inner {
    fn client(&self, server: &Url) -> Result<RestClient, SessionError> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(server) {
            return Ok(client.clone());
        }
        let client = RestClient::new(server, &self.config.pins, self.config.timeout)?;
        clients.insert(server.clone(), client.clone());
        Ok(client)
    }

    async fn begin(&self, start: SessionStart) -> Outcome {
        match start {
            SessionStart::Token(session) => Ok(session),
            SessionStart::Credentials {
                server,
                user,
                password,
                scopes,
                device,
            } => {
                let answer = self
                    .client(&server)?
                    .login(&LoginRequest {
                        user,
                        pass: password,
                        scopes,
                        device,
                    })
                    .await?;
                session_of(&server, answer)
            }
        }
    }

    async fn renew(&self, expired: Option<Session>) -> Outcome {
        if let Some(session) = &expired
            && let Some(refresh) = &session.refresh
        {
            match self.client(&session.server)?.refresh(refresh).await {
                Ok(answer) => return session_of(&session.server, answer),
                Err(e) if e.is_unauthorized() => tracing::info!("the session could not be refreshed: {e}"),
                Err(e) => return Err(e),
            }
        }
        let loader = self.loader.lock().clone();
        let Some(loader) = loader else {
            return Err(SessionError::NotSignedIn);
        };
        match loader.load(expired).await {
            Some(start) => self.begin(start).await,
            None => Err(SessionError::NotSignedIn),
        }
    }
}

fn session_of(server: &Url, answer: SessionAnswer) -> Outcome {
    let Some(token) = answer.session_token else {
        return Err(SessionError::NotConfab {
            server: server.to_string(),
            status: 200,
        });
    };
    Ok(Session {
        server: server.clone(),
        user: answer.user,
        role: answer.role,
        administrator: answer.administrator,
        scopes: answer.scopes,
        token,
        refresh: answer.refresh_token,
        expires_at: answer.expires_at,
    })
}

/// Looks at the wall clock at least this often: timers stand still while the machine sleeps.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// After a refresh that the network swallowed.
const RETRY_REFRESH: Duration = Duration::from_secs(10);

/// Refreshes the session a little before its end, for as long as the manager lives and the session stays.
async fn refresh_ahead(manager: Weak<Inner>) {
    let Some(mut due) = manager.upgrade().and_then(|inner| {
        let end = inner.session.borrow().as_ref()?.expires_at;
        let left = (end - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO);
        Some(end - inner.config.refresh_ahead.min(left / 5))
    }) else {
        return;
    };
    loop {
        let now = OffsetDateTime::now_utc();
        if now < due {
            let left: Duration = (due - now).try_into().unwrap_or(Duration::ZERO);
            tokio::time::sleep(left.min(LONGEST_LOOK)).await;
            continue;
        }
        let Some(inner) = manager.upgrade() else { return };
        let manager = SessionManager(inner);
        let began = manager.0.renewal.lock().ended;
        let Some(used) = manager.get() else { return };
        match manager.renewed(Some(&used), began).await {
            Err(e) if e.is_network() => due = OffsetDateTime::now_utc() + RETRY_REFRESH,
            // A new session has a refresher of its own; without one there is nothing to do.
            _ => return,
        }
    }
}
