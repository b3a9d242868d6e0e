//! The paths below one kind of prefix and whose each is: the tables, what an operator names, and what is assumed for a rule that
//! no table knows a path for. Made once for a configuration; looked at for each key.

use super::builtins::{self, BY_GROUP, BuiltIn, builtins};
use super::openshift::{self, openshift};
use super::{Error, ResourcePath};
use crate::types::GroupResource;

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// One segment without a dot, or two, below the prefix.
    pub(super) path: Box<str>,
    pub(super) group: Box<str>,
    pub(super) resource: Box<str>,
    /// Whether a process of version 0.1 knows it.
    pub(super) is_first: bool,
}

impl Entry {
    fn table(builtin: &BuiltIn) -> Self {
        Self {
            path: builtin.path.into(),
            group: builtin.group.into(),
            resource: builtin.resource.into(),
            is_first: !builtins::is_newer(builtin),
        }
    }

    fn named(path: &str, resource: &GroupResource) -> Self {
        Self {
            path: path.into(),
            group: resource.group.as_str().into(),
            resource: resource.resource.as_str().into(),
            is_first: false,
        }
    }

    pub(super) fn is(&self, wanted: &GroupResource) -> bool {
        *self.group == *wanted.group && *self.resource == *wanted.resource
    }

    fn name(&self) -> GroupResource {
        GroupResource::new(&*self.group, &*self.resource)
    }
}

/// What kind of prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// kube-apiserver's.
    Kubernetes,
    /// That of OpenShift's own API servers.
    OpenShift,
}

/// All paths below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    kind: Kind,
    /// Sorted by length of path, then path: most steps of a search are decided by the length alone.
    entries: Vec<Entry>,
}

impl Layout {
    /// The tables for such a prefix. OpenShift's comes beside Kubernetes': no path is in both.
    pub(super) fn tables(kind: Kind) -> Self {
        let openshift = openshift().filter(|_| kind == Kind::OpenShift);
        let entries = builtins().chain(openshift).map(|builtin| Entry::table(&builtin));
        Self {
            kind,
            entries: entries.collect(),
        }
        .sorted()
    }

    fn sorted(mut self) -> Self {
        self.entries
            .sort_by(|a, b| (a.path.len(), &a.path).cmp(&(b.path.len(), &b.path)));
        self
    }

    /// The same, with what an operator names.
    ///
    /// # Errors
    /// Something else lies there.
    pub(super) fn with_named(mut self, named: &[ResourcePath]) -> Result<Self, Error> {
        for one in named {
            let error = |what: String| Error::Path {
                path: one.to_string(),
                what,
            };
            if is_kube_apiservers_own(&one.path) {
                return Err(error(
                    "kube-apiserver's own records, which are never encrypted".to_owned(),
                ));
            }
            match self.conflict(&one.path) {
                Some(found) if found.is(&one.resource) && *found.path == *one.path => {}
                Some(found) => return Err(error(found.name().to_string())),
                None => self.entries.push(Entry::named(&one.path, &one.resource)),
            }
        }
        Ok(self.sorted())
    }

    /// The same, with `resource` under its own name too where such keys may lie and nothing else is known to; `None` where it is
    /// known where it lies, or nothing can be assumed.
    pub(super) fn assuming(&self, resource: &GroupResource) -> Option<Self> {
        let path = resource.resource.as_str();
        let is_known = BY_GROUP.contains(&(resource.group.as_str(), path)) || self.of(resource).next().is_some();
        if !self.assumes(&resource.group) || is_known || path.is_empty() || path.contains(['/', '*']) {
            return None;
        }
        if self.conflict(path).is_some() || is_kube_apiservers_own(path) {
            return None;
        }
        let mut with = self.clone();
        with.entries.push(Entry::named(path, resource));
        Some(with.sorted())
    }

    /// Whether built-in resources of the group could lie here that no table knows: the group is one of those that are kept for
    /// them. A custom resource may be of such a group too.
    pub(super) fn assumes(&self, group: &str) -> bool {
        group.ends_with(match self.kind {
            Kind::Kubernetes => ".k8s.io",
            Kind::OpenShift => openshift::GROUPS,
        })
    }

    /// The entry at, above or below `path`.
    fn conflict(&self, path: &str) -> Option<&Entry> {
        let is_at_or_below = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let meets = |entry: &&Entry| is_at_or_below(&entry.path, path) || is_at_or_below(path, &entry.path);
        self.entries.iter().find(meets)
    }

    /// Where `resource` lies.
    pub(super) fn of(&self, resource: &GroupResource) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.is(resource))
    }

    /// Every path.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of exactly this path.
    pub(super) fn at(&self, path: &[u8]) -> Option<&Entry> {
        let order = |entry: &Entry| {
            let by_length = entry.path.len().cmp(&path.len());
            by_length.then_with(|| entry.path.as_bytes().cmp(path))
        };
        let index = self.entries.binary_search_by(order).ok()?;
        self.entries.get(index)
    }
}

/// Whether records lie at or below `path` that are never encrypted.
fn is_kube_apiservers_own(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    builtins::OWN.contains(&first)
}
