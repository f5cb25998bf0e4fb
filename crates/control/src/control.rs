//! The handle everything is reached through, and how a data folder is opened.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use confab_types::{Role, Secret};
use parking_lot::{Mutex, RwLock};
use time::OffsetDateTime;

use crate::jwt::KeyRing;
use crate::limiter::Limiter;
use crate::passwords::Hasher;
use crate::store::{self, Db, millis};
use crate::{AccountError, ApiKey, ControlConfig, NewAccount, OpenError, StorageError};

/// The database in the data folder.
const DATABASE: &str = "confab.db";
/// Locked by whoever works on the folder.
const LOCK: &str = "confab.lock";

/// Accounts, sessions, tokens, keys, rooms and admissions of one data folder. Clones share everything.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ControlConfig,
    pub(crate) db: Db,
    pub(crate) hasher: Hasher,
    pub(crate) limiter: Mutex<Limiter>,
    pub(crate) keys: RwLock<KeyRing>,
    pub(crate) default_key: Option<ApiKey>,
    /// Derives successors of refresh tokens.
    pub(crate) rotation_key: Secret,
    /// Held for as long as the folder is open.
    _lock: File,
}

impl Control {
    /// Opens the folder for a server: brings the schema up to date, makes keys and demo accounts,
    /// and turns the admissions that an older run left active into departing ones (60 s).
    pub async fn open(config: ControlConfig) -> Result<Self, OpenError> {
        let control = Self::open_for_commands(config).await?;
        let mut write = control.inner.db.write().await?;
        let until = control.inner.now() + control.inner.config.limits.departing_after_restart;
        let waiting = store::admissions::depart_all(write.conn(), millis(until)).await?;
        write.commit().await?;
        if waiting > 0 {
            tracing::info!(waiting, "people of the last run may come back");
        }
        Ok(control)
    }

    /// Opens the folder for one command while no server runs ([`OpenError::InUse`] if one does: ask it instead).
    /// Touches no admission.
    pub async fn open_for_commands(config: ControlConfig) -> Result<Self, OpenError> {
        let lock = lock_folder(&config.data_dir)?;
        let database = config.data_dir.join(DATABASE);
        open_private(&database).map_err(|source| OpenError::Folder {
            path: database.clone(),
            source,
        })?;
        let db = Db::open(&database).await?;
        db.migrate().await.map_err(OpenError::Migrate)?;

        let mut write = db.write().await?;
        let own = crate::keys::own_secret(write.conn(), &config, "room_tokens").await?;
        let rotation_key = crate::keys::own_secret(write.conn(), &config, "refresh_tokens").await?;
        let (keys, default_key) = crate::keys::load(write.conn(), &config, own).await?;
        write.commit().await?;

        let (cost, entropy) = (config.hash_cost, Arc::clone(&config.entropy));
        let hasher = tokio::task::spawn_blocking(move || Hasher::new(cost, entropy)).await;
        let demo = config.demo;
        let inner = Inner {
            hasher: hasher.map_err(|_| StorageError::Busy)?,
            limiter: Mutex::new(Limiter::new(&config.limits)),
            keys: RwLock::new(keys),
            config,
            db,
            default_key,
            rotation_key,
            _lock: lock,
        };
        let control = Self { inner: Arc::new(inner) };
        if demo {
            control.add_demo_accounts().await?;
        }
        Ok(control)
    }

    /// Writes everything out. The folder is free for another once the last clone is gone.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// The accounts of OpenVidu's sample; those that are there already stay as they are.
    async fn add_demo_accounts(&self) -> Result<(), AccountError> {
        let accounts = [
            ("publisher1", Role::Publisher, false),
            ("publisher2", Role::Publisher, false),
            ("subscriber", Role::Subscriber, false),
            ("moderator", Role::Moderator, false),
            ("admin", Role::Moderator, true),
        ];
        for (name, role, administrator) in accounts {
            let name = name.parse().expect("the demo names are valid");
            let password = Secret::new("pass");
            match self.account(&name).await {
                Ok(_) => continue,
                Err(AccountError::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
            match self
                .add_account(NewAccount {
                    name,
                    password,
                    role,
                    administrator,
                })
                .await
            {
                Ok(_) | Err(AccountError::Exists(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

impl Inner {
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.config.clock.now()
    }

    /// The time as the database has it.
    pub(crate) fn now_millis(&self) -> i64 {
        millis(self.now())
    }

    /// That many random bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.config.entropy.fill(&mut bytes);
        bytes
    }

    /// A random id that nobody can guess.
    pub(crate) fn random_id(&self) -> String {
        uuid::Builder::from_random_bytes(self.random()).into_uuid().to_string()
    }
}

/// Makes the folder, for its owner alone, and locks it.
fn lock_folder(dir: &Path) -> Result<File, OpenError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| OpenError::Folder {
        path: dir.to_owned(),
        source,
    })?;
    let path = dir.join(LOCK);
    let lock = open_private(&path).map_err(|source| OpenError::Folder {
        path: path.clone(),
        source,
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Folder { path, source }),
    }
}

/// Opens or makes a file that only its owner may read: the database holds keys, and SQLite gives its side files
/// the same mode.
fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
