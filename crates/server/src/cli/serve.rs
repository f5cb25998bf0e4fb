//! `serve`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use confab_control::{Control, NewAccount};
use confab_types::{Role, Secret, UserName};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tracing::info;

use super::prompt;
use crate::{Server, ServerConfig, TlsMode};

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Where REST and signalling listen. Port 0 picks one.
    #[arg(long, env = "CONFAB_LISTEN", default_value = "127.0.0.1:7880")]
    listen: SocketAddr,
    /// UDP port of all media; ICE-TCP takes the next one. 0 picks two that are free.
    #[arg(long, env = "CONFAB_MEDIA_PORT", default_value_t = 7882)]
    media_port: u16,
    #[command(flatten)]
    data: super::DataArg,
    /// The address that clients see, where a NAT stands between.
    #[arg(long, env = "CONFAB_PUBLIC_ADDRESS")]
    public_address: Option<IpAddr>,
    /// `self-signed`, `off`, or a certificate chain and a key as PEM files: `CERT,KEY`.
    /// Left out: self-signed beyond loopback, off on loopback.
    #[arg(long, env = "CONFAB_TLS", value_parser = tls_mode, default_value = "auto")]
    tls: TlsMode,
    /// API keys of backends, `KEY:SECRET`. Left out, a pair is made at first run and kept.
    #[arg(long, env = "CONFAB_KEYS", value_parser = key_pair, num_args = 1.., value_delimiter = ' ')]
    keys: Vec<(String, Secret)>,
    /// Adds publisher1, publisher2, subscriber, moderator and admin, password `pass` for all. Loopback only.
    #[arg(long)]
    demo: bool,
    /// The administrator to make at first run.
    #[arg(long, env = "CONFAB_ADMIN_USER")]
    admin_user: Option<UserName>,
    /// Its password is the first line of standard input.
    #[arg(long)]
    admin_password_stdin: bool,
    /// Stops when standard input ends, so that it never outlives the program that started it.
    #[arg(long)]
    exit_with_stdin: bool,
}

fn tls_mode(text: &str) -> Result<TlsMode, String> {
    match text {
        "auto" => Ok(TlsMode::Auto),
        "off" => Ok(TlsMode::Off),
        "self-signed" => Ok(TlsMode::SelfSigned),
        files => match files.split_once(',') {
            Some((certificate, key)) => Ok(TlsMode::Files {
                certificate: PathBuf::from(certificate),
                key: PathBuf::from(key),
            }),
            None => Err("use self-signed, off, or CERT,KEY".into()),
        },
    }
}

fn key_pair(text: &str) -> Result<(String, Secret), String> {
    match text.split_once(':') {
        Some((key, secret)) if !key.is_empty() && !secret.is_empty() => Ok((key.to_owned(), Secret::new(secret))),
        _ => Err("use KEY:SECRET".into()),
    }
}

/// Serves until told to stop.
pub(super) async fn run(args: Serve) -> anyhow::Result<()> {
    let password = if args.admin_password_stdin {
        Some(prompt::first_line().await?)
    } else {
        None
    };
    let config = ServerConfig {
        listen: args.listen,
        media_port: args.media_port,
        data: args.data.data.clone(),
        public_address: args.public_address,
        tls: args.tls,
        keys: args.keys,
        demo: args.demo,
        ..ServerConfig::new(args.data.data)
    };
    let server = Server::start(config).await?;
    if !args.demo
        && let Err(e) = first_administrator(server.control(), args.admin_user, password).await
    {
        server.shutdown().await;
        return Err(e);
    }
    let mut ready = json!({ "event": "ready", "url": server.url(), "mediaPort": server.media_port() });
    if let Some(fingerprint) = server.fingerprint() {
        ready["fingerprint"] = fingerprint.into();
    }
    println!("{ready}");
    tokio::select! {
        () = stop_signal() => info!("told to stop"),
        () = stdin_end(), if args.exit_with_stdin => info!("standard input ended"),
    }
    server.shutdown().await;
    Ok(())
}

/// At first run there must be someone who can sign in.
async fn first_administrator(
    control: &Control,
    name: Option<UserName>,
    password: Option<Secret>,
) -> anyhow::Result<()> {
    if control.list_accounts().await?.iter().any(|a| a.administrator) {
        return Ok(());
    }
    let (name, password) = match (name, password) {
        (Some(name), Some(password)) => (name, password),
        (name, _) if prompt::is_interactive() => prompt::administrator(name).await?,
        (Some(name), None) => match std::env::var("CONFAB_ADMIN_PASSWORD") {
            Ok(password) => (name, Secret::new(password)),
            Err(_) => bail!("give the administrator's password with --admin-password-stdin or CONFAB_ADMIN_PASSWORD"),
        },
        (None, _) => {
            bail!("there is no account yet: give --admin-user NAME --admin-password-stdin, or run in a terminal")
        }
    };
    let new = NewAccount {
        name: name.clone(),
        password,
        role: Role::Moderator,
        administrator: true,
    };
    control.add_account(new).await.context("cannot add the administrator")?;
    info!(user = %name, "administrator added");
    Ok(())
}

/// SIGINT or SIGTERM.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Returns when standard input ends. What comes over it is not read by anyone.
async fn stdin_end() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 256];
    while let Ok(n) = stdin.read(&mut buffer).await {
        if n == 0 {
            return;
        }
    }
}
