//! `snapshot inspect` on files that real etcds have written: what they hold is found, whatever their age and shape; keys that
//! a restore would miss are named; what is damaged is told as such.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::kms::Plugin;
use crate::common::pb::etcdserverpb::request_op::Request as Op;
use crate::common::pb::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::common::snapshot::{Outcome, inspect, save, stream};
use crate::common::sweep::{IDENTITY, K1, K2, Sweep, document, key, sealed_with_k1};
use crate::common::tools::Version;

const OBJECT: &[u8] = b"k8s\0a secret of some length, as they are";

/// Stores the secrets `range`, under the key k1 or in the clear, a hundred to a transaction.
async fn fill(client: &Client, range: std::ops::Range<usize>, is_sealed: bool) {
    let all: Vec<usize> = range.collect();
    for part in all.chunks(100) {
        let put = |&index: &usize| RequestOp {
            request: Some(Op::RequestPut(PutRequest {
                value: if is_sealed {
                    sealed_with_k1(&key(index), OBJECT)
                } else {
                    OBJECT.to_vec()
                },
                key: key(index).into_bytes(),
                ..PutRequest::default()
            })),
        };
        let request = TxnRequest {
            success: part.iter().map(put).collect(),
            ..TxnRequest::default()
        };
        client.txn(request).await;
    }
}

async fn compact(client: &Client) -> i64 {
    let revision = revision(client).await;
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    client.kv().compact(request).await.unwrap();
    revision
}

async fn revision(client: &Client) -> i64 {
    let answer = client.range(RangeRequest {
        key: b"nothing".to_vec(),
        ..RangeRequest::default()
    });
    answer.await.header.expect("a header").revision
}

/// Rows of the inventory without what is the same in all: state, provider, key, objects, history.
fn rows(report: &Value) -> Vec<Value> {
    let lines = report["inventory"].as_array().expect("an inventory").iter();
    lines
        .map(|line| {
            json!([
                line["state"],
                line["provider"],
                line["key"],
                line["objects"],
                line["history"]
            ])
        })
        .collect()
}

fn expect(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.code, Some(code), "{outcome:#?}");
}

#[tokio::test]
async fn what_etcd_has_written_is_found_with_its_history_and_without() {
    const MANY: usize = 20_000;
    for version in Version::two() {
        let etcd = Etcd::start(version).await;
        let client = etcd.client().await;
        let folder = TempDir::new().unwrap();
        // Enough for branches above branches.
        fill(&client, 0..MANY, true).await;
        fill(&client, 0..1_000, false).await;
        for index in 2_000..2_100 {
            client.delete(key(index)).await;
        }
        fill(&client, 2_000..2_010, true).await;
        // Runs of pages.
        for index in MANY..MANY + 5 {
            let mut object = OBJECT.to_vec();
            object.resize(1_400_000, b'.');
            client.put(key(index), sealed_with_k1(&key(index), &object)).await;
        }
        let mut broken = sealed_with_k1("/registry/secrets/default/broken", OBJECT);
        broken.pop();
        client.put("/registry/secrets/default/broken", broken).await;
        client
            .put("/registry/secrets/default/lost", "k8s:enc:secretbox:v1:lost:rubbish")
            .await;
        client.put("/registry/configmaps/default/a", OBJECT).await;

        let file = save(version, &etcd.endpoint(), folder.path(), "before.db");
        let documents = [document(&[K1, IDENTITY])];
        let outcome = inspect(&file, &documents, &["-ojson"]);
        expect(&outcome, 4);
        let report = outcome.report();
        let sealed = MANY - 1_000 - 100 + 10 + 5;
        assert_eq!(
            rows(&report),
            [
                json!(["opens", "aescbc", "k1", sealed, 1_000 + 100]),
                json!(["opens", "identity", "", 1_000, 0]),
                json!(["undecryptable", "aescbc", "k1", 1, 0]),
                json!(["missing", "secretbox", "lost", 1, 0]),
            ],
            "{version:?}"
        );
        assert_eq!(report["counts"]["keys"], json!(client.everything().await.len()));
        assert_eq!(report["counts"]["tombstones"], 100);
        assert_eq!(report["counts"]["noRule"], json!({"objects": 1, "history": 0}));
        assert_eq!(report["store"]["revision"], revision(&client).await);
        assert_eq!(report["store"]["compacted"], 0);
        assert_eq!(report["file"]["checksum"], "valid");
        let named: Vec<_> = report["left"]
            .as_array()
            .unwrap()
            .iter()
            .map(|left| &left["etcdKey"])
            .collect();
        assert_eq!(
            named,
            ["/registry/secrets/default/broken", "/registry/secrets/default/lost"]
        );
        let status = status(version, &file);
        assert_eq!(
            (&report["store"]["revision"], &report["store"]["bytes"]),
            (&status["revision"], &status["totalSize"])
        );

        // Without history, and as other programs save it.
        let compacted = compact(&client).await;
        client.delete("/registry/secrets/default/lost").await;
        client.delete("/registry/secrets/default/broken").await;
        compact(&client).await;
        let file = folder.path().join("after.db");
        fs::write(&file, stream(&client).await).unwrap();
        let outcome = inspect(&file, &documents, &["-ojson"]);
        expect(&outcome, 0);
        let report = outcome.report();
        assert_eq!(
            rows(&report),
            [
                json!(["opens", "aescbc", "k1", sealed, 0]),
                json!(["opens", "identity", "", 1_000, 0]),
            ]
        );
        assert_eq!(report["store"]["compacted"], compacted + 2);
        assert_eq!(report["store"]["revision"], compacted + 2);
    }
}

/// What etcd's own tool says of a snapshot.
fn status(version: Version, file: &Path) -> Value {
    // etcdctl has handed that to etcdutl.
    let tool = match version {
        Version::V3_4 | Version::V3_5 => "etcdctl",
        Version::V3_6 | Version::V3_7 => "etcdutl",
    };
    let output = Command::new(version.etcd().with_file_name(tool))
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "status", "-w", "json"])
        .arg(file)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn the_key_that_a_restore_would_miss_is_named_before_it() {
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    let folder = TempDir::new().unwrap();
    fill(&client, 0..200, true).await;
    let save = |name: &str| save(Version::V3_5, &etcd.endpoint(), folder.path(), name);
    let before = save("before.db");
    Sweep::of(&etcd, &[K2, K1]).run().await.expect_clean();
    let (old, new) = (document(&[K1]), document(&[K2]));

    let outcome = inspect(&before, std::slice::from_ref(&new), &[]);
    expect(&outcome, 4);
    assert!(
        outcome.stdout.contains("aescbc key \"k1\": is missing; 200 values\n"),
        "{outcome:#?}"
    );
    assert!(outcome.stdout.contains("200 values would not open"), "{outcome:#?}");
    let outcome = inspect(&before, &[new.clone(), old.clone()], &["-ojson"]);
    expect(&outcome, 0);
    let report = outcome.report();
    assert_eq!(report["inventory"][0]["configuration"], "1.yaml");
    assert_eq!(
        report["keys"],
        json!([
            {"configuration": "0.yaml", "provider": "aescbc", "key": "k2", "objects": 0, "history": 0, "isIdle": true},
            {"configuration": "1.yaml", "provider": "aescbc", "key": "k1", "objects": 200, "history": 0, "isIdle": false},
        ])
    );

    // The old key is needed for history until that is compacted away.
    let between = save("between.db");
    let outcome = inspect(&between, std::slice::from_ref(&new), &["-ojson"]);
    expect(&outcome, 3);
    assert_eq!(
        rows(&outcome.report()),
        [
            json!(["opens", "aescbc", "k2", 200, 0]),
            json!(["missing", "aescbc", "k1", 0, 200]),
        ]
    );
    let outcome = inspect(&between, &[new.clone(), old.clone()], &[]);
    expect(&outcome, 0);
    assert!(outcome.stdout.ends_with("\nEvery value opens.\n"), "{outcome:#?}");
    let outcome = inspect(&before, &[new.clone(), old], &[]);
    expect(&outcome, 0);
    assert!(
        outcome
            .stdout
            .contains("200 of them only with a configuration behind the first: what 0.yaml lacks"),
        "{outcome:#?}"
    );
    compact(&client).await;
    expect(&inspect(&save("after.db"), std::slice::from_ref(&new), &[]), 0);

    // What should be looked at is not below the prefix that was given.
    let outcome = inspect(&between, &[new], &["--etcd-prefix=/elsewhere"]);
    expect(&outcome, 4);
    assert!(outcome.stdout.contains("outside of --etcd-prefix"), "{outcome:#?}");
}

#[tokio::test]
async fn values_of_a_kms_are_opened_by_it_and_unasked_where_it_is_away() {
    const KEYS: u64 = 700;
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    let folder = TempDir::new().unwrap();
    fill(&client, 0..usize::try_from(KEYS).unwrap(), false).await;
    let mut plugin = Plugin::start();
    let kms = |version: &str| {
        let endpoint = plugin.endpoint();
        format!("{{kms: {{apiVersion: {version}, name: plugin-{version}, endpoint: '{endpoint}', timeout: 1s}}}}")
    };
    let (v1, v2) = (kms("v1"), kms("v2"));
    let mut files = Vec::new();
    for (providers, name) in [([&v2, IDENTITY], "2.db"), ([&v1, &v2], "1.db")] {
        Sweep::of(&etcd, &providers).run().await.expect_clean();
        compact(&client).await;
        files.push(save(Version::V3_5, &etcd.endpoint(), folder.path(), name));
    }
    // Time enough on a busy machine for an answer; none is waited for so long where the plugin is away.
    let patient = [document(&[&v1, &v2]).replace("timeout: 1s", "timeout: 1m")];
    let documents = [document(&[&v1, &v2])];
    let opened: Vec<Value> = files
        .iter()
        .map(|file| {
            let outcome = inspect(file, &patient, &["-ojson"]);
            expect(&outcome, 0);
            outcome.report()
        })
        .collect();
    assert_eq!(rows(&opened[0]), [json!(["opens", "kms v2", "plugin-v2", KEYS, 0])]);
    assert_eq!(opened[0]["inventory"][0]["keyId"], "key-0");
    assert_eq!(rows(&opened[1]), [json!(["opens", "kms v1", "plugin-v1", KEYS, 0])]);

    plugin.stop();
    for (file, needs) in files
        .iter()
        .zip(["kms v2 key \"plugin-v2\", key ID \"key-0\"", "kms v1 key \"plugin-v1\""])
    {
        let outcome = inspect(file, &documents, &[]);
        expect(&outcome, 6);
        assert!(
            outcome
                .stdout
                .contains(&format!("{needs}: could not be asked; {KEYS} values\n")),
            "{outcome:#?}"
        );
        expect(&inspect(file, &[document(&[K1])], &[]), 4);
    }
}

#[tokio::test]
async fn a_copy_of_a_data_folder_is_read_and_one_that_etcd_works_on_is_not() {
    for version in Version::two() {
        let mut etcd = Etcd::start(version).await;
        let client = etcd.client().await;
        fill(&client, 0..300, true).await;
        let live = etcd.folder().join("data/member/snap/db");
        let outcome = inspect(&live, &[document(&[K1])], &[]);
        expect(&outcome, 1);
        assert!(outcome.stderr.contains("is in use, by a running etcd"), "{outcome:#?}");
        // What it knows is in the file once it has ended in good order; before, perhaps, only in its log.
        etcd.stop();
        let outcome = inspect(&live, &[document(&[K1])], &["-ojson"]);
        expect(&outcome, 0);
        let report = outcome.report();
        assert_eq!(rows(&report), [json!(["opens", "aescbc", "k1", 300, 0])]);
        assert_eq!(report["file"]["checksum"], "absent");
    }
}

#[tokio::test]
async fn what_is_damaged_or_cut_off_is_told_with_its_place() {
    let etcd = Etcd::start(Version::V3_5).await;
    let client = etcd.client().await;
    let folder = TempDir::new().unwrap();
    fill(&client, 0..2_000, true).await;
    let whole = stream(&client).await;
    let file = folder.path().join("damaged.db");
    let run = |bytes: &[u8], flags: &[&str]| {
        fs::write(&file, bytes).unwrap();
        inspect(&file, &[document(&[K1])], flags)
    };
    expect(&run(&whole, &[]), 0);
    let fails = |bytes: &[u8], flags: &[&str], what: &str| {
        let outcome = run(bytes, flags);
        expect(&outcome, 1);
        assert!(outcome.stdout.is_empty(), "{outcome:#?}");
        assert!(
            outcome.stderr.contains("\"damaged.db\"") && outcome.stderr.contains(what),
            "{what}: {outcome:#?}"
        );
    };

    let database = whole.len() - 32;
    let skip = "--skip-hash-check";
    fails(
        &whole[..whole.len() - 1],
        &[],
        "neither a database nor one with the 32 bytes of its SHA-256",
    );
    fails(&whole[..database - 4096], &[], "it is cut off");
    fails(&whole[..database / 2 / 512 * 512 + 77], &[skip], "it is cut off");
    fails(&whole[..100], &[], "neither a database");
    fails(b"", &[], "no valid meta page");
    fails(&[b'x'; 8192], &[], "its magic number is wrong");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    fails(
        &flipped(database + 5),
        &[],
        &format!("stands behind it at offset {database}"),
    );
    expect(&run(&flipped(database + 5), &[skip]), 0);
    fails(&flipped(database / 2), &[], "its SHA-256 is");
    // The number of each page in turn: those of the tree are missed, and the others are of no consequence.
    let mut missed = 0;
    for page in 2..database / 4096 {
        let outcome = run(&flipped(page * 4096), &[skip]);
        // Of a page in the midst of a run of pages that is a byte of a value.
        let is_of_value = outcome.code == Some(4) && !outcome.stdout.contains("Every value opens.");
        if outcome.code == Some(0) || is_of_value {
            continue;
        }
        expect(&outcome, 1);
        let place = format!("page {page} at offset {}", page * 4096);
        assert!(outcome.stderr.contains(&place), "{outcome:#?}");
        missed += 1;
        if missed > 20 {
            break;
        }
    }
    assert!(missed > 20);
    // Ciphertext is not bbolt's, and its loss is one value's.
    let at = whole
        .windows(21)
        .rposition(|bytes| bytes == b"k8s:enc:aescbc:v1:k1:")
        .unwrap();
    expect(&run(&flipped(at + 40), &[skip]), 4);

    let outcome = inspect(&folder.path().join("nowhere.db"), &[document(&[K1])], &[]);
    expect(&outcome, 1);
    assert!(outcome.stderr.contains("\"nowhere.db\" cannot be read"), "{outcome:#?}");
    let outcome = inspect(&file, &["kind: nothing".to_owned()], &[]);
    expect(&outcome, 1);
    assert!(outcome.stderr.contains("\"0.yaml\" is refused"), "{outcome:#?}");
}
