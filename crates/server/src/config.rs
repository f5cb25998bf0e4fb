//! What a server is started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use confab_types::Secret;

use crate::engine::MediaEngine;

/// Encryption of REST and signalling. (Media is always encrypted.)
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Off on loopback, self-signed beyond it.
    #[default]
    Auto,
    /// Plain, for loopback or behind a proxy.
    Off,
    /// A certificate of the server's own, kept in the data folder.
    SelfSigned,
    /// Certificate chain and key, as PEM files.
    Files {
        /// The chain, the server's certificate first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Changes what the database is opened with.
pub type ControlChange = Arc<dyn Fn(&mut confab_control::ControlConfig) + Send + Sync>;

/// A server's settings.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where REST and signalling listen. Port 0 picks one.
    pub listen: SocketAddr,
    /// UDP and TCP port of all media. 0 picks one.
    pub media_port: u16,
    /// The folder of database, keys and console socket.
    pub data: PathBuf,
    /// The address that clients see, where a NAT stands between.
    pub public_address: Option<IpAddr>,
    /// Encryption.
    pub tls: TlsMode,
    /// API keys, name and secret; none: a pair is made at first run and kept.
    pub keys: Vec<(String, Secret)>,
    /// With OpenVidu's sample accounts. Refused beyond loopback.
    pub demo: bool,
    /// Another media engine than the embedded one.
    pub engine: Option<Arc<dyn MediaEngine>>,
    /// Changes what the database is opened with (times, hashing cost), for tests.
    pub control: Option<ControlChange>,
}

impl ServerConfig {
    /// Loopback, free ports, this folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            media_port: 0,
            data: data.into(),
            public_address: None,
            tls: TlsMode::Auto,
            keys: Vec::new(),
            demo: false,
            engine: None,
            control: None,
        }
    }
}
