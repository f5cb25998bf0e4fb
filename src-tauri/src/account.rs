//! Signing in and out, restoring the last sign-in, and the question about an
//! unknown certificate.

use confab_client::api::{Session, SessionStart};
use confab_client::rest::SessionError;
use confab_client::session::{SessionConfig, SessionManager};
use confab_types::Secret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::Url;

use crate::dto::{Busy, CertificateView, Screen, SessionView, SignIn, UiError};
use crate::model::{ActiveSession, PendingCertificate};
use crate::shell::{Answer, Shell};

/// A session as kept in the keychain.
#[derive(Serialize, Deserialize)]
struct KeptSession {
    server: Url,
    user: confab_types::UserName,
    role: confab_types::Role,
    administrator: bool,
    scopes: Vec<confab_types::Scope>,
    refresh: Secret,
}

/// Reads what a person typed as a server: a host alone means https, this computer means http.
pub fn server_url(text: &str) -> Answer<Url> {
    let text = text.trim().trim_end_matches('/');
    let bad = || {
        let sentence =
            "this is not an address of a server; write something like calls.example.org or http://127.0.0.1:7880";
        UiError::new("bad_address", sentence).at("server")
    };
    if text.is_empty() {
        return Err(UiError::new("bad_address", "the server is missing; enter its address").at("server"));
    }
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else if text.starts_with("localhost") || text.starts_with("127.") || text.starts_with("[::1]") {
        format!("http://{text}")
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&with_scheme).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad());
    }
    Ok(url)
}

impl Shell {
    /// Signs in with user name and password.
    pub async fn sign_in(&self, form: SignIn) -> Answer<()> {
        let server = server_url(&form.server)?;
        if form.user.trim().is_empty() {
            return Err(UiError::new("user_missing", "the user name is missing; enter it").at("user"));
        }
        let _busy = self.begin(Busy::SigningIn)?;
        let start = SessionStart::Credentials {
            server: server.clone(),
            user: form.user.trim().to_owned(),
            password: Secret::new(form.password.clone()),
            scopes: None,
            device: Some(device_name()),
        };
        let manager = SessionManager::new(SessionConfig {
            pins: self.pins.clone(),
            ..SessionConfig::default()
        });
        match manager.start(start).await {
            Ok(session) => {
                self.use_session(manager, &session, false);
                self.remember(|s| s.remember_server(server.as_str().trim_end_matches('/'), session.user.as_str()));
                self.enter_lobby();
                Ok(())
            }
            Err(error) => {
                self.ask_about_certificate(&error, &server, &form);
                Err(error.into())
            }
        }
    }

    /// Takes a session into use and keeps it fresh on disk.
    pub fn use_session(&self, manager: SessionManager, session: &Session, trial: bool) {
        let view = SessionView {
            server: session.server.as_str().trim_end_matches('/').to_owned(),
            user: session.user.to_string(),
            role: session.role.as_str().into(),
            administrator: session.administrator,
            secrets_in_file: !trial && self.secrets.lock().in_file(),
        };
        let role = session.role;
        let watcher = manager.observe();
        self.update(|m| {
            m.certificate = None;
            m.session = Some(ActiveSession {
                manager,
                view,
                role,
                trial,
            });
            m.lobby.nickname_default(session.user.as_str());
        });
        self.follow_session(watcher, trial);
    }

    /// Keeps each renewed session; shows the sign-in form when it is over.
    fn follow_session(&self, mut watcher: tokio::sync::watch::Receiver<Option<Session>>, trial: bool) {
        let shell = self.clone();
        self.spawn(async move {
            loop {
                let now = watcher.borrow_and_update().clone();
                match now {
                    Some(session) if !trial => shell.keep_session(&session),
                    Some(_) => {}
                    None => return shell.session_ended(),
                }
                if watcher.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn keep_session(&self, session: &Session) {
        let Some(refresh) = session.refresh.clone() else { return };
        let kept = KeptSession {
            server: session.server.clone(),
            user: session.user.clone(),
            role: session.role,
            administrator: session.administrator,
            scopes: session.scopes.clone(),
            refresh,
        };
        let Ok(text) = serde_json::to_string(&kept) else { return };
        if let Err(error) = self.secrets.lock().set("session", &Secret::new(text)) {
            tracing::warn!(%error, "the session could not be kept");
        }
    }

    /// Signed out, or the session could not be renewed. A call goes on: its room token is its own.
    fn session_ended(&self) {
        let by_surprise = self.update(|m| {
            let was = m.session.take().is_some();
            if was && m.call.is_none() {
                m.screen = Screen::SignIn;
            }
            was
        });
        if by_surprise {
            let _ = self.secrets.lock().remove("session");
            self.close_preview();
            self.toast("Your session is over. Sign in again.", false);
        }
    }

    /// Takes up the last sign-in without a request: the first call that needs it renews it.
    pub async fn restore_session(&self) {
        let Some(text) = self.secrets.lock().get("session") else {
            return;
        };
        let Ok(kept) = serde_json::from_str::<KeptSession>(text.expose()) else {
            return;
        };
        let session = Session {
            server: kept.server,
            user: kept.user,
            role: kept.role,
            administrator: kept.administrator,
            scopes: kept.scopes,
            token: Secret::default(),
            refresh: Some(kept.refresh),
            expires_at: OffsetDateTime::UNIX_EPOCH,
        };
        let manager = SessionManager::new(SessionConfig {
            pins: self.pins.clone(),
            ..SessionConfig::default()
        });
        if let Ok(session) = manager.start(SessionStart::Token(session)).await {
            self.use_session(manager, &session, false);
            self.enter_lobby();
        }
    }

    /// Signs out; the server is told, and the kept token is forgotten even when it cannot be.
    pub async fn sign_out(&self) -> Answer<()> {
        self.leave_now().await;
        let session = self.update(|m| {
            m.screen = Screen::SignIn;
            m.session.take()
        });
        self.close_preview();
        let _ = self.secrets.lock().remove("session");
        if let Some(session) = session {
            let told = session.manager.stop().await;
            if session.trial {
                self.host_stop().await?;
                self.update(|m| m.screen = Screen::Welcome);
            }
            if let Err(error) = told {
                tracing::info!(%error, "signed out here; the server could not be told");
            }
        }
        Ok(())
    }

    fn ask_about_certificate(&self, error: &SessionError, server: &Url, form: &SignIn) {
        let pending = match error {
            SessionError::TlsUnknown { fingerprint, .. } => (fingerprint.to_string(), None, Some(form.clone())),
            SessionError::TlsChanged { expected, found, .. } => (found.to_string(), Some(expected.to_string()), None),
            _ => return,
        };
        let (fingerprint, changed_from, retry) = pending;
        let view = CertificateView {
            server: server.as_str().trim_end_matches('/').into(),
            fingerprint: fingerprint.clone(),
            changed_from,
        };
        let authority = confab_client::tls::Pins::authority(server);
        self.update(|m| {
            m.certificate = Some(PendingCertificate {
                view,
                retry,
                authority,
                fingerprint,
            })
        });
    }

    /// The person's decision about a certificate. A changed key cannot be accepted here.
    pub async fn accept_certificate(&self, accept: bool) -> Answer<()> {
        let Some(pending) = self.update(|m| m.certificate.take()) else {
            return Ok(());
        };
        let (true, Some(form)) = (accept, pending.retry) else {
            return Ok(());
        };
        if let Ok(key) = pending.fingerprint.parse() {
            self.pins.insert(pending.authority.clone(), key);
            self.remember(|s| {
                s.pins.insert(pending.authority, pending.fingerprint);
            });
        }
        self.sign_in(form).await
    }
}

/// This computer's name, for the list of sessions.
fn device_name() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    format!(
        "Confab on {}",
        if name.is_empty() { std::env::consts::OS } else { name }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_means_https_and_this_computer_means_http() {
        assert_eq!(
            server_url("calls.example.org").unwrap().as_str(),
            "https://calls.example.org/"
        );
        assert_eq!(
            server_url(" 127.0.0.1:7880/ ").unwrap().as_str(),
            "http://127.0.0.1:7880/"
        );
        assert_eq!(server_url("ftp://x").unwrap_err().field.as_deref(), Some("server"));
        assert_eq!(server_url("").unwrap_err().code, "bad_address");
    }
}
