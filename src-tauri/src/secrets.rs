//! Where refresh tokens are kept: the system's keychain, or, where none runs, a
//! file that only the owner can read; the app says which. Passwords are never kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use confab_types::Secret;

/// The service's name in the keychain.
const SERVICE: &str = "app.confab.Confab";

/// The keychain or the file.
#[derive(Debug, Clone)]
pub struct SecretStore {
    file: PathBuf,
    folder: String,
    in_file: bool,
}

impl SecretStore {
    /// Uses the keychain if one answers. A named `--data` folder is part of the entry's name, so that windows with
    /// different folders keep apart.
    pub fn open(folder: &Path) -> Self {
        let in_file = keyring::Entry::store_status().is_err();
        Self {
            file: folder.join("secrets.json"),
            folder: folder.display().to_string(),
            in_file,
        }
    }

    /// Secrets lie in a file for want of a keychain.
    pub fn in_file(&self) -> bool {
        self.in_file
    }

    /// Keeps a secret under a name (the server's URL and the user).
    pub fn set(&mut self, name: &str, secret: &Secret) -> io::Result<()> {
        if !self.in_file {
            match self.entry(name).and_then(|e| e.set_password(secret.expose())) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "the keychain refused; using a file");
                    self.in_file = true;
                }
            }
        }
        let mut all = self.read_file();
        all.insert(name.to_owned(), secret.clone());
        self.write_file(&all)
    }

    /// Gives a secret back.
    pub fn get(&self, name: &str) -> Option<Secret> {
        if self.in_file {
            return self.read_file().remove(name);
        }
        self.entry(name).and_then(|e| e.get_password()).ok().map(Secret::from)
    }

    /// Forgets a secret.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if self.in_file {
            let mut all = self.read_file();
            all.remove(name);
            return self.write_file(&all);
        }
        self.entry(name).and_then(|e| e.delete_credential()).ok();
        Ok(())
    }

    fn entry(&self, name: &str) -> keyring::Result<keyring::Entry> {
        keyring::Entry::new(SERVICE, &format!("{name} ({})", self.folder))
    }

    fn read_file(&self) -> BTreeMap<String, Secret> {
        std::fs::read(&self.file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn write_file(&self, all: &BTreeMap<String, Secret>) -> io::Result<()> {
        use std::io::Write as _;
        let new = self.file.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&new)?.write_all(&serde_json::to_vec(all)?)?;
        std::fs::rename(new, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_file_is_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SecretStore {
            file: folder.path().join("secrets.json"),
            folder: String::new(),
            in_file: true,
        };
        store.set("https://a ada", &Secret::new("token")).unwrap();
        assert_eq!(store.get("https://a ada"), Some(Secret::new("token")));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&store.file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        store.remove("https://a ada").unwrap();
        assert_eq!(store.get("https://a ada"), None);
    }
}
