//! What no key of the configuration opens, and which key of a kept configuration does: what can be done about it, and what cannot
//! and why. Pure; key bytes pass through in buffers that are wiped.

mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::{EncryptionConfiguration, Key, KeyId, Provider, ResourceSelector};
use crate::inventory::Under;
use crate::sweep::{Need, Spare, Unopenable};
use crate::types::{Fingerprint, KeyPrint};

pub(super) use text::left_out;

/// A configuration that was replaced, or that an operator names.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What operators call it.
    pub name: String,
    /// What it says.
    pub config: EncryptionConfiguration,
}

/// Every key that is at hand: those of the configuration itself, and those of the kept ones that it does not list.
#[derive(Debug, Default)]
pub struct AtHand {
    keys: Vec<Known>,
    spares: Vec<Spare>,
}

#[derive(Debug)]
struct Known {
    id: KeyId,
    key: Key,
    /// Where it is listed; `None` for the configuration itself.
    from: Option<String>,
}

impl AtHand {
    /// Of `config`, and of `kept`, whose first one counts most.
    pub fn of(config: &EncryptionConfiguration, kept: &[Kept]) -> Self {
        let mut found = Self::default();
        let mut seen: Vec<(KeyId, KeyPrint)> = Vec::new();
        let own = std::iter::once((None, config));
        let others = kept.iter().map(|kept| (Some(&kept.name), &kept.config));
        for (from, config) in own.chain(others) {
            for provider in config.entries.iter().flat_map(|entry| &entry.providers) {
                let keys = provider.keys().map_or(&[][..], |(_, keys)| keys);
                for ((id, print), key) in provider.key_prints().zip(keys) {
                    let is_new = !seen.contains(&(id.clone(), print.clone()));
                    if let Some(spare) = Spare::new(&id, key).filter(|_| is_new) {
                        seen.push((id.clone(), print));
                        found.spares.push(spare);
                        found.keys.push(Known {
                            id,
                            key: key.clone(),
                            from: from.cloned(),
                        });
                    }
                }
            }
        }
        found
    }

    /// For the search: in the order in which they are to be tried.
    pub fn spares(&self) -> &[Spare] {
        &self.spares
    }
}

/// A key that is to be listed to read with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    /// The rule.
    pub(super) rule: ResourceSelector,
    /// Which key.
    pub(super) id: KeyId,
    /// The key itself.
    pub(super) key: Key,
    /// Where it was found.
    pub(super) from: String,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Of which configuration.
    pub(super) configuration: Fingerprint,
    /// What is to be listed. Of keys that share a name only the one that opens most: the others come after it.
    pub(super) readers: Vec<Reader>,
    /// All that does not open.
    rows: Vec<Row>,
    is_whole: bool,
}

/// How many values of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    resource: String,
    #[serde(flatten)]
    under: Under,
    objects: u64,
    /// The etcd key of the first.
    example: String,
    /// Which etcd, where it is not the one that the command was given first.
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<String>,
    /// The file with a key that opens them.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    fate: Fate,
}

/// What can be done about values that do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Fate {
    /// `recover` brings them under what writes.
    Recoverable,
    /// No rule covers them, so nothing would.
    NoRule,
    /// The configuration has a key of that name with other bytes.
    SharesName,
    /// The key is in the configuration, and not in the rule.
    NotInRule,
    /// They are in the clear, and the rule does not list identity.
    Clear,
    /// They are under a KMS.
    Kms,
    /// No key at hand opens them.
    NoKey,
}

impl Recovery {
    /// What follows from what was `found` in each store, the first one without a name, with what is `at_hand`. The keys that are
    /// `recovered` are about to be taken out.
    pub(super) fn of(
        config: &EncryptionConfiguration,
        at_hand: &AtHand,
        recovered: &[KeyId],
        found: Vec<(Option<String>, Unopenable)>,
    ) -> Self {
        let mut all = Self {
            configuration: config.fingerprint,
            readers: Vec::new(),
            rows: Vec::new(),
            is_whole: found.iter().all(|(_, found)| found.is_whole),
        };
        // By name, and by which of the keys of that name: for which rules, and how many values.
        let mut wanted: BTreeMap<KeyId, BTreeMap<usize, (Vec<ResourceSelector>, u64)>> = BTreeMap::new();
        for (servers, found) in found {
            for (need, objects, example) in found.rows {
                let opener = need.opener.and_then(|index| Some((index, at_hand.keys.get(index)?)));
                let known = opener.map(|(_, known)| known);
                let Some(fate) = fate(config, recovered, known, &need) else {
                    continue;
                };
                if let (Fate::Recoverable, Some((index, known)), Some(rule)) = (fate, opener, need.rule) {
                    let by_key = wanted.entry(known.id.clone()).or_default();
                    let (rules, total) = by_key.entry(index).or_default();
                    *total += objects;
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
                all.rows.push(Row {
                    resource: need.resource,
                    under: need.under,
                    objects,
                    example,
                    servers: servers.clone(),
                    from: known.and_then(|known| known.from.clone()),
                    fate,
                });
            }
        }
        for by_key in wanted.into_values() {
            // What is listed already is gone through first, in every rule that needs it.
            let is_own = |index: usize| at_hand.keys.get(index).is_some_and(|known| known.from.is_none());
            let most = by_key
                .into_iter()
                .max_by_key(|(index, (_, total))| (is_own(*index), *total));
            let Some((known, rules)) = most.and_then(|(index, (rules, _))| Some((at_hand.keys.get(index)?, rules)))
            else {
                continue;
            };
            // Two keys of one name are never listed at once.
            if known.from.is_some() && config.has_key(&known.id) {
                continue;
            }
            all.readers.extend(rules.into_iter().map(|rule| Reader {
                rule,
                id: known.id.clone(),
                key: known.key.clone(),
                from: known.from.clone().unwrap_or_else(|| "the configuration".to_owned()),
            }));
        }
        all
    }

    /// The keys that are to be listed, once each.
    pub(super) fn keys(&self) -> Vec<KeyId> {
        let mut keys: Vec<KeyId> = Vec::new();
        for reader in &self.readers {
            if !keys.contains(&reader.id) {
                keys.push(reader.id.clone());
            }
        }
        keys
    }

    /// Whether something needs a KMS that the configuration does not list.
    pub(super) fn needs_kms(&self) -> bool {
        self.rows.iter().any(|row| row.fate == Fate::Kms)
    }

    /// All that does not open.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether `recover` would bring anything under what writes.
    pub fn is_of_use(&self) -> bool {
        !self.readers.is_empty()
    }
}

/// What can be done about values that need `need`, which `known` opens; `None` where that is nothing to this command.
fn fate(config: &EncryptionConfiguration, recovered: &[KeyId], known: Option<&Known>, need: &Need) -> Option<Fate> {
    let Some(known) = known else {
        return Some(match &*need.under.provider {
            "identity" => Fate::Clear,
            provider if provider.starts_with("kms") => Fate::Kms,
            _ => Fate::NoKey,
        });
    };
    Some(match (&known.from, &need.rule) {
        // What no rule covers keeps its key from going; that is all that is to be said of it.
        (None, None) => return None,
        (None, Some(_)) if recovered.contains(&known.id) => Fate::Recoverable,
        (None, Some(_)) => Fate::NotInRule,
        (Some(_), None) => Fate::NoRule,
        (Some(_), Some(_)) if config.has_key(&known.id) && !recovered.contains(&known.id) => Fate::SharesName,
        (Some(_), Some(_)) => Fate::Recoverable,
    })
}

/// KMS plugins of kept configurations that `config` does not list, by the file and the name.
pub(super) fn plugins(config: &EncryptionConfiguration, kept: &[Kept]) -> Vec<(String, String)> {
    let listed = |config: &EncryptionConfiguration| -> Vec<String> {
        let providers = config.entries.iter().flat_map(|entry| &entry.providers);
        let plugins = providers.filter_map(|provider| match provider {
            Provider::Kms(kms) => Some(kms.name.as_str().to_owned()),
            _ => None,
        });
        plugins.collect()
    };
    let mut seen = listed(config);
    let mut found = Vec::new();
    for kept in kept {
        for name in listed(&kept.config) {
            if !seen.contains(&name) {
                seen.push(name.clone());
                found.push((kept.name.clone(), name));
            }
        }
    }
    found
}
