//! Tests of the room as a whole, over a store in memory.

mod calls;
mod store;
mod world;
