//! Commands beside a running server: JSON lines over an owner-only Unix socket in the
//! data folder. The same commands work on the database when no server runs.

#[cfg(unix)]
use std::path::{Path, PathBuf};

use confab_control::{Control, NewAccount, RoomSettingsChange};
use confab_types::{Role, RoomName, Secret, UserName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::registry::Rooms;
use crate::room::{LeftReason, RoomCommand};

/// A command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Adds an account.
    UserAdd {
        /// Its name.
        user: UserName,
        /// Its password.
        password: Secret,
        /// Its role.
        role: Role,
        /// Administers the server.
        administrator: bool,
    },
    /// Every account.
    UserList,
    /// Removes an account and disconnects the person.
    UserRemove {
        /// Its name.
        user: UserName,
    },
    /// Changes a role.
    UserSetRole {
        /// Whose.
        user: UserName,
        /// Into what.
        role: Role,
        /// And the right to administer, if given.
        administrator: Option<bool>,
    },
    /// Changes a password.
    UserSetPassword {
        /// Whose.
        user: UserName,
        /// The new one.
        password: Secret,
    },
    /// Adds an API key.
    KeyAdd {
        /// Its name; made up if absent.
        name: Option<String>,
    },
    /// Every API key, without secrets.
    KeyList,
    /// Removes an API key.
    KeyRemove {
        /// Its name.
        name: String,
    },
    /// Open rooms.
    RoomList,
    /// Changes what holds for a room's name.
    RoomSet {
        /// Its name.
        room: RoomName,
        /// Nobody new may enter.
        locked: Option<bool>,
        /// The most seats; 0 lifts the limit.
        size_limit: Option<u32>,
    },
    /// Ends a room for everyone.
    RoomEnd {
        /// Name or sid.
        room: String,
    },
}

/// A command's outcome: what to print, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Done.
    Ok(Value),
    /// Not done; a sentence.
    Error(String),
}

/// The socket of a data folder.
#[cfg(unix)]
pub(crate) fn socket_path(data: &Path) -> PathBuf {
    data.join("console.sock")
}

/// Does a command. `rooms`: the live ones, when a server runs.
pub(crate) async fn execute(control: &Control, rooms: Option<&Rooms>, command: Command) -> Outcome {
    match run(control, rooms, command).await {
        Ok(value) => Outcome::Ok(value),
        Err(e) => Outcome::Error(e.to_string()),
    }
}

#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Account(#[from] confab_control::AccountError),
    #[error(transparent)]
    Key(#[from] confab_control::KeyError),
    #[error(transparent)]
    Room(#[from] confab_control::RoomError),
    #[error("there is no room {0}")]
    NoRoom(String),
}

async fn run(control: &Control, rooms: Option<&Rooms>, command: Command) -> Result<Value, CommandError> {
    Ok(match command {
        Command::UserAdd {
            user,
            password,
            role,
            administrator,
        } => account(
            &control
                .add_account(NewAccount {
                    name: user,
                    password,
                    role,
                    administrator,
                })
                .await?,
        ),
        Command::UserList => control.list_accounts().await?.iter().map(account).collect(),
        Command::UserRemove { user } => {
            let removed = control.remove_account(&user).await?;
            if let Some(rooms) = rooms {
                rooms.disconnect(&removed.voided, LeftReason::ForceDisconnected).await;
            }
            json!({ "removed": user })
        }
        Command::UserSetRole {
            user,
            role,
            administrator,
        } => account(&control.set_role(&user, role, administrator).await?),
        Command::UserSetPassword { user, password } => {
            control.set_password(&user, &password).await?;
            json!({ "changed": user })
        }
        Command::KeyAdd { name } => {
            let key = control.add_key(name.as_deref()).await?;
            json!({ "key": key.name, "secret": key.secret.expose() })
        }
        Command::KeyList => {
            let keys = control.list_keys().await?;
            keys.iter()
                .map(|k| json!({ "key": k.name, "source": format!("{:?}", k.source).to_lowercase() }))
                .collect()
        }
        Command::KeyRemove { name } => {
            control.remove_key(&name).await?;
            json!({ "removed": name })
        }
        Command::RoomList => room_list(control, rooms).await?,
        Command::RoomSet {
            room,
            locked,
            size_limit,
        } => {
            let size_limit = size_limit.map(|n| (n > 0).then_some(n));
            let set = control
                .set_room_settings(&room, RoomSettingsChange { locked, size_limit })
                .await?;
            json!({ "room": room, "locked": set.locked, "sizeLimit": set.size_limit })
        }
        Command::RoomEnd { room } => end_room(control, rooms, room).await?,
    })
}

fn account(a: &confab_control::Account) -> Value {
    json!({ "user": a.name, "role": a.role, "administrator": a.administrator })
}

async fn room_list(control: &Control, rooms: Option<&Rooms>) -> Result<Value, CommandError> {
    let mut list = Vec::new();
    for room in control.list_rooms().await? {
        let live = rooms.and_then(|r| r.find(room.sid.as_str()));
        let people = match live {
            Some(live) => live
                .ask(|reply| RoomCommand::List { reply })
                .await
                .map_or(0, |p| p.len()),
            None => 0,
        };
        list.push(json!({ "room": room.name, "sid": room.sid, "participants": people }));
    }
    Ok(Value::Array(list))
}

async fn end_room(control: &Control, rooms: Option<&Rooms>, who: String) -> Result<Value, CommandError> {
    if let Some(rooms) = rooms
        && rooms.end(&who).await
    {
        return Ok(json!({ "ended": who }));
    }
    let found = control
        .list_rooms()
        .await?
        .into_iter()
        .find(|r| r.name.as_str() == who || r.sid.as_str() == who);
    let Some(row) = found else {
        return Err(CommandError::NoRoom(who));
    };
    control.end_room(&row.sid, confab_control::EndReason::Deleted).await?;
    Ok(json!({ "ended": who }))
}

#[cfg(unix)]
pub(crate) use unix::{ask, serve};

#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};
    use tokio_util::sync::CancellationToken;
    use tracing::warn;

    use super::{Command, Outcome, execute, socket_path};
    use crate::registry::Rooms;
    use confab_control::Control;

    /// The longest command: a password of 1024 bytes, escaped.
    const MAX_LINE: u64 = 16 * 1024;
    /// Hashing a password takes a while on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Listens until cancelled. The data folder's lock says that no other server uses the old socket.
    pub(crate) fn serve(data: &Path, control: Control, rooms: Rooms, stop: CancellationToken) -> io::Result<()> {
        let path = socket_path(data);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) => {
                        let (control, rooms) = (control.clone(), rooms.clone());
                        tokio::spawn(tokio::time::timeout(PATIENCE, answer(stream, control, rooms)));
                    }
                    Err(e) => warn!(error = %e, "console"),
                }
            }
            let _ = std::fs::remove_file(&path);
        });
        Ok(())
    }

    async fn answer(stream: UnixStream, control: Control, rooms: Rooms) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read.take(MAX_LINE)).lines();
        while let Some(line) = lines.next_line().await? {
            let outcome = match serde_json::from_str::<Command>(&line) {
                Ok(command) => execute(&control, Some(&rooms), command).await,
                Err(_) => Outcome::Error("this server does not know the command".into()),
            };
            let mut text = serde_json::to_string(&outcome)?;
            text.push('\n');
            write.write_all(text.as_bytes()).await?;
        }
        Ok(())
    }

    /// Asks the server that runs on this folder. `None`: none does.
    pub(crate) async fn ask(data: &Path, command: &Command) -> io::Result<Option<Outcome>> {
        let stream = match UnixStream::connect(socket_path(data)).await {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let (read, mut write) = stream.into_split();
        let mut text = serde_json::to_string(command)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(read).read_line(&mut answer).await?;
        Ok(Some(serde_json::from_str(&answer)?))
    }
}
