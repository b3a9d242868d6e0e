//! Gets a right, keeps it and lets go. Losing it costs its owner work done twice, never a value, as long as each write is
//! guarded, or compared with what it was made from.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Error, Holder, Term};
use crate::etcd::lease::{BEAT, TTL, give_back};
use crate::etcd::{CallError, Guard, Patience, Store, Trouble, WaitError};
use crate::types::BootInstant;

/// Between two attempts at a sign of life.
const RETRY: Duration = Duration::from_millis(500);
/// The key may be found held by a dead process and freed so often before that is given up.
const MAX_TAKEOVERS: u32 = 5;

/// The right.
#[derive(Debug)]
pub struct Owner {
    key: Vec<u8>,
    lease: i64,
    /// When the key came to be: it is this owner's as long as that stands.
    revision: i64,
    term: Term,
}

impl Owner {
    /// Becomes the owner under `key`. Whoever held it and is certainly dead is not waited for.
    ///
    /// # Errors
    /// Somebody else is, and may be alive; or etcd does not answer.
    pub async fn acquire<S: Store>(store: &S, key: Vec<u8>, patience: &Patience) -> Result<Self, Error> {
        for _ in 0..MAX_TAKEOVERS {
            let grant = async || {
                let sent = BootInstant::now();
                let (lease, ttl) = store.grant(TTL).await?;
                Ok((lease, Term::of(sent, ttl)))
            };
            let (lease, term) = patience.call(grant).await?;
            let holder = Holder::this_process(lease);
            let record = serde_json::to_vec(&holder).unwrap_or_default();
            let free = [Guard::mod_revision(&key, 0)];
            // If an attempt that failed happened all the same, the key is found below.
            let put = async || match store.put_if(&free, &key, &record, lease).await {
                // It took so long that the lease has ended meanwhile.
                Err(error) if error.trouble() == Trouble::LeaseNotFound => Ok(None),
                answer => answer,
            };
            let put = patience.call(put).await?;
            let (_, found) = patience.call(|| store.get(&key)).await?;
            let held = found.as_ref().map(Holder::found);
            match (found, held) {
                (Some(kv), Some(held))
                    if held == holder && put.is_none_or(|revision| revision == kv.create_revision) =>
                {
                    return Ok(Self {
                        key,
                        lease,
                        revision: kv.create_revision,
                        term,
                    });
                }
                // Somebody's lease has just ended, or this one's.
                (None, _) | (_, None) => give_back(store, lease).await,
                (Some(kv), Some(held)) if kv.lease != 0 && held.is_certainly_dead() => {
                    give_back(store, lease).await;
                    give_back(store, kv.lease).await;
                }
                (Some(_), Some(held)) => {
                    give_back(store, lease).await;
                    return Err(Error::Held(Box::new(held)));
                }
            }
        }
        Err(Error::LostOwnership {
            why: "it ended again and again before the first write".to_owned(),
        })
    }

    /// Who holds `key` and may be alive. Writes nothing.
    ///
    /// # Errors
    /// What etcd said.
    pub async fn holder<S: Store>(store: &S, key: &[u8]) -> Result<Option<Holder>, CallError> {
        let (_, found) = store.get(key).await?;
        let holder = found.as_ref().map(Holder::found);
        Ok(holder.filter(|holder| holder.is_leaseless || !holder.is_certainly_dead()))
    }

    /// Gives signs of life. Returns only when it is clear that they are no longer heard, or not known for `max_wait`. Until
    /// then an etcd that is away is waited for: its leases live anew when it comes back.
    pub async fn keep<S: Store>(&self, store: &S, max_wait: Duration) -> Error {
        loop {
            sleep(BEAT).await;
            let began = Instant::now();
            loop {
                let sent = BootInstant::now();
                match store.keep_alive(self.lease).await {
                    Ok(Some(ttl)) => {
                        self.term.extend(sent, ttl);
                        break;
                    }
                    Ok(None) => {
                        return Error::LostOwnership {
                            why: "it has ended".to_owned(),
                        };
                    }
                    Err(_) if self.term.is_open() => {}
                    Err(error) if !error.trouble().is_passing() => {
                        return Error::LostOwnership {
                            why: format!("it could not be renewed, {error}"),
                        };
                    }
                    Err(error) if began.elapsed() >= max_wait => {
                        let (after, last) = (began.elapsed(), error.to_string());
                        return WaitError::GaveUp { after, last }.into();
                    }
                    Err(_) => {}
                }
                sleep(RETRY).await;
            }
        }
    }

    /// How long may be written: see [`Term::passed`].
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Holds as long as nobody else has become the owner.
    pub fn guard(&self) -> Guard<'_> {
        Guard::create_revision(&self.key, self.revision)
    }

    /// Lets go, so that whoever is next need not wait.
    pub async fn release<S: Store>(self, store: &S) {
        give_back(store, self.lease).await;
    }
}
