//! The room's tests: the machine and the driver over a model of etcd, of members and of a file, with the real sweep and real
//! ciphers; and what is printed.

mod decided;
mod due;
mod migrate;
mod model;
mod printed;
mod recover;
mod stores;
mod takes_back;
mod uncovered;
mod world;
