//! What is measured, from the environment.

use std::env;
use std::str::FromStr;

use crate::common::tools::Version;

/// How much of what.
pub struct Settings {
    /// Secrets in the store.
    pub keys: usize,
    /// How often each thing is measured.
    pub rounds: usize,
    pub version: Version,
    /// Whether etcd waits for its disk: each of these in turn.
    pub fsync: Vec<bool>,
    pub parts: Vec<Part>,
}

/// One table.
#[derive(Clone, Copy)]
pub enum Part {
    /// Rate and memory.
    Speed,
    /// What another client notices.
    Client,
    /// A value that does not open.
    Damage,
}

impl Settings {
    pub fn from_env() -> Self {
        Self {
            keys: one("SWEEP_KEYS", 100_000),
            rounds: one("SWEEP_ROUNDS", 3),
            version: match one("SWEEP_ETCD", "3.5".to_owned()).as_str() {
                "3.4" => Version::V3_4,
                "3.5" => Version::V3_5,
                other => panic!("SWEEP_ETCD is 3.4 or 3.5, not {other}"),
            },
            fsync: list("SWEEP_FSYNC", "true,false"),
            parts: list("SWEEP_PARTS", "speed,client,damage"),
        }
    }
}

impl FromStr for Part {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "speed" => Ok(Self::Speed),
            "client" => Ok(Self::Client),
            "damage" => Ok(Self::Damage),
            _ => Err("a part is speed, client or damage"),
        }
    }
}

fn one<T: FromStr>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}")),
        Err(_) => otherwise,
    }
}

fn list<T: FromStr>(name: &str, otherwise: &str) -> Vec<T> {
    let text = one(name, otherwise.to_owned());
    let parsed = text
        .split(',')
        .map(|word| word.parse().unwrap_or_else(|_| panic!("{name}={word}")));
    parsed.collect()
}
