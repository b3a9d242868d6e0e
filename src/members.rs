//! Who serves: each process keeps a record in etcd, under a lease, of the configuration that it has loaded. Whoever is about
//! to write with a key reads from them whether everybody who is alive could read it.
//!
//! `record` is what a process says of itself, `presence` keeps it there, `roster` reads everybody's; `rivals` tells of two that hold
//! one key's name with other bytes which one writes. Holds names and
//! fingerprints, never a key's bytes; decides nothing by a clock.

mod elsewhere;
mod mark;
mod presence;
mod record;
mod rivals;
mod roster;
mod round_trips;
mod store_id;

pub use elsewhere::{Elsewhere, elsewhere};
pub use mark::StoreMark;
pub use presence::{MemberId, Presence, Witness};
pub use record::{Key, Loaded, Member, RuleKeys, Serves, Unopened};
pub use rivals::Rivals;
pub use roster::{Dissent, Leaseless, Roster, short};
pub use store_id::StoreId;
