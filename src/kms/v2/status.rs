//! What follows from a v2 plugin's Status: whether it is well, which key it has, and when a new seed is to write.
//!
//! The states are kube-apiserver's. A good Status that names the key in use lets the seed write on for three minutes from
//! the moment it was asked for. One that names another key has a new seed wrapped, which is adopted only if Encrypt names
//! that key as well and, which kube-apiserver does not ask for, Decrypt gives the seed back. Whatever goes wrong, the seed in
//! use stays until its time is up, and reading never ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use rand::Rng as _;
use tokio::time::Instant;

use super::{Checked, Current, MAX_OWN, V2};
use crate::kms::client_v2::ApiV2;
use crate::kms::key_ids::{MAX_KEY_IDS, OTHER, hash_of};
use crate::kms::pulse::{Ailment, Patient, Pulse};
use crate::kms::{metrics, text, wrapping};
use crate::pb::v2::{EncryptResponse, StatusResponse};
use crate::types::SecretBytes;
use crate::value::{DekKind, DekV2, LengthError, SeedWriter, WrappedDek, check_key_id};

/// What `healthz` says when all is well.
pub(in crate::kms) const OK: &str = "ok";

/// Versions of the protocol that are spoken: the messages are the same.
pub(in crate::kms) const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// Length of the seeds made here, bytes.
const SEED: usize = 32;

impl<A: ApiV2> Patient for V2<A> {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    async fn is_there(&self) -> bool {
        self.api.is_there().await
    }

    async fn check(&self) -> Result<(), Ailment> {
        // Before the plugin is asked: the grace is what may pass since it was certainly well.
        let asked = Instant::now();
        let status = self.api.status().await.map_err(|error| {
            format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {error}",
                self.name
            )
        })?;
        let outcome = match self.validate(&status) {
            Ok(()) => {
                self.checked().version.get_or_insert(status.version);
                self.follow(asked, &status.key_id).await
            }
            Err(problems) => Err(problems),
        };
        outcome.map_err(|problems| {
            Ailment::from(format!(
                "kmsv2 Provider {} is not healthy, error: {problems}",
                self.name
            ))
        })
    }
}

impl<A: ApiV2> V2<A> {
    fn checked(&self) -> MutexGuard<'_, Checked> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is wrong with a Status, put as one text.
    fn validate(&self, status: &StatusResponse) -> Result<(), String> {
        let mut problems = Vec::new();
        if status.healthz != OK {
            problems.push(format!(
                "got unexpected healthz status: {}",
                text::shown(&status.healthz, None)
            ));
        }
        if let Some(problem) = self.check_version(&status.version) {
            problems.push(problem);
        }
        match check_key_id(&status.key_id) {
            Ok(()) => metrics::named_key_id(&self.name, self.label_of(&status.key_id)),
            Err(problem) => {
                let label = match problem {
                    LengthError::Empty => "empty",
                    LengthError::TooLong { .. } => "too_long",
                };
                metrics::invalid_key_id(&self.name, label);
                problems.push(format!("got invalid KMSv2 KeyID: {problem}"));
            }
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }

    fn check_version(&self, version: &str) -> Option<String> {
        if !VERSIONS.contains(&version) {
            return Some(format!(
                "expected KMSv2 API version v2, got {}",
                text::shown(version, None)
            ));
        }
        match &self.checked().version {
            Some(first) if first != version => Some(format!("KMSv2 API version changed from {first} to {version}")),
            _ => None,
        }
    }

    /// Lets the seed in use write on, or has a new one take its place.
    async fn follow(&self, asked: Instant, key_id: &str) -> Result<(), String> {
        let expiry = asked + self.config.write_grace - self.began;
        let expiry = u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX);
        let current = self.current.load_full();
        if let Some(current) = &current
            && current.key_id() == key_id
            && self.is_as_ordered(current)
        {
            self.unwrap_current(current).await?;
            current.expiry.store(expiry, Ordering::Relaxed);
            self.compare_annotations(key_id).await;
            return Ok(());
        }
        let next = self.new_seed(key_id, expiry).await.map_err(|error| {
            let hash = |key_id: Option<&str>| key_id.map(hash_of).unwrap_or_default();
            format!(
                "failed to rotate DEK, statusKeyIDHash={:?}, stateKeyIDHash={:?}: {error}",
                hash(Some(key_id)),
                hash(current.as_deref().map(Current::key_id))
            )
        })?;
        self.adopt(current.as_deref(), next);
        self.checked().unwrapped = Some(Instant::now());
        Ok(())
    }

    /// Has the plugin unwrap the seed in use now and then: its Status may be good while it has lost the right to decrypt, and who
    /// asked for nothing else would learn of that only when a process starts that has none of the keys.
    async fn unwrap_current(&self, current: &Current) -> Result<(), String> {
        let holds = |at: Instant| at.elapsed() < self.config.decrypt_poll;
        if self.checked().unwrapped.is_some_and(holds) {
            return Ok(());
        }
        match self.api.decrypt(current.writer.wrapped()).await {
            Ok(secret) if secret == current.seed => {
                self.checked().unwrapped = Some(Instant::now());
                Ok(())
            }
            Ok(_) => Err("Status is ok, but Decrypt of the seed in use gives something else".to_owned()),
            // It is busy, with this process's own questions for instance, which is no reason to stop writing.
            Err(error) if error.is_throttled() => Ok(()),
            Err(error) => Err(format!("Status is ok, but Decrypt of the seed in use failed: {error}")),
        }
    }

    /// A new seed that the plugin has wrapped with the key `key_id`.
    async fn new_seed(&self, key_id: &str, expiry: u64) -> Result<Current, String> {
        let began = Instant::now();
        let orders = self.orders.load(Ordering::SeqCst);
        let seed = random_seed();
        let wrapped = self.api.encrypt(&seed).await.map(wrapped);
        metrics::generated(began.elapsed(), wrapped.is_ok());
        let wrapped = wrapped.map_err(|error| error.to_string())?;
        let named = wrapped.key_id.clone();
        let writer = SeedWriter::new(&seed, wrapped).map_err(|error| error.to_string())?;
        let WrappedDek {
            source, annotations, ..
        } = writer.wrapped();
        let annotations = annotations.iter().map(|(_, value)| value.as_ref());
        wrapping::check(&seed, annotations.chain([source.as_ref()])).map_err(|error| error.to_string())?;
        if named != key_id {
            return Err(format!(
                "Encrypt used another key, encryptKeyIDHash={:?}",
                hash_of(&named)
            ));
        }
        self.prove(&seed, writer.wrapped()).await?;
        let dek = DekV2::new(DekKind::HkdfSeed, &seed).ok_or("the seed is too short")?;
        Ok(Current {
            writer: Arc::new(writer),
            dek: Arc::new(dek),
            seed,
            orders,
            expiry: AtomicU64::new(expiry),
        })
    }

    /// Has the plugin unwrap the new seed. kube-apiserver does not, and with a plugin that may encrypt and not decrypt, or
    /// answers with something else, it writes what can never be read again, and reads it from its cache until it restarts.
    async fn prove(&self, seed: &SecretBytes, wrapped: &WrappedDek<'static>) -> Result<(), String> {
        match self.api.decrypt(wrapped).await {
            Ok(again) if again == *seed => Ok(()),
            Ok(_) => Err("Decrypt of what Encrypt returned gives something else".to_owned()),
            Err(error) => Err(format!("Decrypt of what Encrypt returned failed: {error}")),
        }
    }

    fn adopt(&self, before: Option<&Current>, next: Current) {
        let wrapped = next.writer.wrapped();
        self.annotations.note(wrapped);
        let digest = wrapped.digest();
        let dek = Arc::clone(&next.dek);
        let mut own = self.own.load().as_ref().clone();
        if own.len() >= MAX_OWN {
            for (digest, dek) in own.drain() {
                self.cache.insert(digest, dek);
            }
        }
        own.insert(digest, dek);
        self.own.store(Arc::new(own));
        self.count_cached();

        let key_id_hash = hash_of(&wrapped.key_id);
        let is_new = self.remember(&key_id_hash);
        self.current.store(Some(Arc::new(next)));
        let provider = self.name.as_str();
        match before.map(|before| hash_of(before.key_id())) {
            Some(before) if before == key_id_hash => {
                tracing::info!(
                    provider,
                    key_id_hash,
                    "the KMS plugin has wrapped a fresh seed, as was ordered"
                );
            }
            None => tracing::info!(provider, key_id_hash, "the KMS plugin's key writes"),
            Some(before) => {
                metrics::key_id_changed(&self.name);
                tracing::info!(
                    provider,
                    key_id_hash,
                    before,
                    "the KMS plugin has a new key_id; values that were stored under another are stale"
                );
                if !is_new {
                    tracing::warn!(provider, key_id_hash, "the KMS plugin went back to an earlier key_id");
                }
            }
        }
    }

    /// What metrics call a key ID that a Status names: its hash, for the first of them.
    fn label_of(&self, key_id: &str) -> String {
        let (hash, named) = (hash_of(key_id), &mut self.checked().named);
        if named.len() < MAX_KEY_IDS {
            named.insert(hash.clone());
        }
        if named.contains(&hash) { hash } else { OTHER.to_owned() }
    }

    /// Whether a key ID is written with for the first time, as far as is known.
    fn remember(&self, key_id_hash: &str) -> bool {
        let mut checked = self.checked();
        if checked.key_ids.len() >= MAX_OWN {
            checked.key_ids.clear();
        }
        checked.key_ids.insert(key_id_hash.to_owned())
    }

    /// Has something wrapped now and then only to see whether the annotations are still the same.
    async fn compare_annotations(&self, key_id: &str) {
        let now = Instant::now();
        match &mut self.checked().annotations {
            Some(last) if now - *last < self.config.annotation_poll => return,
            Some(last) => *last = now,
            first @ None => {
                // The seed in use was wrapped just now.
                *first = Some(now);
                return;
            }
        }
        if let Ok(answer) = self.api.encrypt(&random_seed()).await {
            let wrapped = wrapped(answer);
            // What could not be stored tells nothing about what is.
            if wrapped.key_id == key_id && wrapped.validate().is_ok() {
                self.annotations.note(&wrapped);
            }
        }
    }
}

fn random_seed() -> SecretBytes {
    let mut seed = vec![0; SEED];
    rand::rng().fill_bytes(&mut seed);
    SecretBytes::new(seed)
}

pub(in crate::kms) fn wrapped(answer: EncryptResponse) -> WrappedDek<'static> {
    let mut annotations: Vec<_> = answer.annotations.into_iter().collect();
    annotations.sort();
    WrappedDek {
        kind: DekKind::HkdfSeed,
        source: answer.ciphertext.into(),
        key_id: answer.key_id.into(),
        annotations: annotations
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are not drawn are the same each time, or zero.
    #[test]
    fn no_two_seeds_are_the_same_and_none_is_empty() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..64 {
            let drawn = random_seed().expose().to_vec();
            assert_eq!(drawn.len(), SEED);
            let different: std::collections::BTreeSet<u8> = drawn.iter().copied().collect();
            assert!(different.len() >= SEED / 2, "{} different bytes", different.len());
            assert!(seen.insert(drawn), "a seed was drawn twice");
        }
    }
}
