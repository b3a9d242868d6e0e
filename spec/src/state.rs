//! The variables. Whatever is compared for equality only is a small number.

/// At most this many members, drivers and objects.
pub const PAIR: usize = 2;
/// At most this many client writes.
pub const WRITES: usize = 3;

/// A key of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The one that writes at the beginning.
    Old,
    /// The one that the rotation brings in.
    New,
}

impl Key {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// What a configuration says: which keys it lists, and which of them writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Config {
    /// The old key alone.
    OldOnly,
    /// Both; the old one writes.
    OldWrites,
    /// Both; the new one writes.
    NewWrites,
    /// The new key alone.
    NewOnly,
}

impl Config {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::OldOnly, Self::OldWrites, Self::NewWrites, Self::NewOnly];

    /// The key that it writes with.
    pub const fn writes(self) -> Key {
        match self {
            Self::OldOnly | Self::OldWrites => Key::Old,
            Self::NewWrites | Self::NewOnly => Key::New,
        }
    }

    /// Whether it opens what is sealed under `key`.
    pub fn lists(self, key: Key) -> bool {
        matches!(self, Self::OldWrites | Self::NewWrites) || self.writes() == key
    }

    /// Both keys, of which `key` writes.
    pub const fn both(key: Key) -> Self {
        match key {
            Key::Old => Self::OldWrites,
            Key::New => Self::NewWrites,
        }
    }

    /// `key` alone.
    pub const fn only(key: Key) -> Self {
        match key {
            Key::Old => Self::OldOnly,
            Key::New => Self::NewOnly,
        }
    }
}

/// A configuration where the drivers edit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// Its fingerprint: it differs from each other one of this timeline, also from one that says the same.
    pub fingerprint: u8,
    /// What it says.
    pub config: Config,
}

/// A stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The key that it is sealed under.
    pub key: Key,
    /// The client write whose plaintext it is; 0 is what was there before.
    pub write: u8,
}

/// What a command is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Command {
    /// The new key in the place of the old one.
    Rotate,
    /// The old key again.
    Abort,
}

/// The rotation's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// Its `mod_revision`, by which it is compared.
    pub revision: u8,
    /// What is under way.
    pub command: Command,
    /// No permit is given for a configuration that writes with this key.
    pub dropped: Option<Key>,
    /// The configuration, by fingerprint, of which a sweep proved that nothing stored needs the dropped key.
    pub proved: Option<u8>,
    /// The configuration is being replaced by one without the dropped key: nobody takes that back any more.
    pub removing: bool,
}

/// What etcd holds: one linearizable store, and so everything that a snapshot brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The epoch.
    pub epoch: u8,
    /// The record.
    pub record: Record,
    /// The keyring, and what it says, where the configuration is in etcd.
    pub keyring: Option<Placed>,
    /// The keys that were removed from it, by [`Key`].
    pub archive: [bool; 2],
    /// The objects.
    pub values: [Value; PAIR],
    /// For each object the last client write that etcd has applied, and acknowledged. Not in the datastore: what a value is held
    /// against.
    pub applied: [u8; PAIR],
}

/// A client's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Write {
    /// It waits for a member to seal it: it is new, or was refused, and a member has its plaintext.
    Waiting,
    /// Sealed and under way. It arrives at any later time, or never.
    Sent {
        /// Sealed under this key.
        key: Key,
        /// By a permit of this epoch.
        epoch: u8,
    },
    /// Applied and acknowledged.
    Done,
}

/// What a sweep has under way, independent of whether its process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rewrite {
    /// The object.
    pub object: u8,
    /// What was read there; it stands for the revision that etcd compares with.
    pub read: Value,
    /// It is sealed anew under this key.
    pub key: Key,
    /// By a permit of this epoch.
    pub epoch: u8,
    /// It was read before etcd was restored, and revisions were counted anew: the compare says nothing.
    pub is_blind: bool,
}

/// A process that serves, by how far it has come with a permit. A process that writes with one permit while it obtains the next
/// is two members here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// It has none and asks for none.
    Idle,
    /// It has read the epoch.
    Epoch(u8),
    /// And then its configuration.
    Both(u8, Config),
    /// With the order broken: its configuration, and the record by which it is not barred, but not the epoch.
    Config(Config),
    /// It has a permit: this configuration, which may be written with under this epoch.
    Permit(u8, Config),
}

impl Member {
    /// The permit.
    pub const fn permit(self) -> Option<(u8, Config)> {
        match self {
            Self::Permit(epoch, config) => Some((epoch, config)),
            _ => None,
        }
    }
}

/// What a driver has seen of its own sweep; lost when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sweep {
    /// Of this configuration.
    pub fingerprint: u8,
    /// The key that nothing is to need.
    pub key: Key,
    /// The revision of the record that it began after.
    pub noted: u8,
    /// It has moved the epoch.
    pub has_moved: bool,
    /// The objects that were read since, in order, and do not need the key.
    pub proved: u8,
}

/// A step that a driver has decided on and not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Put this record in the place of the one of that revision.
    Note(u8, Record),
    /// Put this configuration in the place of the one of that fingerprint.
    Replace(u8, Config),
    /// Move the epoch.
    Move(Sweep),
}

/// What a driver is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// It will look at the facts.
    Nothing,
    /// It has read the record, and not the configuration yet.
    Read(Record),
    /// It has decided.
    Decided(Step),
}

/// A process that carries a command out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Driver {
    /// What it is at.
    pub doing: Doing,
    /// Its sweep.
    pub sweep: Option<Sweep>,
}

impl Driver {
    /// One that was just started.
    pub const NEW: Self = Self {
        doing: Doing::Nothing,
        sweep: None,
    };
}

/// Whether etcd was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restore {
    /// There is no snapshot.
    Before,
    /// There is one.
    Snapshot(Store),
    /// It was put back.
    After {
        /// What the configuration in etcd said then, which `keyring restore` puts back.
        latest: Option<Config>,
        /// Nobody has put keys of the archive back yet.
        is_unrecovered: bool,
    },
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// etcd.
    pub store: Store,
    /// The file, where there is one.
    pub file: Option<Placed>,
    /// What any configuration has ever said, in the order of [`Config::ALL`].
    pub seen: [bool; 4],
    /// The keys of files that were replaced: those are kept.
    pub kept: [bool; 2],
    /// The last revision that a record was given.
    pub revision: u8,
    /// The last nonce that was drawn.
    pub drawn: u8,
    /// A move of the epoch whose answer was lost, and which may happen yet.
    pub late_move: Option<u8>,
    /// A sweep's write.
    pub rewrite: Option<Rewrite>,
    /// The clients' writes.
    pub writes: [Write; WRITES],
    /// The members.
    pub members: [Member; PAIR],
    /// The drivers.
    pub drivers: [Driver; PAIR],
    /// The restore.
    pub restore: Restore,
}
