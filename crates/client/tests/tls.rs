//! Trust in a self-signed server: asked once, kept, and blocked when the key changes.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use confab_client::rest::{RestClient, SessionError};
use confab_client::tls::Pins;
use confab_types::Secret;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

/// Answers every request with a 401 of the contract, under a key of its own.
async fn serve(listener: TcpListener) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((tcp, _)) = listener.accept().await {
        let Ok(mut tls) = acceptor.accept(tcp).await else {
            continue;
        };
        let mut request = [0; 4096];
        let _ = tls.read(&mut request).await;
        let body = r#"{"error":{"code":"not_signed_in","message":"sign in"}}"#;
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = tls.write_all((head + body).as_bytes()).await;
        let _ = tls.shutdown().await;
    }
}

async fn ask(url: &Url, pins: &Pins) -> SessionError {
    let client = RestClient::new(url, pins, Duration::from_secs(10)).unwrap();
    client.session(&Secret::new("t")).await.unwrap_err()
}

#[tokio::test]
async fn a_self_signed_server_is_asked_about_once_and_a_changed_key_blocks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url: Url = format!("https://localhost:{}", address.port()).parse().unwrap();
    let first = tokio::spawn(serve(listener));
    let pins = Pins::default();

    let SessionError::TlsUnknown { fingerprint, .. } = ask(&url, &pins).await else {
        panic!("not asked")
    };
    pins.accept(&url, fingerprint);
    assert_eq!(
        ask(&url, &pins).await.code(),
        "not_signed_in",
        "the server answers once its key is accepted"
    );

    first.abort();
    let _ = first.await;
    tokio::spawn(serve(TcpListener::bind(address).await.unwrap()));
    let SessionError::TlsChanged { expected, found, .. } = ask(&url, &pins).await else {
        panic!("not blocked")
    };
    assert_eq!(expected, fingerprint);
    assert_ne!(found, fingerprint);
}
