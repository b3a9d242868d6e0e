//! Watches, each on a stream of its own as kube-apiserver's are: what each holds while nothing happens, and what an event costs
//! that all of them see.

use crate::fan_out::{self, Watchers};
use crate::settings::Settings;

use super::{KIB, Table, proxy, resident, scene};

const WATCHES: [usize; 5] = [10, 100, 1_000, 5_000, 20_000];
/// kube-apiserver has one for each resource; etcd takes no more than so many streams on one.
const CONNECTIONS: usize = 20;

pub async fn curve(settings: &Settings) -> String {
    let scene = scene(settings).await;
    let proxy = proxy(&scene);
    let title = format!("Watches: an event of 1 KiB to all of them, on {CONNECTIONS} connections");
    let mut table = Table::new(&title, "watches", "events/s", "idle", resident(proxy));
    for watches in settings.up_to_most(&WATCHES) {
        eprintln!("scale: {watches} watches");
        let watchers = Watchers {
            connections: CONNECTIONS.min(watches),
            watches,
            value_bytes: KIB,
        };
        let held = tokio::task::block_in_place(|| fan_out::hold(proxy, watchers, || resident(proxy)));
        let round = tokio::task::block_in_place(|| fan_out::run(proxy, scene.etcd_pid, watchers, settings.window));
        table.row(watches, &round, Some(held));
    }
    table.end()
}
