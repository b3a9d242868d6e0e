//! What is said of stored values wherever they are counted: which resource they are of, which provider and key they are
//! under or would need, and how that is laid out for people. Names and counts only; opens nothing and reads nothing.

mod columns;
mod left;
mod plausible;
mod under;

pub use columns::columns;
pub use left::{Left, MAX_LISTED};
pub use plausible::is_plausible;
pub use under::Under;

use crate::keyspace::Place;

/// What `place` is called, as Kubernetes writes it: `secrets`, `deployments.apps`; `(unlisted)` for keys of no resource that
/// could be named, which only a rule for everything covers.
pub fn resource(place: Place<'_>) -> String {
    match place {
        Place::Resource { group: "", resource } => resource.to_owned(),
        Place::Resource { group, resource } => format!("{resource}.{group}"),
        Place::Unlisted | Place::NeverEncrypted | Place::Outside => "(unlisted)".to_owned(),
    }
}
