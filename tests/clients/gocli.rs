//! `tests/gocli`, run beside a test: etcd's own library for Go at work.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longest wait for a line of it. The last calls of a load may take their whole deadline of 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// From one put and get of a load to the next. Seven loads run side by side, on whatever machine there is.
pub const EVERY: Duration = Duration::from_millis(50);

/// What a load came to. Times are milliseconds.
#[derive(Clone, Debug, Deserialize)]
pub struct Load {
    pub calls: u64,
    pub puts_failed: u64,
    pub gets_failed: u64,
    /// Gets that gave something else than what was put.
    pub wrong: u64,
    /// What failed calls said, and how often.
    pub texts: BTreeMap<String, u64>,
    pub longest: f64,
    pub longest_put: f64,
    pub longest_get: f64,
    pub p99: f64,
}

impl Load {
    pub fn failed(&self) -> u64 {
        self.puts_failed + self.gets_failed
    }

    /// How many of them were under way on a connection that was lost.
    pub fn lost(&self) -> u64 {
        let is_lost = |text: &&String| {
            ["error reading from server", "connection to etcd lost"]
                .iter()
                .any(|words| text.contains(words))
        };
        let lost = self.texts.iter().filter(|(text, _)| is_lost(text));
        lost.map(|(_, count)| count).sum()
    }
}

/// What watches came to.
#[derive(Clone, Debug, Deserialize)]
pub struct Watches {
    pub watches: u64,
    pub open: u64,
    pub events: u64,
    pub errors: u64,
    pub texts: BTreeMap<String, u64>,
}

/// A client at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Gocli {
    // Killed on drop.
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Gocli {
    /// A put and a get [`EVERY`] so often of keys that begin with `below`, by way of `endpoints`, from [`Gocli::begin`] on. It is
    /// started by the words `under`.
    pub async fn load(under: &[&str], endpoints: &[&str], below: &str) -> Self {
        let (below, every) = (format!("-below={below}"), format!("-every={}ms", EVERY.as_millis()));
        Self::start(under, &["load", &endpoints_flag(endpoints), &below, &every]).await
    }

    /// Has a load begin.
    pub async fn begin(&mut self) {
        self.say("begin").await;
    }

    /// Watches, which stand when this returns; `flags` say how many.
    pub async fn watch(endpoints: &[&str], flags: &[&str]) -> Self {
        let endpoints = endpoints_flag(endpoints);
        let words: Vec<_> = ["watch", &endpoints].into_iter().chain(flags.iter().copied()).collect();
        Self::start(&[], &words).await
    }

    async fn start(under: &[&str], words: &[&str]) -> Self {
        let program = program();
        let mut line = under.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut child = Command::new(line.next().expect("gocli at least"))
            .args(line)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("gocli starts");
        let (stdin, stdout) = (
            child.stdin.take().expect("a pipe"),
            child.stdout.take().expect("a pipe"),
        );
        let mut client = Self {
            _child: child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        };
        assert_eq!(client.line().await, "ready", "{words:?}");
        client
    }

    /// Says `line` to it.
    pub async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.expect("it listens");
    }

    /// What its watches have seen so far.
    pub async fn look(&mut self) -> Watches {
        self.say("look").await;
        self.report().await
    }

    /// Has it end its work, and gives what came of it.
    pub async fn finish<T: DeserializeOwned>(self) -> T {
        let Self { _child, stdin, lines } = self;
        drop(stdin);
        let mut lines = lines;
        parse(&next(&mut lines).await)
    }

    async fn report<T: DeserializeOwned>(&mut self) -> T {
        parse(&self.line().await)
    }

    async fn line(&mut self) -> String {
        next(&mut self.lines).await
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(PATIENCE, lines.next_line())
        .await
        .expect("gocli says something");
    line.expect("its output")
        .expect("gocli ended early; see its standard error")
}

fn parse<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn endpoints_flag(endpoints: &[&str]) -> String {
    format!("-endpoints={}", endpoints.join(","))
}

/// Where tests/gocli/build.sh put it.
fn program() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/gocli");
    let path = env::var_os("CLIENTS_GOCLI").map_or(default, PathBuf::from);
    assert!(path.is_file(), "no gocli at {}: run `make clients`", path.display());
    path
}
