//! The protocol holds in every state within the bounds, and stops to hold as soon as any rule is taken out of it.

// Helpers of tests may fail the test, and print the figures; clippy's exceptions for tests do not reach functions beside them.
#![allow(clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::Instant;

use etcd_encryption_proxy_spec::property::{FENCED, KEPT, READABLE, SERVED};
use etcd_encryption_proxy_spec::{Bounds, Place, Protocol, Rules, Setup};
use stateright::{Checker, HasDiscoveries, Model};

/// One of everything.
const SMALL: Bounds = Bounds {
    writes: 1,
    objects: 1,
    members: 1,
    drivers: 1,
    epochs: 4,
    configurations: 5,
    notes: 12,
    aborts: true,
    late_moves: false,
    restores: false,
};

/// Two members, two keys, three writes to two objects.
const FULL: Bounds = Bounds {
    writes: 3,
    objects: 2,
    members: 2,
    ..SMALL
};

mod holds {
    use super::*;

    /// Visits every state within the bounds. Whatever can come about does: no property holds for want of states.
    fn check(name: &str, place: Place, bounds: Bounds) {
        let setup = Setup {
            place,
            rules: Rules::ALL,
            bounds,
            is_reduced: true,
        };
        let began = Instant::now();
        let checked = Protocol { setup }.checker().threads(2).spawn_bfs().join();
        println!(
            "{name}: {} states, {} steps deep, {:.1} s",
            checked.unique_state_count(),
            checked.max_depth(),
            began.elapsed().as_secs_f32()
        );
        checked.assert_properties();
    }

    #[test]
    fn in_etcd_with_two_drivers() {
        let bounds = Bounds {
            objects: 1,
            drivers: 2,
            ..FULL
        };
        check("in etcd, two drivers", Place::Etcd, bounds);
    }

    #[test]
    fn in_etcd_with_late_moves_of_the_epoch() {
        let bounds = Bounds {
            late_moves: true,
            ..FULL
        };
        check("in etcd, late moves", Place::Etcd, bounds);
    }

    #[test]
    fn in_etcd_after_a_restore() {
        let bounds = Bounds {
            writes: 2,
            members: 2,
            aborts: false,
            restores: true,
            ..SMALL
        };
        check("in etcd, restored", Place::Etcd, bounds);
    }

    #[test]
    fn in_etcd_after_a_restore_and_an_abort() {
        let bounds = Bounds {
            restores: true,
            ..SMALL
        };
        check("in etcd, restored, taken back", Place::Etcd, bounds);
    }

    #[test]
    #[ignore = "a minute; wider than what CI has time for"]
    fn in_etcd_after_a_restore_with_more() {
        let restored = Bounds {
            members: 2,
            restores: true,
            ..SMALL
        };
        check("in etcd, restored, taken back, two members", Place::Etcd, restored);
        let writes = Bounds {
            writes: 3,
            aborts: false,
            ..restored
        };
        check("in etcd, restored, three writes", Place::Etcd, writes);
    }

    #[test]
    fn in_a_file() {
        check("in a file", Place::File, FULL);
    }

    #[test]
    fn in_a_file_with_two_drivers() {
        let bounds = Bounds {
            members: 2,
            drivers: 2,
            ..SMALL
        };
        check("in a file, two drivers", Place::File, bounds);
    }

    #[test]
    fn in_a_file_with_late_moves_of_the_epoch() {
        let bounds = Bounds {
            late_moves: true,
            members: 2,
            ..SMALL
        };
        check("in a file, late moves", Place::File, bounds);
    }

    #[test]
    fn in_a_file_after_a_restore() {
        let bounds = Bounds {
            members: 2,
            aborts: false,
            restores: true,
            ..SMALL
        };
        check("in a file, restored", Place::File, bounds);
    }

    #[test]
    fn also_where_no_states_are_merged() {
        for place in [Place::Etcd, Place::File] {
            let setup = Setup {
                place,
                rules: Rules::ALL,
                bounds: Bounds { epochs: 3, ..SMALL },
                is_reduced: false,
            };
            let checked = Protocol { setup }.checker().threads(1).spawn_bfs().join();
            println!("unreduced, {place:?}: {} states", checked.unique_state_count());
            checked.assert_properties();
        }
    }
}

mod broken {
    use super::*;

    const TWO_DRIVERS: Bounds = Bounds { drivers: 2, ..SMALL };
    const RESTORED: Bounds = Bounds {
        restores: true,
        ..SMALL
    };

    /// Takes a rule out of the protocol, and expects a counterexample to `property`.
    fn check(place: Place, bounds: Bounds, property: &'static str, break_rule: fn(&mut Rules)) {
        let mut rules = Rules::ALL;
        break_rule(&mut rules);
        let setup = Setup {
            place,
            rules,
            bounds,
            is_reduced: rules.epochs_are_unique,
        };
        let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        // One thread: the first counterexample that a breadth-first search finds is a shortest one.
        let search = Protocol { setup }.checker().threads(1).finish_when(until);
        let checked = search.spawn_bfs().join();
        let path = checked.discovery(property);
        let path = path.unwrap_or_else(|| {
            panic!(
                "no counterexample to `{property}` in {} states",
                checked.unique_state_count()
            )
        });
        let actions = path.into_actions();
        println!("{place:?}: `{property}` fails after {} steps:", actions.len());
        for action in actions {
            println!("    {action:?}");
        }
    }

    #[test]
    fn writes_are_not_fenced() {
        check(Place::Etcd, SMALL, READABLE, |rules| rules.writes_are_fenced = false);
        check(Place::File, SMALL, READABLE, |rules| rules.writes_are_fenced = false);
    }

    #[test]
    fn sweeps_are_not_fenced() {
        check(Place::Etcd, SMALL, READABLE, |rules| rules.sweeps_are_fenced = false);
    }

    #[test]
    fn sweeps_do_not_compare() {
        check(Place::Etcd, SMALL, KEPT, |rules| rules.sweeps_compare = false);
    }

    #[test]
    fn the_epoch_is_read_last() {
        check(Place::Etcd, SMALL, FENCED, |rules| rules.epoch_is_read_first = false);
        check(Place::File, SMALL, FENCED, |rules| rules.epoch_is_read_first = false);
        check(Place::File, SMALL, READABLE, |rules| rules.epoch_is_read_first = false);
    }

    #[test]
    fn the_configuration_is_not_looked_at() {
        check(Place::Etcd, SMALL, SERVED, |rules| {
            rules.configuration_is_looked_at = false;
        });
    }

    #[test]
    fn the_keyring_is_read_after_the_epoch() {
        check(Place::Etcd, RESTORED, READABLE, |rules| {
            rules.keyring_is_read_with_epoch = false;
        });
    }

    #[test]
    fn dropped_keys_do_not_bar() {
        check(Place::File, SMALL, READABLE, |rules| rules.dropped_keys_bar = false);
    }

    #[test]
    fn the_drop_is_noted_after_the_epoch() {
        check(Place::File, SMALL, READABLE, |rules| rules.drop_is_noted_first = false);
    }

    #[test]
    fn the_proof_precedes_the_epoch() {
        check(Place::File, SMALL, READABLE, |rules| rules.proof_follows_epoch = false);
        // In etcd the promotion has moved the epoch already, so both have to go.
        check(Place::Etcd, SMALL, READABLE, |rules| {
            (rules.proof_follows_epoch, rules.promotion_moves_epoch) = (false, false);
        });
    }

    #[test]
    fn a_sweep_counts_for_a_later_note() {
        check(
            Place::File,
            Bounds {
                members: 2,
                aborts: false,
                ..RESTORED
            },
            FENCED,
            |rules| {
                rules.sweep_is_of_the_record = false;
            },
        );
    }

    #[test]
    fn nothing_is_proved() {
        check(Place::Etcd, SMALL, READABLE, |rules| rules.removal_needs_proof = false);
    }

    #[test]
    fn the_configuration_is_not_compared() {
        // Without a restore, that a removal is noted first keeps two drivers apart by itself.
        let bounds = Bounds {
            aborts: false,
            ..RESTORED
        };
        check(Place::Etcd, bounds, READABLE, |rules| {
            rules.configuration_is_compared = false;
        });
    }

    #[test]
    fn the_record_is_not_compared() {
        let bounds = Bounds {
            notes: 4,
            ..TWO_DRIVERS
        };
        check(Place::File, bounds, READABLE, |rules| rules.record_is_compared = false);
    }

    #[test]
    fn a_removal_is_not_noted() {
        check(Place::File, TWO_DRIVERS, READABLE, |rules| {
            rules.removal_is_noted_first = false;
        });
    }

    #[test]
    fn a_promotion_does_not_move_the_epoch() {
        check(Place::Etcd, Bounds { members: 2, ..SMALL }, SERVED, |rules| {
            rules.promotion_moves_epoch = false;
        });
        check(Place::Etcd, RESTORED, READABLE, |rules| {
            rules.promotion_moves_epoch = false;
        });
    }

    #[test]
    fn attempts_share_a_nonce() {
        let bounds = Bounds {
            late_moves: true,
            ..SMALL
        };
        check(Place::File, bounds, READABLE, |rules| {
            rules.attempts_have_own_nonce = false;
        });
    }

    #[test]
    fn epochs_come_again() {
        check(
            Place::Etcd,
            Bounds {
                aborts: false,
                ..RESTORED
            },
            READABLE,
            |rules| {
                rules.epochs_are_unique = false;
            },
        );
    }

    #[test]
    fn removed_keys_are_not_kept() {
        check(Place::File, RESTORED, READABLE, |rules| {
            rules.removed_keys_are_archived = false;
        });
    }

    #[test]
    fn what_is_put_back_is_not_all() {
        check(Place::Etcd, RESTORED, READABLE, |rules| {
            rules.recovery_lists_all = false;
        });
    }

    #[test]
    fn revisions_come_again() {
        let bounds = Bounds { writes: 2, ..RESTORED };
        check(Place::Etcd, bounds, KEPT, |rules| rules.revisions_are_unique = false);
    }
}
