//! Tests of the room as a whole, over a store in memory.

pub(super) mod world;
