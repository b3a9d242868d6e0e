//! A process that serves: how it obtains a permit, and what it seals with it. Each read is a step of its own; what it has in
//! memory may be of any age when it is used.

use crate::setup::Setup;
use crate::state::{Config, Member, Rewrite, State, Value, Write};

/// The first step of a permit; with the order broken, the last one. A keyring in etcd is read in the same transaction.
pub fn read_epoch(setup: &Setup, state: &mut State, index: usize) {
    let epoch = state.store.epoch;
    let rules = setup.rules;
    let is_one_read = rules.keyring_is_read_with_epoch && rules.configuration_is_looked_at;
    state.members[index] = match (state.members[index], state.store.keyring) {
        (Member::Config(config), _) => Member::Permit(epoch, config),
        (_, Some(keyring)) if is_one_read => Member::Both(epoch, keyring.config),
        _ => Member::Epoch(epoch),
    };
}

/// The second step: what it finds in its file, or in etcd.
pub fn read_configuration(setup: &Setup, state: &mut State, index: usize, config: Config) {
    state.members[index] = match state.members[index] {
        Member::Epoch(epoch) => Member::Both(epoch, config),
        // With the order broken, the record is read here too: only the epoch comes too late.
        _ if is_barred(setup, state, config) => Member::Idle,
        _ => Member::Config(config),
    };
}

/// The third: the record. What follows, that the permit is used from now on, is within the process.
pub fn read_record(setup: &Setup, state: &mut State, index: usize) -> Option<()> {
    let Member::Both(epoch, config) = state.members[index] else {
        return None;
    };
    state.members[index] = if is_barred(setup, state, config) {
        Member::Idle
    } else {
        Member::Permit(epoch, config)
    };
    Some(())
}

fn is_barred(setup: &Setup, state: &State, config: Config) -> bool {
    setup.rules.dropped_keys_bar && state.store.record.dropped == Some(config.writes())
}

/// Seals a client's write with whatever permit is there, however old.
pub fn seal(state: &mut State, index: usize, write: usize) -> Option<()> {
    let (epoch, config) = state.members[index].permit()?;
    state.writes[write] = Write::Sent {
        key: config.writes(),
        epoch,
    };
    Some(())
}

/// What a member's sweep makes of an object, if that is not under the key that the member writes with.
pub fn renewed(state: &State, index: usize, object: usize) -> Option<Rewrite> {
    let (epoch, config) = state.members[index].permit()?;
    let read: Value = state.store.values[object];
    let key = config.writes();
    if read.key == key || !config.lists(read.key) {
        return None;
    }
    Some(Rewrite {
        object: u8::try_from(object).ok()?,
        read,
        key,
        epoch,
        is_blind: false,
    })
}
