//! How a process of the model finds out whether it may write: step by step, with whatever others do in between.

use super::{Process, STATE, World};
use crate::rotation::Record;
use crate::rotation::barred::judged;
use crate::rotation::record::parse as parse_record;
use crate::types::Epoch;

/// How far a process is with finding out whether it may write.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Permit {
    /// It has yet to begin.
    Unknown,
    /// It has read the epoch.
    Read(Epoch),
    /// And has looked at the file since.
    Looked(Epoch),
    /// It writes in this epoch.
    Granted(Epoch),
}

impl World {
    /// The epoch as the store has it.
    pub(in crate::rotation::tests) fn epoch(&self) -> Epoch {
        let keys = self.keys.borrow();
        let found = keys.get(&Epoch::key(&self.state));
        found.map_or(Epoch::FIRST, |kv| {
            Epoch::found(&kv.value, kv.mod_revision).expect("an epoch")
        })
    }

    /// The process takes one step more to find out whether it may write.
    pub(super) fn ask(&self, process: &mut Process) {
        process.permit = match &process.permit {
            Permit::Unknown => Permit::Read(self.epoch()),
            Permit::Read(epoch) => {
                let epoch = epoch.clone();
                // It takes what is there, unless it refuses that, or has only an old copy.
                if !process.is_stubborn {
                    self.load(process);
                }
                Permit::Looked(epoch)
            }
            Permit::Looked(epoch) => {
                let keys = self.keys.borrow();
                let record = keys.get(format!("{STATE}rotation").as_bytes());
                let record = record.map_or_else(|| Ok(Record::default()), |kv| parse_record(&kv.value));
                match judged(&record.expect("a record"), &process.loaded.keyring) {
                    None => Permit::Granted(epoch.clone()),
                    Some(_) => Permit::Unknown,
                }
            }
            Permit::Granted(epoch) => Permit::Granted(epoch.clone()),
        };
    }
}
