//! What one stored value is under the keys at hand. Pure: bytes in, judgement out; where a KMS has to be asked first, the
//! caller does that and comes again.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::scope::{KeySource, Scope};
use super::tally::{Row, State};
use crate::inventory::{self, Under, is_plausible};
use crate::keyspace::Place;
use crate::types::StorageKey;
use crate::value::{Deks, OpenError, ProviderKind, is_sealed, key_id_of};

/// How many batches in a row a KMS plugin may answer none of, before it is asked no more.
const PATIENCE: u32 = 3;

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// One of the proxy's own records.
    Own,
    /// In the clear where no rule wants anything else.
    Free(Free),
    /// Under a rule, or sealed.
    Ruled {
        row: Row,
        /// Why it does not open.
        why: String,
    },
}

/// Why nothing is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Free {
    /// A resource, or a record of kube-apiserver's, without a rule.
    NoRule,
    /// Not below any prefix of Kubernetes'.
    Outside,
}

/// DEKs have been noted as missing; fetch them and ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending;

/// KMS plugins that did not answer: after a few batches they are not asked again, so that one that is away does not cost a
/// timeout for each of a million values.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// By source and plugin: batches in a row without an answer, and what the last one came to.
    failed: BTreeMap<(usize, Under), (u32, String)>,
}

impl Silence {
    /// Takes note of a batch's judgements.
    pub(super) fn note<'j>(&mut self, judgements: impl Iterator<Item = &'j Judgement>) {
        let mut heard: BTreeMap<(usize, Under), Option<String>> = BTreeMap::new();
        for judgement in judgements {
            let Judgement::Ruled { row, why } = judgement else {
                continue;
            };
            let Some(source) = row.source.filter(|_| row.under.provider.starts_with("kms ")) else {
                continue;
            };
            let answer = (row.state == State::Unasked).then(|| why.clone());
            let heard = heard
                .entry((source, row.under.clone()))
                .or_insert_with(|| answer.clone());
            if answer.is_none() {
                *heard = None;
            }
        }
        for (plugin, answer) in heard {
            match answer {
                None => drop(self.failed.remove(&plugin)),
                Some(why) => {
                    let (batches, last) = self.failed.entry(plugin).or_default();
                    *batches += 1;
                    *last = why;
                }
            }
        }
    }

    /// What the plugin last failed with, if it is not to be asked again.
    fn of(&self, source: usize, stored: &[u8]) -> Option<String> {
        if self.failed.is_empty() {
            return None;
        }
        let (batches, why) = self.failed.get(&(source, Under::claimed(stored)))?;
        (*batches >= PATIENCE).then(|| why.clone())
    }
}

/// Looks at what is stored under `key`.
pub(super) fn judge(
    scope: &Scope,
    key: &[u8],
    stored: &[u8],
    deks: &Deks,
    silence: &Silence,
) -> Result<Judgement, Pending> {
    if scope.state.contains(key) {
        return Ok(Judgement::Own);
    }
    let place = scope.place(key);
    let is_ruled = scope.sources.iter().any(|source| source.keyring.chain(key).is_some());
    if !is_ruled && !is_sealed(stored) {
        return Ok(Judgement::Free(match place {
            Place::Outside => Free::Outside,
            _ => Free::NoRule,
        }));
    }
    let mut best = Candidate::nothing(stored, place, is_ruled);
    for (index, source) in scope.sources.iter().enumerate() {
        let found = open(index, source, key, stored, deks, silence)?;
        let is_enough = found.as_ref().is_some_and(|found| found.state == State::Opens);
        best = match found {
            Some(found) if found.state < best.state => found,
            _ => best,
        };
        if is_enough {
            break;
        }
    }
    let resource = match place {
        Place::Outside => "(outside)".to_owned(),
        place => inventory::resource(place),
    };
    Ok(Judgement::Ruled {
        row: Row {
            resource,
            state: best.state,
            // Only where it helps: a value that opens without a KMS has none.
            key_id: best
                .under
                .provider
                .starts_with("kms ")
                .then(|| key_id_of(stored))
                .flatten(),
            under: best.under,
            source: best.source,
        },
        why: best.why,
    })
}

/// What one source makes of a value.
struct Candidate {
    state: State,
    under: Under,
    /// Who opens it, or has a key of that name.
    source: Option<usize>,
    why: String,
}

impl Candidate {
    /// What is to be said if no source has anything to say.
    fn nothing(stored: &[u8], place: Place<'_>, is_ruled: bool) -> Self {
        let (state, why) = match place {
            _ if !is_sealed(stored) => (
                State::Missing,
                "it is not encrypted, and the rule does not list identity",
            ),
            _ if is_ruled => (State::Missing, "no rule for it has such a key"),
            Place::Outside => (State::Uncovered, "it is encrypted, and lies outside of --etcd-prefix"),
            _ => (State::Uncovered, "it is encrypted, and no rule covers its resource"),
        };
        Self {
            state,
            under: Under::claimed(stored),
            source: None,
            why: why.to_owned(),
        }
    }
}

fn open(
    index: usize,
    source: &KeySource,
    key: &[u8],
    stored: &[u8],
    deks: &Deks,
    silence: &Silence,
) -> Result<Option<Candidate>, Pending> {
    let candidate = |state, under, why| {
        Ok(Some(Candidate {
            state,
            under,
            source: Some(index),
            why,
        }))
    };
    let Some(chain) = source.keyring.chain(key).map(|sealer| sealer.chain()) else {
        // What no rule covers is read as it is, if it is not sealed.
        return if is_sealed(stored) {
            Ok(None)
        } else {
            candidate(State::Opens, Under::identity(), String::new())
        };
    };
    if let Some(why) = silence.of(index, stored) {
        return candidate(State::Unasked, Under::claimed(stored), why);
    }
    let mut plaintext = Zeroizing::new(Vec::new());
    match chain.from_storage(StorageKey(key), stored, deks, &mut plaintext) {
        Ok(opened) => {
            let provider = chain.readers().nth(opened.provider);
            let is_doubtful = provider.is_some_and(|provider| !is_plausible(provider.kind(), &plaintext));
            let under = Under::opened(chain, opened);
            if is_doubtful {
                let why =
                    "it opens, but to nothing that Kubernetes stores; was it sealed with another key of that name?";
                return candidate(State::Doubtful, under, why.to_owned());
            }
            candidate(State::Opens, under, String::new())
        }
        Err(OpenError::Pending) => Err(Pending),
        Err(error) if error.is_transient() => {
            candidate(State::Unasked, Under::needed(chain, stored), error.to_string())
        }
        Err(error) => {
            let known = Under::known(chain, stored).or_else(|| {
                let by_kms = chain.candidates(stored).any(|found| {
                    let provider = chain.readers().nth(found.provider);
                    provider
                        .is_some_and(|provider| matches!(provider.kind(), ProviderKind::KmsV1 | ProviderKind::KmsV2))
                });
                by_kms.then(|| Under::claimed(stored))
            });
            match known {
                Some(under) => candidate(State::Undecryptable, under, error.to_string()),
                None => Ok(None),
            }
        }
    }
}
