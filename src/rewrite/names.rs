//! The Lock and Election services, which read and write keys inside etcd, past any proxy: lock and election keys lie under
//! `<name>/`, and the leader's value with them. Requests are checked and pass as they are, or are refused.

use super::{Context, EscapedKey, Refusal, lease::names_own};
use crate::{
    types::{KeyRange, Reach, prefix_end},
    wire::{Fields, WireError, etcd::election, etcd::lock, once},
};

/// A call of `v3lockpb.Lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockRpc {
    /// `Lock`
    Lock,
    /// `Unlock`, which deletes one key, whichever it is told.
    Unlock,
}

/// A call of `v3electionpb.Election`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionRpc {
    /// `Campaign`
    Campaign,
    /// `Proclaim`, which writes one key, whichever it is told.
    Proclaim,
    /// `Leader`, which returns the oldest key under `<name>/`, whatever it is.
    Leader,
    /// `Observe`, which takes the same request and returns the same.
    Observe,
    /// `Resign`, which deletes one key, whichever it is told.
    Resign,
}

/// Checks a request of the Lock service.
///
/// # Errors
/// [`Refusal::StatePrefix`] and [`Refusal::EncryptedName`] by what the name or key could reach; [`Refusal::NoSuchLease`] for a
/// lease of the proxy's own; [`Refusal::Malformed`].
pub fn lock_request(rpc: LockRpc, message: &[u8], ctx: &Context<'_>) -> Result<(), Refusal> {
    match rpc {
        LockRpc::Lock => {
            check_lease(message, lock::LOCK_LEASE)?;
            check_name(bytes_field(message, lock::LOCK_NAME)?, ctx)
        }
        LockRpc::Unlock => check_key(bytes_field(message, lock::UNLOCK_KEY)?, ctx),
    }
}

/// Checks a request of the Election service.
///
/// # Errors
/// As [`lock_request`].
pub fn election_request(rpc: ElectionRpc, message: &[u8], ctx: &Context<'_>) -> Result<(), Refusal> {
    let leader = match rpc {
        ElectionRpc::Campaign => {
            check_lease(message, election::CAMPAIGN_LEASE)?;
            return check_name(bytes_field(message, election::CAMPAIGN_NAME)?, ctx);
        }
        ElectionRpc::Leader | ElectionRpc::Observe => {
            return check_name(bytes_field(message, election::LEADER_NAME)?, ctx);
        }
        ElectionRpc::Proclaim => bytes_field(message, election::PROCLAIM_LEADER)?,
        ElectionRpc::Resign => bytes_field(message, election::RESIGN_LEADER)?,
    };
    // etcd refuses a request without a leader, and without a leader there is no key.
    if let Some(leader) = leader {
        check_name(bytes_field(leader, election::LEADER_KEY_NAME)?, ctx)?;
        check_key(bytes_field(leader, election::LEADER_KEY_KEY)?, ctx)?;
        check_lease(leader, election::LEADER_KEY_LEASE)?;
    }
    Ok(())
}

fn bytes_field(message: &[u8], number: u32) -> Result<Option<&[u8]>, WireError> {
    let mut found = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == number {
            once(&mut found, number, field.body()?.bytes)?;
        }
    }
    Ok(found)
}

/// Keys that etcd is to make must not hang on a lease of the proxy's own.
fn check_lease(message: &[u8], number: u32) -> Result<(), Refusal> {
    if names_own(message, number)? {
        return Err(Refusal::NoSuchLease);
    }
    Ok(())
}

fn check_name(name: Option<&[u8]>, ctx: &Context<'_>) -> Result<(), Refusal> {
    let name = name.unwrap_or_default();
    let prefix = [name, b"/"].concat();
    let end = prefix_end(&prefix).unwrap_or_default();
    check(KeyRange::new(&prefix, &end), name, ctx)
}

fn check_key(key: Option<&[u8]>, ctx: &Context<'_>) -> Result<(), Refusal> {
    let key = key.unwrap_or_default();
    check(KeyRange::One(key), key, ctx)
}

fn check(range: KeyRange<'_>, name: &[u8], ctx: &Context<'_>) -> Result<(), Refusal> {
    if ctx.state.reach(range) != Reach::Clear {
        return Err(Refusal::StatePrefix);
    }
    let covered = match range {
        KeyRange::One(key) => ctx.keyring.chain(key).is_some(),
        range => ctx.keyring.may_cover(&range),
    };
    if covered {
        let name = EscapedKey::new(name);
        return Err(Refusal::EncryptedName { name });
    }
    Ok(())
}
