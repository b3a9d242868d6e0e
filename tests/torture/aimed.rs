//! Bytes held across the drop of a key, which is not left to chance: writes are on their way, sealed under the key that writes,
//! when a rotation begins; they are delivered when it has removed that key.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::history::History;
use super::operator::Operator;
use super::plan::{Aim, PROXIES, Plan};
use super::world::World;
use super::writers::Session;

/// Creates, and as many puts.
const BURST: usize = 32;
/// Bytes of a value.
const SIZE: usize = 300;
/// Of the writes that are held: some give up, and some wait for the proxy to do so.
const DEADLINES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// For the burst to leave the proxy.
const LEAVES: Duration = Duration::from_millis(500);

/// Holds a burst of the plan's victim, rotates, delivers. Gives the rotation's exit code, and how long bytes were held.
pub async fn hold_across_a_drop(
    world: &World,
    operator: &Operator,
    history: &History,
    prefix: &str,
    plan: &Plan,
) -> (Option<i32>, Duration) {
    let marker = format!("{prefix}late-");
    // A follower: a leader that was away answers what lay in its socket, and hands little of it on.
    let mut victim = plan.victim;
    if plan.aim == Aim::Frozen {
        let leader = world.leader().await;
        while world.member_of(victim) == leader && (victim + 1) % PROXIES != plan.victim {
            victim = (victim + 1) % PROXIES;
        }
    }
    let (by_victim, by_other) = (world.client(victim).await, world.client((victim + 1) % PROXIES).await);
    let session = |client: &_, number, deadline| Session {
        client: Clone::clone(client),
        history: history.clone(),
        number,
        deadline,
    };
    let replaced = |number: usize| format!("{marker}put-{number}");
    let early = session(&by_victim, 100, DEADLINES[0]);
    for number in 0..BURST {
        early.put(&replaced(number), &padded("before", number)).await;
    }
    let member = world.member_of(victim);

    let begun = Instant::now();
    set(world, plan.aim, victim, member, Some(&marker));
    let mut burst = Vec::new();
    for number in 0..BURST {
        let session = session(&by_victim, 101 + number, DEADLINES[number % 2]);
        let (created, replaced) = (format!("{marker}create-{number}"), replaced(number));
        burst.push(tokio::spawn(async move {
            let (value, other) = (padded("create", number), padded("late", number));
            let both = (session.create(&created, &value), session.put(&replaced, &other));
            tokio::join!(both.0, both.1);
        }));
    }
    sleep(LEAVES).await;
    let (code, _) = operator.run(&["rotate-keys", "--compact"]).await;
    let after = session(&by_other, 200, DEADLINES[0]);
    for number in (0..BURST).step_by(2) {
        after.put(&replaced(number), &padded("after", number)).await;
    }
    let held = begun.elapsed();
    set(world, plan.aim, victim, member, None);
    for write in burst {
        write.await.expect("a write ends");
    }
    (code, held)
}

/// Has the bytes of keys that begin with `marker` wait, or go on.
fn set(world: &World, aim: Aim, victim: usize, member: usize, marker: Option<&str>) {
    match aim {
        Aim::Frozen => world.freeze_member(member, marker.is_some()),
        Aim::Nothing => {}
        Aim::Dropped => world.drop_packets(victim, marker.is_some()),
        Aim::Held => {
            for link in world.links(victim) {
                match marker {
                    Some(marker) => link.hold_at(marker.as_bytes()),
                    None => link.release(),
                }
            }
        }
    }
}

fn padded(what: &str, number: usize) -> String {
    let mut value = format!("{what} {number} ");
    value.push_str(&".".repeat(SIZE));
    value
}
