//! The actions around hosting: *Host on this computer*, and *Try a call* with its companion.

use confab_client::api::SessionStart;
use confab_client::session::{SessionConfig, SessionManager};
use confab_types::Secret;
use tokio_util::sync::CancellationToken;

use crate::dto::{Busy, HostOptions, HostingView, SignIn, UiError};
use crate::hosting::{Host, HostError, HostPlan};
use crate::shell::{Answer, Shell};

/// The room of a trial call, as in OpenVidu's tutorial.
pub const TRIAL_ROOM: &str = "TUTORIAL";
/// The demo accounts' password; such a server listens on this computer only.
const DEMO_PASSWORD: &str = "pass";
/// Port for signalling, LiveKit's usual one.
const PORT: u16 = 7880;
/// Port for media, UDP and TCP.
const MEDIA_PORT: u16 = 7882;

impl From<HostError> for UiError {
    fn from(error: HostError) -> Self {
        Self::new(
            "hosting_failed",
            &format!("{error}; see server.log in the data folder, or try another port"),
        )
    }
}

impl Shell {
    /// Hosts a throw-away server here, signs in as publisher1 and meets the companion.
    pub async fn try_a_call(&self) -> Answer<()> {
        let busy = self.begin(Busy::StartingTrial)?;
        self.leave_now().await;
        self.stop_host().await;
        let host = Host::start_trial().await?;
        let server = host.ready.url.clone();
        self.show_host(&host, true);
        *self.host.lock().await = Some(host);

        let manager = SessionManager::new(SessionConfig {
            pins: self.pins.clone(),
            ..SessionConfig::default()
        });
        let session = manager
            .start(SessionStart::Credentials {
                server: server.clone(),
                user: "publisher1".into(),
                password: Secret::new(DEMO_PASSWORD),
                scopes: None,
                device: None,
            })
            .await?;
        self.use_session(manager, &session, true);
        self.update(|m| m.lobby.room = TRIAL_ROOM.into());
        drop(busy);
        self.join_call().await?;
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        self.spawn(async move {
            let companion = confab_bot::companion(
                server,
                "publisher2",
                Secret::new(DEMO_PASSWORD),
                TRIAL_ROOM,
                "Robin",
                stop,
            );
            if let Err(error) = companion.await {
                tracing::warn!(%error, "the companion could not join");
            }
        });
        self.update(|m| {
            if let Some(call) = m.call.as_mut() {
                call.companion = Some(guard);
            }
        });
        Ok(())
    }

    /// Hosts for others, or for this computer alone, with the data kept.
    pub async fn host_start(&self, options: HostOptions) -> Answer<()> {
        if options.admin_password.chars().count() < 8 {
            let sentence = "the password is too short; use 8 characters or more";
            return Err(UiError::new("password_too_short", sentence).at("password"));
        }
        let busy = self.begin(Busy::StartingHost)?;
        self.stop_host().await;
        let address = if options.public { "0.0.0.0" } else { "127.0.0.1" };
        let password = Secret::new(options.admin_password.clone());
        let host = Host::start(&HostPlan {
            listen: format!("{address}:{PORT}"),
            media_port: MEDIA_PORT,
            data: self.data.join("host"),
            demo: false,
            administrator: Some((options.admin_user.clone(), password)),
        })
        .await?;
        let own_url = own_url(&host);
        if let (Some(key), Ok(url)) = (
            host.ready.fingerprint.as_deref().and_then(|f| f.parse().ok()),
            own_url.parse(),
        ) {
            self.pins.accept(&url, key);
        }
        self.show_host(&host, false);
        *self.host.lock().await = Some(host);
        self.watch_host();
        drop(busy);
        self.sign_in(SignIn {
            server: own_url,
            user: options.admin_user,
            password: options.admin_password,
        })
        .await
    }

    /// Stops hosting; everyone in calls here is told.
    pub async fn host_stop(&self) -> Answer<()> {
        self.stop_host().await;
        Ok(())
    }

    async fn stop_host(&self) {
        let host = self.host.lock().await.take();
        self.update(|m| m.hosting = None);
        if let Some(host) = host {
            host.stop().await;
        }
    }

    fn show_host(&self, host: &Host, trial: bool) {
        let url = shown_url(host);
        let fingerprint = host.ready.fingerprint.clone();
        self.update(|m| {
            m.hosting = Some(HostingView {
                url,
                fingerprint,
                trial,
            })
        });
    }

    /// Notices when the server's process ends by itself.
    fn watch_host(&self) {
        let shell = self.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                let mut host = shell.host.lock().await;
                let Some(running) = host.as_mut() else { return };
                if running.has_ended() {
                    *host = None;
                    shell.update(|m| m.hosting = None);
                    shell.toast(
                        "The call server on this computer stopped. Start hosting again; server.log says why.",
                        true,
                    );
                    return;
                }
            }
        });
    }
}

/// The host's own way to it.
fn own_url(host: &Host) -> String {
    let mut url = host.ready.url.clone();
    if url.host_str() == Some("0.0.0.0") {
        let _ = url.set_host(Some("127.0.0.1"));
    }
    url.as_str().trim_end_matches('/').to_owned()
}

/// What to tell others: this computer's name where the server listens beyond it.
fn shown_url(host: &Host) -> String {
    let mut url = host.ready.url.clone();
    if url.host_str() == Some("0.0.0.0") {
        let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let _ = url.set_host(Some(name.trim()).filter(|n| !n.is_empty()).or(Some("127.0.0.1")));
    }
    url.as_str().trim_end_matches('/').to_owned()
}
