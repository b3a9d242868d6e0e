//! Bytes of a value to bytes in etcd and back, exactly as kube-apiserver's encryption at rest stores them.
//!
//! One provider a file: `identity`, `aescbc`, `aesgcm`, `secretbox`, `kms_v1`, `kms_v2`. A provider is a chain of named keys, a
//! [`Chain`] is a chain of providers, and both are the same generic `prefix_chain`; `prefix` is the only file that
//! knows how stored values begin. Pure but for the random nonces: nothing here does IO, knows a resource, reads a
//! configuration or logs, and no error holds a byte of a key or a plaintext.

mod aescbc;
mod aesgcm;
mod candidate;
mod chain;
mod deks;
mod encrypted_object;
mod envelope;
#[cfg(test)]
mod envelope_tests;
mod error;
mod hkdf_gcm;
mod identity;
#[cfg(test)]
mod in_place_tests;
mod kms_v1;
mod kms_v2;
#[cfg(test)]
pub(crate) mod paper_plugin;
mod prefix;
mod prefix_chain;
mod provider;
mod secretbox;
#[cfg(test)]
mod written_bytes;

pub use candidate::Candidate;
pub use chain::{Chain, Writer};
pub use deks::Deks;
pub use encrypted_object::{DekKind, LengthError, ObjectError, WrappedDek, check_key_id};
pub use envelope::{Fetch, FreshDek, KmsFailure, KmsV1Keys, KmsV2Keys};
pub use error::{BuildError, OpenError, SealError};
pub use kms_v1::DekV1;
pub use kms_v2::{DekV2, SeedError, SeedWriter, key_id_of, seed_of};
pub use prefix::{SealedBy, header, is_sealed, sealed_by};
pub use prefix_chain::Opened;
pub use provider::{Provider, ProviderKind};
