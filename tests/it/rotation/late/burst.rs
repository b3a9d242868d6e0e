//! Creates and puts that are sent at once through one proxy, half of them by clients with a deadline.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Request;

use crate::common::client::Client;
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};
use crate::common::process::PATIENCE;

pub(super) const CREATES: usize = 32;
pub(super) const PUTS: usize = 16;
/// Bytes of a value.
pub(super) const VALUE: usize = 300;
/// What a client waits that does not wait for ever.
const DEADLINE: Duration = Duration::from_secs(5);

/// What keys of the burst begin with.
pub(super) const MARKER: &str = "/registry/secrets/late/";

/// A key that is created.
pub(super) fn created(number: usize) -> String {
    format!("{MARKER}create-{number}")
}

/// A key that is there, and is put.
pub(super) fn replaced(number: usize) -> String {
    format!("{MARKER}put-{number}")
}

/// A value of `VALUE` bytes.
pub(super) fn padded(what: &str, number: usize) -> Vec<u8> {
    let mut value = format!("{what} {number} ").into_bytes();
    value.resize(VALUE, b'.');
    value
}

pub(super) fn put(key: &str, value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.to_vec(),
        ..PutRequest::default()
    }
}

/// The writes on their way.
pub(super) struct Burst {
    /// Each gives whether it was acknowledged.
    writes: Vec<(String, JoinHandle<bool>)>,
}

impl Burst {
    /// Sends all.
    pub(super) fn begin(client: &Client) -> Self {
        let create = |number| (created(number), create(&created(number), &padded("late", number)));
        let replace = |number| {
            (
                replaced(number),
                unconditional(&replaced(number), &padded("late", number)),
            )
        };
        let requests = (0..CREATES).map(create).chain((0..PUTS).map(replace));
        let send = |(index, (name, request)): (usize, (String, TxnRequest))| {
            let client = client.clone();
            // One in two has a deadline, and gives up by itself; the others wait for the proxy to say something.
            let deadline = (index % 4 < 2).then_some(DEADLINE);
            let task = tokio::spawn(async move {
                let mut request = Request::new(request);
                if let Some(deadline) = deadline {
                    request.set_timeout(deadline);
                }
                let sent = async { client.kv().txn(request).await };
                let answer = timeout(deadline.unwrap_or(2 * PATIENCE), sent).await;
                answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.into_inner().succeeded))
            });
            (name, task)
        };
        Self {
            writes: requests.enumerate().map(send).collect(),
        }
    }

    /// Whether the write of this key has ended, with an answer or without.
    pub(super) fn has_ended(&self, key: &str) -> bool {
        self.writes.iter().any(|(name, task)| name == key && task.is_finished())
    }

    /// Waits for all, and gives the keys of those that were acknowledged.
    pub(super) async fn end(self) -> BTreeSet<String> {
        let mut acknowledged = BTreeSet::new();
        for (name, task) in self.writes {
            if task.await.expect("a write ends") {
                acknowledged.insert(name);
            }
        }
        acknowledged
    }
}

fn create(key: &str, value: &[u8]) -> TxnRequest {
    let absent = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Compare::default()
    };
    TxnRequest {
        compare: vec![absent],
        ..unconditional(key, value)
    }
}

fn unconditional(key: &str, value: &[u8]) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp {
            request: Some(Op::RequestPut(put(key, value))),
        }],
        ..TxnRequest::default()
    }
}
