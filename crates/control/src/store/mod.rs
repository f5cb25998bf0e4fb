//! The database: connections, transactions, schema, and how values are written.
//! SQL lives in this folder only; it decides nothing.

pub(crate) mod admissions;
pub(crate) mod keys;
pub(crate) mod rooms;
pub(crate) mod sessions;
pub(crate) mod users;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool, Transaction};
use time::OffsetDateTime;

use crate::StorageError;

/// What statements run on: a transaction or a reading connection.
pub(crate) type Conn = SqliteConnection;

/// A row of an answer.
pub(crate) type DbRow = SqliteRow;

/// How long a statement waits for another process (a backup tool, say) to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an operation waits for a connection before it is refused as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection that writes, in turn; a few that read beside it (WAL).
#[derive(Clone)]
pub(crate) struct Db {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Db {
    /// Opens or makes the file. Each commit is on the disk before it is acknowledged.
    pub(crate) async fn open(file: &Path) -> Result<Self, StorageError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).min_connections(1).connect_with(options.clone()).await?;
        let reader = pool(4).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { writer, reader })
    }

    /// Brings the schema up to date.
    pub(crate) async fn migrate(&self) -> Result<(), MigrateError> {
        migrator().run(&self.writer).await
    }

    /// A transaction that nobody else writes beside. Dropped without a commit, it never was.
    pub(crate) async fn write(&self) -> Result<Write, StorageError> {
        match self.begin().await {
            // SQLite ends a transaction by itself when the disk is full or fails. sqlx counts it as open from then
            // on (its ROLLBACK finds none), and would refuse every later one on that connection: make a new one.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                Ok(Write(self.begin().await?))
            }
            begun => Ok(Write(begun?)),
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// A connection to read with; sees everything acknowledged.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>, StorageError> {
        Ok(self.reader.acquire().await?)
    }

    /// Checkpoints and closes.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// A writing transaction.
pub(crate) struct Write(Transaction<'static, Sqlite>);

impl Write {
    /// The connection to run statements on.
    pub(crate) fn conn(&mut self) -> &mut Conn {
        &mut self.0
    }

    /// Makes it last.
    pub(crate) async fn commit(self) -> Result<(), StorageError> {
        Ok(self.0.commit().await?)
    }
}

fn migrator() -> Migrator {
    let first = include_str!("../../migrations/0001_start.sql").into_sql_str();
    Migrator::with_migrations(vec![Migration::new(
        1,
        "start".into(),
        MigrationType::Simple,
        first,
        false,
    )])
}

/// A time as it is stored.
pub(crate) fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// A stored time.
pub(crate) fn time(millis: i64) -> Result<OffsetDateTime, StorageError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .map_err(|_| StorageError::Corrupt { what: "time" })
}

/// A stored text of a checked type.
pub(crate) fn parsed<T: FromStr>(row: &DbRow, column: &'static str) -> Result<T, StorageError> {
    text(row, column)?
        .parse()
        .map_err(|_| StorageError::Corrupt { what: column })
}

/// The same, where there may be none.
pub(crate) fn parsed_opt<T: FromStr>(row: &DbRow, column: &'static str) -> Result<Option<T>, StorageError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| StorageError::Corrupt { what: column }))
        .transpose()
}

/// A stored text.
pub(crate) fn text(row: &DbRow, column: &'static str) -> Result<String, StorageError> {
    Ok(row.try_get(column)?)
}

/// A stored number or time in milliseconds.
pub(crate) fn number(row: &DbRow, column: &'static str) -> Result<i64, StorageError> {
    Ok(row.try_get(column)?)
}

/// Whether this failed because a row of that key is there already.
pub(crate) fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(db) if db.is_unique_violation())
}
