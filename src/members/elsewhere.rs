//! Members of other state prefixes in the same etcd, found by the leases that their records hang on: whoever has them knows each
//! other's records by the state prefix alone, so that one that is misspelt looks as if nobody were there.

use std::fmt;

use super::presence::FOLDER;
use super::record::Member;
use super::roster::shown;
use crate::etcd::{CallError, Client};
use crate::types::{StatePrefix, is_own_lease};

/// Hexadecimal digits of a member's ID, the last segment of its record's key.
const ID_DIGITS: usize = 16;

/// A process that serves under another state prefix. All of it is fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// What operators call it.
    pub name: String,
    /// Where its clients connect.
    pub urls: Vec<String>,
    /// Its state prefix.
    pub state_prefix: String,
    /// Where it takes Kubernetes' keys to begin.
    pub prefixes: Vec<String>,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) has --state-prefix={} and --etcd-prefix={}",
            self.name,
            self.urls.join(","),
            self.state_prefix,
            self.prefixes.join(",")
        )
    }
}

/// Everybody whose record lies under another state prefix than `state`.
///
/// # Errors
/// What etcd said.
pub async fn elsewhere(client: &Client, state: &StatePrefix) -> Result<Vec<Elsewhere>, CallError> {
    let mut found = Vec::new();
    for lease in client.leases().await?.into_iter().filter(|lease| is_own_lease(*lease)) {
        for key in client.lease_keys(lease).await? {
            let Some(theirs) = state_prefix_of(&key).filter(|theirs| *theirs != state.as_bytes()) else {
                continue;
            };
            let Some(kv) = client.get(&key).await?.1 else { continue };
            // What cannot be read says nothing of which keys it serves.
            let Ok(member) = Member::decode(&kv.value) else {
                continue;
            };
            found.push(Elsewhere {
                name: shown(&member.name),
                urls: member.urls.iter().map(|url| shown(url)).collect(),
                state_prefix: shown(&theirs.escape_ascii().to_string()),
                prefixes: member.loaded.prefixes.iter().map(|prefix| shown(prefix)).collect(),
            });
        }
    }
    Ok(found)
}

/// The state prefix that a member's record lies under; `None` where the key is of no such record.
fn state_prefix_of(key: &[u8]) -> Option<&[u8]> {
    let (folder, id) = key.split_at_checked(key.len().checked_sub(ID_DIGITS)?)?;
    let is_id = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    folder
        .strip_suffix(FOLDER.as_bytes())
        .filter(|state| is_id && !state.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_prefix_is_told_by_the_key_of_a_record() {
        let of = |key: &str| state_prefix_of(key.as_bytes()).map(|state| String::from_utf8(state.to_vec()).unwrap());
        assert_eq!(of("/other/members/0123456789abcdef").as_deref(), Some("/other/"));
        assert_eq!(of("/a/b/members/0123456789abcdef").as_deref(), Some("/a/b/"));
        for key in [
            "/other/driver",
            "/other/members/0123456789abcdeX",
            "members/0123456789abcdef",
            "",
            "/other/members/",
        ] {
            assert_eq!(of(key), None, "{key}");
        }
    }
}
