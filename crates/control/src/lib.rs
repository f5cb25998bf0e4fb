//! Accounts, sessions, tokens, API keys, room rows, admissions, and their
//! storage. Everything is reached through [`Control`], a cheap clone.
//!
//! Must not know of sockets, HTTP, signalling messages or media. It reads no
//! clock and draws no randomness but through [`Clock`] and [`Entropy`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accounts;
mod admissions;
mod clock;
mod config;
mod control;
mod entropy;
mod error;
mod jwt;
mod keys;
mod limiter;
mod passwords;
mod room_tokens;
mod rooms;
mod sessions;
mod store;

pub use accounts::{Account, AccountError, NewAccount, PasswordRule, RemovedAccount};
pub use admissions::{
    AdmissionError, AdmissionId, AdmissionState, AdmitError, Admitted, JoinCheck, RemoveUserError, RemovedUser, Swept,
    VoidedAdmission,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{ControlConfig, HashCost, Limits};
pub use control::Control;
pub use entropy::{Entropy, OsEntropy};
pub use error::{OpenError, StorageError};
pub use keys::{ApiCredentials, ApiKey, ApiKeyInfo, KeyError, KeySource};
pub use room_tokens::{
    AdmissionView, ApiGrant, ApiTokenError, IssuedRoomToken, RefreshedRoomToken, RoomTokenError, TokenIssuer,
    TokenRejected, VerifiedToken,
};
pub use rooms::{EndReason, OpenedRoom, Room, RoomError, RoomOptions, RoomOrigin, RoomSettings, RoomSettingsChange};
pub use sessions::{
    AuthError, AuthSession, BackendTokenError, BackendTokenRequest, LoginError, LoginRequest, RefreshError, SessionId,
    SignedIn, UserId,
};
