//! Each state that `status` names, and the command that it names for it: which is run, and leads out. docs/rotation.md has the
//! table; states that other files have scenes for are run there.

use serde_json::Value;

use super::{SIZE, expect_all_under};
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use crate::common::proxy::{Proxy, Setup};
use crate::common::rotation::{Outcome, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill};
use crate::common::tools::Version;

const RECORD: &str = "/etcd-encryption-proxy/rotation";
const ROTATED: &str = "keys rotated, reencryption finished";

/// `status` names these, each at the beginning of a line.
async fn expect(shared: &Shared, lines: &[&str]) {
    let status = shared.run(&["status"]).await;
    assert_eq!(status.code, Some(0), "{status:#?}");
    for wanted in lines {
        assert!(
            status.stdout.lines().any(|line| line.starts_with(wanted)),
            "{wanted:?} is not said:\n{}",
            status.stdout
        );
    }
}

/// Ends before its end, since it waits for history.
async fn waits(shared: &Shared, word: &str) -> Outcome {
    let ended = shared.run(&[word, "--timeout=5s"]).await;
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stage_names_the_commands_that_go_on_and_they_do() {
    const COUNT: usize = 20;
    const HISTORY: &str = "Blocked: etcd's history before revision ";
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    fill(&direct, COUNT, SIZE).await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let proxies = [shared.member("a")];
    let all: Vec<&Proxy> = proxies.iter().collect();
    let rest = "Next: `prepare`, or `rotate-keys` for all at once";

    expect(&shared, &["Current Rotation Stage: start", rest]).await;
    shared.succeed(&["prepare"], "prepare completed successfully").await;
    expect(
        &shared,
        &["Current Rotation Stage: prepare", "Next: `rotate`, or `abort`"],
    )
    .await;
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    expect(&shared, &["Current Rotation Stage: start", rest]).await;
    shared.succeed(&["prepare"], "prepare completed successfully").await;
    shared.succeed(&["rotate"], "rotate completed successfully").await;
    expect(
        &shared,
        &["Current Rotation Stage: rotate", "Next: `reencrypt`, or `abort`"],
    )
    .await;
    waits(&shared, "reencrypt").await;
    expect(
        &shared,
        &[
            "Current Rotation Stage: reencrypt_active",
            HISTORY,
            "Under way: reencrypt",
            "Next: `reencrypt` goes on with what was begun, `abort` takes it back",
        ],
    )
    .await;
    shared
        .succeed(&["reencrypt", "--compact"], "reencryption started")
        .await;
    expect(&shared, &["Current Rotation Stage: reencrypt_finished", rest]).await;

    waits(&shared, "rotate-keys").await;
    expect(
        &shared,
        &[
            HISTORY,
            "Under way: rotate-keys",
            "Next: `rotate-keys` goes on with what was begun, `abort` takes it back",
        ],
    )
    .await;
    waits(&shared, "abort").await;
    expect(
        &shared,
        &[HISTORY, "Under way: abort", "Next: `abort` goes on with what was begun"],
    )
    .await;
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    waits(&shared, "rotate-keys").await;
    shared.succeed(&["rotate-keys", "--compact"], ROTATED).await;
    expect(&shared, &["Current Rotation Stage: reencrypt_finished", rest]).await;

    shared.succeed(&["disable"], "secrets-encryption disabled").await;
    expect(&shared, &["Encryption Status: Disabled", "Next: `enable`"]).await;
    shared.succeed(&["enable"], "secrets-encryption enabled").await;
    expect(&shared, &["Encryption Status: Enabled", rest]).await;
    expect_all_under(&direct, &all, COUNT, &shared.keys()[0]).await;
}

/// The record of another etcd that is served with the same file: it is named, and the command is run for that etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_of_the_other_etcd_is_named_with_its_way_out() {
    let (first, second) = tokio::join!(Etcd::start(Version::share()), Etcd::start(Version::V3_4));
    let shared = Shared::new(&first, &document(&[K1, IDENTITY]));
    let _a = shared.member("a");
    let _b = Setup::sharing(second.endpoint(), &shared.path()).member("b").start();
    let also = format!("--also-etcd-servers={}", second.endpoint());
    second.client().await.put(RECORD, "rubbish").await;
    let status = shared.run(&["status", &also]).await;
    assert_eq!(status.code, Some(0), "{status:#?}");
    let named = format!("Blocked: the record of the rotation in the etcd {}", second.endpoint());
    assert!(
        status.stdout.contains(&named) && status.stdout.contains("`secrets-encrypt abort --forget`"),
        "{status:#?}"
    );
    let refused = shared.run(&["rotate-keys", "--compact", &also]).await;
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    // The last of two --etcd-servers would be one more member, so the other etcd has a command of its own.
    let other = Shared::new(&second, &shared.text());
    let forgotten = tokio::process::Command::new(crate::common::proxy::BINARY)
        .args(["secrets-encrypt", "abort", "--forget"])
        .arg(format!("--etcd-servers={}", second.endpoint()))
        .arg(format!("--encryption-provider-config={}", shared.path().display()))
        .output()
        .await
        .expect("it starts");
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert_eq!(other.status().await["damaged"], Value::Null);
    shared.succeed(&["rotate-keys", "--compact", &also], ROTATED).await;
}

/// The record of a member that cannot be read ends with that member; together with a record of the rotation that cannot be, too, and
/// with one that no lease ends, there is still one way out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_s_record_that_cannot_be_read_is_named_until_it_ends() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document(&[K1, IDENTITY]));
    let _a = shared.member("a");
    let request = LeaseGrantRequest {
        ttl: 600,
        ..LeaseGrantRequest::default()
    };
    let lease = direct
        .lease()
        .lease_grant(request)
        .await
        .expect("a lease")
        .into_inner()
        .id;
    let put = PutRequest {
        key: b"/etcd-encryption-proxy/members/ffffffffffffffff".to_vec(),
        value: br#"{"schema":7}"#.to_vec(),
        lease,
        ..PutRequest::default()
    };
    direct.kv().put(put).await.expect("a put");
    direct.put("/etcd-encryption-proxy/members/0", "rubbish").await;
    direct.put(RECORD, "").await;
    let named = "the record of the member ffffffffffffffff cannot be read (its schema is 7";
    let status = shared.run(&["status"]).await;
    assert_eq!(status.code, Some(0), "{status:#?}");
    assert!(status.stdout.contains(named), "{status:#?}");
    let refused = shared.run(&["abort", "--forget"]).await;
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    assert!(refused.stderr.contains(named), "{refused:#?}");
    direct
        .lease()
        .lease_revoke(LeaseRevokeRequest { id: lease })
        .await
        .expect("its end");
    let done = shared
        .succeed(&["abort", "--forget"], "what left no way out is forgotten")
        .await;
    for part in [
        "- remove the record of the member 0",
        "- write a fresh record",
        "- replace the epoch",
    ] {
        assert!(done.stdout.contains(part), "{part}: {done:#?}");
    }
    expect(&shared, &["Current Rotation Stage: start"]).await;
    let nothing = shared.run(&["abort", "--forget"]).await;
    assert_eq!(nothing.code, Some(3), "{nothing:#?}");
}
