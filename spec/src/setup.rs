//! What is checked: the rules of the protocol, and how far the search goes. A rule that is set to `false` is the protocol with
//! that rule broken, for which a test expects a counterexample.

/// Where the configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file: one that the drivers edit, and a copy of it at each member, which may be any number of versions behind.
    File,
    /// In etcd, where everybody reads the same, and where a restore puts it back together with the values.
    Etcd,
}

/// The rules. All are true in the protocol.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that one test breaks")]
pub struct Rules {
    /// etcd applies a client's write only while the epoch is that of the permit under which it was sealed.
    pub writes_are_fenced: bool,
    /// The same, for what a sweep writes.
    pub sweeps_are_fenced: bool,
    /// A sweep replaces a value only if it is still the one that was read.
    pub sweeps_compare: bool,
    /// A member reads the epoch first, then the configuration and the rotation's record.
    pub epoch_is_read_first: bool,
    /// A member looks at its configuration anew for each permit.
    pub configuration_is_looked_at: bool,
    /// A member reads the epoch and the keyring in one transaction. (In etcd only.)
    pub keyring_is_read_with_epoch: bool,
    /// A member whose configuration writes with a dropped key gets no permit.
    pub dropped_keys_bar: bool,
    /// The dropped key is noted before the epoch is moved.
    pub drop_is_noted_first: bool,
    /// The epoch is moved before the proof's first value is read.
    pub proof_follows_epoch: bool,
    /// A sweep counts only while the record is the one that it began after.
    pub sweep_is_of_the_record: bool,
    /// A key is removed only if a proof was noted.
    pub removal_needs_proof: bool,
    /// The configuration is replaced only if it is still the one that was looked at.
    pub configuration_is_compared: bool,
    /// The record is replaced only if it is still the one that was looked at.
    pub record_is_compared: bool,
    /// That a key is being removed is noted before it is, and from then on `abort` is refused.
    pub removal_is_noted_first: bool,
    /// The transaction that makes another key write puts a fresh epoch too. (In etcd only.)
    pub promotion_moves_epoch: bool,
    /// Each attempt to move the epoch has a nonce of its own, also when the answer to the one before was lost.
    pub attempts_have_own_nonce: bool,
    /// The epoch is a nonce: one that etcd's restore brings back is never given out a second time for another one.
    pub epochs_are_unique: bool,
    /// A key that is removed goes into the archive (in file mode: the file that was replaced is kept).
    pub removed_keys_are_archived: bool,
    /// What is put back after a restore also lists the keys that the restored store needs.
    pub recovery_lists_all: bool,
    /// After a restore, etcd gives out no revision that it had given out before.
    pub revisions_are_unique: bool,
}

impl Rules {
    /// The protocol as it is.
    pub const ALL: Self = Self {
        writes_are_fenced: true,
        sweeps_are_fenced: true,
        sweeps_compare: true,
        epoch_is_read_first: true,
        configuration_is_looked_at: true,
        keyring_is_read_with_epoch: true,
        dropped_keys_bar: true,
        drop_is_noted_first: true,
        proof_follows_epoch: true,
        sweep_is_of_the_record: true,
        removal_needs_proof: true,
        configuration_is_compared: true,
        record_is_compared: true,
        removal_is_noted_first: true,
        promotion_moves_epoch: true,
        attempts_have_own_nonce: true,
        epochs_are_unique: true,
        removed_keys_are_archived: true,
        recovery_lists_all: true,
        revisions_are_unique: true,
    };
}

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Client writes; the first two are to one object, the third to the other.
    pub writes: u8,
    /// Objects.
    pub objects: u8,
    /// Members, interchangeable.
    pub members: u8,
    /// Drivers, interchangeable.
    pub drivers: u8,
    /// How often the epoch can be moved. No bound where states are reduced.
    pub epochs: u8,
    /// How often the configuration can be replaced.
    pub configurations: u8,
    /// How often the record can be replaced.
    pub notes: u8,
    /// Whether a rotation may be taken back.
    pub aborts: bool,
    /// Whether the answer to a move of the epoch may be lost, and the move happen later.
    pub late_moves: bool,
    /// Whether etcd may be restored, once.
    pub restores: bool,
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Where the configuration is.
    pub place: Place,
    /// The protocol.
    pub rules: Rules,
    /// How far.
    pub bounds: Bounds,
    /// Whether states from which the same follows count as one (`reduce`). A counterexample is easier to read where they do not.
    pub is_reduced: bool,
}
