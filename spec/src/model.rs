//! Which actions are possible in a state, and what each does. An action is what one process or etcd does in one step that
//! nothing can come between: one call, one look, one arrival.

use stateright::{Model, Property};

use crate::driver;
use crate::member;
use crate::property;
use crate::reduce;
use crate::setup::{Place, Setup};
use crate::state::{
    Command, Config, Doing, Driver, Key, Member, PAIR, Placed, Record, Restore, Rewrite, State, Step, Store, Sweep,
    Value, WRITES, Write,
};

/// The fingerprint of what is put back after a restore, above each that there was.
const RECOVERED: u8 = 16;

/// One step. Members, drivers, writes and objects by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A member reads the epoch.
    ReadEpoch(usize),
    /// A member looks at its configuration: in a file it may find any that there ever was.
    ReadConfiguration(usize, Config),
    /// A member reads the record, and has a permit if it is not barred.
    ReadRecord(usize),
    /// A member seals a client's write and sends it.
    Seal {
        /// The member.
        member: usize,
        /// The write.
        write: usize,
    },
    /// A member's sweep reads an object that is not as its configuration writes it, seals it anew and sends it.
    Rewrite {
        /// The member.
        member: usize,
        /// The object.
        object: usize,
    },
    /// The same, and it arrives at once.
    RewriteAtOnce {
        /// The member.
        member: usize,
        /// The object.
        object: usize,
    },
    /// A client's write arrives.
    Deliver(usize),
    /// What a sweep has sent arrives.
    DeliverRewrite,
    /// A member dies and is started again, or begins anew.
    Restart(usize),
    /// A driver reads the record.
    Look(usize),
    /// It reads the configuration, and decides.
    Decide(usize),
    /// The same, and somebody has asked it for `abort`.
    DecideAbort(usize),
    /// It takes the step: etcd or the file compares and replaces.
    Take(usize),
    /// Its move of the epoch is under way and the answer does not come; it begins anew.
    LoseAnswer(usize),
    /// Its sweep reads the next object of the proof and finds that it does not need the key.
    Prove(usize),
    /// A driver dies.
    DieDriver(usize),
    /// A move of the epoch arrives whose driver has given it up.
    DeliverMove,
    /// Somebody takes a snapshot of etcd.
    Snapshot,
    /// Etcd is restored from it. Members, drivers and what is under way live on.
    Restore,
    /// Somebody puts back the keys that the restored values may need.
    Recover,
}

/// The protocol within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Which protocol, and which bounds.
    pub setup: Setup,
}

impl Protocol {
    /// The object of a client's write.
    pub fn object_of(&self, write: usize) -> usize {
        usize::from(write + 1 == WRITES && self.setup.bounds.objects > 1)
    }

    /// The configuration where the drivers edit it.
    ///
    /// There is one of both in every state; what neither has counts as the first one.
    pub fn newest(state: &State) -> Placed {
        const FIRST: Placed = Placed {
            fingerprint: 0,
            config: Config::OldOnly,
        };
        state.store.keyring.or(state.file).unwrap_or(FIRST)
    }

    /// An epoch to move to; none where the bound is reached.
    fn draw(&self, state: &mut State) -> Option<u8> {
        if !self.setup.rules.epochs_are_unique {
            // A counter that lies in the store.
            return (state.store.epoch < self.setup.bounds.epochs).then_some(state.store.epoch + 1);
        }
        if self.setup.is_reduced {
            return Some(reduce::FRESH);
        }
        state.drawn += 1;
        (state.drawn <= self.setup.bounds.epochs).then_some(state.drawn)
    }

    /// Puts `next` in the place of the configuration.
    fn place(&self, state: &mut State, fingerprint: u8, next: Config) -> Option<()> {
        let was = Self::newest(state).config;
        let placed = Some(Placed {
            fingerprint,
            config: next,
        });
        match self.setup.place {
            Place::File => state.file = placed,
            Place::Etcd => {
                state.store.keyring = placed;
                if was.writes() != next.writes() && self.setup.rules.promotion_moves_epoch {
                    state.store.epoch = self.draw(state)?;
                }
            }
        }
        state.seen[next as usize] = true;
        let archive = match self.setup.place {
            Place::File => &mut state.kept,
            Place::Etcd => &mut state.store.archive,
        };
        for key in [Key::Old, Key::New] {
            let is_removed = was.lists(key) && !next.lists(key);
            archive[key as usize] |= is_removed && self.setup.rules.removed_keys_are_archived;
        }
        Some(())
    }

    fn deliver(&self, state: &mut State, write: usize) -> Option<()> {
        let Write::Sent { key, epoch } = state.writes[write] else {
            return None;
        };
        if self.setup.rules.writes_are_fenced && epoch != state.store.epoch {
            // Nothing was written. The plaintext is still there, and is sealed anew.
            state.writes[write] = Write::Waiting;
            return Some(());
        }
        let object = self.object_of(write);
        let write_id = u8::try_from(write + 1).ok()?;
        state.store.values[object] = Value { key, write: write_id };
        state.store.applied[object] = write_id;
        state.writes[write] = Write::Done;
        Some(())
    }

    fn deliver_rewrite(&self, state: &mut State, rewrite: Rewrite) {
        let object = usize::from(rewrite.object);
        let is_refused = self.setup.rules.sweeps_are_fenced && rewrite.epoch != state.store.epoch;
        let is_same = rewrite.is_blind || state.store.values[object] == rewrite.read;
        if !is_refused && (is_same || !self.setup.rules.sweeps_compare) {
            state.store.values[object] = Value {
                key: rewrite.key,
                write: rewrite.read.write,
            };
        }
    }

    fn take(&self, state: &mut State, driver: usize) -> Option<()> {
        let Doing::Decided(step) = state.drivers[driver].doing else {
            return None;
        };
        let rules = self.setup.rules;
        state.drivers[driver].doing = Doing::Nothing;
        match step {
            Step::Note(was, record) => {
                let present = state.store.record.revision;
                if !rules.record_is_compared || present == was {
                    let last = if rules.revisions_are_unique {
                        state.revision
                    } else {
                        present
                    };
                    if last >= self.setup.bounds.notes {
                        return None;
                    }
                    state.revision = last + 1;
                    state.store.record = Record {
                        revision: state.revision,
                        ..record
                    };
                }
            }
            Step::Replace(was, next) => {
                let newest = Self::newest(state);
                if !rules.configuration_is_compared || newest.fingerprint == was {
                    if newest.fingerprint % RECOVERED >= self.setup.bounds.configurations {
                        return None;
                    }
                    self.place(state, newest.fingerprint + 1, next)?;
                }
            }
            Step::Move(sweep) => {
                state.store.epoch = self.draw(state)?;
                let has_moved = true;
                state.drivers[driver].sweep = Some(Sweep { has_moved, ..sweep });
            }
        }
        Some(())
    }

    fn restore(&self, state: &mut State) -> Option<()> {
        let Restore::Snapshot(store) = state.restore else {
            return None;
        };
        state.restore = Restore::After {
            latest: state.store.keyring.map(|placed| placed.config),
            is_unrecovered: true,
        };
        state.store = store;
        if let Some(rewrite) = &mut state.rewrite {
            rewrite.is_blind = !self.setup.rules.revisions_are_unique;
        }
        Some(())
    }

    /// The configuration with the keys put back that the restored values may need: in a file, those of the files that were
    /// replaced; in etcd, those of the later keyring, the restored one and its archive.
    fn recovered(&self, state: &State) -> Option<Config> {
        let Restore::After {
            latest,
            is_unrecovered: true,
        } = state.restore
        else {
            return None;
        };
        let now = Self::newest(state).config;
        let is_archived = |key: Key| Self::archive(state)[key as usize];
        let writes = latest.unwrap_or(now).writes();
        let lists = |key: Key| {
            let is_needed = now.lists(key) || is_archived(key);
            latest.is_some_and(|latest| latest.lists(key)) || (is_needed && self.setup.rules.recovery_lists_all)
        };
        let next = if lists(writes.other()) {
            Config::both(writes)
        } else {
            Config::only(writes)
        };
        // The file is edited where that changes anything; `keyring restore` writes in any case.
        (latest.is_some() || next != now).then_some(next)
    }

    /// Where keys are that were removed.
    pub fn archive(state: &State) -> [bool; 2] {
        if state.file.is_some() {
            state.kept
        } else {
            state.store.archive
        }
    }

    fn recover(&self, state: &mut State) -> Option<()> {
        let next = self.recovered(state)?;
        // A generation above each that there was.
        self.place(state, RECOVERED, next)?;
        if let Restore::After { is_unrecovered, .. } = &mut state.restore {
            *is_unrecovered = false;
        }
        Some(())
    }

    fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::ReadEpoch(member) => member::read_epoch(&self.setup, state, member),
            Action::ReadConfiguration(member, config) => member::read_configuration(&self.setup, state, member, config),
            Action::ReadRecord(member) => member::read_record(&self.setup, state, member)?,
            Action::Seal { member, write } => member::seal(state, member, write)?,
            Action::Rewrite { member, object } => state.rewrite = Some(member::renewed(state, member, object)?),
            Action::RewriteAtOnce { member, object } => {
                let rewrite = member::renewed(state, member, object)?;
                self.deliver_rewrite(state, rewrite);
            }
            Action::Deliver(write) => self.deliver(state, write)?,
            Action::DeliverRewrite => {
                let rewrite = state.rewrite.take()?;
                self.deliver_rewrite(state, rewrite);
            }
            Action::Restart(member) => state.members[member] = Member::Idle,
            Action::Look(driver) => state.drivers[driver].doing = Doing::Read(state.store.record),
            Action::Decide(driver) => driver::decide(&self.setup, state, driver, false)?,
            Action::DecideAbort(driver) => driver::decide(&self.setup, state, driver, true)?,
            Action::Take(driver) => self.take(state, driver)?,
            Action::LoseAnswer(driver) => {
                if self.setup.rules.attempts_have_own_nonce {
                    state.late_move = Some(self.draw(state)?);
                    state.drivers[driver].doing = Doing::Nothing;
                } else {
                    // The same again, which arrives, while the first one is under way.
                    self.take(state, driver)?;
                    state.late_move = Some(state.store.epoch);
                }
            }
            Action::Prove(driver) => driver::prove(&self.setup, state, driver)?,
            Action::DieDriver(driver) => state.drivers[driver] = Driver::NEW,
            Action::DeliverMove => state.store.epoch = state.late_move.take()?,
            Action::Snapshot => state.restore = Restore::Snapshot(state.store),
            Action::Restore => self.restore(state)?,
            Action::Recover => self.recover(state)?,
        }
        Some(())
    }

    /// What a member may find when it looks at its configuration.
    fn found(&self, state: &State, config: Config) -> bool {
        let is_any = self.setup.place == Place::File || !self.setup.rules.configuration_is_looked_at;
        if is_any {
            state.seen[config as usize]
        } else {
            Self::newest(state).config == config
        }
    }

    fn member_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let bounds = self.setup.bounds;
        let member = state.members[index];
        let is_in_order = self.setup.rules.epoch_is_read_first;
        match member {
            Member::Idle if is_in_order => actions.push(Action::ReadEpoch(index)),
            Member::Idle | Member::Epoch(_) => {
                let found = Config::ALL.into_iter().filter(|&config| self.found(state, config));
                actions.extend(found.map(|config| Action::ReadConfiguration(index, config)));
            }
            Member::Both(..) => actions.push(Action::ReadRecord(index)),
            Member::Config(_) => actions.push(Action::ReadEpoch(index)),
            Member::Permit(..) => {
                let waits = |&write: &usize| state.writes[write] == Write::Waiting;
                let sent = (0..usize::from(bounds.writes)).filter(waits);
                actions.extend(sent.map(|write| Action::Seal { member: index, write }));
                for object in 0..usize::from(bounds.objects) {
                    if state.rewrite.is_none() {
                        actions.push(Action::Rewrite { member: index, object });
                    }
                    actions.push(Action::RewriteAtOnce { member: index, object });
                }
            }
        }
        if member != Member::Idle {
            actions.push(Action::Restart(index));
        }
    }

    fn driver_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let driver = &state.drivers[index];
        match driver.doing {
            Doing::Nothing => {
                actions.push(Action::Look(index));
                if driver.sweep.is_some() {
                    actions.push(Action::Prove(index));
                }
            }
            Doing::Read(record) => {
                actions.push(Action::Decide(index));
                if self.setup.bounds.aborts && record.command == Command::Rotate {
                    actions.push(Action::DecideAbort(index));
                }
            }
            Doing::Decided(step) => {
                actions.push(Action::Take(index));
                let can_be_late = self.setup.bounds.late_moves && state.late_move.is_none();
                if matches!(step, Step::Move(_)) && can_be_late {
                    actions.push(Action::LoseAnswer(index));
                }
            }
        }
        if driver.doing != Doing::Nothing || driver.sweep.is_some() {
            actions.push(Action::DieDriver(index));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let placed = Some(Placed {
            fingerprint: 0,
            config: Config::OldOnly,
        });
        let (keyring, file) = match self.setup.place {
            Place::Etcd => (placed, None),
            Place::File => (None, placed),
        };
        let value = Value {
            key: Key::Old,
            write: 0,
        };
        vec![State {
            store: Store {
                epoch: 0,
                record: Record {
                    revision: 0,
                    command: Command::Rotate,
                    dropped: None,
                    proved: None,
                    removing: false,
                },
                keyring,
                archive: [false; 2],
                values: [value; PAIR],
                applied: [0; PAIR],
            },
            file,
            seen: [true, false, false, false],
            kept: [false; 2],
            revision: 0,
            drawn: 0,
            late_move: None,
            writes: [Write::Waiting; WRITES],
            rewrite: None,
            members: [Member::Idle; PAIR],
            drivers: [Driver::NEW; PAIR],
            restore: Restore::Before,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let bounds = self.setup.bounds;
        for member in 0..usize::from(bounds.members) {
            self.member_actions(state, member, actions);
        }
        for driver in 0..usize::from(bounds.drivers) {
            self.driver_actions(state, driver, actions);
        }
        let sent = |&write: &usize| matches!(state.writes[write], Write::Sent { .. });
        actions.extend((0..usize::from(bounds.writes)).filter(sent).map(Action::Deliver));
        if state.rewrite.is_some() {
            actions.push(Action::DeliverRewrite);
        }
        if state.late_move.is_some() {
            actions.push(Action::DeliverMove);
        }
        match state.restore {
            Restore::Before if bounds.restores => actions.push(Action::Snapshot),
            Restore::Snapshot(_) => actions.push(Action::Restore),
            Restore::After {
                is_unrecovered: true, ..
            } => actions.push(Action::Recover),
            Restore::Before | Restore::After { .. } => {}
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.apply(&mut state, action)?;
        if self.setup.is_reduced {
            reduce::settle(&self.setup, &mut state);
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::all(&self.setup)
    }
}
