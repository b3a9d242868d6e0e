//! Protobuf at wire level: walk a message's fields, replace some of them, keep every other byte.
//!
//! Nothing here decodes a message into a struct or encodes one again, so unknown fields, field order and odd but legal
//! varints survive. What two of etcd's decoders could read differently is an error, never a guess (see [`Fields`]).
//!
//! Invariant: a message without an edit comes out as the very same [`bytes::Bytes`] that went in.

mod error;
pub mod etcd;
mod field;
mod pieces;
mod script;
mod spliced;
mod varint;

pub use error::WireError;
pub use field::{Body, Extent, Field, Fields, Value, once};
pub use script::{Frame, Script};
pub use spliced::Spliced;
pub use varint::{put_bytes, put_bytes_header, put_raw, put_varint};
