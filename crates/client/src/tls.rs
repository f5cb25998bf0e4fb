//! TLS trust: the platform's roots first, else a key that a person (or an invite) pinned by
//! the SHA-256 of its SubjectPublicKeyInfo. An unknown certificate is refused and its
//! fingerprint remembered, so that the caller can ask once; a changed key is refused always.
//! Used for https and wss alike. Knows nothing of sessions or calls.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 of a certificate's SubjectPublicKeyInfo. Shown as pairs of hex digits with colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a DER certificate; `None` if it cannot be read.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self(Sha256::digest(certificate.public_key().raw).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 32 bytes in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a fingerprint is 64 hex digits, with or without colons")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;
    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let bytes = hex::decode(digits).map_err(|_| BadFingerprint)?;
        bytes.try_into().map(Self).map_err(|_| BadFingerprint)
    }
}

/// The keys that were accepted, by `host:port`. Cheap to clone, shared by everything that connects;
/// the shell loads it at start and keeps what [`Pins::all`] gives.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<String, Fingerprint>>>);

impl Pins {
    /// The name under which a server's key is kept.
    pub fn authority(url: &Url) -> String {
        let port = url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", url.host_str().unwrap_or_default())
    }

    /// The key accepted for this server.
    pub fn get(&self, server: &Url) -> Option<Fingerprint> {
        self.0.lock().get(&Self::authority(server)).copied()
    }

    /// Accepts a key: what the person said yes to, or what the invite named.
    pub fn accept(&self, server: &Url, key: Fingerprint) {
        self.0.lock().insert(Self::authority(server), key);
    }

    /// Loads one kept earlier, by `host:port`.
    pub fn insert(&self, authority: String, key: Fingerprint) {
        self.0.lock().insert(authority, key);
    }

    /// Forgets a server's key.
    pub fn remove(&self, authority: &str) {
        self.0.lock().remove(authority);
    }

    /// All of them, for keeping.
    pub fn all(&self) -> Vec<(String, Fingerprint)> {
        self.0.lock().iter().map(|(a, f)| (a.clone(), *f)).collect()
    }
}

/// What a refused handshake saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// No root and no pin vouches for it: a person may accept it once.
    #[error("the server's key {found} is not known yet")]
    Unknown {
        /// The key it showed.
        found: Fingerprint,
    },
    /// Another key was accepted before.
    #[error("the server's key changed from {expected} to {found}")]
    Changed {
        /// The key accepted before.
        expected: Fingerprint,
        /// The key it showed.
        found: Fingerprint,
    },
}

/// A TLS configuration for one server and the note its verifier leaves when it refuses.
#[derive(Clone)]
pub struct Trust {
    /// For reqwest and for tokio-rustls.
    pub config: Arc<ClientConfig>,
    refused: Arc<Mutex<Option<Untrusted>>>,
}

impl Trust {
    /// The newest refusal, taken out.
    pub fn take_refusal(&self) -> Option<Untrusted> {
        self.refused.lock().take()
    }
}

/// The trust in `server`: platform roots, else the pinned key.
pub fn trust(server: &Url, pins: &Pins, alpn: &[&[u8]]) -> Trust {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // A machine without any root store still reaches servers whose key is pinned.
    let platform = rustls_platform_verifier::Verifier::new(provider.clone())
        .inspect_err(|e| tracing::info!("no certificate roots of the system: {e}"))
        .ok()
        .map(|v| Arc::new(v) as Arc<dyn ServerCertVerifier>);
    build(platform, provider, server, pins, alpn)
}

fn build(
    platform: Option<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
    server: &Url,
    pins: &Pins,
    alpn: &[&[u8]],
) -> Trust {
    let refused = Arc::new(Mutex::new(None));
    let verifier = PinVerifier {
        platform,
        algorithms: provider.signature_verification_algorithms,
        server: server.clone(),
        pins: pins.clone(),
        refused: refused.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Trust {
        config: Arc::new(config),
        refused,
    }
}

#[derive(Debug)]
struct PinVerifier {
    platform: Option<Arc<dyn ServerCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    server: Url,
    pins: Pins,
    refused: Arc<Mutex<Option<Untrusted>>>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let found = Fingerprint::of_certificate(end_entity).ok_or_else(bad)?;
        let pinned = self.pins.get(&self.server);
        if pinned == Some(found) {
            return Ok(ServerCertVerified::assertion());
        }
        if let Some(platform) = &self.platform
            && platform
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .is_ok()
        {
            return Ok(ServerCertVerified::assertion());
        }
        let refusal = match pinned {
            Some(expected) => Untrusted::Changed { expected, found },
            None => Untrusted::Unknown { found },
        };
        *self.refused.lock() = Some(refusal);
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Vec<u8> {
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .unwrap()
            .cert
            .der()
            .to_vec()
    }

    fn verify(der: &[u8], server: &Url, pins: &Pins) -> (bool, Option<Untrusted>) {
        let refused = Arc::new(Mutex::new(None));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = PinVerifier {
            platform: None,
            algorithms: provider.signature_verification_algorithms,
            server: server.clone(),
            pins: pins.clone(),
            refused: refused.clone(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let ok = verifier
            .verify_server_cert(&CertificateDer::from(der), &[], &name, &[], UnixTime::now())
            .is_ok();
        let seen = *refused.lock();
        (ok, seen)
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_fingerprint_and_works_once_accepted() {
        let (der, pins) = (certificate(), Pins::default());
        let server: Url = "https://localhost:7880".parse().unwrap();
        let (ok, seen) = verify(&der, &server, &pins);
        assert!(!ok);
        let Some(Untrusted::Unknown { found }) = seen else {
            panic!("{seen:?}")
        };
        pins.accept(&server, found);
        assert_eq!(verify(&der, &server, &pins), (true, None));
        // The signalling of the same server is covered too, another port is not.
        assert!(verify(&der, &"wss://localhost:7880/rtc".parse().unwrap(), &pins).0);
        assert!(!verify(&der, &"https://localhost:7881".parse().unwrap(), &pins).0);
    }

    #[test]
    fn a_changed_key_blocks_and_names_both_keys() {
        let (old, new, pins) = (certificate(), certificate(), Pins::default());
        let server: Url = "https://localhost".parse().unwrap();
        let expected = Fingerprint::of_certificate(&old).unwrap();
        pins.accept(&server, expected);
        let found = Fingerprint::of_certificate(&new).unwrap();
        assert_eq!(
            verify(&new, &server, &pins),
            (false, Some(Untrusted::Changed { expected, found }))
        );
    }

    #[test]
    fn a_fingerprint_survives_being_written_and_read() {
        let found = Fingerprint::of_certificate(&certificate()).unwrap();
        assert_eq!(found.to_string().parse(), Ok(found));
        assert_eq!("AB:CD".parse::<Fingerprint>(), Err(BadFingerprint));
    }
}
