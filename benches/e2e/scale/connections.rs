//! Connections: what each holds while it is idle, and what a request costs where each of them has one under way.

use crate::calls::{self, Load};
use crate::closed::{self, Shape};
use crate::settings::Settings;
use crate::target::Target;

use super::{KIB, Table, proxy, resident, scene};

const CONNECTIONS: [usize; 6] = [1, 10, 100, 500, 1_000, 2_000];

pub async fn curve(settings: &Settings) -> String {
    let scene = scene(settings).await;
    let proxy = proxy(&scene);
    let sizes = settings.up_to_most(&CONNECTIONS);
    let most = sizes.iter().copied().max().unwrap_or(1);
    calls::fill(proxy.connect().await, &proxy.prefix(), Load::Get, KIB, most).await;
    let title = "Connections: get of 1 KiB, one client on each";
    let mut table = Table::new(
        title,
        "connections",
        "requests/s",
        "idle, each after one get",
        resident(proxy),
    );
    for connections in sizes {
        eprintln!("scale: {connections} connections");
        let shape = Shape {
            load: Load::Get,
            clients: connections,
            connections,
            value_bytes: KIB,
        };
        let held = held(proxy, shape);
        let round = tokio::task::block_in_place(|| closed::run(proxy, scene.etcd_pid, shape, settings.window));
        table.row(connections, &round, Some(held));
    }
    table.end()
}

/// What the proxy has resident with these connections, each of which has been used once.
fn held(proxy: &Target, shape: Shape) -> u64 {
    tokio::task::block_in_place(|| closed::once_each(proxy, shape, || resident(proxy)))
}
