//! What is counted: whole messages on their way through `rewrite`, and the parts that each of them needs.

use std::hint::black_box;

use bytes::Bytes;
use etcd_encryption_proxy::app::families;
use etcd_encryption_proxy::config::{Options, parse};
use etcd_encryption_proxy::keyring::Keyring;
use etcd_encryption_proxy::keyspace::{EtcdPrefix, KeySpace};
use etcd_encryption_proxy::kms::Plugins;
use etcd_encryption_proxy::rewrite::{
    Context, OnUndecryptable, OpenJob, Progress, UnaryRpc, WatchSession, unary_request,
};
use etcd_encryption_proxy::telemetry::Registry;
use etcd_encryption_proxy::types::{StatePrefix, StorageKey};
use etcd_encryption_proxy::value::Deks;
use etcd_encryption_proxy::wire::Spliced;

use crate::messages;

const SECRET: &[u8] = b"/registry/secrets/kube-system/bootstrap-token-abcdef";
const SECRETS: (&[u8], &[u8]) = (b"/registry/secrets/", b"/registry/secrets0");
const POD: &[u8] = b"/registry/pods/kube-system/etcd-control-plane-1";
const VALUE: &[u8] = &[b'v'; 1024];

/// Two resources under a rule of their own, as many clusters have it.
const SECRETS_ONLY: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - aescbc: {keys: [{name: key1, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}
  - identity: {}
";

pub struct Case {
    pub name: &'static str,
    /// How many times as long as most a round takes.
    pub weight: u64,
    prepare: fn(&'static Scene) -> Round,
}

/// What is counted, again and again.
pub type Round = Box<dyn FnMut()>;

impl Case {
    /// The case, after its first round: what is done once only, such as looking for a series, is done.
    pub fn ready(&self) -> Round {
        let mut round = (self.prepare)(Box::leak(Box::new(Scene::new())));
        round();
        round
    }
}

pub const CASES: &[Case] = &[
    Case {
        name: "find a rule",
        weight: 1,
        prepare: |scene| {
            Box::new(|| {
                black_box(scene.keyring.chain(black_box(SECRET)));
            })
        },
    },
    Case {
        name: "get 1 KiB",
        weight: 1,
        prepare: |scene| {
            let answer = messages::ranged([(SECRET, &*scene.sealed(SECRET))].into_iter());
            scene.unary(UnaryRpc::Range, messages::get(SECRET), answer)
        },
    },
    Case {
        name: "get 1 KiB, no rule",
        weight: 1,
        prepare: |scene| {
            let answer = messages::ranged([(POD, VALUE)].into_iter());
            scene.unary(UnaryRpc::Range, messages::get(POD), answer)
        },
    },
    Case {
        name: "update 1 KiB",
        weight: 1,
        prepare: |scene| scene.unary(UnaryRpc::Txn, messages::update(SECRET, VALUE), messages::updated()),
    },
    Case {
        name: "update 1 KiB, no rule",
        weight: 1,
        prepare: |scene| scene.unary(UnaryRpc::Txn, messages::update(POD, VALUE), messages::updated()),
    },
    Case {
        name: "list of 500 x 1 KiB",
        weight: 20,
        prepare: |scene| scene.list(500),
    },
    Case {
        name: "list of 10,000 x 1 KiB",
        weight: 200,
        prepare: |scene| scene.list(10_000),
    },
    Case {
        name: "watch event 1 KiB",
        weight: 1,
        prepare: |scene| {
            let mut session = WatchSession::new();
            let create = messages::watch_create(SECRETS.0, SECRETS.1);
            session.request(create, &scene.context(&Deks::default())).unwrap();
            scene.told(&mut session, &messages::watch_created());
            let event = messages::event(SECRET, &scene.sealed(SECRET));
            Box::new(move || scene.told(&mut session, &event))
        },
    },
    Case {
        name: "compile a configuration",
        weight: 1,
        prepare: |_| {
            Box::new(|| {
                black_box(Scene::new());
            })
        },
    },
];

/// Runs the case of that name so often.
pub fn run(name: &str, rounds: u64) {
    // With metrics, as in a proxy that serves.
    let _registry = Registry::install(families()).unwrap();
    let case = CASES.iter().find(|case| case.name == name).expect("a case");
    measured(&mut case.ready(), rounds);
}

/// The counters run in here only, and find it by its name.
#[inline(never)]
fn measured(round: &mut Round, rounds: u64) {
    for _ in 0..rounds {
        round();
    }
}

struct Scene {
    keyring: Keyring,
    state: StatePrefix,
}

impl Scene {
    fn new() -> Self {
        let config = parse(SECRETS_ONLY.as_bytes(), Options { reload: true }).unwrap();
        let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
        Self {
            keyring: Keyring::compile(&config, &keyspace, &Plugins::none()).unwrap(),
            state: StatePrefix::new(StatePrefix::DEFAULT).unwrap(),
        }
    }

    fn context<'a>(&'a self, deks: &'a Deks) -> Context<'a> {
        Context {
            keyring: &self.keyring,
            state: &self.state,
            deks,
            on_undecryptable: OnUndecryptable::ReturnCiphertext,
        }
    }

    fn sealed(&self, key: &[u8]) -> Vec<u8> {
        let mut stored = Vec::new();
        let sealer = self.keyring.chain(key).unwrap();
        sealer
            .to_storage(StorageKey(key), VALUE, &Deks::default(), &mut stored)
            .unwrap();
        stored
    }

    /// A request on its way up, and its answer on its way down.
    fn unary(&'static self, rpc: UnaryRpc, request: Bytes, answer: Bytes) -> Round {
        Box::new(move || {
            let deks = Deks::default();
            let made = unary_request(rpc, request.clone(), &self.context(&deks)).unwrap();
            black_box(made.message.into_bytes());
            let job = made.response.open(answered(&answer)).unwrap();
            hand_out(self.open(job));
        })
    }

    /// A page of so many, as kube-apiserver reads it.
    fn list(&'static self, count: usize) -> Round {
        let key = |index| format!("/registry/secrets/default/secret-{index:06}").into_bytes();
        let keys: Vec<_> = (0..count).map(key).collect();
        let stored: Vec<_> = keys.iter().map(|key| self.sealed(key)).collect();
        let kvs = keys.iter().zip(&stored);
        let answer = messages::ranged(kvs.map(|(key, value)| (&**key, &**value)));
        self.unary(UnaryRpc::Range, messages::list(SECRETS.0, SECRETS.1), answer)
    }

    fn told(&self, session: &mut WatchSession, message: &Bytes) {
        let deks = Deks::default();
        if let Some(job) = session.response(message.clone(), &self.context(&deks)).unwrap() {
            hand_out(self.open(job));
        }
    }

    fn open(&self, mut job: OpenJob) -> Spliced {
        let deks = Deks::default();
        loop {
            match job.step(&self.context(&deks), 256 * 1024).unwrap() {
                Progress::More(rest) => job = rest,
                Progress::Waiting(_) => panic!("nothing is to be waited for"),
                Progress::Done(opened) => return opened.message,
            }
        }
    }
}

/// The answer as it comes to be opened: a short one lies in what was read from the socket, where others lie too; a longer one
/// has been put together from DATA frames, and so is nobody else's.
fn answered(answer: &Bytes) -> Bytes {
    /// What HTTP/2 puts into one DATA frame by default.
    const FRAME: usize = 16 * 1024;
    if answer.len() <= FRAME {
        answer.clone()
    } else {
        Bytes::copy_from_slice(answer)
    }
}

/// Chunk by chunk, as HTTP/2 is given it.
fn hand_out(mut message: Spliced) {
    while let Some(chunk) = message.next_chunk(256 * 1024) {
        black_box(chunk);
    }
}
