//! The server's certificate: made and kept, or read from files. Clients pin the
//! SHA-256 of its SubjectPublicKeyInfo.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::TlsMode;

/// TLS cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM of the right kind.
    #[error("{path} holds no usable PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not go together.
    #[error("certificate and key cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The certificate cannot be read.
    #[error("the certificate in {0} cannot be read")]
    Certificate(PathBuf),
}

/// What TLS is served with.
#[derive(Clone)]
pub struct Tls {
    /// For rustls.
    pub config: Arc<rustls::ServerConfig>,
    /// SPKI SHA-256, as pairs of hex digits with colons.
    pub fingerprint: String,
}

/// `None`: TLS is off.
pub fn set_up(mode: &TlsMode, listen: SocketAddr, data: &Path, names: &[String]) -> Result<Option<Tls>, TlsError> {
    let (certificate, key) = match mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Auto if listen.ip().is_loopback() => return Ok(None),
        TlsMode::Auto | TlsMode::SelfSigned => self_signed(data, names)?,
        TlsMode::Files { certificate, key } => (certificate.clone(), key.clone()),
    };
    load(&certificate, &key).map(Some)
}

/// The kept certificate, made when there is none.
fn self_signed(data: &Path, names: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (data.join("tls-cert.pem"), data.join("tls-key.pem"));
    if !(certificate.exists() && key.exists()) {
        let pair = KeyPair::generate()?;
        let made = CertificateParams::new(names.to_vec())?.self_signed(&pair)?;
        write_private(&key, &pair.serialize_pem())?;
        write_private(&certificate, &made.pem())?;
    }
    Ok((certificate, key))
}

/// Writes a file that only its owner reads.
fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| TlsError::File {
            path: path.to_owned(),
            source,
        })
}

fn load(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .map_err(pem(certificate))?
        .collect::<Result<_, _>>()
        .map_err(pem(certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let unreadable = || TlsError::Certificate(certificate.to_owned());
    let fingerprint = fingerprint(chain.first().ok_or_else(unreadable)?).ok_or_else(unreadable)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    // HTTP/1.1 alone: WebSockets need it, and REST calls are few.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls {
        config: Arc::new(config),
        fingerprint,
    })
}

fn fingerprint(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let digest = Sha256::digest(certificate.public_key().raw);
    Some(digest.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_key_is_kept_private_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "192.0.2.1".to_owned()];
        let wide: SocketAddr = "0.0.0.0:7880".parse().unwrap();
        let first = set_up(&TlsMode::Auto, wide, dir.path(), &names).unwrap().unwrap();
        let second = set_up(&TlsMode::SelfSigned, wide, dir.path(), &names).unwrap().unwrap();
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(first.fingerprint.len(), 32 * 3 - 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join("tls-key.pem"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_certificate_of_ones_own_is_served_and_a_wrong_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let made = set_up(&TlsMode::SelfSigned, listen, dir.path(), &["localhost".to_owned()]).unwrap();
        let files = |certificate: &str, key: &str| TlsMode::Files {
            certificate: dir.path().join(certificate),
            key: dir.path().join(key),
        };
        let given = set_up(&files("tls-cert.pem", "tls-key.pem"), listen, dir.path(), &[]).unwrap();
        assert_eq!(made.unwrap().fingerprint, given.unwrap().fingerprint);
        let error = set_up(&files("missing.pem", "tls-key.pem"), listen, dir.path(), &[])
            .err()
            .unwrap();
        assert!(error.to_string().contains("missing.pem"), "{error}");
    }

    #[test]
    fn loopback_is_plain_unless_asked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            set_up(&TlsMode::Auto, "127.0.0.1:0".parse().unwrap(), dir.path(), &[])
                .unwrap()
                .is_none()
        );
    }
}
