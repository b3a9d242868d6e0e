//! What all leases of the proxy's own have in common: how long one lives without a sign of life, how often a process gives
//! one, and how it lets go. Whose they are, and what lies under them, is for rooms above.

use std::time::Duration;

use super::Store;

/// How long after its last sign of life a process is taken for gone.
pub const TTL: Duration = Duration::from_secs(15);
/// Between two signs of life: two may be lost.
pub const BEAT: Duration = Duration::from_secs(5);
/// What may only be done under a lease ends this long before the lease could: what is under way then is answered before
/// somebody else takes the holder for gone.
const MARGIN: Duration = Duration::from_secs(2);

/// How long something may be done under a lease that lives for `ttl`: from when it was asked for, by the holder's own clock.
pub fn usable(ttl: Duration) -> Duration {
    ttl.saturating_sub(MARGIN.min(ttl / 4))
}

/// Ends a lease, so that nobody waits for what lies under it. Where that fails it ends by itself.
pub async fn give_back<S: Store>(store: &S, lease: i64) {
    if let Err(error) = store.revoke(lease).await {
        tracing::debug!(%error, "a lease was not given back");
    }
}
