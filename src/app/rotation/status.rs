//! `secrets-encrypt status`: what is asked of etcd and of the configuration to tell how things stand.

use super::Etcd;
use crate::app::store::KINE;
use crate::config::EncryptionConfiguration;
use crate::etcd::{Client, StoreKind};
use crate::managed::{self, Time};
use crate::rotation::{self, Audience, Driver, KeyringView, ManagedConfig, Source, Standing, Status};
use crate::sweep::{Latest, Uncovered, Wanted};

/// How things stand, and with which configuration; with the values in etcd counted, if `count`.
pub(super) async fn status<C: Source, A: Audience>(
    driver: &Driver<'_, Etcd, C, A>,
    count: bool,
    keyring: Option<&ManagedConfig<Client>>,
) -> Result<(Status, EncryptionConfiguration), rotation::Error> {
    let site = driver.site;
    let Standing {
        facts,
        damaged,
        mut blocked,
    } = driver.standing().await?;
    let latest = Latest::read(&site.client, &site.state).await?;
    let counted = if count {
        Some(site.look_everywhere(&facts.config, &driver.stop).await?)
    } else {
        None
    };
    let uncovered = if count {
        let wanted = Wanted {
            keys: facts.config.key_ids(),
            others: true,
        };
        Some(driver.uncovered(&facts.config, &wanted, &driver.stop).await?)
    } else {
        None
    };
    // Whether a key is at hand is looked for only where something needs one.
    let is_unopened = counted.as_ref().is_some_and(|report| report.counts.undecryptable > 0)
        || uncovered.as_ref().is_some_and(Uncovered::has_unopened);
    let recovery = if is_unopened && keyring.is_none() {
        Some(driver.search(&facts, &driver.stop).await?)
    } else {
        None
    };
    let view = match keyring {
        Some(keyring) => Some(view(keyring).await?),
        None => None,
    };
    let status = Status::of(&facts, &latest, counted.as_ref(), view, Time::now());
    if matches!(site.client.kind().await, Ok(StoreKind::Kine)) {
        blocked.push(KINE.to_owned());
    }
    let status = status.with_damage(damaged.as_ref(), blocked).with_uncovered(uncovered);
    Ok((status.with_recovery(recovery.as_ref()), facts.config))
}

/// What is told of the keyring in etcd itself.
async fn view(keyring: &ManagedConfig<Client>) -> Result<KeyringView, managed::Error> {
    let (current, strongbox) = (keyring.current().await?, keyring.strongbox());
    // A plugin that is away keeps nobody from looking.
    let known = strongbox.known_roots(&current).await.unwrap_or_default();
    let (archived, exports) = (strongbox.archive_size().await?, strongbox.exports().await?);
    Ok(KeyringView::of(&current, &known, archived, exports))
}
