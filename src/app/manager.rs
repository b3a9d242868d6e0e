//! Tells the service manager how the process stands, for as long as it runs.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{self, Check};
use crate::proxy::Stage;
use crate::systemd::{Manager, Told};

/// Says in a line what the process does, whenever that changes; `urls` are where clients connect.
pub(super) async fn describe(manager: Manager, urls: String, mut stage: watch::Receiver<Stage>) {
    loop {
        let now = *stage.borrow_and_update();
        match now {
            Stage::Running => manager.tell(Told::Status(&format!("serving {urls}"))),
            Stage::Withdrawn => manager.tell(Told::Status(
                "withdrawn: no etcd member can be reached, and clients are sent elsewhere",
            )),
            // Said where that is decided.
            Stage::Draining | Stage::Stopped => {}
        }
        if stage.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Feeds the manager's watchdog as long as `/livez` would answer that all is well; without a watchdog, nothing.
pub(super) async fn feed(manager: Manager, checks: Arc<[Check]>) {
    let Some(within) = manager.watchdog() else {
        return pending().await;
    };
    // Twice in that time, as sd_watchdog_enabled(3) advises.
    let mut ticks = interval(within / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match admin::alive(&checks).await {
            Ok(()) => manager.tell(Told::Alive),
            Err(why) => {
                tracing::error!(why, "systemd's watchdog is not fed: it will restart this process");
                manager.tell(Told::Status(&format!("not alive: {why}")));
            }
        }
    }
}
