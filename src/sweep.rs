//! Re-encryption of what is stored: finds values that are not as the rules write them, writes them again, and proves by a
//! second look that none is left.
//!
//! `decide`, `ranges`, `stretch`, `scan`, `ledger`, `tally` and `pace` are pure; `renew` opens and seals; `apply` writes one key;
//! `pass` drives them over a whole store; the right to sweep and `checkpoint` make it one sweep at a time, that can be killed
//! anywhere and taken up again; `uncovered` looks at what no rule covers, `unopenable` at what no
//! key opens, `survey` for what lies where no table has anything; `worker` sweeps in the background of a process that
//! serves. The store is a trait, so that a model in memory can stand in for etcd.
//!
//! Invariant: a sweep never creates, revives or re-leases a key. Each write is one transaction for one key, compared on the
//! revision that its plaintext was read at, with the lease that was read along with it. A lost race is read anew and
//! decided anew, never counted as done. No two keys share a transaction, because watches resume by revision.
//! There is no plaintext in a record, an error or a log line, and nothing is deleted but the sweep's own lease.

mod apply;
mod checkpoint;
mod company;
mod decide;
mod error;
mod everything;
mod latest;
mod ledger;
mod pace;
mod pass;
mod quota;
mod ranges;
mod renew;
mod report;
mod run;
mod scan;
mod scope;
mod seeds;
mod stretch;
mod survey;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod together;
mod too_large;
mod uncovered;
mod unopenable;
mod worker;

pub use decide::Verdict;
pub use error::Error;
pub use latest::{Latest, Work, proved_from};
pub use pace::Limits;
pub use quota::quota_warning;
pub use report::{Defragmented, Finding, Report, Seeds};
pub use run::{Observer, Options, Progress, Stage, begin_everything, sweep, written_until};
pub use scope::{OWNER, Scope};
pub use survey::{Folder, Missed, Survey, survey};
pub use tally::{Row, State, Tally};
pub use uncovered::{Uncovered, Wanted, uncovered};
pub use unopenable::{Need, Spare, Unopenable, unopenable};
pub use worker::{Activity, FAMILIES, InUse, Worker, WorkerStatus};
