//! A list of a hundred megabytes: it arrives, and the proxy holds it once.

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::*;
use crate::common::proxy::{Proxy, Setup};
use crate::common::tools::Version;

/// Values of the list, how many are put at once, and what each has.
const VALUES: usize = 10_000;
const AT_ONCE: usize = 100;
const VALUE: usize = 10_000;

const PREFIX: &str = "/registry/secrets/default/";

fn value(index: usize) -> Vec<u8> {
    index.to_be_bytes().repeat(VALUE / 8)
}

async fn fill(client: &Client) {
    let put = |index: usize| RequestOp {
        request: Some(request_op::Request::RequestPut(PutRequest {
            key: format!("{PREFIX}{index:06}").into_bytes(),
            value: value(index),
            ..PutRequest::default()
        })),
    };
    for first in (0..VALUES).step_by(AT_ONCE) {
        let request = TxnRequest {
            success: (first..first + AT_ONCE).map(put).collect(),
            ..TxnRequest::default()
        };
        assert!(client.txn(request).await.succeeded);
    }
}

/// Whatever it is sealed with: the values are opened where they lie, and what the client has not taken yet is no copy.
#[tokio::test]
async fn a_list_of_a_hundred_megabytes_is_held_once() {
    let etcd = Etcd::start(Version::V3_5).await;
    let mut proxy: Proxy = Setup::new(etcd.endpoint(), config::secrets()).start();
    let client = proxy.client().await;
    fill(&client).await;
    let before = proxy.resident();
    let answer = client
        .range(RangeRequest {
            key: PREFIX.into(),
            range_end: b"/registry/secrets/default0".to_vec(),
            ..RangeRequest::default()
        })
        .await;
    let took = proxy.peak().saturating_sub(before);
    assert_eq!(answer.kvs.len(), VALUES);
    for (index, kv) in answer.kvs.iter().enumerate() {
        assert!(kv.value == value(index), "{index}");
    }
    let list = (VALUES * VALUE) as u64;
    eprintln!(
        "a list of {} MB took {} MB more than before",
        list / 1_000_000,
        took / 1_000_000
    );
    assert!(took < list * 2, "{took} bytes for a list of {list}");
    assert!(proxy.process().is_running());
}
