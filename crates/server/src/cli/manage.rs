//! `user`, `key` and `room`: asks the running server, or works on the data when none runs.

use anyhow::{Context, bail};
use confab_control::{Control, ControlConfig};
use confab_types::{Role, RoomName, Secret, UserName};
use serde_json::Value;

use super::{DataArg, prompt};
use crate::console::{self, Command, Outcome};

/// `user ...`
#[derive(Debug, clap::Subcommand)]
pub(super) enum User {
    /// Adds an account.
    Add {
        /// Its name.
        user: UserName,
        /// subscriber, publisher or moderator.
        #[arg(long, default_value = "publisher", value_parser = role)]
        role: Role,
        /// It administers the server.
        #[arg(long)]
        administrator: bool,
        /// The password is the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        data: DataArg,
    },
    /// Lists accounts.
    List {
        #[command(flatten)]
        data: DataArg,
    },
    /// Removes an account, its sessions, and the person from calls.
    Remove {
        /// Its name.
        user: UserName,
        #[command(flatten)]
        data: DataArg,
    },
    /// Changes a role.
    SetRole {
        /// Whose.
        user: UserName,
        /// subscriber, publisher or moderator.
        #[arg(value_parser = role)]
        role: Role,
        /// Gives or takes the right to administer.
        #[arg(long)]
        administrator: Option<bool>,
        #[command(flatten)]
        data: DataArg,
    },
    /// Changes a password and ends the account's sessions.
    SetPassword {
        /// Whose.
        user: UserName,
        /// The password is the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        data: DataArg,
    },
}

/// `key ...`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Key {
    /// Adds a key and prints its secret, this once.
    Add {
        /// Its name; made up if left out.
        name: Option<String>,
        #[command(flatten)]
        data: DataArg,
    },
    /// Lists keys.
    List {
        #[command(flatten)]
        data: DataArg,
    },
    /// Removes a key.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        data: DataArg,
    },
}

/// `room ...`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Room {
    /// Lists open rooms.
    List {
        #[command(flatten)]
        data: DataArg,
    },
    /// Changes what holds for a room's name, now and in later runs.
    Set {
        /// Its name.
        room: RoomName,
        /// Nobody new may enter.
        #[arg(long)]
        locked: Option<bool>,
        /// The most seats; 0 lifts the limit.
        #[arg(long)]
        size_limit: Option<u32>,
        #[command(flatten)]
        data: DataArg,
    },
    /// Ends a room for everyone.
    End {
        /// Name or sid.
        room: String,
        #[command(flatten)]
        data: DataArg,
    },
}

fn role(text: &str) -> Result<Role, String> {
    text.parse()
        .map_err(|_| "use subscriber, publisher or moderator".into())
}

pub(super) async fn user(command: User) -> anyhow::Result<()> {
    match command {
        User::Add {
            user,
            role,
            administrator,
            password_stdin,
            data,
        } => {
            let password = password(password_stdin).await?;
            perform(
                &data,
                Command::UserAdd {
                    user,
                    password,
                    role,
                    administrator,
                },
            )
            .await
        }
        User::List { data } => perform(&data, Command::UserList).await,
        User::Remove { user, data } => perform(&data, Command::UserRemove { user }).await,
        User::SetRole {
            user,
            role,
            administrator,
            data,
        } => {
            perform(
                &data,
                Command::UserSetRole {
                    user,
                    role,
                    administrator,
                },
            )
            .await
        }
        User::SetPassword {
            user,
            password_stdin,
            data,
        } => {
            let password = password(password_stdin).await?;
            perform(&data, Command::UserSetPassword { user, password }).await
        }
    }
}

pub(super) async fn key(command: Key) -> anyhow::Result<()> {
    match command {
        Key::Add { name, data } => perform(&data, Command::KeyAdd { name }).await,
        Key::List { data } => perform(&data, Command::KeyList).await,
        Key::Remove { name, data } => perform(&data, Command::KeyRemove { name }).await,
    }
}

pub(super) async fn room(command: Room) -> anyhow::Result<()> {
    match command {
        Room::List { data } => perform(&data, Command::RoomList).await,
        Room::Set {
            room,
            locked,
            size_limit,
            data,
        } => {
            let change = Command::RoomSet {
                room,
                locked,
                size_limit,
            };
            perform(&data, change).await
        }
        Room::End { room, data } => perform(&data, Command::RoomEnd { room }).await,
    }
}

async fn password(from_stdin: bool) -> anyhow::Result<Secret> {
    if from_stdin {
        prompt::first_line().await
    } else if prompt::is_interactive() {
        tokio::task::spawn_blocking(prompt::new_password).await?
    } else {
        bail!("give the password with --password-stdin, or run in a terminal")
    }
}

/// Does it, through the server if one runs, and prints the outcome: one JSON object a line.
async fn perform(data: &DataArg, command: Command) -> anyhow::Result<()> {
    let outcome = match through_server(data, &command).await? {
        Some(outcome) => outcome,
        None => {
            if !data.data.is_dir() {
                bail!("there is no data folder {}; name one with --data", data.data.display());
            }
            let control = Control::open_for_commands(ControlConfig::new(data.data.clone())).await?;
            let outcome = console::execute(&control, None, command).await;
            control.close().await;
            outcome
        }
    };
    match outcome {
        Outcome::Ok(Value::Array(rows)) => rows.iter().for_each(|row| println!("{row}")),
        Outcome::Ok(value) => println!("{value}"),
        Outcome::Error(sentence) => bail!(sentence),
    }
    Ok(())
}

#[cfg(unix)]
async fn through_server(data: &DataArg, command: &Command) -> anyhow::Result<Option<Outcome>> {
    console::ask(&data.data, command)
        .await
        .context("the running server does not answer")
}

/// Elsewhere there is no owner-only socket yet: a running server's data folder is locked, which is said.
#[cfg(not(unix))]
async fn through_server(_: &DataArg, _: &Command) -> anyhow::Result<Option<Outcome>> {
    Ok(None)
}
