//! Rotation of keys: which step may be taken when, and the taking of it.
//!
//! `machine` decides, purely: what an operator asked for and the facts give the next step, or a refusal. `driver` takes the
//! steps one by one and looks at the facts anew before each, so that it does not matter who took the last one, or whether
//! that process still lives. `record` is what etcd keeps of it. Where the configuration lives, and how it is replaced, is a
//! [`Source`]'s business: `file` or `managed`.
//!
//! Invariant: nothing writes with a key before every live member has shown that it reads with it.
//! Invariant: a key is removed only against a [`Proof`], which only a complete and clean report of a sweep makes, taken while
//! every live member had loaded what stopped writing with that key.
//! Invariant: what a step needs to be done again after a crash is in etcd before it is done. Key bytes are only in the
//! configuration itself, and in what is kept of it.

mod barred;
mod damaged;
mod driver;
mod error;
mod facts;
mod file;
mod machine;
mod managed;
mod outline;
mod proof;
mod record;
mod recovery;
mod refusal;
mod stage;
mod status;
mod steward;
mod stores;
#[cfg(test)]
mod tests;
mod usage;

use std::future::ready;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::config::{self, Draft, EncryptionConfiguration, KeyId, Options, Syntax};

pub use barred::{Barred, Notes, barred};
pub use damaged::Damaged;
pub use driver::{Audience, Decided, Driver, Limits, Outcome, Site, Standing, right};
pub use error::Error;
pub use facts::Facts;
pub use file::ConfigFile;
pub use machine::{Ask, Command, How};
pub use managed::{MANAGED, ManagedConfig};
pub use outline::{Pace, going, left_clear, outline};
pub use proof::{NoProof, Proof, Stuck};
pub use record::Record;
pub use recovery::{AtHand, Kept, Recovery};
pub use refusal::{Kind, Refusal};
pub use stage::Stage;
pub use status::{KeyringView, Status};
pub use steward::{Policy, Steward};
pub use stores::{Beside, User};

/// Members reload the configuration, so it is held to the rules for that.
const OPTIONS: Options = Options { reload: true };

/// The document that `next` becomes in the place of `old`, in its syntax, and what it says. What members would refuse must not
/// get to them.
fn rendered(next: &Draft, old: &[u8], comment: &str) -> Result<(Zeroizing<String>, EncryptionConfiguration), Error> {
    let text = next.render_as(Syntax::of(old), comment);
    let config = config::parse(text.as_bytes(), OPTIONS).map_err(Error::WouldBeInvalid)?;
    Ok((text, config))
}

/// Keys of earlier configurations, as far as these were kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// The keys, those of the newest configuration last.
    pub keys: Vec<KeyId>,
    /// Configurations that cannot be read.
    pub unreadable: usize,
    /// What operators call the place.
    pub place: String,
}

impl Former {
    /// The oldest first.
    fn of<'a>(place: String, documents: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let mut former = Self {
            place,
            ..Self::default()
        };
        for document in documents {
            match document.map(|bytes| config::parse(bytes, OPTIONS)) {
                Some(Ok(config)) => former.keys.extend(config.key_ids()),
                Some(Err(_)) | None => former.unreadable += 1,
            }
        }
        former
    }
}

/// Where the configuration lives that members load: a file that is distributed to them, or a sealed record in etcd.
pub trait Source {
    /// What operators call it.
    fn name(&self) -> String;
    /// The configuration as it is now.
    ///
    /// # Errors
    /// It cannot be read, or is not valid.
    fn read(&self) -> impl Future<Output = Result<EncryptionConfiguration, Error>>;
    /// Whether it could be replaced at all. Changes nothing.
    ///
    /// # Errors
    /// Why not.
    fn check(&self) -> impl Future<Output = Result<(), Error>>;
    /// The stores that it is used for, as far as that can be seen from here. One that lies in a store is used for that alone.
    ///
    /// # Errors
    /// It cannot be seen.
    fn users(&self) -> impl Future<Output = Result<Vec<User>, Error>> {
        ready(Ok(Vec::new()))
    }
    /// What is known of earlier configurations. Reads only.
    ///
    /// # Errors
    /// It cannot be seen.
    fn former(&self) -> impl Future<Output = Result<Former, Error>> {
        ready(Ok(Former::default()))
    }
    /// Configurations that it was before, or others that may have keys which are gone: those that count most first.
    ///
    /// # Errors
    /// One that an operator has named cannot be read.
    fn kept(&self) -> impl Future<Output = Result<Vec<Kept>, Error>> {
        ready(Ok(Vec::new()))
    }
    /// Puts `next` in the place of `was`, if that is still there. Says where the old one is kept, if anywhere.
    ///
    /// `comment` is another one each time, and part of what is written: what says the same as an earlier configuration must
    /// not have its fingerprint, or a member that has not yet said that it left that one would seem to be back at it.
    ///
    /// # Errors
    /// It stays as it was, or [`Error::Changed`]: somebody else was first.
    fn replace(
        &self,
        was: &EncryptionConfiguration,
        next: &Draft,
        comment: &str,
    ) -> impl Future<Output = Result<Option<PathBuf>, Error>>;
}
