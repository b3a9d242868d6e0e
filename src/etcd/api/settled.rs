//! What the answer to a write under guards comes to: of etcd, and of kine, which says of what its database has refused either that it
//! is done or that nothing was.

use bytes::Bytes;

use super::kv::ranges;
use super::read;
use crate::wire::WireError;
use crate::wire::etcd::txn_response;

/// What the answer to a write under guards comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Done, at this revision.
    Done(i64),
    /// Said to be done at this revision, by a store that also says so of what its database has refused.
    Said(i64),
    /// A guard did not hold.
    Guarded,
    /// The one guard held, and nothing was done. etcd never answers so.
    NotTaken,
}

/// Reads that answer. `alone` is the revision that the only guard demands of the very key that is written, whose range was asked for
/// where it does not hold.
pub(super) fn settled(message: &Bytes, alone: Option<i64>, is_put: bool) -> Result<Settled, WireError> {
    let is_done = read::number(message, txn_response::SUCCEEDED)? != 0;
    let revision = read::header_revision(message)?;
    if is_done {
        // kine has no cluster. What creates is what it does not tell the truth of.
        let is_certain = alone != Some(0) || !is_put || read::header_cluster(message)? != 0;
        return Ok(if is_certain {
            Settled::Done(revision)
        } else {
            Settled::Said(revision)
        });
    }
    let Some(at) = alone else {
        return Ok(Settled::Guarded);
    };
    let found = ranges(message)?.pop().flatten().map_or(0, |kv| kv.mod_revision);
    Ok(if found == at {
        Settled::NotTaken
    } else {
        Settled::Guarded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::etcd::{key_value, op, range_response};
    use crate::wire::{put_bytes, put_varint};

    fn there(mod_revision: u64) -> Vec<u8> {
        let mut kv = Vec::new();
        put_bytes(&mut kv, key_value::KEY, b"a");
        put_varint(&mut kv, key_value::MOD_REVISION, mod_revision);
        kv
    }

    #[test]
    fn what_kine_says_of_a_write_is_believed_only_where_it_is_so() {
        let answer = |cluster: u64, is_done: bool, found: &[Vec<u8>]| {
            let (mut message, mut range) = (Vec::new(), Vec::new());
            let mut head = Vec::new();
            put_varint(&mut head, 1, cluster);
            put_varint(&mut head, 3, 9);
            put_bytes(&mut message, txn_response::HEADER, &head);
            put_varint(&mut message, txn_response::SUCCEEDED, is_done.into());
            for kv in found {
                put_bytes(&mut range, range_response::KVS, kv);
            }
            if !is_done {
                let mut response = Vec::new();
                put_bytes(&mut response, op::RANGE, &range);
                put_bytes(&mut message, txn_response::RESPONSES, &response);
            }
            Bytes::from(message)
        };
        let there = [there(7)];
        let read = |message: &Bytes, alone, is_put| settled(message, alone, is_put).unwrap();
        // A create.
        assert_eq!(read(&answer(5, true, &[]), Some(0), true), Settled::Done(9));
        assert_eq!(read(&answer(0, true, &[]), Some(0), true), Settled::Said(9));
        assert_eq!(read(&answer(0, false, &there), Some(0), true), Settled::Guarded);
        assert_eq!(read(&answer(0, false, &[]), Some(0), true), Settled::NotTaken);
        // An update or a delete of what was written at 7.
        for is_put in [true, false] {
            assert_eq!(read(&answer(0, true, &[]), Some(7), is_put), Settled::Done(9));
            assert_eq!(read(&answer(0, false, &there), Some(7), is_put), Settled::NotTaken);
            assert_eq!(read(&answer(5, false, &there), Some(6), is_put), Settled::Guarded);
            assert_eq!(read(&answer(5, false, &[]), Some(7), is_put), Settled::Guarded);
        }
        // Several guards: which one did not hold is not known.
        assert_eq!(read(&answer(5, false, &[]), None, true), Settled::Guarded);
        assert_eq!(read(&answer(5, true, &[]), None, true), Settled::Done(9));
    }
}
