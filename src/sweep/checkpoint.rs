//! How far a sweep has come, as a record in etcd: JSON under the state prefix, replaced by compare-and-swap and only by
//! the owner, or, to take a proof back, while there is none. Holds names and counts, never a value.

use std::cell::Cell;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Error;
use super::scope::Scope;
use super::tally::Tally;
use crate::election::Owner;
use crate::etcd::{Attempts, Guard, KeyValue, Patience, Store};

/// The record's version. One of a newer version is not touched.
pub(super) const SCHEMA: u32 = 1;

/// Where a sweep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// Values are read, and written again where they should be.
    Rewrite,
    /// Values are read once more and counted.
    Prove,
    /// The proof is complete.
    Done,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Checkpoint {
    pub(super) schema: u32,
    /// Which work this is: see `Scope::fingerprint`.
    pub(super) work: String,
    /// The configuration's fingerprint, for whoever looks at the record.
    pub(super) configuration: String,
    pub(super) stage: Stage,
    /// Every key before this one is done in this stage. Hexadecimal, since keys are bytes.
    pub(super) position: String,
    /// When the sweep was first started, RFC 3339.
    pub(super) started: String,
    /// Milliseconds that were spent on it, by all processes that had it.
    pub(super) spent_ms: u64,
    /// Revisions at which the stages' first pages were read; 0 where a stage has not begun.
    pub(super) rewrite_from: i64,
    /// See `rewrite_from`.
    pub(super) prove_from: i64,
    /// At which revision the epoch was replaced for the proof: what was sealed before etcd refuses from there on. 0 where it has
    /// not been.
    #[serde(default)]
    pub(super) epoch: i64,
    /// What was written up to this revision is written again in any case; 0 where only what is stale is.
    #[serde(default)]
    pub(super) written_until: i64,
    /// The revision of the proof's latest page.
    pub(super) prove_to: i64,
    /// How often compaction overtook a scan.
    pub(super) overtaken: u32,
    /// What was found and done.
    pub(super) before: Tally,
    /// What the proof has found so far.
    pub(super) after: Tally,
}

impl Checkpoint {
    /// Of the work in `scope`, of which nothing is done.
    pub(super) fn begun(scope: &Scope) -> Self {
        Self {
            schema: SCHEMA,
            work: scope.fingerprint(),
            configuration: scope.keyring.fingerprint().to_string(),
            stage: Stage::Rewrite,
            position: String::new(),
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            spent_ms: 0,
            rewrite_from: 0,
            prove_from: 0,
            epoch: 0,
            written_until: scope.written_until.unwrap_or_default(),
            prove_to: 0,
            overtaken: 0,
            before: Tally::default(),
            after: Tally::default(),
        }
    }

    /// Everything has been rewritten, and the epoch was replaced at the revision `epoch`.
    pub(super) fn begin_proof(&mut self, epoch: i64) {
        self.stage = Stage::Prove;
        self.epoch = epoch;
        self.position = String::new();
        (self.prove_from, self.prove_to) = (0, 0);
        self.after = Tally::default();
    }

    /// Up to which revision everything is yet to be written again, if that was begun.
    pub(super) fn unfinished_until(&self) -> Option<i64> {
        (self.written_until > 0 && self.stage != Stage::Done).then_some(self.written_until)
    }

    pub(super) fn key_position(&self) -> Option<Vec<u8>> {
        let digits = self.position.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        let text = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks_exact(2).map(text).collect()
    }
}

/// A key as a [`Checkpoint::position`].
pub(super) fn hex(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter().fold(String::with_capacity(2 * key.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The record under `key` as it stands, and at which revision; `None` where there is none.
pub(super) async fn peek<S: Store>(store: &S, key: &[u8]) -> Result<Option<(i64, Checkpoint)>, Error> {
    let (_, found) = store.get(key).await.map_err(Error::Call)?;
    let read = |kv: KeyValue| {
        let checkpoint = parse(&kv.value).map_err(|why| Error::Checkpoint { why })?;
        Ok((kv.mod_revision, checkpoint))
    };
    found.map(read).transpose()
}

/// Begins the work in `scope` anew, for a proof, whole or not, that was written at `revision` and holds no longer. Nothing happens if somebody
/// sweeps or has written the record since: they look at the values themselves. Whether it was done.
pub(super) async fn begin_anew<S: Store>(store: &S, scope: &Scope, revision: i64) -> Result<bool, Error> {
    let record = encode(&Checkpoint::begun(scope))?;
    let (key, owner) = (scope.checkpoint_key(), scope.owner_key());
    let guards = [Guard::mod_revision(&owner, 0), Guard::mod_revision(&key, revision)];
    let done = store.put_if(&guards, &key, &record, 0).await.map_err(Error::Call)?;
    Ok(done.is_some())
}

/// Reads and replaces the record.
pub(super) struct Keeper<'a, S> {
    store: &'a S,
    owner: &'a Owner,
    patience: &'a Patience,
    key: Vec<u8>,
    /// At which revision the record was written; 0 where there is none.
    revision: Cell<i64>,
}

impl<'a, S: Store> Keeper<'a, S> {
    /// The record under `key`, and what it holds.
    ///
    /// # Errors
    /// It cannot be read, unless `restart` says that it does not matter.
    pub(super) async fn load(
        store: &'a S,
        owner: &'a Owner,
        patience: &'a Patience,
        key: Vec<u8>,
        restart: bool,
    ) -> Result<(Self, Option<Checkpoint>), Error> {
        let (_, found) = patience.call(|| store.get(&key)).await?;
        let revision = Cell::new(found.as_ref().map_or(0, |kv| kv.mod_revision));
        let checkpoint = match found {
            Some(kv) if !restart => Some(parse(&kv.value).map_err(|why| Error::Checkpoint { why })?),
            _ => None,
        };
        let keeper = Self {
            store,
            owner,
            patience,
            key,
            revision,
        };
        Ok((keeper, checkpoint))
    }

    /// At which revision the record was last written.
    pub(super) fn revision(&self) -> i64 {
        self.revision.get()
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// Somebody else is the owner, or wrote the record.
    pub(super) async fn save(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let record = encode(checkpoint)?;
        let mut attempts = Attempts::default();
        loop {
            self.owner.term().passed().await;
            let guards = [self.owner.guard(), Guard::mod_revision(&self.key, self.revision.get())];
            match self.store.put_if(&guards, &self.key, &record, 0).await {
                Ok(Some(revision)) => {
                    self.patience.worked();
                    self.revision.set(revision);
                    return Ok(());
                }
                Ok(None) => return self.adopt(&record).await,
                Err(error) => self.patience.after(error, &mut attempts).await?,
            }
        }
    }

    /// A guard did not hold. That is in order if an attempt whose answer was lost has written just this record.
    async fn adopt(&self, record: &[u8]) -> Result<(), Error> {
        let (_, found) = self.patience.call(|| self.store.get(&self.key)).await?;
        match found {
            Some(kv) if kv.value == *record => {
                self.revision.set(kv.mod_revision);
                Ok(())
            }
            _ => Err(Error::LostOwnership {
                why: "somebody else became the owner, or wrote the checkpoint".to_owned(),
            }),
        }
    }
}

fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(checkpoint).map_err(|error| Error::Checkpoint { why: error.to_string() })
}

pub(super) fn parse(record: &[u8]) -> Result<Checkpoint, String> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let version: Version = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    if version.schema != SCHEMA {
        return Err(format!(
            "its schema is {}, and this version knows {SCHEMA}",
            version.schema
        ));
    }
    let checkpoint: Checkpoint = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    let is_plausible = checkpoint.before.is_plausible() && checkpoint.after.is_plausible();
    if !is_plausible || checkpoint.overtaken > u32::MAX / 2 {
        return Err("its counts are not a sweep's".to_owned());
    }
    match checkpoint.key_position() {
        Some(_) => Ok(checkpoint),
        None => Err("its position is no hexadecimal number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_any_bytes() {
        let mut checkpoint: Checkpoint = serde_json::from_str(
            r#"{"schema":1,"work":"w","configuration":"c","stage":"prove","position":"00ff2f","started":"s","spentMs":1,
                "rewriteFrom":1,"proveFrom":0,"proveTo":0,"overtaken":0,"before":{"scanned":0,"scannedBytes":0,
                "rewritten":0,"raced":0,"overwritten":0,"vanished":0,"contended":0,"refused":0,"undecryptable":0,
                "firstWrite":0,"lastWrite":0,"inventory":[],"left":[]},"after":{"scanned":0,"scannedBytes":0,
                "rewritten":0,"raced":0,"overwritten":0,"vanished":0,"contended":0,"refused":0,"undecryptable":0,
                "firstWrite":0,"lastWrite":0,"inventory":[],"left":[]}}"#,
        )
        .unwrap();
        assert_eq!(checkpoint.key_position(), Some(vec![0x00, 0xff, 0x2f]));
        assert_eq!(hex(&[0x00, 0xff, 0x2f]), checkpoint.position);
        for broken in ["0", "0g", "\u{e9}"] {
            checkpoint.position = broken.to_owned();
            assert!(parse(&serde_json::to_vec(&checkpoint).unwrap()).is_err(), "{broken}");
        }
    }

    #[test]
    fn counts_that_would_overflow_are_refused() {
        let text = r#"{"schema":1,"work":"w","configuration":"c","stage":"prove","position":"","started":"s","spentMs":1,
            "rewriteFrom":1,"proveFrom":0,"proveTo":0,"overtaken":0,"before":TALLY,"after":TALLY}"#;
        let tally = r#"{"scanned":COUNT,"scannedBytes":0,"rewritten":0,"raced":0,"overwritten":0,"vanished":0,
            "contended":0,"refused":0,"undecryptable":0,"firstWrite":0,"lastWrite":0,"inventory":[],"left":[]}"#;
        let record = |count: u64| text.replace("TALLY", &tally.replace("COUNT", &count.to_string()));
        assert!(parse(record(1_000_000_000_000).as_bytes()).is_ok());
        let why = parse(record(u64::MAX).as_bytes()).unwrap_err();
        assert!(why.contains("counts"), "{why}");
    }

    #[test]
    fn a_record_of_another_version_is_named_as_such() {
        let why = parse(br#"{"schema":2,"anything":"else"}"#).unwrap_err();
        assert!(why.contains("schema is 2"), "{why}");
        assert!(parse(b"\xff").is_err());
    }
}
