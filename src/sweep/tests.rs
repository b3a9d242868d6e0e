//! Tests of the room as a whole, over a store in memory.

mod interleavings;
mod model;
mod resume;
mod uncovered;
mod unopenable;
mod worker;
pub(super) mod world;
