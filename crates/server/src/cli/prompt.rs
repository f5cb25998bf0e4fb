//! Passwords from standard input and from a terminal.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use confab_types::{Secret, UserName};
use tokio::io::AsyncReadExt;

/// A longer line is no password.
const MAX_LINE: usize = 4096;

/// The first line of standard input, byte by byte, so that nothing after it is swallowed.
pub(super) async fn first_line() -> anyhow::Result<Secret> {
    let mut stdin = tokio::io::stdin();
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_LINE && stdin.read(&mut byte).await? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let text = String::from_utf8(line).context("the password is not UTF-8")?;
    Ok(Secret::new(text.trim_end_matches('\r')))
}

/// Whether a person can be asked.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for the first administrator.
pub(super) async fn administrator(name: Option<UserName>) -> anyhow::Result<(UserName, Secret)> {
    tokio::task::spawn_blocking(move || {
        eprintln!("This server has no account yet. Choose the administrator's.");
        let name = match name {
            Some(name) => name,
            None => ask("User name: ")?.parse()?,
        };
        Ok((name, new_password()?))
    })
    .await?
}

/// Asks for a new password, twice.
pub(super) fn new_password() -> anyhow::Result<Secret> {
    let first = hidden("Password: ")?;
    if first != hidden("Once more: ")? {
        bail!("the two passwords differ");
    }
    Ok(Secret::new(first))
}

fn ask(question: &str) -> anyhow::Result<String> {
    eprint!("{question}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn hidden(question: &str) -> anyhow::Result<String> {
    let echo = |on: &str| std::process::Command::new("stty").arg(on).status();
    let hidden = echo("-echo").is_ok();
    let answer = ask(question);
    if hidden {
        let _ = echo("echo");
        eprintln!();
    }
    answer
}
