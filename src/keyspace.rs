//! From an etcd key to the resource whose value it holds, as kube-apiserver lays its keys out below `--etcd-prefix`.
//!
//! A key is the prefix, then the resource's path, then `[/<namespace>]/<name>`. A first segment with a dot is the group
//! of a custom resource and the second one its plural name; a CRD's group must have a dot, and no path of a built-in
//! resource has one in its first segment. Everything else is looked up in the table of built-in resources. Pure, and
//! without allocation on the way from a key to its [`Place`]; knows no rule and no value.

mod builtins;
mod etcd_prefix;
mod layout;
mod openshift;
mod resource_path;
mod span;
#[cfg(test)]
mod tests;

pub use builtins::{BuiltIn, builtins};
pub use etcd_prefix::EtcdPrefix;
pub use resource_path::{PathError, ResourcePath};
pub use span::Span;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::types::GroupResource;
use layout::Layout;

/// A key space that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Without a prefix every key would pass in clear.
    #[error("at least one etcd prefix is needed")]
    NoPrefix,
    /// An empty prefix is more likely a variable that was not set than the wish for every key.
    #[error("the etcd prefix is empty; write \"/\" to mean every key that begins with a slash")]
    EmptyPrefix,
    /// Two resources at one path.
    #[error("{path}: at, above or below that path lie {what}")]
    Path {
        /// As it was given.
        path: String,
        /// What is known to lie there.
        what: String,
    },
}

impl Error {
    /// The flag that is wrong.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::NoPrefix | Self::EmptyPrefix => "--etcd-prefix",
            Self::Path { .. } => "--resource-path",
        }
    }
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

/// How far a rule reaches that is about built-in resources which no table knows, for an operator to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Nothing is guessed.
    None,
    /// The resource is looked for under its own name and under its group's.
    BothLayouts,
    /// The resource is looked for under its group's name alone, as something else lies under its own.
    GroupAlone,
    /// Those resources of the group alone that are known, and those that lie under the group's name.
    KnownAlone,
}

/// The prefixes under which kube-apiserver's keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    /// Longest first, none twice; at least one.
    prefixes: Vec<EtcdPrefix>,
    /// What lies below each.
    layouts: Vec<Arc<Layout>>,
    /// What an operator names.
    named: Vec<ResourcePath>,
}

impl KeySpace {
    /// A key space of at least one prefix. Where one lies below another, keys below both belong to the longer one.
    pub fn new(mut prefixes: Vec<EtcdPrefix>) -> Result<Self, Error> {
        prefixes.sort_by(|a, b| b.as_bytes().len().cmp(&a.as_bytes().len()).then_with(|| a.cmp(b)));
        prefixes.dedup();
        if prefixes.is_empty() {
            return Err(Error::NoPrefix);
        }
        let tables = |prefix: &EtcdPrefix| Arc::new(Layout::tables(prefix.kind()));
        Ok(Self {
            layouts: prefixes.iter().map(tables).collect(),
            prefixes,
            named: Vec::new(),
        })
    }

    /// The same, where resources lie at these paths, too.
    ///
    /// # Errors
    /// Something else is known to lie at one of them.
    pub fn with_paths(self, named: Vec<ResourcePath>) -> Result<Self, Error> {
        let mut layouts = Vec::new();
        for prefix in &self.prefixes {
            layouts.push(Arc::new(Layout::tables(prefix.kind()).with_named(&named)?));
        }
        Ok(Self { layouts, named, ..self })
    }

    /// The same, for a configuration with rules about these. What was assumed for another configuration is forgotten.
    ///
    /// Where no table knows a path for a resource of a group that is kept for built-in ones, it is assumed to lie under its own
    /// name as well. Of two resources with one name that is so for the first.
    #[must_use]
    pub fn for_rules<'a>(&self, rules: impl IntoIterator<Item = Scope<'a>>) -> Self {
        let mut layouts: Vec<Layout> = self.prefixes.iter().map(|prefix| self.certain(prefix)).collect();
        for rule in rules {
            let Scope::Resource(resource) = rule else { continue };
            for layout in &mut layouts {
                if let Some(with) = layout.assuming(resource) {
                    *layout = with;
                }
            }
        }
        Self {
            layouts: layouts.into_iter().map(Arc::new).collect(),
            ..self.clone()
        }
    }

    /// What is known of `prefix` whatever the rules are.
    fn certain(&self, prefix: &EtcdPrefix) -> Layout {
        let tables = Layout::tables(prefix.kind());
        // It was checked where it was taken in.
        tables.clone().with_named(&self.named).unwrap_or(tables)
    }

    /// The prefixes, longest first.
    pub fn prefixes(&self) -> &[EtcdPrefix] {
        &self.prefixes
    }

    /// What is guessed about the paths of `rule`, in a key space that is [`KeySpace::for_rules`] with it among them.
    pub fn guess(&self, rule: Scope<'_>) -> Guess {
        let group = match rule {
            Scope::Resource(resource) => &resource.group,
            Scope::Group(group) => group,
            Scope::Everything => return Guess::None,
        };
        let mut layouts = self.prefixes.iter().zip(&self.layouts);
        if !self.layouts.iter().any(|layout| layout.assumes(group)) {
            return Guess::None;
        }
        let Scope::Resource(resource) = rule else {
            return Guess::KnownAlone;
        };
        let is_certain = |prefix: &EtcdPrefix| self.certain(prefix).of(resource).next().is_some();
        let is_by_group = builtins::BY_GROUP.contains(&(group, &resource.resource));
        if is_by_group || self.prefixes.iter().any(is_certain) {
            Guess::None
        } else if layouts.any(|(_, layout)| layout.of(resource).next().is_some()) {
            Guess::BothLayouts
        } else {
            Guess::GroupAlone
        }
    }

    /// The paths of `rules` that a process of version 0.1 does not know, or one to which an operator has named others: it stores in
    /// the clear there what this one encrypts. As `RESOURCE=KEY`, in order.
    pub fn beyond<'a>(&self, rules: impl IntoIterator<Item = Scope<'a>>) -> Vec<String> {
        let rules: Vec<_> = rules.into_iter().collect();
        let is_covered = |entry: &layout::Entry| {
            rules.iter().any(|rule| match rule {
                Scope::Resource(resource) => entry.is(resource),
                Scope::Group(group) => *entry.group == **group,
                // There whatever lies below the prefix is its.
                Scope::Everything => false,
            })
        };
        let places = self.prefixes.iter().zip(&self.layouts);
        let mut beyond: Vec<_> = places
            .flat_map(|(prefix, layout)| {
                let newer = layout
                    .entries()
                    .iter()
                    .filter(|entry| !entry.is_first && is_covered(entry));
                newer.map(move |entry| {
                    let key = prefix.join(&entry.path);
                    let name = GroupResource::new(&*entry.group, &*entry.resource);
                    format!("{name}={}/", String::from_utf8_lossy(&key))
                })
            })
            .collect();
        beyond.sort_unstable();
        beyond
    }

    /// What the value under `key` belongs to. Any bytes are a key.
    ///
    /// The resource's path alone counts as the resource too: kube-apiserver reads that key, where nothing ever lies, to
    /// learn etcd's revision.
    pub fn classify<'k>(&'k self, key: &'k [u8]) -> Place<'k> {
        self.place(key).0
    }

    /// [`KeySpace::classify`], and the front of `key` that decides it: whatever key begins with that has the same place.
    /// Empty where it takes more than that to tell.
    pub fn classify_with_front<'p, 'k: 'p>(&'p self, key: &'k [u8]) -> (Place<'p>, &'k [u8]) {
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
    fn place<'p>(&'p self, key: &'p [u8]) -> (Place<'p>, usize) {
        let mut places = self.prefixes.iter().zip(&self.layouts);
        let Some((path, layout)) =
            places.find_map(|(prefix, layout)| Some((key.strip_prefix(prefix.as_bytes())?, layout)))
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
        let found = layout.at(first).map(|found| (found, first_ends));
        found.or_else(|| Some((layout.at(two_segments?)?, second_ends))).map_or(
            (Place::Unlisted, 0),
            |(found, ends)| {
                let (group, resource) = (&*found.group, &*found.resource);
                (Place::Resource { group, resource }, ends)
            },
        )
    }

    /// Where everything lies that a table, an operator or a rule accounts for, but for custom resources; and what is never
    /// encrypted.
    pub fn known_spans(&self) -> Vec<Span> {
        let places = self.prefixes.iter().zip(&self.layouts);
        places
            .flat_map(|(prefix, layout)| {
                let listed = layout.entries().iter().map(|entry| &*entry.path);
                let listed = listed.flat_map(|path| Span::at_and_below(&prefix.join(path)));
                let own = builtins::OWN_FOLDERS
                    .iter()
                    .map(|path| Span::of_prefix(&prefix.join(path)));
                let records = builtins::OWN_RECORDS
                    .iter()
                    .map(|path| Span::of_key(&prefix.join(path)));
                listed.chain(own).chain(records).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Every resource that a table, an operator or a rule has a path for, each once.
    pub fn known(&self) -> impl Iterator<Item = GroupResource> {
        let entries = self.layouts.iter().flat_map(|layout| layout.entries());
        let names = entries.map(|entry| GroupResource::new(&*entry.group, &*entry.resource));
        names.collect::<BTreeSet<_>>().into_iter()
    }

    /// What keys of `scope` begin with behind a prefix, whichever that is.
    pub fn paths_of(&self, scope: Scope<'_>) -> BTreeSet<String> {
        let entries = self.layouts.iter().flat_map(|layout| layout.entries());
        let (mut paths, custom): (BTreeSet<_>, _) = match scope {
            Scope::Resource(wanted) => (
                entries
                    .filter(|entry| entry.is(wanted))
                    .map(|entry| entry.path.to_string())
                    .collect(),
                is_custom(&wanted.group).then(|| format!("{}/{}", wanted.group, wanted.resource)),
            ),
            Scope::Group(group) => (
                entries
                    .filter(|entry| *entry.group == *group)
                    .map(|entry| entry.path.to_string())
                    .collect(),
                is_custom(group).then(|| group.to_owned()),
            ),
            Scope::Everything => (BTreeSet::new(), None),
        };
        paths.extend(custom);
        paths
    }

    /// Where the keys of `scope` lie: every key that [`KeySpace::classify`] puts there is in one of the spans. Where
    /// prefixes lie below one another, a span may also hold keys that belong elsewhere. None: no key can be of `scope`.
    pub fn spans_of(&self, scope: Scope<'_>) -> Vec<Span> {
        let places = self.prefixes.iter().zip(&self.layouts);
        places
            .flat_map(|(prefix, layout)| {
                let listed = |is_its: &dyn Fn(&layout::Entry) -> bool| {
                    let entries = layout.entries().iter().filter(|entry| is_its(entry));
                    let spans = entries.flat_map(|entry| Span::at_and_below(&prefix.join(&entry.path)));
                    spans.collect::<Vec<_>>()
                };
                match scope {
                    Scope::Resource(wanted) => {
                        let mut spans = listed(&|entry| entry.is(wanted));
                        if is_custom(&wanted.group) {
                            let path = format!("{}/{}", wanted.group, wanted.resource);
                            spans.extend(Span::at_and_below(&prefix.join(&path)));
                        }
                        spans
                    }
                    Scope::Group(group) => {
                        let mut spans = listed(&|entry| *entry.group == *group);
                        if is_custom(group) {
                            spans.push(Span::of_prefix(&prefix.join(&format!("{group}/"))));
                        }
                        spans
                    }
                    Scope::Everything => vec![Span::of_prefix(prefix.as_bytes())],
                }
            })
            .collect()
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
