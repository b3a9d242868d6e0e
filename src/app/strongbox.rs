//! The keyring in etcd as the verbs and `serve` get at it: with the roots that the settings name, and made where there is
//! none yet and none can have been lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::store::must_be_etcd;
use super::{Common, Error, RootSettings, host};
use crate::etcd::{Client, Trouble};
use crate::files::Permissions;
use crate::keyspace::KeySpace;
use crate::kms::Wrapper;
use crate::managed::{self, Current, Past, RootError, Roots, Strongbox, Time, default_document, holds_sealed_values};
use crate::systemd::{Manager, Told};
use crate::types::with_causes;

/// What metrics and messages call the plugin that wraps the keyring's key.
const KMS_NAME: &str = "keyring-root";

/// How long a call of it may take: what kube-apiserver gives a plugin.
const KMS_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two attempts while etcd or the plugin is away.
const RETRY: Duration = Duration::from_secs(1);

/// After so many of them it is said once more.
const SAID_EVERY: u32 = 30;

/// The keyring under the state prefix of `common`, over `client`. The plugin's connection lives on the calling runtime.
///
/// # Errors
/// The roots are not to be had.
pub(super) fn strongbox(common: &Common, root: &RootSettings, client: Client) -> Result<Strongbox<Client>, Error> {
    let roots = roots(common, root)?;
    Ok(Strongbox::new(
        client,
        common.state_prefix.clone(),
        Arc::new(roots),
        &host(),
    ))
}

/// The roots that the settings name. The plugin's connection lives on the calling runtime.
///
/// # Errors
/// They are not to be had.
pub(super) fn roots(common: &Common, root: &RootSettings) -> Result<Roots, Error> {
    let permissions = Arc::new(Permissions::new(common.strict_permissions));
    let wrapper = |endpoint: &String| Wrapper::new(KMS_NAME, endpoint, KMS_TIMEOUT).map_err(RootError::Kms);
    let kms = root
        .kms
        .as_ref()
        .map(wrapper)
        .transpose()
        .map_err(managed::Error::Root)?;
    Ok(Roots::load(root.file.clone(), permissions, kms).map_err(managed::Error::Root)?)
}

/// The keyring, which is made if there is none, and its archive. Waits for etcd, and for the plugin, for as long as that takes;
/// `manager` is told that nothing else is missing, as what starts etcd may be ordered after this process (k3s is).
///
/// # Errors
/// It cannot be had, or may have been lost: values are sealed, and there is no keyring.
pub(super) async fn first(
    common: &Common,
    strongbox: &Strongbox<Client>,
    client: &Client,
    manager: &Manager,
) -> Result<(Current, Past), Error> {
    let keyspace = common.keyspace()?;
    let mut attempts = 0_u32;
    loop {
        let looked = async {
            must_be_etcd(client, "a keyring in the store").await?;
            look_or_make_all(&keyspace, strongbox, client).await
        };
        match looked.await {
            Err(error) if is_passing(&error) => {
                if attempts == 0 {
                    manager.tell(Told::Status("waiting for the keyring in etcd; no client is served yet"));
                    manager.tell(Told::Ready);
                }
                if attempts.is_multiple_of(SAID_EVERY) {
                    tracing::warn!(
                        error = with_causes(&error),
                        "waiting for the keyring in etcd; no client is served before it is there"
                    );
                }
                attempts = attempts.wrapping_add(1);
                sleep(RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether it is worth waiting for.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Managed(error) => error.is_passing(),
        Error::UnknownStore { source, .. } => source.trouble() != Trouble::NotEtcd,
        _ => false,
    }
}

/// The keyring, and what it replaced.
async fn look_or_make_all(
    keyspace: &KeySpace,
    strongbox: &Strongbox<Client>,
    client: &Client,
) -> Result<(Current, Past), Error> {
    let current = look_or_make(keyspace, strongbox, client).await?;
    let mut past = Past::default();
    match past.look(strongbox).await {
        // What the keyring opens can be served without it.
        Err(error) if !error.is_passing() => {
            tracing::warn!(
                error = with_causes(&error),
                "the archive is not read: retired keys open nothing"
            );
        }
        looked => looked?,
    }
    Ok((current, past))
}

async fn look_or_make(keyspace: &KeySpace, strongbox: &Strongbox<Client>, client: &Client) -> Result<Current, Error> {
    if let Some(current) = strongbox.read().await? {
        return Ok(current);
    }
    let sealed = holds_sealed_values(client, keyspace)
        .await
        .map_err(managed::Error::Call)?;
    if let Some(value) = sealed {
        // Perhaps by a member that has made the keyring, and served, since there was none.
        return match strongbox.read().await? {
            Some(current) => Ok(current),
            None => Err(Error::KeyringLost(value.to_string())),
        };
    }
    let document = default_document(Time::now())?;
    let current = strongbox.create(document.expose()).await?;
    if current.document.expose() == document.expose() {
        tracing::warn!(
            root = %current.root,
            "A NEW KEYRING was made and lies sealed in etcd. Whoever loses its root loses every value that is encrypted from \
             now on: keep a copy of the root elsewhere, and one of the keyring (`keyring backup`)"
        );
    }
    Ok(current)
}
