//! Tests of the room as a whole, over a store in memory.

mod interleavings;
mod model;
mod resume;
pub(super) mod world;
