//! etcd in memory, as far as this room uses it: keys with their revisions, guarded writes, and calls that fail before or
//! after they have happened, or end their caller.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::etcd::{CallError, Guard, KeyValue, Page, PageAsk, Replaced, Store};

/// The store. Clients of it are references to it.
#[derive(Default)]
pub(super) struct Model {
    keys: RefCell<BTreeMap<Vec<u8>, KeyValue>>,
    revision: Cell<i64>,
    /// Calls that are made before `trouble` comes.
    pub(super) after: Cell<u32>,
    pub(super) trouble: Cell<Trouble>,
    /// Writes that happened.
    pub(super) writes: Cell<u32>,
    /// Keys of a page at most.
    pub(super) page: Cell<usize>,
}

/// A strongbox shows its store.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Model")
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It happens, and is answered.
    #[default]
    None,
    /// It does not happen, and nobody knows.
    Unheard,
    /// It happens, and nobody knows.
    Unanswered,
}

impl Model {
    /// One call, the `after`th from now, goes wrong.
    pub(super) fn fails(&self, after: u32, trouble: Trouble) {
        self.after.set(after);
        self.trouble.set(trouble);
    }

    /// Everything that is there.
    pub(super) fn all(&self) -> BTreeMap<Vec<u8>, KeyValue> {
        self.keys.borrow().clone()
    }

    pub(super) fn value(&self, key: &str) -> Vec<u8> {
        self.keys.borrow()[key.as_bytes()].value.to_vec()
    }

    /// What somebody else writes.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> i64 {
        self.revision.set(self.revision.get() + 1);
        let mut keys = self.keys.borrow_mut();
        let before = keys.get(key).map(|kv| kv.create_revision);
        let kv = KeyValue {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
            create_revision: before.unwrap_or(self.revision.get()),
            mod_revision: self.revision.get(),
            lease: 0,
        };
        keys.insert(key.to_vec(), kv);
        self.revision.get()
    }

    pub(super) fn delete(&self, key: &[u8]) -> i64 {
        if self.keys.borrow_mut().remove(key).is_some() {
            self.revision.set(self.revision.get() + 1);
        }
        self.revision.get()
    }

    async fn call<T>(&self, happens: impl FnOnce() -> T) -> Result<T, CallError> {
        // Others get their turn in every call.
        tokio::task::yield_now().await;
        let is_now = self.trouble.get() != Trouble::None && self.after.get() == 0;
        self.after.set(self.after.get().saturating_sub(1));
        let lost = CallError::Lost {
            rpc: "model",
            why: "the wire broke".to_owned(),
        };
        match self.trouble.get() {
            _ if !is_now => Ok(happens()),
            trouble => {
                self.trouble.set(Trouble::None);
                if trouble == Trouble::Unanswered {
                    happens();
                }
                Err(lost)
            }
        }
    }

    fn holds(&self, guards: &[Guard<'_>]) -> bool {
        let keys = self.keys.borrow();
        guards.iter().all(|guard| guard.holds(keys.get(guard.key())))
    }
}

/// A call that the room has no use for.
fn not_here<T>() -> Result<T, CallError> {
    Err(CallError::Status {
        rpc: "model",
        code: 12,
        text: "not here".to_owned(),
    })
}

impl Store for &Model {
    async fn page(&self, ask: PageAsk<'_>) -> Result<Page, CallError> {
        self.call(|| {
            let keys = self.keys.borrow();
            let is_in = |key: &Vec<u8>| ask.end.is_none_or(|end| key.as_slice() < end);
            let found = keys.range(ask.start.to_vec()..).take_while(|(key, _)| is_in(key));
            let mut kvs: Vec<KeyValue> = found.map(|(_, kv)| kv.clone()).collect();
            let count = kvs.len();
            let asked = usize::try_from(ask.limit).unwrap();
            kvs.truncate(
                [asked, self.page.get()]
                    .into_iter()
                    .filter(|limit| *limit > 0)
                    .min()
                    .unwrap_or(count),
            );
            // As one that was cut for its bytes: a key that is asked for alone is whole.
            let is_cut = ask.limit != 1 && kvs.first().is_some_and(|kv| kv.value.len() > ask.enough);
            if is_cut {
                kvs.clear();
            }
            Page {
                revision: self.revision.get(),
                more: kvs.len() < count,
                bytes: kvs.iter().map(|kv| kv.value.len()).sum(),
                kvs,
                count: count as u64,
            }
        })
        .await
    }

    async fn get(&self, key: &[u8]) -> Result<(i64, Option<KeyValue>), CallError> {
        self.call(|| (self.revision.get(), self.keys.borrow().get(key).cloned()))
            .await
    }

    async fn get_both(&self, keys: [&[u8]; 2]) -> Result<[Option<KeyValue>; 2], CallError> {
        self.call(|| keys.map(|key| self.keys.borrow().get(key).cloned())).await
    }

    async fn put_both_if(&self, guards: &[Guard<'_>], records: [(&[u8], &[u8]); 2]) -> Result<Option<i64>, CallError> {
        self.call(|| {
            self.holds(guards).then(|| {
                self.writes.set(self.writes.get() + 1);
                let revision = self.revision.get() + 1;
                for (key, value) in records {
                    // Both at one revision.
                    self.revision.set(revision - 1);
                    self.put(key, value);
                }
                revision
            })
        })
        .await
    }

    async fn put_if(&self, guards: &[Guard<'_>], key: &[u8], value: &[u8], _: i64) -> Result<Option<i64>, CallError> {
        self.call(|| {
            self.holds(guards).then(|| {
                self.writes.set(self.writes.get() + 1);
                self.put(key, value)
            })
        })
        .await
    }

    async fn delete_if(&self, guards: &[Guard<'_>], key: &[u8]) -> Result<Option<i64>, CallError> {
        self.call(|| {
            self.holds(guards).then(|| {
                self.writes.set(self.writes.get() + 1);
                self.delete(key)
            })
        })
        .await
    }

    async fn count(&self, _: &[u8], _: Option<&[u8]>) -> Result<(i64, u64), CallError> {
        not_here()
    }

    async fn replace(&self, _: &[u8], _: i64, _: &[u8], _: i64, _: Guard<'_>) -> Result<Replaced, CallError> {
        not_here()
    }

    async fn grant(&self, _: Duration) -> Result<(i64, Duration), CallError> {
        not_here()
    }

    async fn keep_alive(&self, _: i64) -> Result<Option<Duration>, CallError> {
        not_here()
    }

    async fn revoke(&self, _: i64) -> Result<(), CallError> {
        not_here()
    }

    async fn is_compacted_before(&self, _: i64) -> Result<bool, CallError> {
        not_here()
    }
}
