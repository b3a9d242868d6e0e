//! A configuration that lives in etcd, sealed under a root that every member has, instead of in a file.
//!
//! The document lies under `<state prefix>keyring`, and the documents that it replaced under `<state prefix>archive/`, each
//! sealed with a key of its own. This room knows roots, sealing, these records and the calls that read and write them. It
//! does not know how a configuration is compiled, who loads it, or when keys are rotated, and it never writes a document or a
//! root anywhere in the clear.
//!
//! What is in a record beside the ciphertext is authenticated with it, together with the etcd key that the record lies under.
//! So whoever can write to etcd and has no root cannot read a document, make one, or change anything about one: not its times,
//! not its generation, not its place. They can put back a whole record that lay in the same place before. A member that runs
//! notices, because generations only grow and it remembers the highest ([`Reader`]); one that starts afterwards does not, and
//! takes an older keyring, which every value that was written since may not open under. They can delete records as well; a
//! member does not generate a new keyring over values that are sealed ([`holds_sealed_values`]). Under a root file they can do nothing
//! else. Under a KMS, whoever may call the plugin has the root.
//!
//! A root should be one cluster's alone: two that share a root and a state prefix could be given each other's records.

mod archive;
mod archive_record;
mod backup;
mod error;
mod exports;
pub mod fuzz;
mod generated;
mod keyring_record;
mod loose;
mod past;
mod reader;
mod record;
mod reseal;
mod restore;
mod root;
mod root_file;
mod root_id;
mod roots;
mod seal;
mod stretch;
mod strongbox;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod wrapped;

pub use archive::{Archived, ArchivedAbout};
pub use backup::MAX_BACKUP_BYTES;
pub use error::{Error, OpenError, RootError, StandingKeyring};
pub use exports::Export;
pub use generated::{SealedValue, default_document, holds_sealed_values};
pub use keyring_record::{Current, KeyAge};
pub use loose::{Loose, is_record, open_loose};
pub use past::{Past, PastConfigs};
pub use reader::{Reader, Reading};
pub use reseal::Resealed;
pub use restore::{Restorable, Restored};
pub use root_file::{MAX_ROOT_FILE_BYTES, RootFileError, RootFileProblem, RootLine, RootSecret, parse_root_file};
pub use root_id::RootId;
pub use roots::{KnownRoot, Roots};
pub use strongbox::Strongbox;
pub use time::Time;
