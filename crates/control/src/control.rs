//! The handle everything is reached through.

use std::sync::Arc;

use crate::{ControlConfig, OpenError};

/// Accounts, sessions, tokens, keys, rooms and admissions of one data folder. Clones share everything.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ControlConfig,
}

impl Control {
    /// Opens the folder for a server: brings the schema up to date, makes keys and demo accounts,
    /// and turns the admissions that an older run left active into departing ones (60 s).
    pub async fn open(config: ControlConfig) -> Result<Self, OpenError> {
        todo!("{:?}", config.data_dir)
    }

    /// Opens the folder for one command while no server runs ([`OpenError::InUse`] if one does: ask it instead).
    /// Touches no admission.
    pub async fn open_for_commands(config: ControlConfig) -> Result<Self, OpenError> {
        todo!("{:?}", config.data_dir)
    }

    /// Writes everything out and lets go of the folder.
    pub async fn close(&self) {
        todo!("{:?}", self.inner.config.data_dir)
    }
}
