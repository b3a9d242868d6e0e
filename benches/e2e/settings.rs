//! What is measured, from the environment.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use crate::common::tools::Version;
use crate::target::{DIRECT, OTHER};

/// How much of what.
pub struct Settings {
    pub parts: Vec<Part>,
    /// How often each thing is measured.
    pub rounds: usize,
    /// For how long, each time.
    pub window: Duration,
    pub version: Version,
    /// Requests a second of the open loop and of the soak, if they are not to choose.
    rate: Option<u32>,
    /// How long the soak lasts.
    pub soak: Duration,
    /// The most of anything that the scale curves have.
    most: usize,
    /// Another build of the proxy, to be compared with this one.
    pub other: Option<String>,
    /// Words of which a target's name has one, if not all are to be measured.
    targets: Option<String>,
    /// The same of a load's title.
    cells: Option<String>,
}

/// Things that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Put, get and update of 1 KiB by few and by many clients.
    Core,
    /// Lists of 500 and of 10,000.
    List,
    /// Values from 256 bytes to 1 MiB.
    Sizes,
    /// Over TLS.
    Tls,
    /// Over unix sockets.
    Unix,
    /// Requests that come when they are due, answered or not.
    Open,
    /// One write that a thousand watches see.
    Watch,
    /// Leases kept alive.
    Lease,
    /// Writes to etcd itself, with the fence and without.
    Fence,
    /// Instructions of the whole proxy.
    Instructions,
    /// How cost grows with connections, watches, keys and members.
    Scale,
    /// Memory under hours of load.
    Soak,
}

const PARTS: [(&str, Part); 12] = [
    ("core", Part::Core),
    ("list", Part::List),
    ("sizes", Part::Sizes),
    ("tls", Part::Tls),
    ("unix", Part::Unix),
    ("open", Part::Open),
    ("watch", Part::Watch),
    ("lease", Part::Lease),
    ("fence", Part::Fence),
    ("instructions", Part::Instructions),
    ("scale", Part::Scale),
    ("soak", Part::Soak),
];

impl Settings {
    pub fn from_env() -> Self {
        let parts = one("E2E_PARTS", "core,list,sizes,tls,unix,open,watch,lease".to_owned());
        Self {
            parts: parts
                .split(',')
                .map(|name| name.parse().unwrap_or_else(|error| panic!("{error}")))
                .collect(),
            rounds: one("E2E_ROUNDS", 3),
            window: Duration::from_secs_f64(one("E2E_SECONDS", 1.0)),
            version: match one("E2E_ETCD", "3.5".to_owned()).as_str() {
                "3.4" => Version::V3_4,
                "3.5" => Version::V3_5,
                other => panic!("E2E_ETCD is 3.4 or 3.5, not {other}"),
            },
            rate: env::var("E2E_RATE").ok().map(|_| one("E2E_RATE", 0)),
            most: one("E2E_MOST", usize::MAX),
            soak: Duration::from_secs(one("E2E_SOAK", 3_600)),
            other: env::var("E2E_OTHER").ok(),
            targets: env::var("E2E_TARGETS").ok(),
            cells: env::var("E2E_CELLS").ok(),
        }
    }
}

impl Settings {
    pub fn rate_or(&self, otherwise: u32) -> u32 {
        self.rate.unwrap_or(otherwise)
    }

    /// Those of `sizes` that are not too large for this run.
    pub fn up_to_most(&self, sizes: &[usize]) -> Vec<usize> {
        sizes.iter().copied().filter(|&size| size <= self.most).collect()
    }

    /// Whether the load of this title is to be measured.
    pub fn wants(&self, title: &str) -> bool {
        let has_one = |words: &String| words.split(',').any(|word| title.contains(word));
        self.cells.as_ref().is_none_or(has_one)
    }

    /// Those of `names` that are wanted, what all are compared with among them, and the other build where there is one.
    pub fn chosen(&self, names: &[&'static str]) -> Vec<&'static str> {
        let is_wanted = |name: &str| match &self.targets {
            Some(words) => name == DIRECT || words.split(',').any(|word| name.contains(word)),
            None => true,
        };
        let other = self.other.as_ref().map(|_| OTHER);
        names
            .iter()
            .copied()
            .filter(|name| is_wanted(name))
            .chain(other)
            .collect()
    }
}

impl Part {
    pub fn name(self) -> &'static str {
        PARTS
            .iter()
            .find(|(_, part)| *part == self)
            .map_or("", |(name, _)| name)
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = PARTS.iter().find(|(name, _)| *name == text);
        found.map(|(_, part)| *part).ok_or_else(|| {
            let names = PARTS.map(|(name, _)| name).join(", ");
            format!("E2E_PARTS knows no {text:?}; it takes {names}")
        })
    }
}

fn one<T: FromStr>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}")),
        Err(_) => otherwise,
    }
}
