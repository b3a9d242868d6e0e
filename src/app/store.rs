//! What kind of store this is: said once it is known, and heeded by what cannot be done on every kind.

use std::future::pending;
use std::time::Duration;

use super::Error;
use crate::etcd::{Client, KnownKind, StoreKind};

/// Between two questions while etcd does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be known of a kine, in one line.
pub(super) const KINE: &str = "the store is no etcd but kine or the like: values are encrypted and decrypted on it, late writes are bound \
                               by time, and nothing is swept or rotated there; docs/kine.md";

/// Finds out what kind of store it is, says so in the log, and notes it in `known`. Never returns.
pub(super) async fn tell(client: &Client, known: &KnownKind) {
    let kind = loop {
        match client.kind().await {
            Ok(kind) => break kind,
            Err(error) => {
                tracing::debug!(%error, "what kind of store this is cannot be learnt now");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    // Who serves clients may have found out before.
    let _ = known.set(kind);
    match kind {
        StoreKind::Etcd => tracing::info!("the store is etcd"),
        StoreKind::Kine => tracing::warn!("{KINE}"),
    }
    pending::<()>().await;
}

/// Refuses `what` where the store is not etcd, and where that cannot be learnt.
///
/// # Errors
/// [`Error::NotEtcd`], [`Error::UnknownStore`].
pub(super) async fn must_be_etcd(client: &Client, what: &'static str) -> Result<(), Error> {
    match client.kind().await {
        Ok(StoreKind::Kine) => Err(Error::NotEtcd { what }),
        Ok(StoreKind::Etcd) => Ok(()),
        Err(source) => Err(Error::UnknownStore { what, source }),
    }
}
