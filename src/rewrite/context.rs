//! What a message is rewritten under: the rules, the closed prefix, the policy. Borrowed, never changed.

use crate::{keyring::Keyring, types::StatePrefix, value::Deks};

/// The rules that hold for one request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Which chain seals and opens the value of a key. One snapshot for a whole request.
    pub keyring: &'a Keyring,
    /// The prefix of the proxy's own records.
    pub state: &'a StatePrefix,
    /// DEKs that have been fetched for this one message, and where those that it lacks are noted.
    pub deks: &'a Deks,
    /// What becomes of a sealed value that does not open.
    pub on_undecryptable: OnUndecryptable,
}

/// What a reader gets for a sealed value that does not open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUndecryptable {
    /// The stored bytes. kube-apiserver fails to decode them, for that one object, as it does without a proxy.
    #[default]
    ReturnCiphertext,
    /// An error for the whole call: for clients that would take ciphertext for a value.
    Fail,
}
