//! What holds in every state, and what can come about at all.

use stateright::Property;

use crate::model::Protocol;
use crate::setup::{Place, Setup};
use crate::state::{Command, Config, Key, PAIR, Restore, State, Write};

/// No stored value is under a key that the configuration does not list.
pub const READABLE: &str = "nothing is unreadable";
/// What is stored is the last write that etcd acknowledged.
pub const KEPT: &str = "no acknowledged write is lost";
/// No permit and no write under way that etcd would accept is of a key that the configuration does not list.
pub const FENCED: &str = "a removed key does not write";
/// Whoever has a permit of the present epoch opens everything that is stored. After a restore, only once it looks anew.
pub const SERVED: &str = "a permit reads everything";
/// A rotation comes to its end, with all writes done.
pub const ROTATES: &str = "a rotation can end";
/// So does one that is taken back.
pub const ABORTS: &str = "an abort can end";
/// So does one after a restore.
pub const RECOVERS: &str = "a rotation can end after a restore";

/// Those of `setup`.
pub fn all(setup: &Setup) -> Vec<Property<Protocol>> {
    let mut all = vec![
        Property::always(READABLE, readable),
        Property::always(KEPT, |_, state: &State| {
            (0..PAIR).all(|object| state.store.values[object].write == state.store.applied[object])
        }),
        Property::always(FENCED, fenced),
        Property::sometimes(ROTATES, |protocol: &Protocol, state: &State| {
            ends(protocol, state, Command::Rotate)
        }),
    ];
    if setup.place == Place::Etcd {
        all.push(Property::always(SERVED, served));
    }
    if setup.bounds.aborts {
        all.push(Property::sometimes(ABORTS, |protocol: &Protocol, state: &State| {
            ends(protocol, state, Command::Abort)
        }));
    }
    if setup.bounds.restores {
        all.push(Property::sometimes(RECOVERS, |protocol: &Protocol, state: &State| {
            let is_recovered = matches!(
                state.restore,
                Restore::After {
                    is_unrecovered: false,
                    ..
                }
            );
            is_recovered && ends(protocol, state, Command::Rotate)
        }));
    }
    all
}

/// Whether a value under `key` can be opened by who has the newest configuration. After a restore, until keys were put back from
/// the archive, by who has that too.
fn opens(state: &State, key: Key) -> bool {
    let is_unrecovered = matches!(
        state.restore,
        Restore::After {
            is_unrecovered: true,
            ..
        }
    );
    let is_in_archive = is_unrecovered && Protocol::archive(state)[key as usize];
    Protocol::newest(state).config.lists(key) || is_in_archive
}

fn readable(protocol: &Protocol, state: &State) -> bool {
    stored(protocol, state).all(|key| opens(state, key))
}

fn fenced(_: &Protocol, state: &State) -> bool {
    let held = permits(state).map(|(epoch, config)| (config.writes(), epoch));
    let swept = state.rewrite.iter().map(|rewrite| (rewrite.key, rewrite.epoch));
    let sent = state.writes.iter().filter_map(|write| match *write {
        Write::Sent { key, epoch } => Some((key, epoch)),
        Write::Waiting | Write::Done => None,
    });
    let mut accepted = held.chain(swept).chain(sent).filter(|(_, of)| *of == state.store.epoch);
    accepted.all(|(key, _)| opens(state, key))
}

fn served(protocol: &Protocol, state: &State) -> bool {
    let mut current = permits(state).filter(|(epoch, _)| *epoch == state.store.epoch);
    let is_restored = matches!(state.restore, Restore::After { .. });
    is_restored || current.all(|(_, config)| stored(protocol, state).all(|key| config.lists(key)))
}

fn permits(state: &State) -> impl Iterator<Item = (u8, Config)> {
    state.members.iter().filter_map(|member| member.permit())
}

fn stored(protocol: &Protocol, state: &State) -> impl Iterator<Item = Key> {
    let objects = usize::from(protocol.setup.bounds.objects);
    state.store.values.iter().take(objects).map(|value| value.key)
}

fn ends(protocol: &Protocol, state: &State, command: Command) -> bool {
    let writes = &state.writes[..usize::from(protocol.setup.bounds.writes)];
    let config = match command {
        Command::Rotate => Config::NewOnly,
        Command::Abort => Config::OldOnly,
    };
    state.store.record.command == command
        && Protocol::newest(state).config == config
        && writes.iter().all(|write| *write == Write::Done)
}
