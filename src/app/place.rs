//! Whether a verb is aimed at the right place, looked at before it changes anything: that etcd is there and no proxy, that nobody
//! serves the same keys under another --state-prefix, that something lies below --etcd-prefix. Writes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;

use super::Common;
use crate::etcd::{CallError, Client, NotEtcd, PageAsk, Patience, Trouble, WaitError};
use crate::keyspace::EtcdPrefix;
use crate::members::{Elsewhere, Roster, elsewhere};
use crate::types::{KeyRange, Reach, StatePrefix, prefix_end};

/// Segments of a key that are named, to tell where a store has its keys. A key has names of objects behind them.
const SHOWN_SEGMENTS: usize = 2;

/// Beginnings of keys outside of all prefixes that are named, and looks that are taken for them.
const MAX_SHOWN: usize = 3;
const MAX_LOOKS: usize = 20;

/// Why a verb is at the wrong place. Nothing was changed.
#[derive(Debug, Error)]
pub enum Misplaced {
    /// A proxy stands where etcd should.
    #[error(transparent)]
    Proxy(#[from] NotEtcd),
    /// Somebody serves the same keys under another state prefix.
    #[error(
        "--state-prefix={given} is not the one that the proxies of this etcd have: {members}. What they have loaded would not be asked \
         for, so nothing was changed. Give --state-prefix={theirs} here, or every proxy the same one"
    )]
    OtherState {
        /// The state prefix that was given.
        given: String,
        /// Who is there.
        members: String,
        /// The state prefix of the first of them.
        theirs: String,
    },
    /// Nothing lies below the prefixes, and nobody is there to say that these are right.
    #[error(
        "no key lies below --etcd-prefix={prefixes} in this etcd, {instead}, and {members}: so this may be another etcd or another \
         prefix than kube-apiserver's, and nothing was changed. Correct --etcd-prefix or --etcd-servers; or give --allow-empty-store, \
         if nothing is stored yet"
    )]
    Nothing {
        /// The prefixes that were given.
        prefixes: String,
        /// What is there.
        instead: String,
        /// What the proxies say.
        members: String,
    },
    /// etcd did not answer.
    #[error("it could not be seen whether this is the right etcd")]
    Etcd(#[from] WaitError),
}

/// What a verb is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// What is stored: something has to be there.
    Values,
    /// The same, or nothing yet.
    ValuesIfAny,
    /// Records of the proxy's own alone.
    Records,
}

/// Looks whether `on_etcd` is what `common` is meant for.
///
/// # Errors
/// It is not, or etcd does not answer for longer than `patience`.
pub(super) async fn look(
    on_etcd: &Client,
    common: &Common,
    about: About,
    patience: &Patience,
) -> Result<(), Misplaced> {
    patience
        .call(async || others(on_etcd, common).await)
        .await?
        .map_or(Ok(()), Err)?;
    if about == About::Values {
        patience
            .call(async || nothing(on_etcd, common).await)
            .await?
            .map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// For so long, for [`look`].
pub(super) fn patience(max_wait: Duration, notice: impl Fn(&str) + 'static) -> Patience {
    Patience::new("looking for what is there", max_wait, notice)
}

/// What a process that serves should say of the store, once: `None` if all is as it should be. Whatever fails is no reason to say
/// something.
pub(super) async fn remark(client: &Client, common: &Common) -> Option<String> {
    let state = &common.state_prefix;
    let mut empty = Vec::new();
    for prefix in &common.prefixes {
        let end = prefix_end(prefix.as_bytes()).unwrap_or_else(|| vec![0]);
        if first_key(client, KeyRange::new(prefix.as_bytes(), &end), state)
            .await
            .ok()?
            .is_none()
        {
            empty.push(format!("{}…", shown(prefix.as_bytes())));
        }
    }
    if empty.is_empty() {
        return None;
    }
    let outside = outside(client, common).await.ok()?;
    (!outside.is_empty()).then(|| {
        format!(
            "--etcd-prefix: no key begins with {}, and etcd has keys that begin with {}: nothing of those is encrypted. Is it the prefix \
             that kube-apiserver has?",
            empty.join(" or "),
            outside.join(", ")
        )
    })
}

/// How keys outside of all prefixes begin: the first few.
async fn outside(client: &Client, common: &Common) -> Result<Vec<String>, CallError> {
    let mut found = Vec::new();
    let mut from = vec![0];
    for _ in 0..MAX_LOOKS {
        let Some(key) = first_key(client, KeyRange::From(&from), &common.state_prefix).await? else {
            break;
        };
        let mut own = common
            .prefixes
            .iter()
            .filter(|prefix| key.starts_with(prefix.as_bytes()));
        let past = if let Some(prefix) = own.next() {
            prefix_end(prefix.as_bytes())
        } else {
            let front = folder(&key);
            found.push(format!("{}…", shown(front)));
            prefix_end(front)
        };
        match past {
            Some(past) if found.len() < MAX_SHOWN => from = past,
            _ => break,
        }
    }
    Ok(found)
}

/// A key up to the slash behind its first segment.
fn folder(key: &[u8]) -> &[u8] {
    let end = key
        .iter()
        .skip(1)
        .position(|byte| *byte == b'/')
        .map_or(key.len(), |at| at + 2);
    key.get(..end).unwrap_or_default()
}

/// Members under another state prefix that serve keys of these prefixes.
async fn others(client: &Client, common: &Common) -> Result<Option<Misplaced>, CallError> {
    let found = match elsewhere(client, &common.state_prefix).await {
        Ok(found) => found,
        // A store that lists no leases, or not to this user. There it cannot be seen.
        Err(error)
            if matches!(
                error.trouble(),
                Trouble::Unimplemented | Trouble::PermissionDenied | Trouble::Other
            ) =>
        {
            tracing::debug!(%error, "members under another state prefix cannot be looked for");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let is_shared = |one: &&Elsewhere| {
        let theirs = one.prefixes.iter().map(String::as_str);
        common
            .prefixes
            .iter()
            .any(|own| theirs.clone().any(|their| overlap(&own.to_string(), their)))
    };
    let found: Vec<_> = found.iter().filter(is_shared).collect();
    Ok(found.first().map(|first| Misplaced::OtherState {
        given: shown(common.state_prefix.as_bytes()),
        theirs: first.state_prefix.clone(),
        members: found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }))
}

/// Whether keys can be below both.
fn overlap(one: &str, other: &str) -> bool {
    let folder = |prefix: &str| format!("{}/", prefix.trim_end_matches('/'));
    let (one, other) = (folder(one), folder(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// That no key lies below any of the prefixes, unless a member says that they are right.
async fn nothing(client: &Client, common: &Common) -> Result<Option<Misplaced>, CallError> {
    let state = &common.state_prefix;
    for prefix in &common.prefixes {
        let end = prefix_end(prefix.as_bytes()).unwrap_or_else(|| vec![0]);
        if first_key(client, KeyRange::new(prefix.as_bytes(), &end), state)
            .await?
            .is_some()
        {
            return Ok(None);
        }
    }
    let given: Vec<_> = common.prefixes.iter().map(EtcdPrefix::to_string).collect();
    let roster = Roster::read(client, state).await?;
    // It reads and writes below these very prefixes, whether something lies there yet or not.
    if roster
        .members()
        .any(|member| given.iter().all(|prefix| member.loaded.prefixes.contains(prefix)))
    {
        return Ok(None);
    }
    let instead = match first_key(client, KeyRange::From(&[0]), state).await? {
        None => "which is empty".to_owned(),
        Some(key) => format!("whose first key is below {}", beginning(&key)),
    };
    let others: BTreeSet<_> = roster
        .members()
        .map(|member| shown(member.loaded.prefixes.join(",").as_bytes()))
        .collect();
    let members = match others.len() {
        0 => "no proxy has a record under --state-prefix".to_owned(),
        _ => format!(
            "its proxies have --etcd-prefix={}",
            Vec::from_iter(others).join(" and ")
        ),
    };
    Ok(Some(Misplaced::Nothing {
        prefixes: given.join(","),
        instead,
        members,
    }))
}

/// The first key of `range` that is not the proxy's own.
async fn first_key(client: &Client, range: KeyRange<'_>, state: &StatePrefix) -> Result<Option<Vec<u8>>, CallError> {
    let (start, end) = match range {
        KeyRange::One(_) => return Ok(None),
        KeyRange::From(start) => (start, &[0][..]),
        KeyRange::Between(start, end) => (start, end),
    };
    let parts = match state.reach(range) {
        Reach::Clear => [Some((start, end)), None],
        Reach::Inside => [None, None],
        Reach::Around { before, behind } => [before, behind],
    };
    for (start, end) in parts.into_iter().flatten() {
        let ask = PageAsk {
            start,
            end: (end != [0]).then_some(end),
            revision: 0,
            limit: 1,
            enough: 0,
        };
        if let Some(kv) = client.page(ask).await?.kvs.first() {
            return Ok(Some(kv.key.to_vec()));
        }
    }
    Ok(None)
}

/// The first segments of a key, fit to be shown.
fn beginning(key: &[u8]) -> String {
    let is_slash = |(_, byte): &(usize, &u8)| **byte == b'/';
    let slashes = key.iter().enumerate().skip(1).filter(is_slash);
    let end = slashes.map(|(at, _)| at).nth(SHOWN_SEGMENTS - 1).unwrap_or(key.len());
    shown(key.get(..end).unwrap_or_default())
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap_where_a_key_can_be_below_both() {
        for (one, other) in [
            ("/registry", "/registry"),
            ("/registry/", "/registry"),
            ("/", "/registry"),
            ("/a/b", "/a"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("/registry", "/registry2"), ("/a", "/b")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn of_a_key_no_more_is_shown_than_tells_whose_it_is() {
        assert_eq!(beginning(b"/registry/secrets/default/token"), "/registry/secrets");
        assert_eq!(beginning(b"cilium/state/x"), "cilium/state");
        assert_eq!(beginning(b"\x01key"), "\\x01key");
        assert_eq!(beginning(b""), "");
    }
}
