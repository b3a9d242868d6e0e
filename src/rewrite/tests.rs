//! Tests of the room as a whole, against messages that prost makes and reads.

mod adversarial;
mod drive;
mod etcd;
mod fence;
mod generate;
mod kms;
mod names;
mod normal;
mod pb;
mod policy;
mod round_trip;
mod state;
mod watch;
mod world;
