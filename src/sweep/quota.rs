//! Whether the rewrite would fill etcd's backend: each write is a new revision beside the old one until compaction. An
//! estimate, before anything is written; etcd itself decides.

use super::scan::{FIRST_LIMIT, MAX_BYTES};
use super::scope::Scope;
use crate::etcd::{CallError, PageAsk, Status, Store};

/// etcd's quota where it was given none.
const DEFAULT_QUOTA: u64 = 2 * 1024 * 1024 * 1024;
/// What a revision takes beside key and value, bytes: its own key, the fields, its share of a page.
const OVERHEAD: u64 = 100;
/// Part of the quota that should stay free, as one of so many.
const RESERVE: u64 = 10;

/// What to tell an operator before a rewrite that might not fit; `None` where it will.
pub async fn quota_warning<S: Store>(store: &S, scope: &Scope, status: &Status) -> Result<Option<String>, CallError> {
    Ok(warning(status, estimate(store, scope).await?))
}

/// Bytes that a rewrite of everything in scope would add, by a sample from the beginning of each range.
async fn estimate<S: Store>(store: &S, scope: &Scope) -> Result<u64, CallError> {
    let mut estimate = 0;
    for range in scope.ranges().iter() {
        let (start, end) = (range.start.as_slice(), range.end.as_deref());
        let (_, keys) = store.count(start, end).await?;
        let ask = PageAsk {
            start,
            end,
            revision: 0,
            limit: FIRST_LIMIT,
            enough: MAX_BYTES,
        };
        let sample = store.page(ask).await?.kvs;
        let bytes: usize = sample.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        let mean = (bytes as u64).checked_div(sample.len() as u64).unwrap_or(0);
        estimate += keys.saturating_mul(mean + OVERHEAD);
    }
    Ok(estimate)
}

fn warning(status: &Status, bytes: u64) -> Option<String> {
    let quota = status.quota.unwrap_or(DEFAULT_QUOTA);
    // Pages that are free are used before the file grows.
    let in_use = if status.db_size_in_use > 0 {
        status.db_size_in_use
    } else {
        status.db_size
    };
    let reached = in_use.saturating_add(bytes).max(status.db_size);
    if reached <= quota - quota / RESERVE {
        return None;
    }
    let quota = match status.quota {
        Some(quota) => format!("its quota of {} MiB", mebibytes(quota)),
        None => format!(
            "{} MiB, which is etcd's quota unless it was given another",
            mebibytes(quota)
        ),
    };
    Some(format!(
        "rewriting everything would add about {} MiB to etcd's backend, which has {} MiB in use, and could pass {quota}. \
         Compact before and during the sweep, slow it down with --rate-bytes, or raise --quota-backend-bytes",
        mebibytes(bytes),
        mebibytes(in_use),
    ))
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_come_near_the_quota_is_warned_of() {
        let gib = 1024 * 1024 * 1024;
        let status = |db_size, db_size_in_use, quota| Status {
            db_size,
            db_size_in_use,
            quota,
            ..Status::default()
        };
        assert_eq!(warning(&status(gib, gib, Some(8 * gib)), gib), None);
        assert!(warning(&status(gib, gib, Some(2 * gib)), gib).is_some());
        // Free pages are used first.
        assert_eq!(warning(&status(gib, gib / 10, Some(2 * gib)), gib), None);
        assert!(warning(&status(gib, gib, None), gib).is_some_and(|text| text.contains("unless it was given")));
    }
}
