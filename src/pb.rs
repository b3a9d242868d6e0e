//! Messages and clients of the two KMS plugin protocols, generated from `proto/kms`. Nothing of etcd's: a client's message
//! is never decoded into structs.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]

/// KMS v1.
pub mod v1beta1 {
    include!(concat!(env!("OUT_DIR"), "/kms_client/v1beta1.rs"));
}

/// KMS v2.
pub mod v2 {
    include!(concat!(env!("OUT_DIR"), "/kms_client/v2.rs"));
}
