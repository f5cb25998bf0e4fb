//! The command line of `confab-server`, and of `confab --serve`.

mod manage;
mod prompt;
mod serve;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "confab-server", version, about = "The Confab call server")]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Serves calls until it is stopped.
    Serve(Box<serve::Serve>),
    /// Accounts.
    #[command(subcommand)]
    User(manage::User),
    /// API keys of backends.
    #[command(subcommand)]
    Key(manage::Key),
    /// Rooms.
    #[command(subcommand)]
    Room(manage::Room),
}

/// The data folder, for every command.
#[derive(Debug, clap::Args)]
struct DataArg {
    /// The folder of database and keys.
    #[arg(long, env = "CONFAB_DATA", default_value_os_t = crate::server::default_data())]
    data: PathBuf,
}

/// Runs the command line; the first argument is the program's name.
pub fn main_from<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("confab-server: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Sub::Serve(serve) => {
                log();
                serve::run(*serve).await
            }
            Sub::User(user) => manage::user(user).await,
            Sub::Key(key) => manage::key(key).await,
            Sub::Room(room) => manage::room(room).await,
        }
    });
    // A read of standard input may still wait; it must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("confab-server: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error; standard output is for the ready line. CONFAB_LOG filters.
fn log() {
    let filter = EnvFilter::try_from_env("CONFAB_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,confab_sfu=info,str0m=warn,sqlx=warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_flags_are_taken() {
        let line = "confab-server serve --listen 127.0.0.1:0 --media-port 0 --data /tmp/x --public-address 192.0.2.1 \
                    --tls self-signed --keys a:b c:d --demo --exit-with-stdin";
        assert!(Cli::try_parse_from(line.split_whitespace()).is_ok());
        assert!(Cli::try_parse_from(["confab-server", "serve", "--tls", "cert.pem,key.pem"]).is_ok());
        assert!(Cli::try_parse_from(["confab-server", "serve", "--tls", "sometimes"]).is_err());
        assert!(Cli::try_parse_from(["confab-server", "serve", "--keys", "nosecret"]).is_err());
        assert!(
            Cli::try_parse_from([
                "confab-server",
                "user",
                "add",
                "ada",
                "--role",
                "publisher",
                "--password-stdin"
            ])
            .is_ok()
        );
    }
}
