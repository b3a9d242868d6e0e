//! One plugin, whichever protocol it speaks: what makes a provider of it, and how it is.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::address::Address;
use super::client_v1::ClientV1;
use super::client_v2::ClientV2;
use super::connection::Connection;
use super::pulse::{self, Patient, Pulse};
use super::v1::V1;
use super::v2::V2;
use super::{Config, failure};
use crate::config::{self, KmsApiVersion};
use crate::types::KeyName;
use crate::value::Provider;

/// Keys kept for a v1 plugin whose configuration does not say; kube-apiserver's default.
const CACHE_SIZE: i32 = 1000;

/// A live plugin: its connection, its keys and what is known of its health. Clones are the same plugin, and when the last
/// one is gone, so is all of it.
#[derive(Clone, Debug)]
pub struct Plugin(Kind);

#[derive(Clone, Debug)]
enum Kind {
    V1(Arc<V1<ClientV1>>),
    V2(Arc<V2<ClientV2>>),
}

/// A plugin that ends when nobody holds it.
#[derive(Debug)]
pub(super) enum WeakPlugin {
    V1(Weak<V1<ClientV1>>),
    V2(Weak<V2<ClientV2>>),
}

impl WeakPlugin {
    pub(super) fn upgrade(&self) -> Option<Plugin> {
        match self {
            Self::V1(weak) => weak.upgrade().map(Kind::V1).map(Plugin),
            Self::V2(weak) => weak.upgrade().map(Kind::V2).map(Plugin),
        }
    }
}

/// How a plugin is, without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name that the configuration gives it.
    pub provider: KeyName,
    /// Which protocol it speaks.
    pub api_version: KmsApiVersion,
    /// Why it is not well; `None` if it is. Fit to be shown.
    pub ailment: Option<Arc<str>>,
    /// Since when it is well, or not.
    pub since: SystemTime,
    /// `sha256:…` of the key ID that new values are sealed under, and until when they are if the plugin is not well before.
    /// Only v2 has them, and only once it has been well.
    pub writing: Option<(String, SystemTime)>,
}

impl Plugin {
    /// A plugin that is looked after on `runtime` from now on.
    pub(super) fn start(kms: &config::Kms, runtime: &Handle, config: &Config) -> Self {
        // The connection's own tasks are to live there as well.
        let _inside = runtime.enter();
        let name = kms.name.clone();
        let connection = Connection::new(name.clone(), Address::parse(&kms.endpoint), kms.timeout);
        let kind = match kms.api_version {
            KmsApiVersion::V1 => {
                tracing::warn!(
                    provider = name.as_str(),
                    "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead"
                );
                let size = kms.cache_size.unwrap_or(CACHE_SIZE);
                let v1 = Arc::new(V1::new(name, ClientV1::new(connection), size, runtime.clone(), config));
                let _ = v1.watcher.set(pulse::watch(runtime, &v1));
                Kind::V1(v1)
            }
            KmsApiVersion::V2 => {
                let v2 = Arc::new(V2::new(
                    name,
                    ClientV2::new(connection),
                    runtime.clone(),
                    config.clone(),
                ));
                let _ = v2.watcher.set(pulse::watch(runtime, &v2));
                Kind::V2(v2)
            }
        };
        Self(kind)
    }

    pub(super) fn downgrade(&self) -> WeakPlugin {
        match &self.0 {
            Kind::V1(v1) => WeakPlugin::V1(Arc::downgrade(v1)),
            Kind::V2(v2) => WeakPlugin::V2(Arc::downgrade(v2)),
        }
    }

    /// The provider of a chain that seals and opens with it.
    pub fn provider(&self) -> Provider {
        match &self.0 {
            Kind::V1(v1) => Provider::kms_v1(v1.name().clone(), Arc::clone(v1) as _),
            Kind::V2(v2) => Provider::kms_v2(v2.name().clone(), Arc::clone(v2) as _),
        }
    }

    /// The name that the configuration gives it.
    pub fn name(&self) -> &KeyName {
        match &self.0 {
            Kind::V1(v1) => v1.name(),
            Kind::V2(v2) => v2.name(),
        }
    }

    /// Which protocol it speaks.
    pub fn api_version(&self) -> KmsApiVersion {
        match &self.0 {
            Kind::V1(_) => KmsApiVersion::V1,
            Kind::V2(_) => KmsApiVersion::V2,
        }
    }

    /// Whether it has ever wrapped something for this process and given it back: a v2 plugin's seed is adopted only then.
    pub fn has_returned_a_key(&self) -> bool {
        match &self.0 {
            Kind::V1(v1) => v1.has_returned(),
            Kind::V2(v2) => v2.writing().is_some(),
        }
    }

    /// Checks the plugin, unless that was done 20 seconds ago or less with a good outcome, or three with a bad one.
    /// Returns within the plugin's timeout, or twice that if a new key has to be wrapped.
    ///
    /// # Errors
    /// Why it is not well.
    pub async fn health(&self) -> Result<(), Arc<str>> {
        match &self.0 {
            Kind::V1(v1) => on(v1.runtime(), Arc::clone(v1)).await,
            Kind::V2(v2) => on(v2.runtime(), Arc::clone(v2)).await,
        }
    }

    /// Has a v2 plugin wrap a fresh seed, unless that was done for this `order` before, and waits for it, at most for `bound`. When
    /// this returns nothing is sealed under an earlier seed any more: where the plugin could not be asked, writes under it are
    /// refused until it can. What is sealed meanwhile must not be relied on. With v1 every write has a fresh key anyway.
    pub async fn renew(&self, order: &[u8], bound: Duration) {
        let Kind::V2(v2) = &self.0 else { return };
        if v2.order(order) {
            let (patient, since) = (Arc::clone(v2), Instant::now());
            let check = v2
                .runtime()
                .spawn(async move { pulse::probe_since(&*patient, Some(since)).await });
            // How it went is told where its health is.
            let _ = timeout(bound, check).await;
        }
        v2.insist();
    }

    /// Waits for the outcome of the first check, at most for `bound`.
    pub async fn examined(&self, bound: Duration) {
        let _ = timeout(bound, self.pulse().examined()).await;
    }

    /// How it is, by the last check.
    pub fn report(&self) -> Report {
        let state = self.pulse().state();
        let (api_version, writing) = match &self.0 {
            Kind::V1(_) => (KmsApiVersion::V1, None),
            Kind::V2(v2) => (KmsApiVersion::V2, v2.writing()),
        };
        Report {
            provider: self.name().clone(),
            api_version,
            ailment: state.ailment.clone(),
            since: state.since,
            writing,
        }
    }

    /// Has metrics tell of its health: a configuration that is in use from now on has it.
    pub fn put_in_use(&self) {
        self.pulse().put_in_use();
    }

    fn pulse(&self) -> &Pulse {
        match &self.0 {
            Kind::V1(v1) => v1.pulse(),
            Kind::V2(v2) => v2.pulse(),
        }
    }

    /// Whether two are the same live plugin.
    pub fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::V1(one), Kind::V1(other)) => Arc::ptr_eq(one, other),
            (Kind::V2(one), Kind::V2(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// A check on the plugin's runtime: whoever asked for it may go, and others get its outcome.
async fn on<P: Patient>(runtime: &Handle, patient: Arc<P>) -> Result<(), Arc<str>> {
    let check = runtime.spawn(async move { pulse::probe(&*patient).await });
    check.await.unwrap_or_else(|_| Err(Arc::from(failure::STOPPING)))
}

/// `kms v2 "name": well since 2026-01-01T00:00:00Z`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.api_version {
            KmsApiVersion::V1 => "v1",
            KmsApiVersion::V2 => "v2",
        };
        let how = if self.ailment.is_none() { "well" } else { "not well" };
        let since = humantime::format_rfc3339_seconds(self.since);
        write!(f, "kms {version} {:?}: {how} since {since}", self.provider.as_str())?;
        match &self.ailment {
            Some(ailment) => write!(f, ": {ailment}"),
            None => Ok(()),
        }
    }
}
