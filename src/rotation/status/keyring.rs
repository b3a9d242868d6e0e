//! What `status` tells of a keyring in etcd: which it is, what it is sealed under, what its archive holds, who has written its
//! keys down. No key, and no root.

use std::fmt;

use serde::Serialize;

use crate::config::KeyId;
use crate::managed::{Current, Export, KeyAge, KnownRoot, Time};

/// The keyring.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyringView {
    generation: u64,
    created: Time,
    updated: Time,
    /// The host that wrote it last.
    by: String,
    /// What it is sealed under.
    root: String,
    /// Those that this process has.
    roots: Vec<RootView>,
    /// Documents that its archive has.
    archived: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<Export>,
    #[serde(skip)]
    ages: Vec<KeyAge>,
}

#[derive(Clone, Debug, Serialize)]
struct RootView {
    id: String,
    from: String,
}

impl KeyringView {
    /// Of the keyring, the roots that are `known`, how many documents its archive has, and its exports.
    pub fn of(current: &Current, known: &[KnownRoot], archived: u64, exports: Vec<Export>) -> Self {
        let view = |root: &KnownRoot| RootView {
            id: root.id.to_string(),
            from: root.from.clone(),
        };
        Self {
            generation: current.generation,
            created: current.created,
            updated: current.updated,
            by: current.by.clone(),
            root: current.root.to_string(),
            roots: known.iter().map(view).collect(),
            archived,
            exports,
            ages: current.keys.clone(),
        }
    }

    /// When `key` came.
    pub(super) fn since(&self, key: &KeyId) -> Option<Time> {
        let mut ages = self.ages.iter();
        let age = ages.find(|age| age.provider == key.provider && age.name == key.name);
        age.map(|age| age.since)
    }
}

impl fmt::Display for KeyringView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Keyring: generation {}, written {} by {}",
            self.generation, self.updated, self.by
        )?;
        let from = self.roots.iter().find(|root| root.id == self.root);
        let from = from.map_or("not at hand any more", |root| root.from.as_str());
        writeln!(f, "Root: {} ({from})", self.root)?;
        for other in self.roots.iter().filter(|root| root.id != self.root) {
            writeln!(f, "At hand: root {} ({})", other.id, other.from)?;
        }
        writeln!(f, "Archived documents: {}", self.archived)?;
        for export in &self.exports {
            let Export {
                at,
                by,
                user,
                generation,
            } = export;
            writeln!(
                f,
                "Exported in the clear: generation {generation}, {at} by {user} on {by}"
            )?;
        }
        Ok(())
    }
}
