//! What a mark beside the configuration's file says of a store: for people, and so that a rotation of another store can name the
//! way on. JSON; a field that is missing or unknown is no fault, because the mark is there either way.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::StoreId;

/// Characters of a field that are shown.
const MAX_SHOWN: usize = 300;

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreMark {
    /// The store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
    /// `--etcd-servers` of the process that left it.
    pub servers: Vec<String>,
    /// Its `--state-prefix`.
    pub state_prefix: String,
    /// Its `--name`.
    pub name: String,
    /// The name of its host.
    pub host: String,
    /// Its process ID there.
    pub pid: u32,
    /// When it began, RFC 3339.
    pub since: String,
}

impl StoreMark {
    /// From a mark's bytes; what cannot be read says nothing.
    pub fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// The mark's bytes.
    pub fn encode(&self) -> Vec<u8> {
        // No map with keys that are not text, and nothing else that JSON cannot say.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// `--etcd-servers`, fit to be shown.
    pub fn servers(&self) -> String {
        shown(&self.servers.join(","))
    }
}

impl StoreMark {
    /// `--state-prefix`, fit to be shown.
    pub fn state_prefix(&self) -> String {
        shown(&self.state_prefix)
    }
}

impl fmt::Display for StoreMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state_prefix,
            name,
            host,
            pid,
            since,
            ..
        } = self;
        let [state_prefix, name, host, since] = [state_prefix, name, host, since].map(|text| shown(text));
        write!(
            f,
            "--etcd-servers={} --state-prefix={state_prefix}, marked by {name}, process {pid} on {host}, since {since}",
            self.servers()
        )
    }
}

/// Whoever writes beside the file writes what is in a mark.
fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_SHOWN)
        .collect::<String>()
        .escape_debug()
        .to_string()
}
