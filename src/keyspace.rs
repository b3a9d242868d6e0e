//! From an etcd key to the resource whose value it holds, as kube-apiserver lays its keys out below `--etcd-prefix`.
//!
//! A key is the prefix, then the resource's path, then `[/<namespace>]/<name>`. A first segment with a dot is the group
//! of a custom resource and the second one its plural name; a CRD's group must have a dot, and no path of a built-in
//! resource has one in its first segment. Everything else is looked up in the table of built-in resources. Pure, and
//! without allocation on the way from a key to its [`Place`]; knows no rule and no value.

mod builtins;
mod etcd_prefix;
mod span;
#[cfg(test)]
mod tests;

pub use builtins::{BuiltIn, builtins};
pub use etcd_prefix::EtcdPrefix;
pub use span::Span;

use crate::types::GroupResource;

/// A key space that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Without a prefix every key would pass in clear.
    #[error("at least one etcd prefix is needed")]
    NoPrefix,
    /// An empty prefix is more likely a variable that was not set than the wish for every key.
    #[error("the etcd prefix is empty; write \"/\" to mean every key that begins with a slash")]
    EmptyPrefix,
}

/// What the value under a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'k> {
    /// Objects of this resource.
    Resource {
        /// API group, empty for core.
        group: &'k str,
        /// Plural name.
        resource: &'k str,
    },
    /// Below a prefix, but of no resource that could be named: only a rule for everything covers it.
    Unlisted,
    /// A record of kube-apiserver's own that it reads and writes past every transformer. Must stay as it is.
    NeverEncrypted,
    /// Below none of the prefixes.
    Outside,
}

/// What a rule selects, for [`KeySpace::spans_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One resource.
    Resource(&'a GroupResource),
    /// Every resource of the group.
    Group(&'a str),
    /// Every resource, and what is [`Place::Unlisted`].
    Everything,
}

/// The prefixes under which kube-apiserver's keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    /// Longest first, none twice; at least one.
    prefixes: Vec<EtcdPrefix>,
    /// Sorted by length of path, then path: most steps of a search are decided by the length alone.
    builtins: Vec<BuiltIn>,
}

impl KeySpace {
    /// A key space of at least one prefix. Where one lies below another, keys below both belong to the longer one.
    pub fn new(mut prefixes: Vec<EtcdPrefix>) -> Result<Self, Error> {
        prefixes.sort_by(|a, b| b.as_bytes().len().cmp(&a.as_bytes().len()).then_with(|| a.cmp(b)));
        prefixes.dedup();
        if prefixes.is_empty() {
            return Err(Error::NoPrefix);
        }
        let mut builtins: Vec<_> = builtins().collect();
        builtins.sort_unstable_by_key(|builtin| (builtin.path.len(), builtin.path));
        Ok(Self { prefixes, builtins })
    }

    /// The prefixes, longest first.
    pub fn prefixes(&self) -> &[EtcdPrefix] {
        &self.prefixes
    }

    /// What the value under `key` belongs to. Any bytes are a key.
    ///
    /// The resource's path alone counts as the resource too: kube-apiserver reads that key, where nothing ever lies, to
    /// learn etcd's revision.
    pub fn classify<'k>(&self, key: &'k [u8]) -> Place<'k> {
        self.place(key).0
    }

    /// [`KeySpace::classify`], and the front of `key` that decides it: whatever key begins with that has the same place.
    /// Empty where it takes more than that to tell.
    pub fn classify_with_front<'k>(&self, key: &'k [u8]) -> (Place<'k>, &'k [u8]) {
        let (place, front) = self.place(key);
        let front = key.get(..front).unwrap_or_default();
        // A longer prefix below it has a say too.
        let is_whole =
            |prefix: &EtcdPrefix| !prefix.as_bytes().starts_with(front) || front.starts_with(prefix.as_bytes());
        let front = Some(front).filter(|_| self.prefixes.iter().all(is_whole));
        (place, front.unwrap_or_default())
    }

    /// The place of `key`, and how long the path of its resource is with all before it and the slash behind it; 0 where it
    /// has none.
    fn place<'k>(&self, key: &'k [u8]) -> (Place<'k>, usize) {
        let Some(path) = self
            .prefixes
            .iter()
            .find_map(|prefix| key.strip_prefix(prefix.as_bytes()))
        else {
            return (Place::Outside, 0);
        };
        if builtins::is_never_encrypted(path) {
            return (Place::NeverEncrypted, 0);
        }
        let (first, rest) = split_segment(path);
        let (second, below) = rest.map(split_segment).unzip();
        let begins = key.len() - path.len();
        let first_ends = rest.map_or(0, |_| begins + first.len() + 1);
        let second_ends = below.flatten().map_or(0, |below| key.len() - below.len());
        if first.contains(&b'.') {
            let place = custom_resource(first, second.unwrap_or_default());
            return (place, second_ends);
        }
        let two_segments = second.and_then(|second| path.get(..=first.len() + second.len()));
        let found = self.builtin(first).map(|found| (found, first_ends));
        found
            .or_else(|| Some((self.builtin(two_segments?)?, second_ends)))
            .map_or((Place::Unlisted, 0), |(found, ends)| {
                let BuiltIn { group, resource, .. } = *found;
                (Place::Resource { group, resource }, ends)
            })
    }

    /// Where the keys of `scope` lie: every key that [`KeySpace::classify`] puts there is in one of the spans. Where
    /// prefixes lie below one another, a span may also hold keys that belong elsewhere. None: no key can be of `scope`.
    pub fn spans_of(&self, scope: Scope<'_>) -> Vec<Span> {
        let of_group = |group: &str| {
            let built_in = self.builtins.iter().filter(|builtin| builtin.group == group);
            built_in.map(|builtin| builtin.path.to_owned()).collect::<Vec<_>>()
        };
        self.prefixes
            .iter()
            .flat_map(|prefix| match scope {
                Scope::Resource(wanted) => {
                    let built_in = self.builtins.iter().filter(|builtin| builtin.is(wanted));
                    let custom = is_custom(&wanted.group).then(|| format!("{}/{}", wanted.group, wanted.resource));
                    let paths = built_in.map(|builtin| builtin.path.to_owned()).chain(custom);
                    paths
                        .flat_map(|path| Span::at_and_below(&prefix.join(&path)))
                        .collect::<Vec<_>>()
                }
                Scope::Group(group) => {
                    let built_in = of_group(group)
                        .into_iter()
                        .flat_map(|path| Span::at_and_below(&prefix.join(&path)));
                    let custom = is_custom(group).then(|| Span::of_prefix(&prefix.join(&format!("{group}/"))));
                    built_in.chain(custom).collect()
                }
                Scope::Everything => vec![Span::of_prefix(prefix.as_bytes())],
            })
            .collect()
    }

    fn builtin(&self, path: &[u8]) -> Option<&BuiltIn> {
        let order = |builtin: &BuiltIn| {
            let by_length = builtin.path.len().cmp(&path.len());
            by_length.then_with(|| builtin.path.as_bytes().cmp(path))
        };
        let index = self.builtins.binary_search_by(order).ok()?;
        self.builtins.get(index)
    }
}

/// Whether the group's resources lie under the group's own name.
fn is_custom(group: &str) -> bool {
    group.contains('.')
}

/// Neither part is ever empty or other than UTF-8 in what kube-apiserver writes, so nothing else is a resource.
fn custom_resource<'k>(group: &'k [u8], resource: &'k [u8]) -> Place<'k> {
    match (str::from_utf8(group), str::from_utf8(resource)) {
        (Ok(group), Ok(resource)) if !resource.is_empty() => Place::Resource { group, resource },
        _ => Place::Unlisted,
    }
}

/// The bytes before the first slash, and those behind it if there is one.
fn split_segment(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path
        .iter()
        .position(|&byte| byte == b'/')
        .and_then(|slash| path.split_at_checked(slash))
    {
        Some((first, rest)) => (first, rest.get(1..)),
        None => (path, None),
    }
}
