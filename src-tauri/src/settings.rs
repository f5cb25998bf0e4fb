//! What the app remembers between starts, apart from secrets: servers, names,
//! choices, accepted certificates. One JSON file, written whole and renamed into
//! place, so that a crash leaves the old or the new one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dto::KnownServer;

/// The most servers remembered.
const MAX_SERVERS: usize = 12;

/// The file's content. Unknown fields of a newer version are dropped, missing ones get their default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Newest first.
    pub servers: Vec<KnownServer>,
    /// Room last joined.
    pub room: String,
    /// Nickname last used.
    pub nickname: String,
    /// LOW, MEDIUM or HIGH; empty: MEDIUM.
    pub quality: String,
    /// Chosen camera.
    pub camera: Option<String>,
    /// Chosen microphone.
    pub microphone: Option<String>,
    /// Chosen speaker.
    pub speaker: Option<String>,
    /// Joined with the camera off last time.
    pub camera_off: bool,
    /// Joined with the microphone off last time.
    pub microphone_off: bool,
    /// Accepted certificates: host:port to the SHA-256 of the key (hex).
    pub pins: BTreeMap<String, String>,
    /// The notice about the tray was shown.
    pub tray_notice_shown: bool,
}

/// The file.
#[derive(Debug, Clone)]
pub struct SettingsFile(PathBuf);

impl SettingsFile {
    /// In this folder, which is made if need be.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.join("settings.json")))
    }

    /// Reads it; a missing or broken file gives the defaults (a broken one is kept beside as `.broken`).
    pub fn load(&self) -> Settings {
        let Ok(text) = std::fs::read_to_string(&self.0) else {
            return Settings::default();
        };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the settings file is broken; starting with defaults");
            let _ = std::fs::rename(&self.0, self.0.with_extension("broken"));
            Settings::default()
        })
    }

    /// Writes it.
    pub fn save(&self, settings: &Settings) -> io::Result<()> {
        let new = self.0.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(settings)?)?;
        std::fs::rename(new, &self.0)
    }
}

impl Settings {
    /// Puts a server first.
    pub fn remember_server(&mut self, url: &str, user: &str) {
        self.servers.retain(|s| s.url != url);
        self.servers.insert(
            0,
            KnownServer {
                url: url.to_owned(),
                user: Some(user.to_owned()),
            },
        );
        self.servers.truncate(MAX_SERVERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_gives_defaults_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = SettingsFile::in_folder(folder.path()).unwrap();
        std::fs::write(folder.path().join("settings.json"), "{ not json").unwrap();
        assert!(file.load().servers.is_empty());
        assert!(folder.path().join("settings.broken").exists());
    }

    #[test]
    fn the_server_used_last_comes_first() {
        let mut settings = Settings::default();
        settings.remember_server("https://a", "ada");
        settings.remember_server("https://b", "bob");
        settings.remember_server("https://a", "eve");
        let urls: Vec<_> = settings.servers.iter().map(|s| s.url.as_str()).collect();
        assert_eq!(urls, ["https://a", "https://b"]);
        assert_eq!(settings.servers[0].user.as_deref(), Some("eve"));
    }
}
