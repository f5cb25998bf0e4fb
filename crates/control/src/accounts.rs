//! Accounts and their passwords.

use confab_types::{Role, Secret, UserName};
use thiserror::Error;
use time::OffsetDateTime;

use crate::{Control, StorageError, VoidedAdmission};

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
        todo!("{new:?}")
    }

    /// Every account, by name.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, AccountError> {
        todo!()
    }

    /// One account.
    pub async fn account(&self, name: &UserName) -> Result<Account, AccountError> {
        todo!("{name}")
    }

    /// Removes an account, ends its sessions and voids its admissions.
    pub async fn remove_account(&self, name: &UserName) -> Result<RemovedAccount, AccountError> {
        todo!("{name}")
    }

    /// Changes the role, and the right to administer if given. Open sessions keep no scope that the new role does not allow.
    pub async fn set_role(
        &self,
        name: &UserName,
        role: Role,
        administrator: Option<bool>,
    ) -> Result<Account, AccountError> {
        todo!("{name} {role:?} {administrator:?}")
    }

    /// Changes the password and ends every session of the account.
    pub async fn set_password(&self, name: &UserName, password: &Secret) -> Result<(), AccountError> {
        todo!("{name} {password:?}")
    }
}
