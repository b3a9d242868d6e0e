//! A value that is named one by one, because nobody could do with it what was to be done.

use serde::{Deserialize, Serialize};

use super::Under;

/// Values that are named one by one at most; all are counted.
pub const MAX_LISTED: usize = 1_000;
/// Longest etcd key that is kept for the list, bytes.
const LONGEST_KEY: usize = 512;

/// A value that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The etcd key, with what is no printable ASCII escaped.
    pub etcd_key: String,
    /// Its resource.
    pub resource: String,
    /// What it is sealed with, so far as it says so itself.
    #[serde(flatten)]
    pub under: Under,
    /// Why it was left.
    pub why: String,
}

impl Left {
    /// The value under `key`.
    pub fn new(key: &[u8], resource: String, under: Under, why: String) -> Self {
        let key = key.get(..LONGEST_KEY).unwrap_or(key);
        Self {
            etcd_key: key.escape_ascii().to_string(),
            resource,
            under,
            why,
        }
    }
}

/// For people, on one line.
impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} needs {}: {}", self.etcd_key, self.under, self.why)
    }
}
