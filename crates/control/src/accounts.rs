//! Accounts and their passwords.

use confab_types::{Role, Secret, UserName};
use thiserror::Error;
use time::OffsetDateTime;

use crate::sessions::UserId;
use crate::store::users::{self, UserRow};
use crate::{Control, StorageError, VoidedAdmission, passwords, store};

/// An account as shown to an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: UserName,
    /// Its role in rooms.
    pub role: Role,
    /// Whether it administers the server.
    pub administrator: bool,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// An account to add.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its name. No other account may have it, in whatever letter case.
    pub name: UserName,
    /// 1 to 1024 bytes.
    pub password: Secret,
    /// Its role in rooms.
    pub role: Role,
    /// Whether it administers the server.
    pub administrator: bool,
}

/// What removing an account did.
#[derive(Debug, Clone, Default)]
pub struct RemovedAccount {
    /// The person's admissions, now void. Those with a participant are in a call and must be disconnected.
    pub voided: Vec<VoidedAdmission>,
}

/// Why a password cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PasswordRule {
    /// No byte at all.
    #[error("the password is empty")]
    Empty,
    /// More than 1024 bytes.
    #[error("the password has more than 1024 bytes")]
    TooLong,
}

/// Why an account was not added, found or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccountError {
    /// An account of that name is there already.
    #[error("the user {0} exists already")]
    Exists(UserName),
    /// There is none.
    #[error("there is no user {0}")]
    NotFound(UserName),
    /// Empty or too long.
    #[error(transparent)]
    Password(#[from] PasswordRule),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Control {
    /// Adds an account.
    pub async fn add_account(&self, new: NewAccount) -> Result<Account, AccountError> {
        passwords::check(&new.password)?;
        let inner = &self.inner;
        let phc = inner.hasher.hash(inner.hasher.turn().await?, &new.password).await?;
        let account = Account {
            name: new.name,
            role: new.role,
            administrator: new.administrator,
            created_at: whole_millis(inner.now()),
        };
        let row = UserRow {
            id: UserId(inner.random_id()),
            account,
        };
        let mut write = inner.db.write().await?;
        if !users::insert(write.conn(), &row, &phc).await? {
            return Err(AccountError::Exists(row.account.name));
        }
        write.commit().await?;
        tracing::info!(user = %row.account.name, role = row.account.role.as_str(), "account added");
        Ok(row.account)
    }

    /// Every account, by name.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, AccountError> {
        let mut read = self.inner.db.read().await?;
        Ok(users::list(&mut read)
            .await?
            .into_iter()
            .map(|row| row.account)
            .collect())
    }

    /// One account.
    pub async fn account(&self, name: &UserName) -> Result<Account, AccountError> {
        let mut read = self.inner.db.read().await?;
        Ok(find(&mut read, name).await?.account)
    }

    /// Removes an account, ends its sessions and voids its admissions.
    pub async fn remove_account(&self, name: &UserName) -> Result<RemovedAccount, AccountError> {
        let now = self.inner.now_millis();
        let mut write = self.inner.db.write().await?;
        let row = find(write.conn(), name).await?;
        let mut voided = Vec::new();
        for admission in store::admissions::list_living_of_user(write.conn(), &row.id).await? {
            store::admissions::set_void(write.conn(), &admission.id, now).await?;
            voided.push(admission.voided());
        }
        store::rooms::forget_creator(write.conn(), name).await?;
        users::delete(write.conn(), &row.id).await?;
        write.commit().await?;
        tracing::info!(user = %name, "account removed");
        Ok(RemovedAccount { voided })
    }

    /// Changes the role, and the right to administer if given. Open sessions keep no scope that the new role does not allow.
    pub async fn set_role(
        &self,
        name: &UserName,
        role: Role,
        administrator: Option<bool>,
    ) -> Result<Account, AccountError> {
        let mut write = self.inner.db.write().await?;
        let mut row = find(write.conn(), name).await?;
        row.account.role = role;
        row.account.administrator = administrator.unwrap_or(row.account.administrator);
        users::set_role(write.conn(), &row.id, role, row.account.administrator).await?;
        write.commit().await?;
        tracing::info!(user = %name, role = role.as_str(), "role changed");
        Ok(row.account)
    }

    /// Changes the password and ends every session of the account.
    pub async fn set_password(&self, name: &UserName, password: &Secret) -> Result<(), AccountError> {
        passwords::check(password)?;
        let inner = &self.inner;
        self.account(name).await?;
        let phc = inner.hasher.hash(inner.hasher.turn().await?, password).await?;
        let now = inner.now_millis();
        let mut write = inner.db.write().await?;
        let row = find(write.conn(), name).await?;
        users::set_password(write.conn(), &row.id, &phc, now).await?;
        store::sessions::end_all_of_user(write.conn(), &row.id, now).await?;
        write.commit().await?;
        tracing::info!(user = %name, "password changed");
        Ok(())
    }
}

async fn find(conn: &mut store::Conn, name: &UserName) -> Result<UserRow, AccountError> {
    users::find(conn, name)
        .await?
        .ok_or_else(|| AccountError::NotFound(name.clone()))
}

/// As exact as the database keeps it, so that what is returned and what is read later are the same.
fn whole_millis(time: OffsetDateTime) -> OffsetDateTime {
    store::time(store::millis(time)).unwrap_or(time)
}
