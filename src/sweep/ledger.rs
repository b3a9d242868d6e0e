//! Keys that are under way, in the order of the scan: a key counts as done only when all before it are done. That makes
//! one key enough to say how far a sweep has come, however its writes overtake one another. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Which of the keys under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is under way, oldest first.
#[derive(Debug)]
pub(super) struct Ledger<R> {
    open: VecDeque<Entry<R>>,
    /// The ticket of the oldest entry.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<R> {
    key: Bytes,
    bytes: usize,
    record: Option<R>,
}

/// A key that is done, as are all before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done<R> {
    pub(super) key: Bytes,
    pub(super) bytes: usize,
    pub(super) record: R,
}

impl<R> Ledger<R> {
    pub(super) fn new() -> Self {
        Self {
            open: VecDeque::new(),
            first: 0,
            bytes: 0,
        }
    }

    /// Notes that `key`, which comes after all noted before, is under way with `bytes` in memory.
    pub(super) fn issue(&mut self, key: Bytes, bytes: usize) -> Ticket {
        self.open.push_back(Entry {
            key,
            bytes,
            record: None,
        });
        self.bytes += bytes;
        Ticket(self.first + self.open.len() as u64 - 1)
    }

    /// Notes what became of a key.
    pub(super) fn settle(&mut self, Ticket(ticket): Ticket, record: R) {
        let index = usize::try_from(ticket.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(entry) = self.open.get_mut(index) {
            entry.record = Some(record);
        }
    }

    /// The oldest key, if it is done.
    pub(super) fn next_done(&mut self) -> Option<Done<R>> {
        let record = self.open.front_mut()?.record.take()?;
        let entry = self.open.pop_front()?;
        self.first += 1;
        self.bytes -= entry.bytes;
        Some(Done {
            key: entry.key,
            bytes: entry.bytes,
            record,
        })
    }

    /// Keys under way.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever order they are settled in, keys come out in the order of the scan, each once, and never past one that
        /// is open.
        #[test]
        fn keys_are_done_in_order(order in Just((0..20u8).collect::<Vec<_>>()).prop_shuffle()) {
            let mut ledger = Ledger::new();
            let tickets: Vec<_> = (0..20u8).map(|key| ledger.issue(Bytes::from(vec![key]), 2)).collect();
            let mut done = Vec::new();
            for (settled, key) in order.iter().enumerate() {
                ledger.settle(tickets[usize::from(*key)], *key);
                while let Some(next) = ledger.next_done() {
                    prop_assert_eq!(&next.key[..], &[next.record]);
                    done.push(next.record);
                }
                let open_before = (0..20u8).find(|key| !order[..=settled].contains(key)).unwrap_or(20);
                prop_assert_eq!(&done, &(0..open_before).collect::<Vec<_>>());
                prop_assert_eq!(ledger.bytes(), 2 * ledger.len());
            }
        }
    }
}
