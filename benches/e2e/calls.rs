//! The requests that make up a load, as kube-apiserver makes them.

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::kv_client::KvClient;
use crate::common::pb::etcdserverpb::lease_client::LeaseClient;
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::response_op::Response as Answer;
use crate::common::pb::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

/// What every client of a load does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Put,
    Get,
    /// If it was last written at the revision that the client knows, put; else get.
    Update,
    /// One page of so many keys.
    List(usize),
    /// Get and put in turn.
    Mixed,
    KeepAlive,
}

impl Load {
    pub fn name(self) -> String {
        match self {
            Self::Put => "put".into(),
            Self::Get => "get".into(),
            Self::Update => "update".into(),
            Self::List(keys) => format!("list of {keys}"),
            Self::Mixed => "get and put in turn".into(),
            Self::KeepAlive => "lease keep-alive".into(),
        }
    }

    pub fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Update | Self::Mixed)
    }
}

/// One client. It has keys of its own, so that no two write the same.
pub struct Client {
    kv: KvClient<Channel>,
    load: Load,
    keys: Vec<Vec<u8>>,
    revisions: Vec<i64>,
    value: Vec<u8>,
    range: (Vec<u8>, Vec<u8>),
    turn: usize,
    lease: Option<Lease>,
    is_fenced: bool,
}

struct Lease {
    id: i64,
    asks: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

/// Keys of each client: few, where values are large.
fn keys_of_a_client(value_bytes: usize) -> usize {
    if value_bytes > 4096 { 1 } else { 8 }
}

pub fn key(prefix: &str, value_bytes: usize, client: usize, index: usize) -> Vec<u8> {
    format!("{prefix}{value_bytes}/client-{client:05}-key-{index}").into_bytes()
}

/// The keys of a list of `keys`, and the end of their range.
fn list_range(prefix: &str, keys: usize) -> (String, Vec<u8>) {
    (
        format!("{prefix}list-{keys}/"),
        format!("{prefix}list-{keys}0").into_bytes(),
    )
}

/// Begins as what kube-apiserver stores, or a sweep would not believe that it opened it with the right key.
pub fn value(bytes: usize) -> Vec<u8> {
    // Nothing that a transport could make smaller, and nothing that looks sealed.
    let rest = (0..bytes).map(|index| (index.wrapping_mul(131) >> 3) as u8);
    b"k8s\0".iter().copied().chain(rest).take(bytes).collect()
}

impl Client {
    pub async fn new(channel: Channel, load: Load, prefix: &str, value_bytes: usize, client: usize) -> Self {
        let keys: Vec<_> = (0..keys_of_a_client(value_bytes))
            .map(|index| key(prefix, value_bytes, client, index))
            .collect();
        let range = match load {
            Load::List(keys) => {
                let (from, to) = list_range(prefix, keys);
                (from.into_bytes(), to)
            }
            _ => Default::default(),
        };
        let lease = if load == Load::KeepAlive {
            Some(Lease::grant(channel.clone()).await)
        } else {
            None
        };
        Self {
            kv: kv(channel),
            load,
            revisions: vec![0; keys.len()],
            keys,
            value: value(value_bytes),
            range,
            turn: client,
            lease,
            is_fenced: false,
        }
    }

    /// Sends its writes as the proxy sends them: a put as a transaction, and each with one compare more.
    pub fn fenced(mut self, is_fenced: bool) -> Self {
        self.is_fenced = is_fenced;
        self
    }

    /// One request and its answer.
    pub async fn once(&mut self) {
        self.turn += 1;
        let turn = self.turn % self.keys.len();
        match self.load {
            Load::Get => self.get(turn).await,
            Load::Update => self.update(turn).await,
            Load::Mixed if self.turn.is_multiple_of(2) => self.get(turn).await,
            Load::Put | Load::Mixed => self.put(turn).await,
            Load::List(keys) => {
                let (key, range_end) = self.range.clone();
                let request = RangeRequest {
                    key,
                    range_end,
                    limit: i64::try_from(keys).expect("a limit"),
                    ..RangeRequest::default()
                };
                let kvs = self.kv.range(request).await.expect("a list").into_inner().kvs;
                assert_eq!(kvs.len(), keys, "a list without some of its keys");
                assert!(
                    kvs.iter().all(|kv| kv.value == self.value),
                    "a value that is not the one written"
                );
            }
            Load::KeepAlive => {
                let lease = self.lease.as_mut().expect("a lease");
                lease
                    .asks
                    .send(LeaseKeepAliveRequest { id: lease.id })
                    .expect("an open stream");
                let answer = lease
                    .answers
                    .message()
                    .await
                    .expect("an answer")
                    .expect("an open stream");
                assert!(answer.ttl > 0, "a lease that has ended");
            }
        }
    }

    async fn put(&mut self, turn: usize) {
        let request = put_request(self.keys[turn].clone(), self.value.clone());
        if !self.is_fenced {
            self.kv.put(request).await.expect("a put");
            return;
        }
        let request = TxnRequest {
            success: vec![op(Op::RequestPut(request))],
            ..TxnRequest::default()
        };
        let answer = self.kv.txn(under_fence(request)).await.expect("a put");
        assert!(answer.into_inner().succeeded, "a fence that does not hold");
    }

    async fn get(&mut self, turn: usize) {
        let request = RangeRequest {
            key: self.keys[turn].clone(),
            ..RangeRequest::default()
        };
        let kvs = self.kv.range(request).await.expect("a get").into_inner().kvs;
        assert!(
            kvs.len() == 1 && kvs[0].value == self.value,
            "a value that is not the one written"
        );
    }

    async fn update(&mut self, turn: usize) {
        let key = &self.keys[turn];
        let is_as_known = Compare {
            key: key.clone(),
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            target_union: Some(TargetUnion::ModRevision(self.revisions[turn])),
            ..Compare::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let mut request = TxnRequest {
            compare: vec![is_as_known],
            success: vec![op(Op::RequestPut(put_request(key.clone(), self.value.clone())))],
            failure: vec![op(Op::RequestRange(get))],
        };
        if self.is_fenced {
            request = under_fence(request);
        }
        let answer = self.kv.txn(request).await.expect("an update").into_inner();
        self.revisions[turn] = if answer.succeeded {
            answer.header.expect("a header").revision
        } else {
            let Some(Some(Answer::ResponseRange(got))) = answer.responses.first().map(|op| op.response.as_ref()) else {
                panic!("no answer to the get");
            };
            got.kvs.first().map_or(0, |kv| kv.mod_revision)
        };
    }
}

impl Lease {
    async fn grant(channel: Channel) -> Self {
        let mut client = LeaseClient::new(channel);
        let granted = client
            .lease_grant(LeaseGrantRequest { ttl: 600, id: 0 })
            .await
            .expect("a lease");
        let id = granted.into_inner().id;
        let (asks, asked) = mpsc::unbounded_channel();
        // Sent with the headers: etcd sends its own only once there is something to answer.
        asks.send(LeaseKeepAliveRequest { id }).expect("an open channel");
        let stream = client.lease_keep_alive(UnboundedReceiverStream::new(asked)).await;
        let mut answers = stream.expect("a stream").into_inner();
        answers.message().await.expect("an answer");
        Self { id, asks, answers }
    }
}

/// Has everything there that clients of this load expect. A thousand puts take a tenth of a second.
pub async fn fill(channel: Channel, prefix: &str, load: Load, value_bytes: usize, clients: usize) {
    let keys: Vec<Vec<u8>> = match load {
        Load::List(keys) => {
            let (from, _) = list_range(prefix, keys);
            (0..keys)
                .map(|index| format!("{from}key-{index:06}").into_bytes())
                .collect()
        }
        Load::KeepAlive => Vec::new(),
        _ => {
            let own = |client| (0..keys_of_a_client(value_bytes)).map(move |index| (client, index));
            (0..clients)
                .flat_map(own)
                .map(|(client, index)| key(prefix, value_bytes, client, index))
                .collect()
        }
    };
    put_all(channel, keys, &value(value_bytes)).await;
}

/// Puts all keys, several at once.
pub async fn put_all(channel: Channel, keys: Vec<Vec<u8>>, value: &[u8]) {
    let share = keys.len().div_ceil(32).max(1);
    let mut tasks = Vec::new();
    for keys in keys.chunks(share).map(<[_]>::to_vec) {
        let (mut kv, value) = (kv(channel.clone()), value.to_vec());
        tasks.push(tokio::spawn(async move {
            for key in keys {
                kv.put(put_request(key, value.clone())).await.expect("a put");
            }
        }));
    }
    for task in tasks {
        task.await.expect("puts");
    }
}

/// What the fence compares, as long as the proxy's own: its key and its nonce.
const EPOCH: (&[u8], &[u8]) = (b"/etcd-encryption-fence/epoch", b"00112233445566778899aabbccddeeff");

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn under_fence(mut request: TxnRequest) -> TxnRequest {
    let (key, nonce) = (EPOCH.0.to_vec(), EPOCH.1.to_vec());
    request.compare.push(Compare {
        key: key.clone(),
        result: CompareResult::Equal.into(),
        target: CompareTarget::Value.into(),
        target_union: Some(TargetUnion::Value(nonce)),
        ..Compare::default()
    });
    request.failure.push(op(Op::RequestRange(RangeRequest {
        key,
        ..RangeRequest::default()
    })));
    request
}

/// Has an epoch there.
pub async fn begin_epoch(channel: Channel) {
    let request = put_request(EPOCH.0.to_vec(), EPOCH.1.to_vec());
    kv(channel).put(request).await.expect("an epoch");
}

pub async fn revision(client: &mut KvClient<Channel>) -> i64 {
    let request = RangeRequest {
        key: b"nothing".to_vec(),
        ..RangeRequest::default()
    };
    client
        .range(request)
        .await
        .expect("an answer")
        .into_inner()
        .header
        .expect("a header")
        .revision
}

pub fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

pub fn put_request(key: Vec<u8>, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key,
        value,
        ..PutRequest::default()
    }
}
