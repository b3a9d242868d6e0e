//! The fields of an object: known, each once, named by strings. Merge keys are followed here.

use std::collections::HashSet;

use super::{Decoder, Meaning};
use crate::config::{
    path::Path,
    tree::{Content, Node},
};

/// The longest unknown name that a message repeats. Whatever was meant, it was not a field: the longest has ten
/// characters. A base64 key of 16 bytes, which a misplaced comma can turn into a name, has 24.
const MAX_QUOTED_NAME: usize = 20;

/// How many merge keys may lead from one to the next. Aliases can chain them to any length, which the stack can't follow.
const MAX_MERGES: usize = 64;

/// The fields found so far in one object.
struct Found<'t, const N: usize> {
    names: [&'static str; N],
    values: [Option<&'t Node<'t>>; N],
    seen: HashSet<&'t str>,
}

impl Decoder {
    /// The values of the fields `names`, in that order. Null has none of them.
    pub(super) fn object<'t, const N: usize>(
        &mut self,
        node: &'t Node<'t>,
        path: Path<'_>,
        names: [&'static str; N],
    ) -> [Option<&'t Node<'t>>; N] {
        let mut found = Found {
            names,
            values: [None; N],
            seen: HashSet::new(),
        };
        match self.enter(Some(node)) {
            Some(node) if self.is_null(node) => {}
            Some(node) => self.collect(node, path, &mut found, 0),
            None => {}
        }
        found.values
    }

    fn collect<'t, const N: usize>(
        &mut self,
        node: &'t Node<'t>,
        path: Path<'_>,
        found: &mut Found<'t, N>,
        merges: usize,
    ) {
        let Content::Mapping(pairs) = &node.content else {
            return self.mismatch(node, path, "an object");
        };
        for (key, value) in pairs {
            // Only `<<` without quotes merges, so JSON never does.
            if matches!(&key.content, Content::Plain(text) if &**text == "<<") {
                self.merge(value, path, found, merges + 1);
            } else {
                self.field(key, value, path, found);
            }
            if self.exhausted {
                return;
            }
        }
    }

    fn field<'t, const N: usize>(
        &mut self,
        key: &'t Node<'t>,
        value: &'t Node<'t>,
        path: Path<'_>,
        found: &mut Found<'t, N>,
    ) {
        let Some(key) = self.enter(Some(key)) else { return };
        let name = match &key.content {
            Content::Quoted(text) => text,
            Content::Plain(text) if self.resolve(text) == Meaning::Text => text,
            _ => return self.mismatch(key, path, "names of fields to be strings"),
        };
        let again = !found.seen.insert(name);
        let known = found
            .names
            .iter()
            .zip(&mut found.values)
            .find(|(known, _)| **known == &**name);
        match known {
            Some((name, _)) if again => {
                let name = *name;
                self.problems
                    .push(key.at, || format!("duplicate field \"{}\"", path.field(name)));
            }
            Some((_, slot)) => *slot = Some(value),
            None => {
                let what = if again { "duplicate" } else { "unknown" };
                self.problems.push(key.at, || match showable(name, &found.names) {
                    Some(name) => format!("{what} field \"{}\"", path.field(name)),
                    None => path.says(format_args!("{what} field, expected only {}", found.names.join(", "))),
                });
            }
        }
    }

    /// `<<`: the fields of another mapping, or of several. As in kube-apiserver they can't be overridden: a field that
    /// comes twice is a duplicate.
    fn merge<'t, const N: usize>(
        &mut self,
        value: &'t Node<'t>,
        path: Path<'_>,
        found: &mut Found<'t, N>,
        merges: usize,
    ) {
        let Some(value) = self.enter(Some(value)) else { return };
        if merges > MAX_MERGES {
            return self
                .problems
                .push(value.at, || path.says("too many merge keys lead to one another"));
        }
        match &value.content {
            Content::Mapping(_) => self.collect(value, path, found, merges),
            Content::List(values) => {
                for value in values {
                    if let Some(value) = self.enter(Some(value)) {
                        self.collect(value, path, found, merges);
                    }
                }
            }
            _ => self.mismatch(value, path, "objects to merge"),
        }
    }
}

/// `name`, if it is sure to be no part of a secret: short, made as names are, and not from within a key.
fn showable<'n>(name: &'n str, siblings: &[&str]) -> Option<&'n str> {
    let beside_secret = siblings.contains(&"secret");
    let made_as_names_are = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (!beside_secret && name.len() <= MAX_QUOTED_NAME && made_as_names_are && !name.is_empty()).then_some(name)
}
