//! Looks for what is stored where no table has a resource, and for rules that match nothing although something of their name is
//! stored: both lie in the clear, or seem to be encrypted and are not. Reads the first key of each folder and counts the others;
//! opens nothing and writes nothing.
//!
//! No answer is of one revision with another. It is a warning, not a proof: where it has found nothing, a folder may have come
//! since.

mod alike;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Scope;
use super::ranges::{Range, Ranges, successor};
use super::uncovered::MAX_SHOWN;
use crate::config::ResourceSelector;
use crate::etcd::{CallError, PageAsk, Store, Trouble};
use crate::keyring::{Rule, scope};
use crate::keyspace::{Guess, KeySpace, Place, Scope as Reach, Span};
use crate::types::{GroupResource, prefix_end};
use alike::is_alike;

/// Folders that are looked at; who writes to etcd could make any number.
const MAX_STEPS: usize = 5_000;
/// Folders that are told apart.
const MAX_FOLDERS: usize = 100;
/// Places that are named of one rule.
const MAX_NAMED: usize = 3;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// Below a prefix, of no resource that is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<Folder>,
    /// Rules that match nothing, though something is stored that they may be meant for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Missed>,
    /// Whether there were more folders than are looked at.
    #[serde(rename = "isSurveyCut", skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
    /// Why nothing was looked at.
    #[serde(rename = "notSurveyed", skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// Keys of no resource that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// What they begin with, with what is no printable ASCII escaped.
    pub path: String,
    /// How many there are.
    pub keys: u64,
    /// Whether a rule for everything covers them.
    pub is_covered: bool,
}

/// A rule that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missed {
    /// As the configuration names it.
    pub rule: String,
    /// What is stored that it may be meant for: resources, or the beginnings of keys.
    pub stored: Vec<String>,
}

impl Survey {
    /// Adds what was found in another store.
    pub(super) fn join(&mut self, other: Self) {
        let Self {
            unlisted,
            missed,
            is_cut,
            why_not,
        } = other;
        self.unlisted.extend(unlisted);
        self.missed.extend(missed);
        self.is_cut |= is_cut;
        self.why_not = self.why_not.take().or(why_not);
    }

    /// Keys of no resource that is known.
    pub fn unlisted_keys(&self) -> u64 {
        self.unlisted.iter().map(|folder| folder.keys).sum()
    }
}

/// Looks below the prefixes of `scope`, for its rules, or those of them that it is narrowed to.
///
/// # Errors
/// etcd gave no usable answer.
pub async fn survey<S: Store>(store: &S, scope: &Scope) -> Result<Survey, CallError> {
    let mut look = Look {
        store,
        scope,
        keyspace: scope.keyring.keyspace(),
        steps: 0,
        known: scope.keyring.keyspace().known_spans(),
        unlisted: BTreeMap::new(),
        custom: BTreeSet::new(),
    };
    look.walk().await?;
    let missed = look.missed().await?;
    let is_cut = look.steps >= MAX_STEPS || look.unlisted.len() > MAX_FOLDERS;
    let covers_all = scope
        .keyring
        .rules()
        .iter()
        .any(|rule| *rule.selector() == ResourceSelector::All);
    let folders = look.unlisted.into_iter().take(MAX_FOLDERS);
    Ok(Survey {
        unlisted: folders
            .map(|(path, keys)| Folder {
                path: shown(&path),
                keys,
                is_covered: covers_all,
            })
            .collect(),
        missed,
        is_cut,
        why_not: None,
    })
}

struct Look<'a, S> {
    store: &'a S,
    scope: &'a Scope,
    keyspace: &'a KeySpace,
    /// Where something is known to lie.
    known: Vec<Span>,
    steps: usize,
    /// Folders of no known resource, and how many keys each has.
    unlisted: BTreeMap<Vec<u8>, u64>,
    /// Custom resources of which there are any.
    custom: BTreeSet<GroupResource>,
}

impl<S: Store> Look<'_, S> {
    /// From one folder that no table has to the next.
    async fn walk(&mut self) -> Result<(), CallError> {
        let known = Ranges::of(&self.known);
        let prefixes: Vec<Span> = self.prefixes();
        for (index, prefix) in prefixes.iter().enumerate() {
            // Keys below a longer prefix are its own; those come first.
            let longer = Ranges::of(prefixes.iter().take(index));
            let own = Ranges::of([prefix]).and(&Ranges::all_but(&self.scope.state));
            let ranges = own.but(&longer).but(&known);
            for range in ranges.iter() {
                self.walk_range(range, prefix.start()).await?;
            }
        }
        Ok(())
    }

    async fn walk_range(&mut self, range: &Range, prefix: &[u8]) -> Result<(), CallError> {
        let mut from = range.start.clone();
        while self.steps < MAX_STEPS && range.end.as_ref().is_none_or(|end| from < *end) {
            self.steps += 1;
            let Some(key) = self.first(&from, range.end.as_deref()).await? else {
                break;
            };
            let (place, front) = self.keyspace.classify_with_front(&key);
            let front = match place {
                Place::Resource { group, resource } => {
                    self.custom.insert(GroupResource::new(group, resource));
                    front
                }
                Place::Unlisted => {
                    let folder = self.folder(&key, prefix);
                    let end = prefix_end(folder);
                    let keys = if folder.len() < key.len() {
                        let end = earlier(end.as_deref(), range.end.as_deref());
                        self.store.count(&from.clone().max(folder.to_vec()), end).await?.1
                    } else {
                        1
                    };
                    self.unlisted.insert(folder.to_vec(), keys);
                    if folder.len() < key.len() { folder } else { &[] }
                }
                Place::NeverEncrypted | Place::Outside => &[],
            };
            from = match front {
                [] => successor(&key),
                front => match prefix_end(front) {
                    Some(end) => end,
                    None => break,
                },
            };
        }
        Ok(())
    }

    /// The folder below `prefix` that `key` is in: one segment, or two where resources lie in folders of the first. The key
    /// itself where it is in none.
    fn folder<'k>(&self, key: &'k [u8], prefix: &[u8]) -> &'k [u8] {
        let ends = |segments: usize| {
            let slashes = key
                .iter()
                .enumerate()
                .skip(prefix.len())
                .filter(|(_, byte)| **byte == b'/');
            let last = slashes.take(segments).last();
            last.and_then(|(at, _)| key.get(..=at)).unwrap_or(key)
        };
        let one = ends(1);
        let is_shared = self.known.iter().any(|span| span.start().starts_with(one));
        if is_shared { ends(2) } else { one }
    }

    async fn first(&self, start: &[u8], end: Option<&[u8]>) -> Result<Option<Vec<u8>>, CallError> {
        let ask = PageAsk {
            start,
            end,
            revision: 0,
            limit: 1,
            enough: usize::MAX,
        };
        let page = self.store.page(ask).await?;
        Ok(page.kvs.into_iter().next().map(|kv| kv.key.to_vec()))
    }

    async fn holds(&self, spans: &[Span]) -> Result<bool, CallError> {
        for range in Ranges::of(spans).and(&Ranges::all_but(&self.scope.state)).iter() {
            if self.store.count(&range.start, range.end.as_deref()).await?.1 > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rules that match nothing.
    async fn missed(&self) -> Result<Vec<Missed>, CallError> {
        let (mut idle, mut any) = (Vec::new(), false);
        for rule in self.scope.keyring.rules() {
            let selector = rule.selector();
            let is_asked = self.scope.resources.is_empty() || self.scope.resources.contains(selector);
            if *selector == ResourceSelector::All || !is_asked || !self.scope.prefixes.is_empty() {
                any |= *selector == ResourceSelector::All;
            } else if self.holds(rule.spans()).await? {
                any = true;
            } else {
                idle.push(rule);
            }
        }
        let mut missed = Vec::new();
        for rule in idle {
            let mut stored = self.of_that_name(rule).await?;
            if stored.is_empty() && !any {
                stored = self.elsewhere(rule).await?;
            }
            stored.truncate(MAX_NAMED);
            if !stored.is_empty() {
                missed.push(Missed {
                    rule: rule.selector().to_string(),
                    stored,
                });
            }
        }
        Ok(missed)
    }

    /// What is stored below the prefixes that `rule` may be meant for.
    async fn of_that_name(&self, rule: &Rule) -> Result<Vec<String>, CallError> {
        let ResourceSelector::Exact(wanted) = rule.selector() else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        // Many groups have custom resources of one name, and a resource that is known may just not be there.
        if rule.is_idle() || self.keyspace.guess(scope(rule.selector())) != Guess::None {
            for other in self
                .keyspace
                .known()
                .filter(|other| is_alike(&other.resource, &wanted.resource))
            {
                if other != *wanted && self.holds(&self.keyspace.spans_of(Reach::Resource(&other))).await? {
                    found.push(other.to_string());
                }
            }
            let custom = self
                .custom
                .iter()
                .filter(|other| is_alike(&other.resource, &wanted.resource));
            found.extend(custom.map(ToString::to_string));
            found.dedup();
        }
        let is_named = |folder: &&Vec<u8>| {
            let segments = folder.split(|byte| *byte == b'/');
            segments
                .filter_map(|segment| str::from_utf8(segment).ok())
                .any(|segment| is_alike(segment, &wanted.resource))
        };
        found.extend(self.unlisted.keys().filter(is_named).map(|folder| shown(folder)));
        Ok(found)
    }

    /// Where no rule matches anything, the prefix itself may be wrong: what lies outside of all, as the paths of `rule` would below
    /// another one.
    async fn elsewhere(&self, rule: &Rule) -> Result<Vec<String>, CallError> {
        let inside = Ranges::of(&self.prefixes());
        let outside = Ranges::all_but(&self.scope.state).but(&inside);
        let mut found = Vec::new();
        let mut steps = 0;
        for range in outside.iter() {
            let mut from = range.start.clone();
            while steps < MAX_FOLDERS && range.end.as_ref().is_none_or(|end| from < *end) {
                steps += 1;
                let key = match self.first(&from, range.end.as_deref()).await {
                    Ok(Some(key)) => key,
                    Ok(None) => break,
                    // What may not be read could not be served either.
                    Err(error) if error.trouble() == Trouble::PermissionDenied => return Ok(found),
                    Err(error) => return Err(error),
                };
                let slash = key.iter().skip(1).position(|byte| *byte == b'/');
                let Some(folder) = slash.and_then(|at| key.get(..at + 2)) else {
                    from = successor(&key);
                    continue;
                };
                for path in self.keyspace.paths_of(scope(rule.selector())) {
                    let place = [folder, path.as_bytes(), b"/"].concat();
                    if self.holds(&[Span::of_prefix(&place)]).await? {
                        found.push(format!("{}, outside of --etcd-prefix", shown(&place)));
                    }
                }
                match prefix_end(folder) {
                    Some(end) => from = end,
                    None => break,
                }
            }
        }
        Ok(found)
    }

    fn prefixes(&self) -> Vec<Span> {
        let prefixes = self.keyspace.prefixes().iter();
        prefixes.map(|prefix| Span::of_prefix(prefix.as_bytes())).collect()
    }
}

fn earlier<'k>(one: Option<&'k [u8]>, other: Option<&'k [u8]>) -> Option<&'k [u8]> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (end, None) | (None, end) => end,
    }
}

fn shown(key: &[u8]) -> String {
    key.get(..MAX_SHOWN).unwrap_or(key).escape_ascii().to_string()
}
