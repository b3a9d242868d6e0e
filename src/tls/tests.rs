//! What the room does as a whole: files of every kind, and handshakes between both sides.

mod files;
mod handshake;
mod negotiation;
mod own_root;
mod peers;
pub(super) mod pki;
