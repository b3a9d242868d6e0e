//! The frame of a verb that works straight on etcd: connections on a thread of their own, KMS plugins and signals on the
//! calling one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::build::{check_prefixes, client_tls, dialers, load_keyring_of, managed_keyring};
use super::on_etcd::{self, OnEtcd};
use super::run::Signals;
use super::strongbox::strongbox;
use super::{Common, Error, Misplaced, Origin, forbid_dumps};
use crate::files::Permissions;
use crate::keyring::Keyring;
use crate::kms::{self, Plugins};
use crate::managed::{self, Past};
use crate::tls::{self, ClientTls};

/// What such a verb works with.
pub(super) struct Hands {
    pub(super) plugins: Arc<Plugins>,
    pub(super) on_etcd: OnEtcd,
    /// TLS towards members, where those that were named are reached that way.
    pub(super) client_tls: Option<tls::Handle<ClientTls>>,
    /// Set when what is under way is to end.
    pub(super) stopped: watch::Receiver<bool>,
}

/// How long what is under way may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `work`, and blocks the calling thread meanwhile. The first SIGTERM or SIGINT has it end what is under way, for ten
/// seconds; then, or by a second one, it ends at once, with what `stopped` makes.
pub(super) fn run<T, E, F>(common: &Common, notice: &dyn Fn(&str), stopped: impl FnOnce() -> E, work: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: AsyncFnOnce(Hands) -> Result<T, E> + Send + 'static,
{
    forbid_dumps()?;
    let started = |error: io::Error| E::from(Error::Start(error));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(started)?;
    let plugins = Arc::new(Plugins::new(runtime.handle().clone(), kms::Config::default()));
    check_prefixes(&common.prefixes, &common.state_prefix)?;
    let client_tls = client_tls(common, &Permissions::new(common.strict_permissions))?;
    let (members, _) = dialers(common, client_tls.as_ref())?;
    let client_tls = client_tls.map(|tls| tls.handle);
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let (stop, stops) = watch::channel(false);
        let (outcome_tx, mut outcome) = oneshot::channel();
        let thread = on_etcd::spawn("offline", members, async move |on_etcd| {
            let (members, reachability) = (Arc::clone(&on_etcd.members), Arc::clone(&on_etcd.reachability));
            let hands = Hands {
                plugins,
                on_etcd,
                client_tls,
                stopped: stops,
            };
            // No request is ever sent to a proxy, so that nothing has been done where all members are.
            let outcome = tokio::select! {
                biased;
                proxy = reachability.misdirected(&members) => Err(Error::from(Misplaced::from(proxy)).into()),
                outcome = work(hands) => outcome,
            };
            let _ = outcome_tx.send(outcome);
        });
        thread.map_err(started)?;
        let lost = || E::from(Error::Start(io::Error::other("the working thread ended")));
        tokio::select! {
            outcome = &mut outcome => return outcome.map_err(|_| lost())?,
            signal = signals.next() => {
                notice(&format!("{signal}: stopping, what is under way ends first; a second signal stops at once"));
                stop.send_replace(true);
            }
        }
        tokio::select! {
            outcome = &mut outcome => outcome.map_err(|_| lost())?,
            _ = signals.next() => Err(stopped()),
            // Whatever etcd has not answered by then is looked at again by the next one, as if this one had been killed.
            () = sleep(GRACE) => Err(stopped()),
        }
    })
}

/// The keyring of the configuration, from wherever it lives.
///
/// # Errors
/// It is not there, or cannot be used.
pub(super) async fn load_keyring(common: &Common, hands: &Hands) -> Result<Keyring, Error> {
    match &common.origin {
        Origin::File(path) => {
            let keyspace = common.keyspace()?;
            let permissions = Permissions::new(common.strict_permissions);
            load_keyring_of(path, &keyspace, &permissions, &hands.plugins, false)
        }
        Origin::Managed(root) => {
            let strongbox = strongbox(common, root, hands.on_etcd.client.clone())?;
            let current = strongbox.read().await?.ok_or(managed::Error::Absent)?;
            let mut past = Past::default();
            past.look(&strongbox).await?;
            managed_keyring((&current, &past), common, &hands.plugins)
        }
    }
}
