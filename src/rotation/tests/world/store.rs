//! The model's calls, as etcd answers them. It keeps no history: a page is read as things are now.

use std::time::Duration;

use super::World;
use crate::etcd::{CallError, Guard, KeyValue, Page, PageAsk, Replaced, Store};

impl Store for &World {
    async fn page(&self, ask: PageAsk<'_>) -> Result<Page, CallError> {
        self.before().await?;
        let page = {
            let keys = self.keys.borrow();
            let is_in = |key: &Vec<u8>| ask.end.is_none_or(|end| key.as_slice() < end);
            let found = keys.range(ask.start.to_vec()..).take_while(|(key, _)| is_in(key));
            let mut kvs: Vec<KeyValue> = found.map(|(_, kv)| kv.clone()).collect();
            let count = kvs.len();
            let limit = usize::try_from(ask.limit).ok().filter(|limit| *limit > 0);
            kvs.truncate(limit.unwrap_or(count));
            Page {
                revision: self.revision.get(),
                more: kvs.len() < count,
                kvs,
                count: count as u64,
                bytes: 0,
            }
        };
        self.after(page).await
    }

    async fn count(&self, _: &[u8], _: Option<&[u8]>) -> Result<(i64, u64), CallError> {
        self.before().await?;
        self.after((self.revision.get(), 1)).await
    }

    async fn get(&self, key: &[u8]) -> Result<(i64, Option<KeyValue>), CallError> {
        self.before().await?;
        let found = self.keys.borrow().get(key).cloned();
        self.after((self.revision.get(), found)).await
    }

    async fn replace(
        &self,
        key: &[u8],
        mod_revision: i64,
        value: &[u8],
        _: i64,
        fence: Guard<'_>,
    ) -> Result<Replaced, CallError> {
        self.before().await?;
        let found = self.keys.borrow().get(key).cloned();
        let answer = match found {
            Some(kv) if kv.mod_revision == mod_revision && !self.holds(&[fence]) => Replaced::Fenced,
            Some(kv) if kv.mod_revision == mod_revision => Replaced::Done(self.put(key, value)),
            found => Replaced::Lost(found),
        };
        self.check();
        self.after(answer).await
    }

    async fn get_both(&self, keys: [&[u8]; 2]) -> Result<[Option<KeyValue>; 2], CallError> {
        self.before().await?;
        let found = keys.map(|key| self.keys.borrow().get(key).cloned());
        self.after(found).await
    }

    async fn put_both_if(&self, _: &[Guard<'_>], _: [(&[u8], &[u8]); 2]) -> Result<Option<i64>, CallError> {
        unreachable!("the configuration is a file here")
    }

    async fn put_if(
        &self,
        guards: &[Guard<'_>],
        key: &[u8],
        value: &[u8],
        lease: i64,
    ) -> Result<Option<i64>, CallError> {
        self.before().await?;
        let answer = self.holds(guards).then(|| self.put_under(key, value, lease));
        self.after(answer).await
    }

    async fn delete_if(&self, guards: &[Guard<'_>], key: &[u8]) -> Result<Option<i64>, CallError> {
        self.before().await?;
        let answer = self.holds(guards).then(|| {
            if self.keys.borrow_mut().remove(key).is_some() {
                self.revision.set(self.revision.get() + 1);
            }
            self.revision.get()
        });
        self.after(answer).await
    }

    async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), CallError> {
        self.before().await?;
        self.after((i64::from(self.random(1 << 30)) + 1, ttl)).await
    }

    async fn keep_alive(&self, _: i64) -> Result<Option<Duration>, CallError> {
        Ok(Some(Duration::from_secs(15)))
    }

    async fn revoke(&self, lease: i64) -> Result<(), CallError> {
        self.keys.borrow_mut().retain(|_, kv| kv.lease != lease);
        Ok(())
    }

    async fn is_compacted_before(&self, revision: i64) -> Result<bool, CallError> {
        self.before().await?;
        self.after(self.compacted.get() >= revision).await
    }
}

impl World {
    /// Whether every guard holds now.
    fn holds(&self, guards: &[Guard<'_>]) -> bool {
        let keys = self.keys.borrow();
        guards.iter().all(|guard| guard.holds(keys.get(guard.key())))
    }
}
