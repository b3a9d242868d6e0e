//! What a process says of itself: JSON under the state prefix. Names, fingerprints, reasons; never a key's bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::StoreId;
use super::round_trips::round_trips;
use crate::keyring::{Keyring, Reader, Rule};
use crate::types::KeyPrint;

/// The record's version. What stands in one of another version is not relied upon.
pub(super) const SCHEMA: u32 = 1;

/// A record of more bytes goes without its rules: etcd takes 1.5 MiB, and what decides is not among them.
const MAX_BYTES: usize = 512 * 1024;

/// Characters of a reason that are kept.
const MAX_REASON: usize = 1_000;

/// A process that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The record's version.
    pub schema: u32,
    /// What operators call it: `--name`.
    pub name: String,
    /// Where its clients connect.
    pub urls: Vec<String>,
    /// The version that runs.
    pub version: String,
    /// When it started, RFC 3339, by its own clock. For people.
    pub started: String,
    /// What it writes and reads with now.
    pub loaded: Loaded,
    /// The same by name, in the order of the configuration. Empty where they would be too many to keep.
    pub rules: Vec<RuleKeys>,
    /// IDs of the roots that it has, where the configuration lies sealed in etcd.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub roots: Vec<String>,
    /// Whether etcd refuses whatever it has sealed in an earlier epoch. A version that does not say so has no fence.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub fenced: bool,
    /// Whether it writes under fresh seeds of its KMS plugins when that is ordered. Earlier versions do not say so, and do not.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub renews_seeds: bool,
    /// The KMS plugins, as `kms v2 NAME`, that have wrapped a key for this process and given it back. Earlier versions do not say.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub round_trips: Vec<String>,
    /// Which store that is, and whether others that use the configuration's file can see so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serves: Option<Serves>,
    /// Why it has not loaded a newer configuration that it found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// It writes nothing under a rule, because another member holds a key of the same name with other bytes.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub yields: bool,
    /// Encrypted values that its clients have met and that none of its keys opens, since a proof last answered for them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unopened: Option<Unopened>,
}

/// Values that do not open. Coarse, for each change is one of the record, and a proof has to be made anew where a record has
/// changed since it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unopened {
    /// How many there are at least: a power of two.
    pub at_least: u64,
    /// When the first was met, RFC 3339, by the member's own clock. For people.
    pub since: String,
}

/// Which store a process serves with a configuration's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serves {
    /// The store.
    #[serde(flatten)]
    pub store: StoreId,
    /// Whether the file says so to others, by a lock or by a mark beside it. Rotations of other stores do not see it otherwise.
    pub is_marked: bool,
}

/// What decides which values a process can read, and how it writes: equal for two that may serve one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// SHA-256 of the configuration, `sha256:…`.
    pub configuration: String,
    /// Where it takes Kubernetes' keys to begin, `--etcd-prefix`.
    pub prefixes: Vec<String>,
    /// Where it takes resources to lie that a process of an earlier version, or one with another `--resource-path`, does not know
    /// there: as `RESOURCE=KEY`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub paths: Vec<String>,
    /// By KMS v2 plugin: SHA-256 of the key ID that it writes under. Without a plugin that has not yet been well.
    pub kms: BTreeMap<String, String>,
}

/// One rule's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleKeys {
    /// As the configuration names it: `secrets`, `*.apps`.
    pub resources: String,
    /// What it writes with.
    pub writes: Key,
    /// All that it reads, in the order of the configuration.
    pub reads: Vec<Key>,
}

/// A key by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `aescbc`, `kms v2`, `identity`, ….
    pub provider: String,
    /// The key's name, or the plugin's; empty for identity.
    pub name: String,
    /// Tells its bytes from others under the same name. Without: no bytes, or an earlier version's record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub print: Option<KeyPrint>,
}

impl Loaded {
    /// What `keyring` writes and reads with at this moment.
    pub fn of(keyring: &Keyring) -> Self {
        let writing = keyring.plugins().iter().filter_map(|plugin| {
            let report = plugin.report();
            let (key_id, _) = report.writing?;
            Some((report.provider.as_str().to_owned(), key_id))
        });
        Self {
            configuration: keyring.fingerprint().to_string(),
            prefixes: keyring.keyspace().prefixes().iter().map(ToString::to_string).collect(),
            paths: keyring.paths(),
            kms: writing.collect(),
        }
    }

    /// In which places only one of both looks for a resource, for people; `None` where there are none.
    pub(super) fn other_paths(&self, wanted: &Self) -> Option<String> {
        let only = |paths: &[String], others: &[String]| {
            let only: Vec<_> = paths.iter().filter(|path| !others.contains(path)).cloned().collect();
            if only.is_empty() {
                "nothing".to_owned()
            } else {
                only.join(", ")
            }
        };
        (self.paths != wanted.paths).then(|| {
            format!(
                "{} is only there, {} only here; every process needs the same version and the same --resource-path",
                only(&self.paths, &wanted.paths),
                only(&wanted.paths, &self.paths)
            )
        })
    }

    /// Whether what is written by this may be stale by `other`.
    pub(super) fn writes_otherwise(&self, other: &Self) -> bool {
        let is_other = |(plugin, key_id): (&String, &String)| other.kms.get(plugin) != Some(key_id);
        self.configuration != other.configuration
            || self.prefixes != other.prefixes
            || self.paths != other.paths
            || self.kms.iter().any(is_other)
    }
}

impl Member {
    /// This process, which has loaded `keyring` and has not loaded something newer for the reason `refused`.
    pub fn new(name: &str, urls: &[String], started: &str, keyring: &Keyring, refused: Option<&str>) -> Self {
        Self {
            schema: SCHEMA,
            name: name.to_owned(),
            urls: urls.to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: started.to_owned(),
            loaded: Loaded::of(keyring),
            rules: keyring.rules().iter().map(|rule| RuleKeys::of(keyring, rule)).collect(),
            roots: Vec::new(),
            fenced: false,
            renews_seeds: true,
            round_trips: round_trips(keyring),
            serves: None,
            refused: refused.map(|text| text.chars().take(MAX_REASON).collect()),
            yields: false,
            unopened: None,
        }
    }

    /// The same, which has met so many values that do not open, since then.
    #[must_use]
    pub fn with_unopened(self, met: Option<(u64, String)>) -> Self {
        let unopened = met.map(|(values, since)| Unopened {
            at_least: values.checked_ilog2().map_or(0, |log| 1 << log),
            since,
        });
        Self { unopened, ..self }
    }

    /// The same, with the roots that this process has.
    #[must_use]
    pub fn with_roots(self, roots: Vec<String>) -> Self {
        Self { roots, ..self }
    }

    /// The same, `fenced` or not.
    #[must_use]
    pub fn with_fence(self, fenced: bool) -> Self {
        Self { fenced, ..self }
    }

    /// The same, which leaves writing to others or not.
    #[must_use]
    pub fn yielding(self, yields: bool) -> Self {
        Self { yields, ..self }
    }

    /// The same, with the store that this process serves.
    #[must_use]
    pub fn serving(self, serves: Option<Serves>) -> Self {
        Self { serves, ..self }
    }

    /// A key that this one has, and `peer` has only with other bytes: neither reads what the other writes with it.
    pub(super) fn other_bytes<'m>(&'m self, peer: &'m Self) -> Option<(&'m str, &'m str)> {
        let theirs = peer.prints();
        let is_other = |(key, own): &((&str, &str), BTreeSet<&KeyPrint>)| {
            theirs.get(key).is_some_and(|theirs| own.is_disjoint(theirs))
        };
        self.prints().into_iter().find(is_other).map(|(key, _)| key)
    }

    /// The keys that it writes with and of which bytes can be told apart.
    pub(super) fn written(&self) -> Vec<Key> {
        let writes = self.rules.iter().map(|rule| rule.writes.clone());
        writes.filter(|key| key.print.is_some()).collect()
    }

    /// One of the keys `writes` that this one has under the same provider and name, and only with other bytes.
    pub(super) fn holds_otherwise<'k>(&self, writes: &'k [Key]) -> Option<&'k Key> {
        let held = self.prints();
        let is_other = |key: &&Key| {
            let print = key.print.as_ref();
            let held = held.get(&(&*key.provider, &*key.name));
            print.zip(held).is_some_and(|(print, held)| !held.contains(print))
        };
        writes.iter().find(is_other)
    }

    /// By provider and name: the keys that have one, wherever they are listed.
    fn prints(&self) -> BTreeMap<(&str, &str), BTreeSet<&KeyPrint>> {
        let mut prints: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for key in self.rules.iter().flat_map(|rule| &rule.reads) {
            if let Some(print) = &key.print {
                prints.entry((&*key.provider, &*key.name)).or_default().insert(print);
            }
        }
        prints
    }

    /// The record's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        // No map with keys that are not text, and nothing else that JSON cannot say.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        if bytes.len() <= MAX_BYTES {
            return bytes;
        }
        let short = Self {
            rules: Vec::new(),
            ..self.clone()
        };
        serde_json::to_vec(&short).unwrap_or_default()
    }

    /// Reads a record.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if schema != SCHEMA {
            return Err(format!("its schema is {schema}, and this version knows {SCHEMA}"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

impl RuleKeys {
    fn of(keyring: &Keyring, rule: &Rule) -> Self {
        let reads: Vec<_> = keyring.readers(rule.selector()).iter().map(Key::of).collect();
        Self {
            resources: rule.selector().to_string(),
            // The first provider writes, with its first key.
            writes: reads.first().cloned().unwrap_or_else(|| Key {
                provider: String::new(),
                name: String::new(),
                print: None,
            }),
            reads,
        }
    }
}

impl Key {
    /// The keys that `keyring` writes with and of which bytes can be told apart.
    pub(super) fn written(keyring: &Keyring) -> Vec<Self> {
        let rules = keyring.rules().iter().map(|rule| RuleKeys::of(keyring, rule).writes);
        rules.filter(|key| key.print.is_some()).collect()
    }

    fn of(reader: &Reader) -> Self {
        let (provider, name, print) = match reader {
            Reader::Identity => ("identity".to_owned(), String::new(), None),
            Reader::Key { provider, name, print } => ((*provider).to_owned(), name.to_string(), Some(print.clone())),
            Reader::Kms { version, name } => (format!("kms {version}"), name.to_string(), None),
        };
        Self { provider, name, print }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::members) fn member(name: &str, configuration: &str) -> Member {
        Member {
            schema: SCHEMA,
            name: name.to_owned(),
            urls: vec!["http://127.0.0.1:3379".to_owned()],
            version: "0".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            loaded: Loaded {
                configuration: configuration.to_owned(),
                prefixes: vec!["/registry".to_owned()],
                paths: Vec::new(),
                kms: BTreeMap::new(),
            },
            rules: Vec::new(),
            roots: Vec::new(),
            fenced: false,
            renews_seeds: true,
            round_trips: Vec::new(),
            serves: None,
            refused: None,
            yields: false,
            unopened: None,
        }
    }

    /// Readers of earlier versions pass over what they do not know, and what they write lacks it.
    #[test]
    fn what_does_not_open_is_told_coarsely_and_may_be_absent() {
        let text = String::from_utf8(member("a", "sha256:1").encode()).unwrap();
        assert!(!text.contains("unopened"), "{text}");
        assert_eq!(Member::decode(text.as_bytes()).unwrap().unopened, None);
        let told = |values| {
            let since = "2026-01-01T00:00:00Z".to_owned();
            let member = member("a", "sha256:1").with_unopened(Some((values, since)));
            Member::decode(&member.encode()).unwrap().unopened.unwrap().at_least
        };
        assert_eq!([1, 2, 3, 20, 4096].map(told), [1, 2, 2, 16, 4096]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut written = member("a", "sha256:1");
        written.refused = Some("e.yaml:1:1: not valid".to_owned());
        assert_eq!(Member::decode(&written.encode()), Ok(written));
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let why = Member::decode(br#"{"schema":2,"anything":"else"}"#).unwrap_err();
        assert!(why.contains("schema is 2"), "{why}");
        for broken in [&b""[..], b"\xff", b"[]", b"{}", br#"{"schema":1}"#] {
            assert!(Member::decode(broken).is_err());
        }
    }

    #[test]
    fn rules_that_are_too_many_are_left_out() {
        let key = Key {
            provider: "aescbc".to_owned(),
            name: "k".repeat(1_000),
            print: None,
        };
        let rule = RuleKeys {
            resources: "secrets".to_owned(),
            writes: key.clone(),
            reads: vec![key; 1_000],
        };
        let mut large = member("a", "sha256:1");
        large.rules = vec![rule];
        let read = Member::decode(&large.encode()).unwrap();
        assert_eq!((read.loaded, read.rules), (large.loaded, Vec::new()));
    }
}
