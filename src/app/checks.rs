//! The health checks of the whole process, named as kube-apiserver names its own where it has them.
//!
//! A configuration or certificate that could not be reloaded is told and fails nothing: the one in use still serves.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use tokio::sync::watch;

use super::Settings;
use super::build::Parts;
use super::lasting::Lasting;
use super::store::KINE;
use super::survey::Surveyed;
use super::unopened::sweep_text;
use super::writes::Writes;
use crate::admin::{Check, Outcome};
use crate::config::KmsApiVersion;
use crate::etcd::StoreKind;
use crate::files::State;
use crate::kms::Plugin;
use crate::proxy::{Heartbeats, Stage};
use crate::sweep::WorkerStatus;

/// All of them, in the order in which they are told.
pub(super) fn checks(
    settings: &Settings,
    parts: &Parts,
    (heartbeats, lasting): (Heartbeats, &Lasting),
    writes: Arc<Writes>,
    (sweep, surveyed): (Option<Arc<WorkerStatus>>, Option<Surveyed>),
    stage: &watch::Receiver<Stage>,
) -> Arc<[Check]> {
    let mut checks = vec![
        Check::new("ping", || Ok(None)).vital(),
        runtimes(heartbeats),
        lasting.check(),
        etcd(parts),
        config(parts),
    ];
    checks.extend(certificates(parts));
    checks.extend(kms(settings, parts));
    // Never a failure: see there.
    checks.push(Check::new("writes", move || Ok(Some(writes.text()))));
    // Never a failure: what is stored can be read, and clients are served, however the sweep fares.
    checks.extend(sweep.map(|status| {
        let (unopened, surveyed) = (Arc::clone(&parts.proxy.unopened), surveyed.clone());
        Check::new("sweep", move || {
            let misses = surveyed.as_ref().is_some_and(Surveyed::misses);
            Ok(Some(sweep_text(&status, &unopened, misses)))
        })
    }));
    // Never a failure: what a rule does not match is served as it is stored.
    checks.extend(surveyed.map(|surveyed| Check::new("key-space", move || Ok(Some(surveyed.text())))));
    let stage = stage.clone();
    checks.push(Check::new("shutdown", move || match *stage.borrow() {
        Stage::Running => Ok(None),
        Stage::Withdrawn => Err("withdrawn: no etcd member can be reached, and clients are sent elsewhere".to_owned()),
        Stage::Draining | Stage::Stopped => Err("the proxy is shutting down".to_owned()),
    }));
    checks.into()
}

/// What only a restart can mend.
fn runtimes(heartbeats: Heartbeats) -> Check {
    let check = Check::new("runtimes", move || match heartbeats.stuck() {
        None => Ok(None),
        Some((index, silence)) => Err(format!(
            "the thread proxy-{index} has not got to its tasks for {} s",
            silence.as_secs()
        )),
    });
    check.vital()
}

fn etcd(parts: &Parts) -> Check {
    let (reachability, kind) = (
        Arc::clone(&parts.upstream.reachability),
        Arc::clone(&parts.upstream.kind),
    );
    Check::new("etcd", move || match reachability.counts() {
        (0, pools) => Err(format!("none of {pools} connections to etcd is up")),
        (connected, pools) => {
            let mut text = format!("{connected} of {pools} connections are up");
            if kind.get() == Some(&StoreKind::Kine) {
                // Writing to a String cannot fail.
                let _ = write!(text, "; {KINE}");
            }
            Ok(Some(text))
        }
    })
}

fn config(parts: &Parts) -> Check {
    let status = Arc::clone(&parts.config_status);
    Check::new("encryption-config", move || {
        let now = status.snapshot();
        Ok(Some(loaded(&now, &now.loaded.to_string())))
    })
}

fn certificates(parts: &Parts) -> impl Iterator<Item = Check> {
    let server = parts.server_tls.as_ref().map(|tls| ("server-certificate", &tls.status));
    let client = parts.client_tls.as_ref().map(|tls| ("client-certificate", &tls.status));
    [server, client].into_iter().flatten().map(|(name, status)| {
        let status = Arc::clone(status);
        Check::new(name, move || Ok(Some(loaded(&status.snapshot(), ""))))
    })
}

/// `sha256:… in use since …`, and what is wrong with something newer.
fn loaded<T>(state: &State<T>, what: &str) -> String {
    let space = if what.is_empty() { "" } else { " " };
    let mut text = format!("{what}{space}in use since {}", time(state.loaded_at));
    if let Some(failure) = &state.failure {
        // Failures with a configuration have a line for each problem; here a check has one.
        let why: Vec<_> = failure.text.split_whitespace().collect();
        let (since, why) = (time(failure.since), why.join(" "));
        // Writing to a String cannot fail.
        let _ = write!(text, "; reload fails since {since}: {why}");
    }
    text
}

/// kube-apiserver has one check for all where it reloads its configuration or all plugins speak v2, otherwise one for each.
/// A plugin may be asked for it, within its timeout, but is not asked more often than its own pace allows.
fn kms(settings: &Settings, parts: &Parts) -> Vec<Check> {
    let keyring = Arc::clone(&parts.keyring);
    let plugins = keyring.snapshot().plugins().to_vec();
    let is_v1 = |plugin: &Plugin| plugin.report().api_version == KmsApiVersion::V1;
    if settings.reload_encryption_config || !plugins.iter().any(is_v1) {
        if !settings.reload_encryption_config && plugins.is_empty() {
            return Vec::new();
        }
        return vec![Check::asking("kms-providers", move || {
            let keyring = keyring.snapshot();
            async move { are_well(keyring.plugins()).await }
        })];
    }
    let check = |(index, plugin): (usize, Plugin)| {
        Check::asking(format!("kms-provider-{index}"), move || {
            let plugin = plugin.clone();
            async move { are_well(&[plugin]).await }
        })
    };
    plugins.into_iter().enumerate().map(check).collect()
}

async fn are_well(plugins: &[Plugin]) -> Outcome {
    let mut ailments = Vec::new();
    for plugin in plugins {
        if let Err(ailment) = plugin.health().await {
            ailments.push(format!("{ailment} (since {})", time(plugin.report().since)));
        }
    }
    if ailments.is_empty() {
        Ok((!plugins.is_empty()).then(|| format!("{} well", plugins.len())))
    } else {
        Err(ailments.join("; "))
    }
}

fn time(at: SystemTime) -> String {
    format_rfc3339_seconds(at).to_string()
}
