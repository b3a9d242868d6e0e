//! What clients sent and were told, in the form that tests/torture/checker reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// What a client wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Create,
    Update,
    Put,
    Get,
    Delete,
}

/// What it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// It was refused, and certainly not carried out.
    Failed,
    Ambiguous,
}

/// One call, as far as it is about one key.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub client: usize,
    pub key: String,
    pub verb: Verb,
    /// Microseconds since the history began.
    pub call: u64,
    #[serde(rename = "return")]
    pub end: u64,
    pub outcome: Outcome,
    /// What a write writes.
    pub value: String,
    /// What an update replaces.
    pub expected: String,
    pub expected_revision: i64,
    /// Whether a transaction's comparison held, or a deletion found something.
    pub succeeded: bool,
    /// Of a write.
    pub revision: i64,
    /// Whether the key was read, and what it held.
    pub read: bool,
    pub exists: bool,
    pub found: String,
    pub found_revision: i64,
}

impl Operation {
    /// One that begins now.
    pub fn begin(history: &History, client: usize, verb: Verb, key: &str) -> Self {
        Self {
            client,
            key: key.to_owned(),
            verb,
            call: history.now(),
            end: 0,
            outcome: Outcome::Ambiguous,
            value: String::new(),
            expected: String::new(),
            expected_revision: 0,
            succeeded: false,
            revision: 0,
            read: false,
            exists: false,
            found: String::new(),
            found_revision: 0,
        }
    }

    /// Whether it may have changed its key.
    pub fn may_write(&self) -> bool {
        match self.outcome {
            Outcome::Failed => false,
            Outcome::Ambiguous => self.verb != Verb::Get,
            Outcome::Ok => self.has_written(),
        }
    }

    /// Whether it was told that it changed its key.
    pub fn has_written(&self) -> bool {
        self.outcome == Outcome::Ok && (self.verb == Verb::Put || (self.verb != Verb::Get && self.succeeded))
    }
}

/// Everything that clients did in a round.
#[derive(Clone, Debug)]
pub struct History {
    begun: Instant,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl History {
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            operations: Arc::default(),
        }
    }

    /// Microseconds since it began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).expect("a run of less than an age")
    }

    /// Notes one that ends now.
    pub fn end(&self, mut operation: Operation) {
        operation.end = self.now();
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(operation);
    }

    /// By key, in the order in which they ended.
    pub fn by_key(&self) -> BTreeMap<String, Vec<Operation>> {
        let mut keys: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
        for operation in self.operations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            keys.entry(operation.key.clone()).or_default().push(operation.clone());
        }
        keys
    }

    /// Writes it to a file, a line each.
    pub fn save(&self, path: &Path) {
        let mut file = BufWriter::new(File::create(path).expect("the history's file"));
        for operation in self.operations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            serde_json::to_writer(&mut file, operation).expect("a line of the history");
            file.write_all(b"\n").expect("a line of the history");
        }
        file.flush().expect("the history's file");
    }
}
