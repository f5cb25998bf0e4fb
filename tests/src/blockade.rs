//! A firewall rule that drops a server's media, UDP and TCP, on this computer's loopback, until dropped itself.
//! Needs root or passwordless sudo.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The rule.
pub struct Blockade {
    table: String,
}

impl Blockade {
    /// Drops everything on `lo` from and to the port, and to the next one, where ICE-TCP is.
    pub fn of_port(port: u16) -> anyhow::Result<Self> {
        let (table, tcp) = (format!("confab_test_{port}"), port.saturating_add(1));
        nft(&format!(
            "table inet {table} {{ chain input {{ type filter hook input priority 0; policy accept;\n\
             iif lo udp dport {port} drop\niif lo udp sport {port} drop\n\
             iif lo tcp dport {port}-{tcp} drop\niif lo tcp sport {port}-{tcp} drop\n}}\n}}\n"
        ))?;
        Ok(Self { table })
    }
}

impl Drop for Blockade {
    fn drop(&mut self) {
        let _ = nft(&format!("delete table inet {}\n", self.table));
    }
}

fn nft(rules: &str) -> anyhow::Result<()> {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "nft" } else { "sudo" });
    if !root {
        command.args(["-n", "nft"]);
    }
    let mut child = command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("nft cannot be run")?;
    child.stdin.take().context("no input")?.write_all(rules.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("nft: {status}");
    }
    Ok(())
}
