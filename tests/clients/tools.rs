//! `etcdctl` of each version, curl, nghttp and h2load: the usual calls, each way in which a timeout may be written, frames with
//! padding, headers that go on in a second frame. What etcd itself answers is what the proxy has to.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use prost::Message as _;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::common::process::PATIENCE;
use crate::common::proxy::Proxy;
use crate::common::raw::frame;
use crate::common::tools::Version;

const SECRET: &str = "/registry/secrets/default/a";
const OPEN: &str = "/registry/configmaps/default/a";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// Runs a command to its end and gives what it printed.
async fn output(mut command: Command, input: &str) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("its output");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn etcdctl(version: Version, proxy: &Proxy, words: &[&str]) -> Command {
    // What is asked of one member 3.4 asks with the endpoint, as it was given, for `:authority`. A URL is none, and the HTTP/2
    // library resets such a call.
    let of_a_member = ["endpoint", "defrag"].contains(&words[0]);
    let endpoint = match version {
        Version::V3_4 if of_a_member => address(proxy),
        _ => proxy.url(),
    };
    let mut command = Command::new(version.etcd().with_file_name("etcdctl"));
    command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoint}"))
        .args(words);
    command
}

fn address(proxy: &Proxy) -> &str {
    proxy.url().trim_start_matches("http://")
}

#[tokio::test]
#[ignore = "with others of its kind: make clients"]
async fn etcdctl_makes_the_usual_calls() {
    // Each etcdctl with its own server and with the oldest and newest.
    let all = Version::all();
    let pairs = all.iter().flat_map(|one| all.iter().map(|other| (*one, *other)));
    let ends = [all[0], all[all.len() - 1]];
    for (version, server) in pairs.filter(|(one, other)| one == other || ends.contains(other)) {
        let etcd = Etcd::start(server).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let run = async |words: &[&str], input: &str| {
            let printed = output(etcdctl(version, &proxy, words), input).await;
            String::from_utf8(printed).expect("text")
        };
        let mut watching = etcdctl(version, &proxy, &["watch", "--prefix", "/registry/secrets/"]);
        // A watch may stand only when puts have begun; it is asked for from the first revision on.
        watching.arg("--rev=1").stdout(Stdio::piped()).kill_on_drop(true);
        let mut watching = watching.spawn().expect("it starts");
        let mut events = BufReader::new(watching.stdout.take().expect("a pipe")).lines();

        assert_eq!(run(&["put", SECRET, "one"], "").await, "OK\n");
        assert_eq!(
            run(&["put", "--prev-kv", SECRET, "two"], "").await,
            format!("OK\n{SECRET}\none\n")
        );
        assert_eq!(
            run(&["get", "--prefix", "/registry/secrets/"], "").await,
            format!("{SECRET}\ntwo\n")
        );
        let create = format!("mod(\"{SECRET}\") = \"0\"\n\nput {SECRET} three\n\nget {SECRET}\n\n");
        let answered = run(&["txn"], &create).await;
        assert_eq!(
            answered,
            format!("FAILURE\n\n{SECRET}\ntwo\n"),
            "{version:?} on {server:?}"
        );
        assert_eq!(
            run(&["del", "--prev-kv", SECRET], "").await,
            format!("1\n{SECRET}\ntwo\n")
        );
        for expected in ["PUT", SECRET, "one", "PUT", SECRET, "two", "DELETE", SECRET] {
            let line = timeout(PATIENCE, events.next_line()).await.expect("an event");
            assert_eq!(line.expect("its output").as_deref(), Some(expected));
        }

        let granted = run(&["lease", "grant", "600"], "").await;
        let lease = granted.split_whitespace().nth(1).expect("a lease");
        run(&["put", "--lease", lease, SECRET, "leased"], "").await;
        let kept = run(&["lease", "keep-alive", "--once", lease], "").await;
        assert!(kept.contains("keepalived with TTL(600)"), "{kept}");
        let left = run(&["lease", "timetolive", "--keys", lease], "").await;
        assert!(left.contains(SECRET), "{left}");
        run(&["lease", "revoke", lease], "").await;
        assert_eq!(run(&["get", SECRET], "").await, "");
        for words in [
            &["endpoint", "health"][..],
            &["endpoint", "status"],
            &["endpoint", "hashkv"],
            &["member", "list"],
            &["alarm", "list"],
            &["compaction", "2"],
            &["defrag"],
        ] {
            run(words, "").await;
        }
    }
}

/// A request in a file, and etcd and a proxy that it can be put to.
struct Asked {
    etcd: Etcd,
    proxy: Proxy,
    folder: TempDir,
}

impl Asked {
    async fn start(version: Version) -> Self {
        let etcd = Etcd::start(version).await;
        let proxy = Proxy::before(&etcd, config::secrets());
        let client = proxy.client().await;
        client.put(SECRET, b"a secret".to_vec()).await;
        client.put(OPEN, b"no secret".to_vec()).await;
        Self {
            etcd,
            proxy,
            folder: TempDir::new().expect("a folder"),
        }
    }

    fn request(&self, key: &str) -> PathBuf {
        let request = RangeRequest {
            key: key.into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let path = self.folder.path().join("request");
        std::fs::write(&path, frame(&request.encode_to_vec())).expect("a file");
        path
    }
}

/// The gRPC headers, and these.
fn headers<'a>(more: &'a [&str]) -> impl Iterator<Item = &'a str> {
    ["content-type: application/grpc", "te: trailers"]
        .into_iter()
        .chain(more.iter().copied())
}

/// What an answer that curl wrote holds: its body, and the status in its headers or trailers.
async fn curl(url: &str, request: &Path, more: &[&str], folder: &Path) -> (Vec<u8>, String) {
    let (told, body) = (folder.join("headers"), folder.join("body"));
    // Of an answer without a body curl writes none.
    let _ = std::fs::remove_file(&body);
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--http2-prior-knowledge", "--data-binary"]);
    command.arg(format!("@{}", request.display()));
    for header in headers(more) {
        command.args(["-H", header]);
    }
    command
        .arg("-D")
        .arg(&told)
        .arg("-o")
        .arg(&body)
        .arg(format!("{url}{RANGE}"));
    output(command, "").await;
    let told = std::fs::read_to_string(told).expect("headers");
    let status = told.lines().find_map(|line| line.strip_prefix("grpc-status: "));
    (
        std::fs::read(body).unwrap_or_default(),
        status.unwrap_or("none").trim().to_owned(),
    )
}

/// The only value in a framed answer.
fn value(body: &[u8]) -> Vec<u8> {
    let answer = RangeResponse::decode(&body[5..]).expect("a range's answer");
    answer.kvs[0].value.clone()
}

#[tokio::test]
#[ignore = "needs curl: make clients"]
async fn curl_gets_what_etcd_answers() {
    for version in Version::all() {
        let asked = Asked::start(version).await;
        let (etcd, proxy, folder) = (asked.etcd.endpoint(), asked.proxy.url(), asked.folder.path());
        let odd: [&[&str]; 12] = [
            &[],
            &["grpc-timeout: 1H"],
            &["grpc-timeout: 2M"],
            &["grpc-timeout: 90S"],
            &["grpc-timeout: 90000m"],
            &["grpc-timeout: 90000000u"],
            &["user-agent: odd/1.0 (a client; of ours)"],
            &["x-bytes-bin: AAEC/w==", "x-bytes-bin: AAEC/w"],
            &["x-empty;", "x-twice: 1", "x-twice: 2"],
            &["grpc-encoding: identity", "grpc-accept-encoding: identity,deflate,gzip"],
            &["grpc-encoding: gzip"],
            &["accept-encoding: identity", "accept: */*", "cookie: a=b"],
        ];
        for more in odd {
            let direct = curl(&etcd, &asked.request(OPEN), more, folder).await;
            let proxied = curl(proxy, &asked.request(OPEN), more, folder).await;
            // etcd decides what becomes of a compression that it does not know.
            if more != ["grpc-encoding: gzip"] {
                assert_eq!(direct.1, "0", "{more:?}");
                assert_eq!(direct, proxied, "{more:?}");
            }
            let opened = curl(proxy, &asked.request(SECRET), more, folder).await;
            assert_eq!(
                (value(&opened.0).as_slice(), &*opened.1),
                (&b"a secret"[..], "0"),
                "{more:?}"
            );
        }
        // A tenth of a second, which a busy machine may need.
        let short = curl(proxy, &asked.request(SECRET), &["grpc-timeout: 99999999n"], folder).await;
        assert!(["0", "4", "14"].contains(&&*short.1), "{short:?}");
        for path in ["/health", "/version"] {
            for http in ["--http1.1", "--http2-prior-knowledge"] {
                let mut command = Command::new("curl");
                command
                    .args(["--silent", "--show-error", "--fail", http])
                    .arg(format!("{proxy}{path}"));
                let printed = output(command, "").await;
                assert!(printed.starts_with(b"{"), "{path}");
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs nghttp: make clients"]
async fn nghttp_pads_and_continues() {
    for version in Version::all() {
        let asked = Asked::start(version).await;
        for flags in [
            &["--padding=255"][..],
            &["--continuation"],
            &["--padding=100", "--continuation"],
            &["--no-dep", "--window-bits=10"],
            &["--header-table-size=0"],
            &["--hexdump"],
        ] {
            let asked_for = |url: &str, key: &str| {
                let mut command = Command::new("nghttp");
                command.args(flags.iter().filter(|flag| **flag != "--hexdump"));
                for header in headers(&["user-agent: odd"]) {
                    command.arg(format!("--header={header}"));
                }
                command.arg(format!("--data={}", asked.request(key).display()));
                command.arg(format!("{url}{RANGE}"));
                output(command, "")
            };
            let direct = asked_for(&asked.etcd.endpoint(), OPEN).await;
            let proxied = asked_for(asked.proxy.url(), OPEN).await;
            assert_eq!(direct, proxied, "{flags:?}");
            assert_eq!(value(&proxied), b"no secret", "{flags:?}");
            let opened = asked_for(asked.proxy.url(), SECRET).await;
            assert_eq!(value(&opened), b"a secret", "{flags:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs h2load: make clients"]
async fn h2load_is_served_to_its_last_request() {
    let asked = Asked::start(Version::V3_5).await;
    for flags in [
        &["-n", "4000", "-c", "16", "-m", "50"][..],
        &["-n", "4000", "-c", "4", "-m", "500", "-w", "10", "-W", "16"],
        &["-n", "4000", "-c", "200", "-m", "1"],
    ] {
        let mut command = Command::new("h2load");
        command.args(flags);
        for header in headers(&["user-agent: odd"]) {
            command.args(["-H", header]);
        }
        command
            .arg("-d")
            .arg(asked.request(SECRET))
            .arg(format!("{}{RANGE}", asked.proxy.url()));
        let printed = String::from_utf8(output(command, "").await).expect("text");
        let expected = "4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(printed.contains(expected), "{flags:?}: {printed}");
    }
}
