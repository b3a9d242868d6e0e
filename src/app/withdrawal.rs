//! Gets the process out of the way while it can reach no member of etcd and the cluster has others than those that it knows: its
//! clients' balancers then see what they would see of an etcd that is down, and take another way.
//!
//! Where its members are the whole cluster there is no other way, and calls wait for a member instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::etcd::{Client, Reachability};
use crate::proxy::Stage;
use crate::telemetry::{Family, Kind};

pub(super) const WITHDRAWN: Family = Family {
    name: "etcd_encryption_proxy_withdrawn",
    kind: Kind::Gauge,
    help: "1 while no etcd member can be reached and clients are sent elsewhere: listeners are closed, and calls are not held.",
    labels: &[],
};

/// A connection that was lost is replaced within this, where the member is well.
const GRACE: Duration = Duration::from_millis(250);

/// From one look at the cluster's members to the next; after a failure, sooner.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is done while no member can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnreachable {
    /// [`OnUnreachable::Withdraw`] where the cluster has other members than those that are configured, else
    /// [`OnUnreachable::Hold`].
    #[default]
    Auto,
    /// Calls wait for a member.
    Hold,
    /// Clients are sent elsewhere.
    Withdraw,
}

/// Whether the cluster has more members than are configured, as far as is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Others(Arc<AtomicBool>);

impl Others {
    /// Looks now and then for as long as it is polled; `configured` is how many members are.
    pub(super) async fn watch(&self, client: &Client, configured: usize) {
        loop {
            // A store that does not list members has none but what is configured.
            let pause = match client.members().await {
                Ok(members) => {
                    let voters = members.iter().filter(|member| !member.is_learner).count();
                    let are_there = voters > configured;
                    if self.0.swap(are_there, Ordering::Relaxed) != are_there {
                        tracing::info!(members = voters, configured, "the cluster's members were counted");
                    }
                    LOOK
                }
                Err(_) => LOOK_AGAIN,
            };
            sleep(pause).await;
        }
    }

    fn are_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Withdraws and comes back, for as long as it is polled.
pub(super) async fn run(
    wanted: OnUnreachable,
    others: &Others,
    reachability: &Reachability,
    stage: &watch::Sender<Stage>,
) {
    gauge!(WITHDRAWN.name).set(0.0);
    let step =
        |from: Stage, to: Stage| stage.send_if_modified(|stage| *stage == from && std::mem::replace(stage, to) == from);
    loop {
        reachability.is(false).await;
        if timeout(GRACE, reachability.is(true)).await.is_ok() {
            continue;
        }
        let withdraws = match wanted {
            OnUnreachable::Auto => others.are_there(),
            OnUnreachable::Hold => false,
            OnUnreachable::Withdraw => true,
        };
        if withdraws && step(Stage::Running, Stage::Withdrawn) {
            reachability.give_up(true);
            gauge!(WITHDRAWN.name).set(1.0);
            tracing::warn!("no etcd member can be reached: clients are sent elsewhere, until one can");
        }
        reachability.is(true).await;
        reachability.give_up(false);
        if step(Stage::Withdrawn, Stage::Running) {
            gauge!(WITHDRAWN.name).set(0.0);
            tracing::info!("an etcd member can be reached: clients are served");
        }
    }
}
