//! What the fuzzer drives of this room without a store: records are read and written again. Opens nothing.

use super::archive_record::ArchiveRecord;
use super::error::Error;
use super::keyring_record::KeyringRecord;
use super::record::Name;

/// Reads `bytes` as the record that lies under `name` below a state prefix, and writes it again.
///
/// # Errors
/// It is refused.
pub fn rewritten(name: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    match Name::read(name) {
        name if name == Name::keyring() => KeyringRecord::parse(bytes)?.encode(),
        name => ArchiveRecord::parse(&name, bytes)?.encode(),
    }
}
