//! What rooms above need of a store for records and values of their own: etcd, or a model of it in memory. Each call is
//! made once and may fail; a write whose answer got lost may have happened.

use std::time::Duration;

use super::{CallError, Client, Guard, KeyValue, Page, PageAsk, Replaced, StoreKind};

/// A store.
pub trait Store {
    /// Keys and values of a range.
    fn page(&self, ask: PageAsk<'_>) -> impl Future<Output = Result<Page, CallError>>;
    /// How many keys a range holds now, and at which revision.
    fn count(&self, start: &[u8], end: Option<&[u8]>) -> impl Future<Output = Result<(i64, u64), CallError>>;
    /// One key, now; the revision of the answer with it.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<(i64, Option<KeyValue>), CallError>>;
    /// Two keys, now, at one revision.
    fn get_both(&self, keys: [&[u8]; 2]) -> impl Future<Output = Result<[Option<KeyValue>; 2], CallError>>;
    /// Puts two records of the proxy's own at one revision, if all guards hold: at which.
    fn put_both_if(
        &self,
        guards: &[Guard<'_>],
        records: [(&[u8], &[u8]); 2],
    ) -> impl Future<Output = Result<Option<i64>, CallError>>;
    /// Puts `value` under `key`, with `lease`, if it was last written at `mod_revision` and `fence` holds; else says what is
    /// there.
    fn replace(
        &self,
        key: &[u8],
        mod_revision: i64,
        value: &[u8],
        lease: i64,
        fence: Guard<'_>,
    ) -> impl Future<Output = Result<Replaced, CallError>>;
    /// Puts a record of the proxy's own if all guards hold: at which revision.
    fn put_if(
        &self,
        guards: &[Guard<'_>],
        key: &[u8],
        value: &[u8],
        lease: i64,
    ) -> impl Future<Output = Result<Option<i64>, CallError>>;
    /// Deletes a record of the proxy's own if all guards hold: at which revision.
    fn delete_if(&self, guards: &[Guard<'_>], key: &[u8]) -> impl Future<Output = Result<Option<i64>, CallError>>;
    /// A new lease and how long it lives.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<(i64, Duration), CallError>>;
    /// Has a lease live on: how long, or `None` where it has ended.
    fn keep_alive(&self, lease: i64) -> impl Future<Output = Result<Option<Duration>, CallError>>;
    /// Whether a lease lives on by being kept alive. Where not, each write of a key under it lets it begin anew.
    fn keeps_leases(&self) -> impl Future<Output = Result<bool, CallError>> {
        std::future::ready(Ok(true))
    }
    /// Ends a lease and what is tied to it.
    fn revoke(&self, lease: i64) -> impl Future<Output = Result<(), CallError>>;
    /// Whether history before `revision` has been compacted away.
    fn is_compacted_before(&self, revision: i64) -> impl Future<Output = Result<bool, CallError>>;
}

impl Store for Client {
    async fn page(&self, ask: PageAsk<'_>) -> Result<Page, CallError> {
        self.page(ask).await
    }

    async fn count(&self, start: &[u8], end: Option<&[u8]>) -> Result<(i64, u64), CallError> {
        self.count(start, end).await
    }

    async fn get(&self, key: &[u8]) -> Result<(i64, Option<KeyValue>), CallError> {
        self.get(key).await
    }

    async fn get_both(&self, keys: [&[u8]; 2]) -> Result<[Option<KeyValue>; 2], CallError> {
        self.get_both(keys).await
    }

    async fn put_both_if(&self, guards: &[Guard<'_>], records: [(&[u8], &[u8]); 2]) -> Result<Option<i64>, CallError> {
        self.put_both_if(guards, records).await
    }

    async fn replace(
        &self,
        key: &[u8],
        mod_revision: i64,
        value: &[u8],
        lease: i64,
        fence: Guard<'_>,
    ) -> Result<Replaced, CallError> {
        self.replace(key, mod_revision, value, lease, fence).await
    }

    async fn put_if(
        &self,
        guards: &[Guard<'_>],
        key: &[u8],
        value: &[u8],
        lease: i64,
    ) -> Result<Option<i64>, CallError> {
        self.put_if(guards, key, value, lease).await
    }

    async fn delete_if(&self, guards: &[Guard<'_>], key: &[u8]) -> Result<Option<i64>, CallError> {
        self.delete_if(guards, key).await
    }

    async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), CallError> {
        self.grant(ttl).await
    }

    async fn keep_alive(&self, lease: i64) -> Result<Option<Duration>, CallError> {
        self.keep_alive(lease).await
    }

    async fn keeps_leases(&self) -> Result<bool, CallError> {
        Ok(self.kind().await? == StoreKind::Etcd)
    }

    async fn revoke(&self, lease: i64) -> Result<(), CallError> {
        self.revoke(lease).await
    }

    async fn is_compacted_before(&self, revision: i64) -> Result<bool, CallError> {
        self.is_compacted_before(revision).await
    }
}
