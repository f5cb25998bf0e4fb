//! A server that is killed: nothing acknowledged is lost, and the folder opens.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use confab_control::{Control, ControlConfig, HashCost, NewAccount, TokenRejected};
use confab_types::{Role, Secret};

use crate::support::{participant, room_name, user_name};

/// Names the folder for the process that will be killed.
const FOLDER: &str = "CONFAB_CRASH_TEST_FOLDER";

/// Runs only as a child of the test below, until it is killed: signs in, joins, leaves, and says what was acknowledged.
#[tokio::test]
async fn the_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let control = Control::open(config(&folder)).await.unwrap();
    let run = control.list_accounts().await.unwrap().len();
    for n in 0..10_000 {
        let name = format!("user{run}.{n}");
        let new = NewAccount {
            name: user_name(&name),
            password: Secret::new("pass"),
            role: Role::Publisher,
            administrator: false,
        };
        control.add_account(new).await.unwrap();
        println!("account {name}");
        let password = Secret::new("pass");
        let request = confab_control::LoginRequest {
            user: &name,
            password: &password,
            scopes: None,
            device: None,
            address: crate::support::home(),
        };
        let session = control.login(request).await.unwrap();
        println!("session {}", session.session_token.expose());
        let issued = control
            .issue_room_token(&session.session, &room_name("R"), None)
            .await
            .unwrap();
        let verified = control.verify_room_token(&issued.token).await.unwrap();
        control.admit(&verified, &participant()).await.unwrap();
        println!("joined {}", issued.token.expose());
        if n % 2 == 1 {
            control
                .remove_participant(&issued.room.sid, &issued.identity)
                .await
                .unwrap();
            println!("removed {}", issued.token.expose());
        }
    }
}

fn config(folder: &str) -> ControlConfig {
    let mut config = ControlConfig::new(folder);
    config.hash_cost = HashCost {
        memory_kib: 8,
        passes: 1,
        ..HashCost::default()
    };
    config
}

#[tokio::test]
async fn a_server_killed_at_any_moment_has_lost_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap().to_owned();
    let mut acknowledged = Vec::new();
    for lines in [1, 2, 3, 4, 5, 7, 10, 18] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
            .env(FOLDER, &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let kinds = ["account ", "session ", "joined ", "removed "];
        let mut output = output.lines().map_while(Result::ok).filter_map(|line| {
            // The test harness may print its own words before ours on the same line.
            let at = kinds.iter().find_map(|kind| line.find(kind))?;
            Some(line[at..].to_owned())
        });
        acknowledged.extend(output.by_ref().take(lines));
        child.kill().unwrap();
        acknowledged.extend(output);
        child.wait().unwrap();
    }
    assert!(acknowledged.len() >= 50, "{}", acknowledged.len());

    let control = Control::open(config(&folder)).await.unwrap();
    let removed: Vec<_> = acknowledged
        .iter()
        .filter_map(|line| line.strip_prefix("removed "))
        .collect();
    for line in &acknowledged {
        let (kind, value) = line.split_once(' ').unwrap();
        match kind {
            "account" => drop(control.account(&user_name(value)).await.unwrap()),
            "session" => drop(control.authenticate(&Secret::new(value)).await.unwrap()),
            // The last removal may have been made but not yet acknowledged; all others are as they were told.
            "joined" => match control.verify_room_token(&Secret::new(value)).await {
                Ok(_) => assert!(!removed.contains(&value)),
                Err(TokenRejected::Revoked) => {}
                Err(other) => panic!("{other:?}"),
            },
            _ => {
                let answer = control.verify_room_token(&Secret::new(value)).await;
                assert!(matches!(answer, Err(TokenRejected::Revoked)));
            }
        }
    }
}
