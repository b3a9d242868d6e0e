//! A snapshot of etcd put back beneath proxies that run, rotations later, as an operator does it who lost etcd: what could be
//! read when it was taken can be read again, by the commands that the documentation names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::sleep;

use super::history::History;
use super::operator::Operator;
use super::plan::PROXIES;
use super::verdict::read;
use super::world::World;
use super::writers::Session;
use crate::common::proxy::BINARY;
use crate::common::rotation::Home;

/// For proxies to see what has become of etcd, and for values to come back.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What stood when it was taken.
pub struct Snapshot {
    /// What every key held.
    pub standing: BTreeMap<String, Option<String>>,
}

/// What came of putting it back.
#[derive(Debug)]
pub struct Restored {
    pub values: usize,
    /// Commands that failed, and keys that do not read as they did.
    pub wrong: Vec<String>,
}

impl Snapshot {
    /// Of a moment at which nothing is under way.
    pub async fn take(world: &mut World, standing: &BTreeMap<String, Option<String>>) -> Self {
        world.back_up().await;
        Self {
            standing: standing.clone(),
        }
    }

    /// Rotates twice, puts it back, runs what the documentation says, and reads everything through every proxy.
    pub async fn put_back(&self, world: &mut World, operator: &Operator, home: Home) -> Restored {
        let mut wrong = Vec::new();
        for _ in 0..2 {
            wrong.extend(operator.settle().await.err());
        }
        let backup = world.folder().join("keyring-backup");
        // It is written to a new file only.
        let _ = std::fs::remove_file(&backup);
        let backup = backup.display().to_string();
        if home == Home::Etcd {
            wrong.extend(keyring(world, &["backup", &backup]).await.err());
        }
        world.set_back().await;
        match home {
            Home::Etcd => wrong.extend(keyring(world, &["restore", &backup]).await.err()),
            Home::File => {
                wrong.extend(recover(operator).await.err());
            }
        }
        wrong.extend(unlike(world, &self.standing).await);
        // And everything goes on.
        wrong.extend(operator.settle().await.err());
        wrong.extend(unlike(world, &self.standing).await);
        Restored {
            values: self.standing.len(),
            wrong,
        }
    }
}

/// Runs `recover`, and again as long as members have not loaded the same, as it says itself: their records in the snapshot are of
/// its time until they write new ones.
pub async fn recover(operator: &Operator) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match operator.run(&["recover", "--compact"]).await {
            (Some(0), _) => return Ok(()),
            (Some(4), _) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(500)).await,
            (code, said) => return Err(format!("recover ends with {code:?}: {said}")),
        }
    }
}

/// The keys that do not read as `standing` says, by any proxy.
pub async fn unlike(world: &World, standing: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let begun = Instant::now();
    let mut wrong = Vec::new();
    for proxy in 0..PROXIES {
        let session = Session {
            client: world.client(proxy).await,
            history: History::begin(),
            number: 600 + proxy,
            deadline: Duration::from_secs(5),
        };
        for (name, value) in standing {
            loop {
                let why = match read(&session, name).await {
                    Ok(now) if now == *value => break,
                    Ok(_) => "is not what it was".to_owned(),
                    Err(why) => why,
                };
                if begun.elapsed() > PATIENCE {
                    wrong.push(format!("{name}: p{proxy}: {why}"));
                    break;
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    wrong
}

/// Runs `keyring` with these words.
async fn keyring(world: &World, words: &[&str]) -> Result<(), String> {
    let mut command = Command::new(BINARY);
    command
        .arg("keyring")
        .args(words)
        .arg(format!("--etcd-servers={}", world.endpoints()))
        .arg(format!("--keyring-root-file={}", world.shared.path().display()));
    let output = command.output().await.expect("it starts");
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("keyring {} ends with {}: {said}", words[0], output.status))
}
