//! The events and their JSON, which docs/audit.md describes: fields are added, never changed.

use std::fmt::Display;
use std::time::SystemTime;

use serde::Serialize;

/// One line: an event and when it was.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    /// RFC 3339, UTC, with milliseconds.
    time: String,
    #[serde(flatten)]
    pub(super) event: Event,
    /// How many such events this line stands for, where it is more than one.
    #[serde(skip_serializing_if = "is_one")]
    pub(super) count: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Started {
        version: &'static str,
        pid: u32,
    },
    Stopped {
        reason: &'static str,
    },
    ConfigurationLoaded {
        file: String,
        fingerprint: String,
        rules: Rules,
    },
    ReloadRefused {
        file: String,
        reason: String,
    },
    KeyFirstUsed {
        provider: String,
        key: String,
    },
    KeyLastUsed {
        provider: String,
        key: String,
        /// RFC 3339, to the second.
        last_used: String,
    },
    UndecryptableValue {
        /// In etcd, as ASCII with escapes.
        key: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_name: Option<String>,
        reason: String,
    },
    AccessRefused {
        reason: &'static str,
        peer: String,
        request: String,
        detail: String,
    },
    KeyringExported {
        /// Where the keys were written to.
        file: String,
        fingerprint: String,
        generation: u64,
        host: String,
        user: String,
    },
    ArchivePurged {
        /// Of documents.
        fingerprints: Vec<String>,
        host: String,
        user: String,
    },
    EventsLost,
}

/// The rules of a configuration, by names.
pub type Rules = Vec<Rule>;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// What it covers, as kube-apiserver prints it.
    pub resource: String,
    /// Its providers with the names of their keys, in order; the first writes, with its first key.
    pub providers: Vec<Names>,
}

/// A provider and the names of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Names {
    /// Kind of provider.
    pub provider: String,
    /// Names of its keys, or of the KMS provider.
    pub keys: Vec<String>,
}

impl Rule {
    /// A rule for `resource` with `providers`, each a kind and names.
    pub fn new(resource: &dyn Display, providers: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let names = |(provider, keys)| Names { provider, keys };
        Self {
            resource: resource.to_string(),
            providers: providers.into_iter().map(names).collect(),
        }
    }
}

impl Record {
    pub(super) fn new(at: SystemTime, event: Event) -> Self {
        Self::counting(at, event, 1)
    }

    pub(super) fn counting(at: SystemTime, event: Event, count: u64) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(at).to_string(),
            event,
            count,
        }
    }
}

impl Event {
    /// Its name, as in its line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::ConfigurationLoaded { .. } => "configuration_loaded",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::KeyFirstUsed { .. } => "key_first_used",
            Self::KeyLastUsed { .. } => "key_last_used",
            Self::UndecryptableValue { .. } => "undecryptable_value",
            Self::AccessRefused { .. } => "access_refused",
            Self::KeyringExported { .. } => "keyring_exported",
            Self::ArchivePurged { .. } => "archive_purged",
            Self::EventsLost => "events_lost",
        }
    }

    /// What repetitions of it have in common; `None` for one that is written each time.
    pub(super) fn repeats(&self) -> Option<(&'static str, &str, &str)> {
        match self {
            Self::UndecryptableValue { key, .. } => Some((self.name(), key, "")),
            Self::AccessRefused { reason, peer, .. } => Some((self.name(), reason, peer)),
            Self::ReloadRefused { file, reason } => Some((self.name(), file, reason)),
            _ => None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's way to ask")]
fn is_one(count: &u64) -> bool {
    *count == 1
}
