//! What becomes of the process's memory: it is locked where that can be, dumped and read by nobody, and holds no key in
//! the form in which the configuration has it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use crate::common::config;
use crate::common::etcd::Etcd;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};

/// No etcd is needed to look at memory.
const NOWHERE: &str = "http://127.0.0.1:1";

const KEY: &str = "/registry/secrets/default/a";

fn is_root() -> bool {
    status(std::process::id(), "Uid:").starts_with('0')
}

/// What `/proc/PID/status` has behind `field`.
fn status(id: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.expect("a line of this name").trim().to_owned()
}

/// Starts a program without these of root's capabilities; others have none to begin with.
fn without(capabilities: &'static str) -> Vec<&'static str> {
    if is_root() {
        vec!["setpriv", capabilities]
    } else {
        Vec::new()
    }
}

/// A proxy that may lock a mebibyte and no more.
fn limited() -> Setup {
    Setup::new(NOWHERE, config::secrets())
        .under(&["prlimit", "--memlock=1048576:1048576"])
        .under(&without("--bounding-set=-ipc_lock"))
}

#[tokio::test]
async fn memory_is_locked_where_the_system_lets_it_and_the_proxy_still_works() {
    if !is_root() {
        eprintln!("skipped: needs root's capability IPC_LOCK");
        return;
    }
    let etcd = Etcd::start(crate::common::tools::Version::V3_5).await;
    // By the capability, whatever the limit; and by the limit alone, which may have to be raised first.
    let by_capability: &[&str] = &["prlimit", "--memlock=65536:65536"];
    let by_limit: &[&str] = &[
        "prlimit",
        "--memlock=65536:unlimited",
        "setpriv",
        "--bounding-set=-ipc_lock",
    ];
    for under in [by_capability, by_limit] {
        // Within a container even root may not raise a limit.
        if !Command::new(under[0])
            .args(&under[1..])
            .arg("true")
            .status()
            .unwrap()
            .success()
        {
            continue;
        }
        let mut proxy = Setup::new(etcd.endpoint(), config::secrets())
            .under(under)
            .flag("--memory-lock=required")
            .start();
        assert!(proxy.output().contains("memory is locked"), "{}", proxy.output());
        assert_ne!(status(proxy.process().id(), "VmLck:"), "0 kB");
        let client = proxy.client().await;
        client.put(KEY, vec![7; 1_000_000]).await;
        assert_eq!(client.value(KEY).await, vec![7; 1_000_000]);
    }
}

#[test]
fn under_a_limit_nothing_is_locked_and_the_log_says_what_to_do() {
    let mut proxy = limited().start();
    assert_eq!(status(proxy.process().id(), "VmLck:"), "0 kB");
    let output = proxy.output();
    let told = output.lines().find(|line| line.contains("memory is not locked"));
    let told = told.unwrap_or_else(|| panic!("{output}"));
    assert!(
        told.contains("1024 KiB") && told.contains("LimitMEMLOCK=infinity"),
        "{told}"
    );
    // The limit is left as it was found.
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.process().id())).unwrap();
    let locked = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"))
        .unwrap();
    assert_eq!(
        locked.split_whitespace().skip(3).take(2).collect::<Vec<_>>(),
        ["1048576"; 2]
    );

    let (ended, output) = limited().flag("--memory-lock=required").refused();
    assert!(
        !ended.success() && output.contains("--memory-lock=required: the limit"),
        "{output}"
    );
    let silent = limited().flag("--memory-lock=off").start().output();
    assert!(!silent.contains("memory is"), "{silent}");
}

#[test]
fn a_crash_leaves_no_core_and_no_other_process_reads_along() {
    let peer = without("--bounding-set=-sys_ptrace");
    let mut proxy = Setup::new(NOWHERE, config::secrets())
        .under(&["prlimit", "--core=unlimited"])
        .under(&peer)
        .start();
    let id = proxy.process().id();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0"; 2]);

    // A process of the same user without privileges may look into others of its own, but not into this one.
    let words = |rest: &[&'static str]| -> Command {
        let mut words = peer.iter().chain(rest);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
    };
    let reads = |id: u32| {
        let look = words(&["readlink"]).arg(format!("/proc/{id}/exe")).output().unwrap();
        look.status.success()
    };
    let mut other = words(&["sleep", "1000"]).spawn().unwrap();
    // Until it has given its privileges away it is out of reach as well.
    let began = Instant::now();
    while !reads(other.id()) {
        assert!(
            began.elapsed() < PATIENCE,
            "a process like the looker itself is not readable"
        );
        thread::sleep(Duration::from_millis(10));
    }
    let is_readable = reads(id);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!is_readable);

    proxy.process().signal("ABRT");
    let ended = proxy.process().wait();
    assert_eq!(ended.signal(), Some(6), "{ended}");
    assert!(!ended.core_dumped());
}

/// A key of its own for each way to write one.
fn secret(number: u8) -> String {
    STANDARD.encode(
        (0..32)
            .map(|at: u8| at.wrapping_mul(37) ^ number.wrapping_mul(101))
            .collect::<Vec<_>>(),
    )
}

/// Every way in which YAML has a string.
fn written_in_every_way() -> (String, Vec<String>) {
    let secrets: Vec<_> = (1..=6).map(secret).collect();
    let escaped = secrets[5].replacen(&secrets[5][20..21], &format!("\\x{:02x}", secrets[5].as_bytes()[20]), 1);
    let (head, tail) = secrets[4].split_at(30);
    let document = format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aesgcm:
      keys:
      - {{name: a, secret: {}}}
      - {{name: b, secret: \"{}\"}}
      - {{name: c, secret: '{}'}}
      - name: d
        secret: |
          {}
      - name: e
        secret: |
          {head}
          {tail}
      - name: f
        secret: \"{escaped}\"
",
        secrets[0], secrets[1], secrets[2], secrets[3]
    );
    (document, secrets)
}

/// All of the process's memory that can be written to; what can't was there before the keys.
fn memory(proxy: &mut Proxy) -> Vec<Vec<u8>> {
    let id = proxy.process().id();
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let memory = File::open(format!("/proc/{id}/mem")).unwrap();
    let writable = maps
        .lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|may| may.starts_with("rw")));
    let read = writable.map(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Reserved and never touched is as good as empty.
        memory.read_exact_at(&mut bytes, start).map_or(Vec::new(), |()| bytes)
    });
    read.collect()
}

fn is_found(memory: &[Vec<u8>], wanted: &[u8]) -> bool {
    memory.iter().any(|region| memmem::find(region, wanted).is_some())
}

#[test]
fn once_started_no_key_is_in_memory_as_the_document_has_it() {
    if !is_root() {
        eprintln!("skipped: only root can look");
        return;
    }
    let (document, secrets) = written_in_every_way();
    let parts: Vec<_> = secrets
        .iter()
        .flat_map(|secret| [&secret[..16], &secret[14..30], &secret[28..]])
        .collect();
    let left = |memory: &[Vec<u8>]| parts.iter().find(|part| is_found(memory, part.as_bytes()));
    let mut reads_once = Setup::new(NOWHERE, document.as_str())
        .flag("--encryption-provider-config-automatic-reload=false")
        .start();
    let seen = memory(&mut reads_once);
    assert_eq!(left(&seen), None);
    for secret in &secrets {
        // A cipher's key schedule begins with the key itself, so those bytes are there, which shows that the look is one.
        assert!(is_found(&seen, &STANDARD.decode(secret).unwrap()));
    }
    // One that follows its file looks at it once more as soon as it serves.
    let mut follows = Setup::new(NOWHERE, document).start();
    let start = Instant::now();
    while let Some(part) = left(&memory(&mut follows)) {
        assert!(start.elapsed() < PATIENCE, "{part}");
        thread::sleep(Duration::from_millis(20));
    }
}
