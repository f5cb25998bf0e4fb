//! The shell's centre: one model behind one lock, a runtime of its own for calls,
//! and the task that tells the page what changed. The actions live in the modules
//! beside it (`account`, `lobby`, `call`, `host`); commands only forward to them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use confab_client::tls::{Fingerprint, Pins};
use parking_lot::Mutex;
use tauri::{AppHandle, Emitter as _};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::Args;
use crate::dto::{AppState, Busy, Toast, UiError};
use crate::frames::{FrameHub, FrameSocket};
use crate::hosting::Host;
use crate::lobby::Lobby;
use crate::model::Model;
use crate::secrets::SecretStore;
use crate::settings::{Settings, SettingsFile};

/// The page is told of changes at most this often.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// What every command answers.
pub type Answer<T> = Result<T, UiError>;

/// The shell. Cheap to clone.
#[derive(Clone)]
pub struct Shell(Arc<Inner>);

/// Its parts; crate-wide so that the action modules reach them.
pub struct Inner {
    /// The command line.
    pub args: Args,
    /// The folder of everything kept.
    pub data: std::path::PathBuf,
    /// Calls run here.
    pub runtime: Handle,
    /// Pictures for the page.
    pub hub: FrameHub,
    /// Accepted certificates, shared by every session.
    pub pins: Pins,
    /// Tokens at rest.
    pub secrets: Mutex<SecretStore>,
    /// The call server's process, when hosting.
    pub host: tokio::sync::Mutex<Option<Host>>,
    /// Every task of the shell.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
    model: Mutex<Model>,
    changed: watch::Sender<u64>,
    settings_file: SettingsFile,
    frames: OnceCell<Option<FrameSocket>>,
    app: OnceCell<AppHandle>,
}

impl std::ops::Deref for Shell {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Shell {
    /// Reads what is kept in `data`.
    pub fn open(args: Args, data: std::path::PathBuf, runtime: Handle) -> std::io::Result<Self> {
        let settings_file = SettingsFile::in_folder(&data)?;
        let settings = settings_file.load();
        let pins = Pins::default();
        for (authority, key) in &settings.pins {
            match key.parse::<Fingerprint>() {
                Ok(key) => pins.insert(authority.clone(), key),
                Err(_) => tracing::warn!(
                    authority,
                    "a kept fingerprint cannot be read; it will be asked for again"
                ),
            }
        }
        let lobby = Lobby::new(&settings, &args);
        Ok(Self(Arc::new(Inner {
            secrets: Mutex::new(SecretStore::open(&data)),
            data,
            runtime,
            hub: FrameHub::default(),
            pins,
            host: tokio::sync::Mutex::new(None),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            model: Mutex::new(Model::new(settings, lobby)),
            changed: watch::Sender::new(0),
            settings_file,
            frames: OnceCell::new(),
            app: OnceCell::new(),
            args,
        })))
    }

    /// Runs a future on the calls' runtime, in the shell's care; it ends with the shell.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn_on(
            async move {
                stop.run_until_cancelled(future).await;
            },
            &self.runtime,
        );
    }

    /// Runs an action of a command on the calls' runtime.
    pub async fn run<F, T>(&self, future: F) -> Answer<T>
    where
        F: Future<Output = Answer<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.runtime.spawn(future).await.unwrap_or_else(|fault| {
            tracing::error!(%fault, "a command failed");
            Err(UiError::new(
                "internal",
                "something went wrong inside the app; try again",
            ))
        })
    }

    /// Looks at the model.
    pub fn read<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&self.model.lock())
    }

    /// Changes the model and tells the page.
    pub fn update<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        let result = change(&mut self.model.lock());
        self.tell();
        result
    }

    /// Tells the page that something it draws changed.
    pub fn tell(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Changes the settings, on disk too.
    pub fn remember(&self, change: impl FnOnce(&mut Settings)) {
        let settings = self.update(|m| {
            change(&mut m.settings);
            m.settings.clone()
        });
        if let Err(error) = self.settings_file.save(&settings) {
            tracing::warn!(%error, "settings could not be saved");
        }
    }

    /// Everything the page shows.
    pub fn state(&self) -> AppState {
        self.read(|m| m.view(&self.hub, Instant::now()))
    }

    /// Marks a long action; a second one of any kind is refused while it runs.
    pub fn begin(&self, what: Busy) -> Answer<BusyGuard> {
        self.update(|m| match m.busy {
            Some(_) => Err(UiError::new(
                "busy",
                "something else is still running; wait a moment and try again",
            )),
            None => {
                m.busy = Some(what);
                Ok(BusyGuard(self.clone()))
            }
        })
    }

    /// Shows a short notice.
    pub fn toast(&self, text: impl Into<String>, error: bool) {
        let kind = if error { "error" } else { "info" };
        let toast = Toast {
            text: text.into(),
            kind: kind.into(),
            action: None,
        };
        if let Some(app) = self.app.get() {
            let _ = app.emit("toast", toast);
        }
    }

    /// Starts telling the page of changes.
    pub fn attach(&self, app: AppHandle) {
        if self.app.set(app.clone()).is_err() {
            return;
        }
        let (shell, mut changed) = (self.clone(), self.changed.subscribe());
        self.spawn(async move {
            while changed.changed().await.is_ok() {
                let _ = app.emit("state", shell.state());
                tokio::time::sleep(TELL_EVERY).await;
            }
        });
    }

    /// The app's handle, once it runs.
    pub fn app(&self) -> Option<&AppHandle> {
        self.app.get()
    }

    /// The socket for pictures, opened at first use; `None` where no port can be opened.
    pub async fn frames(&self) -> Option<&FrameSocket> {
        let open = async {
            let socket = FrameSocket::listen(self.hub.clone(), self.stop.child_token()).await;
            socket
                .inspect_err(|error| tracing::warn!(%error, "no frame socket; frames go by invoke"))
                .ok()
        };
        self.frames.get_or_init(|| open).await.as_ref()
    }
}

/// Ends the busy mark when dropped.
pub struct BusyGuard(Shell);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.update(|m| m.busy = None);
    }
}

/// Now, in ms since 1970, as JavaScript counts.
pub fn now_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|d| d.as_secs_f64() * 1000.0)
        .unwrap_or_default()
}
