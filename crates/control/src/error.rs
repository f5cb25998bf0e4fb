//! What can go wrong below every operation: storage.

use std::path::PathBuf;

use thiserror::Error;

/// The database did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It cannot take or give anything now: disk full, read-only, busy, broken device. Worth another try later.
    #[error("the storage is not available now")]
    Unavailable(#[source] sqlx::Error),
    /// A statement failed for another reason; a fault of ours.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
    /// A stored value is not one this version writes.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// Which.
        what: &'static str,
    },
    /// Too many passwords wait to be hashed.
    #[error("too many logins at once")]
    Busy,
}

impl StorageError {
    /// Whether it is no fault of ours and may pass (503 rather than 500).
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy)
    }
}

/// SQLite's primary result codes that say "not now": BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN.
const PASSING: [u32; 7] = [5, 6, 7, 8, 10, 13, 14];

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        let passing = match &error {
            sqlx::Error::Database(db) => {
                let code = db.code().and_then(|code| code.parse::<u32>().ok());
                code.is_some_and(|code| PASSING.contains(&(code & 0xff)))
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
            _ => false,
        };
        if passing {
            Self::Unavailable(error)
        } else {
            Self::Database(error)
        }
    }
}

/// Why the data folder could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another server, or a command, works on it right now.
    #[error("{0} is in use by another confab-server")]
    InUse(PathBuf),
    /// The folder or its lock file cannot be made or opened.
    #[error("cannot use the data folder {path}")]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A key of the configuration cannot be used.
    #[error(transparent)]
    Key(#[from] crate::KeyError),
    /// A demo account could not be added.
    #[error(transparent)]
    Account(#[from] crate::AccountError),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
mod tests {
    use confab_types::{Role, Secret};

    use crate::{AccountError, AuthError, Control, ControlConfig, HashCost, LoginRequest, NewAccount};

    async fn add(control: &Control, n: u32) -> Result<(), AccountError> {
        let name = format!("user{n}").parse().unwrap();
        let new = NewAccount {
            name,
            password: Secret::new("pass"),
            role: Role::Publisher,
            administrator: false,
        };
        control.add_account(new).await.map(drop)
    }

    async fn limit_pages(control: &Control, pages: Option<u32>) {
        let mut write = control.inner.db.write().await.unwrap();
        let sql = match pages {
            None => "PRAGMA max_page_count = 1000000".to_owned(),
            Some(pages) => format!("PRAGMA max_page_count = {pages}"),
        };
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(write.conn())
            .await
            .unwrap();
        write.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_as_unavailable_and_recovers_cleanly() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ControlConfig::new(dir.path());
        config.hash_cost = HashCost {
            memory_kib: 8,
            passes: 1,
            ..HashCost::default()
        };
        let control = Control::open(config).await.unwrap();
        add(&control, 0).await.unwrap();
        let password = Secret::new("pass");
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let request = LoginRequest {
            user: "user0",
            password: &password,
            scopes: None,
            device: None,
            address,
        };
        let session = control.login(request).await.unwrap();

        // SQLite takes a lower limit than it uses as "no more than now", and then fails as on a full disk.
        limit_pages(&control, Some(1)).await;
        let mut added = 0;
        let refused = loop {
            match add(&control, added + 1).await {
                Ok(()) => added += 1,
                Err(refused) => break refused,
            }
            assert!(added < 1000, "the limit has no effect");
        };
        assert!(
            matches!(&refused, AccountError::Storage(e) if e.is_unavailable()),
            "{refused:?}"
        );
        assert!(
            control.authenticate(&session.session_token).await.is_ok(),
            "reading goes on"
        );
        assert!(matches!(
            control.authenticate(&password).await,
            Err(AuthError::NotSignedIn)
        ));

        limit_pages(&control, None).await;
        add(&control, added + 1).await.unwrap();
        assert_eq!(
            control.list_accounts().await.unwrap().len() as u32,
            added + 2,
            "nothing half-written is left"
        );
    }
}
