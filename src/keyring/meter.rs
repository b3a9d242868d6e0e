//! Counts what is sealed and opened, for one resource under one rule, with the numbers that kube-apiserver has. Handles are
//! found once, when a series is first needed; after that counting takes no lock, allocates nothing and looks up no label.
//!
//! kube-apiserver counts in each of its two nested chains: a value under a key counts for the prefix of the provider and for
//! that of the key. What fails on the way to what opens in the end counts as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::families::{DURATION, OPENED, OPERATIONS, RETIRED_READS};
use super::key_writes::KeyWrites;
use crate::audit::KeyUse;
use crate::value::{Chain, OpenError, Opened, Provider, ProviderKind, SealError};

const TO_STORAGE: &str = "to_storage";
const FROM_STORAGE: &str = "from_storage";

/// The prefix that stands for identity where it reads; where it writes kube-apiserver has the empty one.
const IDENTITY: &str = "identity";
/// The prefix that stands for a value that no provider, or no key of a provider, recognises.
const UNKNOWN: &str = "unknown";
/// The status of an error that did not come over gRPC.
const NOT_GRPC: &str = "unknown-non-grpc";

/// What is counted for one resource.
#[derive(Debug)]
pub(super) struct Meter {
    resource: String,
    /// What [`Chain::to_storage`] writes with: the provider, then the key if its values name one.
    writes: Vec<Operation>,
    /// `None` for identity.
    key_writes: Option<Arc<KeyWrites>>,
    /// As [`Chain::readers`] has them.
    reads: Vec<Reads>,
}

/// What is counted for one provider.
#[derive(Debug)]
struct Reads {
    own: Operation,
    /// As [`Provider::key_names`] has them; empty where values do not name them.
    keys: Vec<Operation>,
    /// For each key, or for the provider where it has none: values opened that were fresh, and stale.
    opened: Vec<[OpenedBy; 2]>,
    is_identity: bool,
    /// `None` for a provider of the rule.
    retired: Option<Arc<AtomicU64>>,
}

/// A series of [`OPENED`].
#[derive(Debug)]
struct OpenedBy {
    provider: String,
    key: String,
    stale: &'static str,
    /// `None` for identity, which has no key.
    used: Option<Arc<KeyUse>>,
    counter: OnceLock<Counter>,
}

/// The series of one direction and prefix.
#[derive(Debug)]
struct Operation {
    direction: &'static str,
    prefix: String,
    succeeded: OnceLock<(Counter, Histogram)>,
}

impl Meter {
    /// Counts for `resource`, a label, what `chain` does.
    ///
    /// `retired_reads` is where values are counted too that a retired key opened.
    pub(super) fn new(resource: String, chain: &Chain, retired_reads: &Arc<AtomicU64>) -> Self {
        let reads = |(index, provider)| {
            let retired = chain.is_retired(index).then(|| Arc::clone(retired_reads));
            Reads::new(provider, retired)
        };
        let writer = chain.readers().next();
        let first_key = writer.and_then(|writer| writer.key_names().first());
        let key_prefix = first_key.filter(|_| writer.is_some_and(Provider::has_key_prefixes));
        let operation = |prefix: &str| Operation::new(TO_STORAGE, prefix);
        Self {
            resource,
            writes: writer
                .map(|writer| operation(&writer.prefix()))
                .into_iter()
                .chain(key_prefix.map(|key| operation(&key_label(key.as_str()))))
                .collect(),
            key_writes: writer
                .zip(first_key)
                .map(|(writer, key)| KeyWrites::of(writer.kind(), key)),
            reads: chain.readers().enumerate().map(reads).collect(),
        }
    }

    /// A value was sealed, or not, after `elapsed`.
    pub(super) fn sealed(&self, outcome: &Result<(), SealError>, elapsed: Duration) {
        match outcome {
            Ok(()) => {
                self.writes
                    .iter()
                    .for_each(|write| write.succeeded(&self.resource, elapsed));
                if let Some(key_writes) = &self.key_writes {
                    key_writes.add();
                }
            }
            Err(SealError::Pending) => {}
            Err(error) => {
                let status = match error {
                    SealError::Kms(failure) => failure.code.unwrap_or(NOT_GRPC),
                    _ => NOT_GRPC,
                };
                self.writes
                    .iter()
                    .for_each(|write| write.failed(&self.resource, status));
            }
        }
    }

    /// `stored` was opened by `chain`, or not, after `elapsed`.
    pub(super) fn opened(&self, chain: &Chain, stored: &[u8], outcome: Result<&Opened, &OpenError>, elapsed: Duration) {
        match outcome {
            Ok(opened) => {
                if opened.provider > 0 || opened.key > 0 {
                    self.failed_before(chain, stored, Some(opened), NOT_GRPC);
                }
                let Some(reads) = self.reads.get(opened.provider) else {
                    return;
                };
                reads.own.succeeded(&self.resource, elapsed);
                if let Some(key) = reads.keys.get(opened.key) {
                    key.succeeded(&self.resource, elapsed);
                }
                if let Some([fresh, stale]) = reads.opened.get(opened.key) {
                    if opened.stale { stale } else { fresh }.add(&self.resource);
                }
                if let Some(retired) = &reads.retired {
                    self.retired(retired, chain, opened, elapsed);
                }
            }
            Err(OpenError::Pending) => {}
            Err(error) => self.failed_before(chain, stored, None, grpc_code(error).unwrap_or(NOT_GRPC)),
        }
    }

    /// A value was opened by a key that is retired. Its series are looked up: an archive may have thousands of keys, and hardly
    /// any of them ever opens anything.
    #[cold]
    fn retired(&self, reads: &AtomicU64, chain: &Chain, opened: &Opened, elapsed: Duration) {
        reads.fetch_add(1, Ordering::Relaxed);
        let Some(provider) = chain.readers().nth(opened.provider) else {
            return;
        };
        let Some(name) = provider.key_names().get(opened.key) else {
            return;
        };
        if provider.has_key_prefixes() {
            Operation::new(FROM_STORAGE, &key_label(name.as_str())).succeeded(&self.resource, elapsed);
        }
        OpenedBy::new(provider, name.as_str(), "true").add(&self.resource);
        metrics::counter!(
            RETIRED_READS.name,
            "resource" => self.resource.clone(),
            "provider" => provider.kind().to_string(),
            "key" => name.as_str().to_owned()
        )
        .increment(1);
    }

    /// Counts the providers and keys that were tried before `opened`, or all of them where nothing opened `stored`.
    /// Identity declines without being counted.
    #[cold]
    fn failed_before(&self, chain: &Chain, stored: &[u8], opened: Option<&Opened>, kms_status: &str) {
        let mut recognised = opened.is_some();
        for candidate in chain.candidates(stored) {
            let Some(reads) = self.reads.get(candidate.provider) else {
                continue;
            };
            let is_opener = opened.is_some_and(|opened| opened.provider == candidate.provider);
            let last_key = opened.filter(|_| is_opener).map_or(usize::MAX, |opened| opened.key);
            let mut named = candidate.keys().take_while(|key| *key < last_key).peekable();
            if !reads.keys.is_empty() && !is_opener && named.peek().is_none() {
                Operation::new(FROM_STORAGE, UNKNOWN).failed(&self.resource, NOT_GRPC);
            }
            for key in named.filter_map(|key| reads.keys.get(key)) {
                key.failed(&self.resource, NOT_GRPC);
            }
            if is_opener {
                return;
            }
            if !reads.is_identity {
                recognised = true;
                let status = if reads.keys.is_empty() { kms_status } else { NOT_GRPC };
                reads.own.failed(&self.resource, status);
            }
        }
        if !recognised {
            Operation::new(FROM_STORAGE, UNKNOWN).failed(&self.resource, NOT_GRPC);
        }
    }
}

impl Reads {
    fn new(provider: &Provider, retired: Option<Arc<AtomicU64>>) -> Self {
        let is_identity = provider.prefix().is_empty();
        let opened = |key: &str| ["false", "true"].map(|stale| OpenedBy::new(provider, key, stale));
        // Those of retired keys are found when one opens something.
        let names = if retired.is_some() { &[] } else { provider.key_names() };
        Self {
            own: Operation::new(
                FROM_STORAGE,
                if is_identity {
                    IDENTITY.into()
                } else {
                    provider.prefix()
                }
                .as_ref(),
            ),
            keys: names
                .iter()
                .filter(|_| provider.has_key_prefixes())
                .map(|key| Operation::new(FROM_STORAGE, &key_label(key.as_str())))
                .collect(),
            opened: if retired.is_some() {
                Vec::new()
            } else if names.is_empty() {
                vec![opened("")]
            } else {
                names.iter().map(|key| opened(key.as_str())).collect()
            },
            is_identity,
            retired,
        }
    }
}

impl OpenedBy {
    fn new(provider: &Provider, key: &str, stale: &'static str) -> Self {
        let kind = provider.kind();
        Self {
            provider: kind.to_string(),
            key: key.to_owned(),
            stale,
            used: (kind != ProviderKind::Identity).then(|| KeyUse::of(kind.to_string(), key)),
            counter: OnceLock::new(),
        }
    }

    fn add(&self, resource: &str) {
        let counter = self.counter.get_or_init(|| {
            metrics::counter!(
                OPENED.name,
                "resource" => resource.to_owned(),
                "provider" => self.provider.clone(),
                "key" => self.key.clone(),
                "stale" => self.stale
            )
        });
        counter.increment(1);
        if let Some(used) = &self.used {
            used.note();
        }
    }
}

impl Operation {
    fn new(direction: &'static str, prefix: &str) -> Self {
        Self {
            direction,
            prefix: prefix.to_owned(),
            succeeded: OnceLock::new(),
        }
    }

    fn succeeded(&self, resource: &str, elapsed: Duration) {
        let (counter, durations) = self.succeeded.get_or_init(|| {
            let durations = metrics::histogram!(
                DURATION.name,
                "transformation_type" => self.direction,
                "transformer_prefix" => self.prefix.clone()
            );
            (self.counter(resource, "OK"), durations)
        });
        counter.increment(1);
        durations.record(elapsed);
    }

    /// Rare enough to look its series up.
    fn failed(&self, resource: &str, status: &str) {
        self.counter(resource, status).increment(1);
    }

    fn counter(&self, resource: &str, status: &str) -> Counter {
        metrics::counter!(
            OPERATIONS.name,
            "resource" => resource.to_owned(),
            "transformation_type" => self.direction,
            "transformer_prefix" => self.prefix.clone(),
            "status" => status.to_owned()
        )
    }
}

/// The prefix of a key's values within its provider's.
fn key_label(name: &str) -> String {
    format!("{name}:")
}

/// The code that a KMS plugin gave, if that is what an error comes from.
fn grpc_code(error: &OpenError) -> Option<&'static str> {
    match error {
        OpenError::Kms(failure) => failure.code,
        OpenError::Several(errors) => errors.iter().find_map(grpc_code),
        _ => None,
    }
}
