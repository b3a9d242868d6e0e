//! Which states count as one, since the same follows from them. Each merge holds for the rules of the [`Setup`] at hand, and a
//! test has the same verdict without any.
//!
//! - Members are interchangeable, so are drivers, and so are the two writes to the first object.
//! - An epoch is a nonce that is compared for equality alone. What matters is whether it is the present one, or can become so once
//!   more; all others are gone. So there is no bound on how often the epoch is moved.
//! - What etcd will refuse whenever it arrives counts as refused: a write under an epoch that is gone, and a replacement of
//!   a value, a record or a configuration that is there no more.

use crate::setup::Setup;
use crate::state::{Doing, Member, Restore, State, Step, Write};

/// An epoch that was never used.
pub const FRESH: u8 = 4;
const PRESENT: u8 = 0;
const OF_SNAPSHOT: u8 = 1;
const LATE: u8 = 2;
const GONE: u8 = 3;

/// The state that stands for `state`.
pub fn settle(setup: &Setup, state: &mut State) {
    if setup.rules.epochs_are_unique {
        rename(state);
    }
    refuse(setup, state);
    swap_writes(setup, state);
    let (members, drivers) = (setup.bounds.members, setup.bounds.drivers);
    state.members[..usize::from(members)].sort_unstable();
    state.drivers[..usize::from(drivers)].sort_unstable();
}

/// Gives each epoch the name of what it is.
fn rename(state: &mut State) {
    let present = state.store.epoch;
    let late = state.late_move;
    let snapshot = match &state.restore {
        Restore::Snapshot(store) => Some(store.epoch),
        Restore::Before | Restore::After { .. } => None,
    };
    let name = |epoch: &mut u8| {
        *epoch = match *epoch {
            same if same == present => PRESENT,
            same if Some(same) == snapshot => OF_SNAPSHOT,
            same if Some(same) == late => LATE,
            _ => GONE,
        }
    };
    name(&mut state.store.epoch);
    state.late_move.iter_mut().for_each(name);
    if let Restore::Snapshot(store) = &mut state.restore {
        name(&mut store.epoch);
    }
    for write in &mut state.writes {
        if let Write::Sent { epoch, .. } = write {
            name(epoch);
        }
    }
    if let Some(rewrite) = &mut state.rewrite {
        name(&mut rewrite.epoch);
    }
    for member in &mut state.members {
        if let Member::Epoch(epoch) | Member::Both(epoch, _) | Member::Permit(epoch, _) = member {
            name(epoch);
        }
    }
}

/// Gives the two writes to the first object their names in the order of how far they have come.
fn swap_writes(setup: &Setup, state: &mut State) {
    let [first, second, _] = state.writes;
    let is_in_order = first < second || (first == second && state.store.values[0].write != 2);
    if setup.bounds.writes < 2 || is_in_order {
        return;
    }
    let other = |write: &mut u8| {
        *write = match *write {
            1 => 2,
            2 => 1,
            same => same,
        }
    };
    state.writes.swap(0, 1);
    let snapshot = match &mut state.restore {
        Restore::Snapshot(store) => Some(store),
        Restore::Before | Restore::After { .. } => None,
    };
    for store in [Some(&mut state.store), snapshot].into_iter().flatten() {
        other(&mut store.values[0].write);
        other(&mut store.applied[0]);
    }
    if let Some(rewrite) = state.rewrite.as_mut().filter(|rewrite| rewrite.object == 0) {
        other(&mut rewrite.read.write);
    }
}

/// Counts as refused what will be.
fn refuse(setup: &Setup, state: &mut State) {
    let rules = setup.rules;
    let is_gone = |epoch: u8| rules.epochs_are_unique && epoch == GONE;
    for write in &mut state.writes {
        if let Write::Sent { epoch, .. } = *write
            && is_gone(epoch)
            && rules.writes_are_fenced
        {
            *write = Write::Waiting;
        }
    }
    for member in &mut state.members {
        let is_useless = match *member {
            Member::Epoch(epoch) | Member::Both(epoch, _) | Member::Permit(epoch, _) => {
                is_gone(epoch) && rules.writes_are_fenced && rules.sweeps_are_fenced
            }
            Member::Idle | Member::Config(_) => false,
        };
        if is_useless {
            *member = Member::Idle;
        }
    }
    // A restore brings back what was there.
    let is_final = match state.restore {
        Restore::Before => !setup.bounds.restores,
        Restore::Snapshot(_) => false,
        Restore::After { .. } => true,
    };
    if let Some(rewrite) = state.rewrite {
        let is_refused = is_gone(rewrite.epoch) && rules.sweeps_are_fenced;
        let differs = state.store.values[usize::from(rewrite.object)] != rewrite.read;
        let is_lost = is_final && rules.sweeps_compare && !rewrite.is_blind && differs;
        if is_refused || is_lost {
            state.rewrite = None;
        }
    }
    if !is_final {
        return;
    }
    let (record, fingerprint) = (state.store.record, crate::Protocol::newest(state).fingerprint);
    for driver in &mut state.drivers {
        let is_lost = match driver.doing {
            Doing::Decided(Step::Note(was, _)) => rules.record_is_compared && was != record.revision,
            Doing::Decided(Step::Replace(was, _)) => rules.configuration_is_compared && was != fingerprint,
            Doing::Decided(Step::Move(_)) | Doing::Read(_) | Doing::Nothing => false,
        };
        if is_lost {
            driver.doing = Doing::Nothing;
        }
        if driver.sweep.is_some_and(|sweep| sweep.fingerprint != fingerprint) {
            driver.sweep = None;
        }
    }
}
