//! Clients that make the process hold what it may not hold, or work for nobody: memory stays bounded, and others are served.
//!
//! Here each attack is a tenth of what `make attack` makes of it (`ATTACK_SCALE=1`), which prints a table. Memory is asserted;
//! times are shown, since a busy machine has its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::task::JoinHandle;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::frames::{self, Frames, NEWEST, Reads};
use crate::common::pb::etcdserverpb::watch_request::RequestUnion;
use crate::common::pb::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use crate::common::pki::Pki;
use crate::common::proxy::{Proxy, Setup};
use crate::common::raw::frame;
use crate::common::tools::Version;

const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What the process may have resident at most, bytes: what README and SECURITY.md say, and an idle process.
const MOST: u64 = 600 * 1024 * 1024;

/// No attack takes longer.
const LONGEST: Duration = Duration::from_secs(20);

/// Bytes that are gathered before they are sent.
const BATCH: usize = 64 * 1024;

/// An attack's target, with an honest client beside it.
struct Scene {
    proxy: Proxy,
    etcd: Etcd,
    honest: Honest,
}

/// Somebody who asks for a Secret every five milliseconds.
struct Honest {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Vec<Duration>>,
}

fn scaled(count: usize) -> usize {
    let scale = std::env::var("ATTACK_SCALE").map_or(0.1, |text| text.parse().expect("a number"));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let scaled = (count as f64 * scale) as usize;
    scaled.max(1)
}

impl Scene {
    /// One runtime, so that nobody is out of the way.
    async fn start() -> Self {
        let etcd = Etcd::start(Version::V3_5).await;
        let proxy = Setup::new(etcd.endpoint(), config::secrets())
            .flag("--threads=1")
            .start();
        let client = proxy.client().await;
        client.put("/registry/secrets/default/mine", vec![b'm'; 1024]).await;
        client
            .put("/registry/secrets/default/large", vec![b'l'; 16 * 1024])
            .await;
        let honest = Honest::start(client);
        Self { proxy, etcd, honest }
    }

    /// Secrets of altogether some megabytes below `prefix`.
    async fn fill(&self, prefix: &str, megabytes: usize) {
        let client = self.etcd.client().await;
        for index in 0..megabytes {
            client.put(format!("{prefix}{index:04}"), vec![b'x'; 1_000_000]).await;
        }
    }

    async fn ends(self, name: &str, detail: &str) {
        // What was answered before the attack's end has come in by then; not needed for a pass.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut asked = self.honest.stop().await;
        asked.sort_unstable();
        assert!(!asked.is_empty(), "the honest client was answered");
        let at = |part: usize| asked[(asked.len() - 1) * part / 100].as_secs_f64() * 1e3;
        let (peak, now) = (self.proxy.peak() >> 20, self.proxy.resident() >> 20);
        eprintln!(
            "| {name} | {detail} | {peak} MB | {now} MB | {:.1} | {:.1} | {:.1} |",
            at(50),
            at(99),
            at(100)
        );
        assert!(self.proxy.peak() < MOST, "{name}: {peak} MB");
    }
}

impl Honest {
    fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asking = tokio::spawn(async move {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let value = client.value("/registry/secrets/default/mine").await;
                assert_eq!(value.len(), 1024);
                took.push(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            took
        });
        Self { stop, asking }
    }

    async fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.await.expect("all of its calls succeed")
    }
}

fn range(key: &str, end: &str) -> Vec<u8> {
    let request = RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    };
    frame(&request.encode_to_vec())
}

/// Does `one` so often, or until the proxy takes no more; says how often.
async fn repeat(frames: &mut Frames, count: usize, mut one: impl FnMut(&mut Frames, usize)) -> usize {
    let begun = Instant::now();
    for turn in 0..count {
        one(frames, turn);
        if (frames.pending() >= BATCH || turn + 1 == count) && !frames.flush().await {
            return turn;
        }
        if begun.elapsed() > LONGEST {
            return turn;
        }
    }
    count
}

/// Each answer is short, and none is read.
#[tokio::test]
async fn short_answers_that_nobody_reads() {
    for (window, reads) in [(0, Reads::All), (1 << 30, Reads::Nothing)] {
        let scene = Scene::start().await;
        let mut frames = Frames::connect(scene.proxy.url(), window, reads).await;
        let (block, body) = (frames::call(RANGE), range("/registry/secrets/default/large", ""));
        let done = repeat(&mut frames, scaled(60_000), |frames, _| {
            let stream = frames.begin(&block, false);
            frames.body(stream, &body);
        })
        .await;
        scene
            .ends(
                "gets of 16 KB",
                &format!("{done} calls, window {window}, reads {reads:?}"),
            )
            .await;
    }
}

#[tokio::test]
async fn lists_that_nobody_reads() {
    for (window, reads) in [(0, Reads::All), (1 << 30, Reads::Nothing)] {
        let scene = Scene::start().await;
        scene.fill("/registry/configmaps/a/", 5).await;
        let mut frames = Frames::connect(scene.proxy.url(), window, reads).await;
        let (block, body) = (
            frames::call(RANGE),
            range("/registry/configmaps/a/", "/registry/configmaps/a0"),
        );
        let done = repeat(&mut frames, scaled(3000), |frames, _| {
            let stream = frames.begin(&block, false);
            frames.body(stream, &body);
        })
        .await;
        scene
            .ends(
                "lists of 5 MB",
                &format!("{done} calls, window {window}, reads {reads:?}"),
            )
            .await;
    }
}

/// A field that is named by its index takes one byte to send and thousands to hold.
#[tokio::test]
async fn header_lists_by_index() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 0, Reads::All).await;
    let mut first = frames::call(RANGE);
    frames::remembered(&mut first, "x", &[b'h'; 3900]);
    frames.begin(&first, false);
    let block = [frames::call(RANGE), vec![NEWEST; 60]].concat();
    let done = repeat(&mut frames, scaled(100_000), |frames, _| {
        frames.begin(&block, false);
    })
    .await;
    scene.ends("header lists by index", &format!("{done} calls")).await;
}

#[tokio::test]
async fn large_header_lists() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 0, Reads::All).await;
    let mut block = frames::call(RANGE);
    for index in 0..50 {
        frames::literal(&mut block, &format!("x-{index}"), &[b'h'; 1200]);
    }
    let done = repeat(&mut frames, scaled(30_000), |frames, _| {
        frames.begin(&block, false);
    })
    .await;
    scene.ends("header lists of 60 KB", &format!("{done} calls")).await;
}

#[tokio::test]
async fn unknown_calls_whose_refusal_nobody_reads() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 0, Reads::Nothing).await;
    let block = frames::call("/etcdserverpb.KV/Nothing");
    let done = repeat(&mut frames, scaled(300_000), |frames, _| {
        frames.begin(&block, true);
    })
    .await;
    scene.ends("unknown calls", &format!("{done} calls")).await;
}

#[tokio::test]
async fn metrics_that_nobody_reads() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 0, Reads::All).await;
    let block = frames::get("/metrics");
    let done = repeat(&mut frames, scaled(3000), |frames, _| {
        frames.begin(&block, true);
    })
    .await;
    scene.ends("GET /metrics", &format!("{done} calls")).await;
}

/// The past of many keys, asked for again and again.
#[tokio::test]
async fn watches_that_nobody_reads() {
    let scene = Scene::start().await;
    // etcd reads all of it for each stream: with more in a short run it is etcd that keeps the honest client waiting.
    scene.fill("/registry/configmaps/a/", scaled(20).max(2)).await;
    let mut frames = Frames::connect(scene.proxy.url(), 0, Reads::All).await;
    let create = WatchCreateRequest {
        key: b"/registry/configmaps/".to_vec(),
        range_end: b"/registry/configmaps0".to_vec(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let (block, body) = (frames::call(WATCH), frame(&request.encode_to_vec()));
    let done = repeat(&mut frames, scaled(4000), |frames, _| {
        let stream = frames.begin(&block, false);
        frames.part(stream, &body);
    })
    .await;
    scene.ends("watches of the past", &format!("{done} streams")).await;
}

/// Requests that are begun with a large message and never end.
#[tokio::test]
async fn requests_that_never_end() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 0, Reads::All).await;
    let put = PutRequest {
        key: b"/registry/configmaps/a".to_vec(),
        value: vec![b'x'; 1_500_000],
        ..PutRequest::default()
    };
    let (block, body) = (frames::call("/etcdserverpb.KV/Put"), frame(&put.encode_to_vec()));
    let done = repeat(&mut frames, scaled(5000), |frames, _| {
        let stream = frames.begin(&block, false);
        frames.part(stream, &body[..12_000]);
    })
    .await;
    scene.ends("puts without end", &format!("{done} calls")).await;
}

/// Calls that are taken back at once. A client that does so without end is let go.
#[tokio::test]
async fn calls_that_are_reset_at_once() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 1 << 20, Reads::All).await;
    let (block, body) = (frames::call(RANGE), range("/registry/secrets/default/large", ""));
    let done = repeat(&mut frames, scaled(300_000), |frames, _| {
        let stream = frames.begin(&block, false);
        frames.body(stream, &body);
        frames.reset(stream);
    })
    .await;
    // That many in that time nobody makes that works; a tenth of them a kube-apiserver may.
    if scaled(300_000) >= 100_000 {
        assert!(frames.is_closed().await, "{done} resets");
    }
    scene.ends("resets", &format!("{done} calls")).await;
}

#[tokio::test]
async fn calls_without_a_message() {
    let scene = Scene::start().await;
    let mut frames = Frames::connect(scene.proxy.url(), 1 << 20, Reads::All).await;
    let block = frames::call(RANGE);
    let done = repeat(&mut frames, scaled(300_000), |frames, _| {
        let stream = frames.begin(&block, false);
        frames.end_with_trailers(stream);
    })
    .await;
    scene.ends("empty trailers", &format!("{done} calls")).await;
}

/// The conformance tests of HTTP/2, strict ones included, without TLS and with it. One of them does not hold, for a reason.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program that tests/h2spec builds: make attack"]
async fn http2_is_spoken_as_its_specification_has_it() {
    /// A client that does not begin as HTTP/2 is one of HTTP/1.1, which is served on the same port. Under TLS ALPN has said which.
    const PLAIN: [&str; 1] = ["Sends invalid connection preface"];
    let program = std::env::var("ATTACK_H2SPEC").expect("the path of h2spec");
    let etcd = Etcd::start(Version::V3_5).await;
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::generate(folder.path(), &["proxy.test"]);
    let plain = Setup::new(etcd.endpoint(), config::secrets()).start();
    let tls = Setup::new(etcd.endpoint(), config::secrets())
        .listen(&["https://127.0.0.1:0"])
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .start();
    for (proxy, flags, expected) in [(&plain, &[][..], &PLAIN[..]), (&tls, &["-t", "-k"][..], &[][..])] {
        let port = proxy.url().rsplit_once(':').unwrap().1;
        let output = std::process::Command::new(&program)
            .args(["-S", "-h", "127.0.0.1", "-p", port, "-P", "/version", "-o", "10"])
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        eprintln!("{}", text.lines().last().unwrap_or_default());
        let (_, failures) = text.split_once("Failures:").unwrap_or(("", ""));
        let failed: Vec<_> = failures
            .lines()
            .filter_map(|line| line.trim().strip_prefix("\u{d7} "))
            .map(|line| line.split_once(": ").map_or(line, |(_, name)| name))
            .collect();
        assert!(failed.iter().all(|name| expected.contains(name)), "{failed:?}\n{text}");
        assert!(text.contains("146 tests"), "{text}");
    }
}
