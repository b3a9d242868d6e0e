//! Tests of the room as a whole, over a store in memory.

mod archive;
mod calls;
mod exports;
mod first;
mod hostile;
mod restore;
mod roots;
mod store;
mod world;
