//! Writes under the fence where etcd authenticates: by a client's token, by the proxy's certificate, or not at all. etcd decides
//! what may be written, as without the proxy, and no form of the fence gives a token a right that it does not have.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use crate::common::client::Client;
use crate::common::etcd::{Etcd, Setup};
use crate::common::http;
use crate::common::pb::authpb::{Permission, permission};
use crate::common::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::process::PATIENCE;
use crate::common::proxy::{self, Proxy};
use crate::common::sweep::{K1, document};
use crate::common::tools::Version;

const CBC_1: &[u8] = b"k8s:enc:aescbc:v1:k1:";
const MINE: &str = "/registry/secrets/mine/";
const OTHERS: &str = "/registry/secrets/others/";

async fn etcd(version: Version) -> Etcd {
    // A hash for each password; how hard they are to guess is not what is tested.
    Setup::new(version).with_tls().flag("--bcrypt-cost=4").start().await
}

/// A proxy before `etcd`, with a certificate for the user `proxy`.
fn proxy(etcd: &Etcd) -> Proxy {
    let own = etcd.pki().sign("proxy", &["proxy.test"]);
    proxy::Setup::new(etcd.endpoint(), document(&[K1]))
        .member("a")
        .flag(format!("--etcd-cafile={}", etcd.pki().ca.display()))
        .flag(format!("--etcd-certfile={}", own.cert.display()))
        .flag(format!("--etcd-keyfile={}", own.key.display()))
        .start()
}

/// Makes a role that may read and write below `prefix`.
async fn role(direct: &Client, name: &str, prefix: &str) {
    let add = AuthRoleAddRequest { name: name.to_owned() };
    direct.auth().role_add(add).await.unwrap();
    grant(direct, name, prefix).await;
}

async fn grant(direct: &Client, role: &str, prefix: &str) {
    // The last byte is a slash, and the next one a zero.
    let end = format!("{}0", prefix.strip_suffix('/').unwrap());
    let grant = AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(Permission {
            perm_type: permission::Type::Readwrite.into(),
            key: prefix.into(),
            range_end: end.into(),
        }),
    };
    direct.auth().role_grant_permission(grant).await.unwrap();
}

/// Makes a user with a role; its password is its name.
async fn user(direct: &Client, name: &str, role: &str) {
    let add = AuthUserAddRequest {
        name: name.to_owned(),
        password: name.to_owned(),
        ..AuthUserAddRequest::default()
    };
    direct.auth().user_add(add).await.unwrap();
    let grant = AuthUserGrantRoleRequest {
        user: name.to_owned(),
        role: role.to_owned(),
    };
    direct.auth().user_grant_role(grant).await.unwrap();
}

/// Has etcd ask who everybody is. `direct` goes on, by its certificate, as one who may do everything.
async fn authenticate(direct: &Client) {
    let root = AuthRoleAddRequest {
        name: "root".to_owned(),
    };
    direct.auth().role_add(root).await.unwrap();
    for name in ["root", "client"] {
        user(direct, name, "root").await;
    }
    direct.auth().auth_enable(AuthEnableRequest {}).await.unwrap();
}

/// Requests of the user with this token.
struct Bearer<'a> {
    client: &'a Client,
    token: String,
}

impl<'a> Bearer<'a> {
    async fn log_in(client: &'a Client, name: &str) -> Self {
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: name.to_owned(),
        };
        let token = client.auth().authenticate(request).await.unwrap().into_inner().token;
        Self { client, token }
    }

    fn with_token<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("token", self.token.parse().unwrap());
        request
    }

    async fn put(&self, key: &str, value: &str) -> Result<PutResponse, Status> {
        let put = self.client.kv().put(self.with_token(put(key, value))).await;
        put.map(tonic::Response::into_inner)
    }

    async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        let txn = self.client.kv().txn(self.with_token(txn)).await;
        txn.map(tonic::Response::into_inner)
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn putting(key: &str, value: &str) -> RequestOp {
    RequestOp {
        request: Some(Op::RequestPut(put(key, value))),
    }
}

fn getting(key: &str) -> RequestOp {
    let range = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    RequestOp {
        request: Some(Op::RequestRange(range)),
    }
}

/// That the key's latest change is of this revision; 0 where there is no such key.
fn unchanged(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

/// As kube-apiserver creates and updates.
fn update(key: &str, revision: i64, value: &str) -> TxnRequest {
    TxnRequest {
        compare: vec![unchanged(key, revision)],
        success: vec![putting(key, value)],
        failure: vec![getting(key)],
    }
}

/// A transaction whose failure branch writes, and is taken.
fn otherwise(key: &str, value: &str) -> TxnRequest {
    TxnRequest {
        compare: vec![unchanged(MINE, 4242)],
        success: vec![],
        failure: vec![putting(key, value)],
    }
}

/// Whether the one member's record says that all of its writes are fenced.
async fn is_fenced(direct: &Client) -> bool {
    let all = direct.everything().await;
    let records: Vec<Value> = all
        .iter()
        .filter(|kv| kv.key.starts_with(b"/etcd-encryption-proxy/members/"))
        .map(|kv| serde_json::from_slice(&kv.value).unwrap())
        .collect();
    assert_eq!(records.len(), 1, "{records:?}");
    records[0]["fenced"].as_bool().unwrap_or(false)
}

async fn says(proxy: &Proxy) -> http::Answer {
    http::get(&proxy.metrics_url(), "/readyz/writes").await.unwrap()
}

fn expect_denied<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "etcdserver: permission denied")
    );
}

#[tokio::test]
async fn a_token_that_may_not_read_the_epoch_writes_what_it_may() {
    for version in Version::all() {
        let etcd = etcd(version).await;
        let direct = etcd.client().await;
        role(&direct, "mine", MINE).await;
        user(&direct, "mine", "mine").await;
        // May read the epoch, too, so that only the form of the request keeps it from writing what it may not.
        role(&direct, "reader", MINE).await;
        grant(&direct, "reader", "/etcd-encryption-proxy/").await;
        user(&direct, "reader", "reader").await;
        role(&direct, "everything", "/").await;
        user(&direct, "proxy", "everything").await;
        let proxy = proxy(&etcd);
        let client = proxy.client().await;
        // Nothing is authenticated yet: the proxy finds out that it may nest, and remembers.
        client.txn(otherwise(&format!("{OTHERS}nested"), "by anybody")).await;
        assert!(is_fenced(&direct).await, "{version:?}");
        assert!(
            says(&proxy)
                .await
                .body
                .contains("ok: fenced: etcd refuses what is late, since ")
        );
        authenticate(&direct).await;

        let (own, foreign) = (format!("{MINE}a"), format!("{OTHERS}a"));
        let reader = Bearer::log_in(&client, "reader").await;
        reader.put(&own, "fenced").await.unwrap();
        reader.txn(update(&format!("{MINE}c"), 0, "fenced")).await.unwrap();
        assert!(is_fenced(&direct).await, "{version:?}");
        // Nested, etcd 3.4 would take it.
        expect_denied(reader.txn(otherwise(&foreign, "smuggled")).await);
        assert!(direct.get(foreign.as_str()).await.is_none(), "{version:?}");

        let mine = Bearer::log_in(&client, "mine").await;
        expect_denied(mine.txn(otherwise(&foreign, "smuggled")).await);
        assert!(direct.get(foreign.as_str()).await.is_none(), "{version:?}");

        mine.put(&own, "first").await.unwrap();
        let created = mine.txn(update(&format!("{MINE}b"), 0, "created")).await.unwrap();
        assert!(created.succeeded, "{version:?}");
        let revision = direct.get(own.as_str()).await.unwrap().mod_revision;
        assert!(mine.txn(update(&own, revision, "second")).await.unwrap().succeeded);
        assert!(!mine.txn(update(&own, revision, "third")).await.unwrap().succeeded);
        assert_eq!(client.value(&own).await, b"second");
        assert!(direct.value(&own).await.starts_with(CBC_1), "{version:?}");
        assert!(
            !is_fenced(&direct).await,
            "rotations have to wait for such writes: {version:?}"
        );
        let said = says(&proxy).await;
        assert!(
            said.body.contains("some requests are sent without the fence"),
            "{}",
            said.body
        );

        expect_denied(mine.put(&foreign, "smuggled").await);
        expect_denied(mine.txn(update(&foreign, 0, "smuggled")).await);
        let both = TxnRequest {
            failure: vec![putting(&own, "fourth"), putting(&foreign, "smuggled")],
            ..otherwise(&foreign, "")
        };
        expect_denied(mine.txn(both).await);
        assert!(direct.get(foreign.as_str()).await.is_none(), "{version:?}");
        assert_eq!(client.value(&own).await, b"second", "{version:?}");
        let allowed = mine.txn(otherwise(&own, "otherwise")).await.unwrap();
        assert!(!allowed.succeeded, "{version:?}");
        assert_eq!(client.value(&own).await, b"otherwise", "{version:?}");
    }
}

#[tokio::test]
async fn without_authentication_every_form_is_fenced_within_etcds_limits() {
    for version in Version::all() {
        let etcd = etcd(version).await;
        let direct = etcd.client().await;
        let proxy = proxy(&etcd);
        let client = proxy.client().await;
        let key = |index: usize| format!("{MINE}{index}");
        let compares = |count: usize| {
            (0..count)
                .map(|index| unchanged(&key(1000 + index), 0))
                .collect::<Vec<_>>()
        };
        let puts = |count: usize| (0..count).map(|index| putting(&key(index), "v")).collect::<Vec<_>>();
        let flat = |most: usize, ops: usize| TxnRequest {
            compare: compares(most),
            success: puts(ops),
            failure: vec![],
        };
        let nested = |ops: usize| TxnRequest {
            failure: puts(ops),
            ..otherwise(MINE, "")
        };
        let answer = client.txn(nested(127)).await;
        assert_eq!((answer.succeeded, answer.responses.len()), (false, 127), "{version:?}");
        assert_eq!(client.value(&key(126)).await, b"v");
        let answer = client.txn(flat(127, 128)).await;
        assert_eq!((answer.succeeded, answer.responses.len()), (true, 128), "{version:?}");
        assert!(direct.value(&key(127)).await.starts_with(CBC_1), "{version:?}");
        for too_many in [flat(128, 1), flat(1, 129), nested(128)] {
            let refused = client.kv().txn(too_many).await.unwrap_err();
            assert_eq!(
                refused.message(),
                "etcdserver: too many operations in txn request",
                "{version:?}"
            );
        }
        // The same requests without the proxy: the fence takes one compare, or one operation.
        for fits in [flat(128, 1), nested(128)] {
            direct.txn(fits).await;
        }
        assert!(is_fenced(&direct).await, "{version:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_may_not_read_its_own_prefix_says_so_and_reads_on() {
    for version in Version::all() {
        let etcd = etcd(version).await;
        let direct = etcd.client().await;
        role(&direct, "proxy", "/registry/").await;
        user(&direct, "proxy", "proxy").await;
        authenticate(&direct).await;
        direct.put("/registry/configmaps/ns/a", "in clear").await;
        let proxy = proxy(&etcd);
        let client = proxy.client().await;
        let key = format!("{MINE}a");
        let refused = client.kv().put(put(&key, "v")).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let advice = "Grant it readwrite on the prefix /etcd-encryption-proxy/";
        assert!(refused.message().contains(advice), "{refused:?}");
        assert!(direct.get(key.as_str()).await.is_none(), "{version:?}");
        assert_eq!(client.value("/registry/configmaps/ns/a").await, b"in clear");
        client.put("/registry/configmaps/ns/b", "without a rule").await;

        let said = says(&proxy).await;
        assert_eq!(said.status, 200, "reads go on: {}", said.body);
        assert!(said.body.starts_with("ok: REFUSED since "), "{}", said.body);
        assert!(said.body.contains(advice), "{}", said.body);
        let all = http::get(&proxy.metrics_url(), "/readyz?verbose").await.unwrap();
        assert!(all.body.contains("[+]writes ok: REFUSED since "), "{}", all.body);
        assert!(proxy.metrics().await.contains("\netcd_encryption_proxy_may_write 0\n"));

        grant(&direct, "proxy", "/etcd-encryption-proxy/").await;
        let written = async {
            while client.kv().put(put(&key, "v")).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, written)
            .await
            .expect("writes go on without a restart");
        assert_eq!(client.value(&key).await, b"v");
        assert!(direct.value(&key).await.starts_with(CBC_1), "{version:?}");
        assert!(says(&proxy).await.body.starts_with("ok: fenced: "));
        assert!(proxy.metrics().await.contains("\netcd_encryption_proxy_may_write 1\n"));
    }
}
