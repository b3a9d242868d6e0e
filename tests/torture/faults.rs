//! Carries out a plan's faults: each begins, and ends, at its time.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::operator::Operator;
use super::plan::{Fault, Kind, Step};
use super::world::World;

/// All of them, one after the other or at once. Afterwards each has ended.
pub async fn carry_out(world: &mut World, operator: &Operator, faults: &[Fault]) {
    let mut events: Vec<(Duration, bool, Kind)> = Vec::new();
    for fault in faults {
        events.push((fault.at, true, fault.kind));
        events.push((fault.at + fault.lasts, false, fault.kind));
    }
    events.sort_by_key(|(at, begins, _)| (*at, *begins));
    let start = Instant::now();
    for (at, begins, kind) in events {
        sleep(at.saturating_sub(start.elapsed())).await;
        if begins {
            begin(world, operator, kind).await;
        } else {
            end(world, operator, kind).await;
        }
    }
}

async fn begin(world: &mut World, operator: &Operator, kind: Kind) {
    match kind {
        Kind::FreezeMember(member) => world.freeze_member(member, true),
        Kind::KillMember(member) => world.kill_member(member),
        Kind::FreezeProxy(proxy) => world.freeze_proxy(proxy, true),
        Kind::KillProxy(proxy) => world.kill_proxy(proxy),
        Kind::FreezeCommand => operator.signal("STOP"),
        Kind::KillCommand => operator.signal("KILL"),
        Kind::Hold(proxy, member) => world.link(proxy, member).hold(),
        Kind::Cut(proxy, member) => world.link(proxy, member).cut(),
        Kind::Drop(proxy) => world.drop_packets(proxy, true),
        Kind::Full => world.fill_space(true).await,
        Kind::Clock(proxy, step) => world.step_clock(proxy, step),
        Kind::CommandClock(step) => operator.step_clock(step),
    }
}

async fn end(world: &mut World, operator: &Operator, kind: Kind) {
    match kind {
        Kind::FreezeMember(member) => world.freeze_member(member, false),
        Kind::KillMember(member) => world.start_member(member),
        Kind::FreezeProxy(proxy) => world.freeze_proxy(proxy, false),
        Kind::KillProxy(proxy) => world.revive_proxy(proxy),
        Kind::FreezeCommand => operator.signal("CONT"),
        // The next one is run by itself.
        Kind::KillCommand => {}
        Kind::Hold(proxy, member) => world.link(proxy, member).release(),
        Kind::Cut(proxy, member) => world.link(proxy, member).mend(),
        Kind::Drop(proxy) => world.drop_packets(proxy, false),
        Kind::Full => world.fill_space(false).await,
        Kind::Clock(proxy, _) => world.step_clock(proxy, Step::NONE),
        Kind::CommandClock(_) => operator.step_clock(Step::NONE),
    }
}
