//! The log as a whole: what is in the file, whatever becomes of the file.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

const TICK: Duration = Duration::from_millis(5);

struct World {
    folder: TempDir,
    audit: Audit,
    log: Log,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (audit, log) = open_every(&folder.path().join("audit.log"), TICK).unwrap();
        Self { folder, audit, log }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let parsed = text.lines().map(|line| serde_json::from_str(line).unwrap());
    // Keys are used by other tests of the process at the same time.
    parsed
        .filter(|line: &Value| !line["event"].as_str().unwrap().starts_with("key_"))
        .collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

#[test]
fn events_are_lines_of_json_in_a_file_for_its_owner_alone() {
    let World { folder, audit, log } = World::new();
    let path = folder.path().join("audit.log");
    audit.started("0.0.0");
    audit.configuration_loaded("/etc/e.yaml", &"sha256:00", || {
        vec![Rule::new(
            &"secrets",
            [
                ("aescbc".to_owned(), vec!["k1".to_owned()]),
                ("identity".to_owned(), vec![]),
            ],
        )]
    });
    audit.reload_refused("/etc/e.yaml", &"3:1: \"no\"\n4:1: yes");
    audit.undecryptable(&"/registry/secrets/a", Some(("aescbc", "k0")), &"no key");
    audit.undecryptable(&"/registry/secrets/b", None, &"no key");
    audit.access_refused(
        "state_prefix",
        "10.0.0.1",
        "/etcdserverpb.KV/Range",
        &"etcdserver: permission denied",
    );
    audit.keyring_exported(&"/root/e.yaml", &"sha256:00", 3, ("node-1", "root"));
    audit.archive_purged(["sha256:01", "sha256:02"].iter(), ("node-1", "root"));
    audit.stopped("SIGTERM");
    assert!(log.finish());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut lines = lines(&path);
    for line in &mut lines {
        let time = line["time"].take();
        let time = time.as_str().unwrap();
        assert!(time.len() == 24 && humantime::parse_rfc3339(time).is_ok(), "{time}");
        line.as_object_mut().unwrap().remove("time");
        line.as_object_mut().unwrap().remove("pid");
    }
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("events", lines.join("\n"));
}

#[test]
fn repetitions_are_one_line_with_a_count() {
    let World { folder, audit, log } = World::new();
    for request in 0..50 {
        audit.access_refused("state_prefix", "10.0.0.1", &request.to_string(), &"");
    }
    log.finish();
    let lines = lines(&folder.path().join("audit.log"));
    assert_eq!(events(&lines), ["access_refused"; 2]);
    assert_eq!((&lines[0]["request"], lines[0].get("count")), (&"0".into(), None));
    assert_eq!((&lines[1]["request"], &lines[1]["count"]), (&"49".into(), &49.into()));
}

#[test]
fn a_file_that_is_rotated_away_is_opened_anew_and_nothing_is_lost() {
    let world = World::new();
    world.audit.started("1");
    let (path, rotated) = (world.path(), world.folder.path().join("audit.log.1"));
    while lines(&path).is_empty() {
        std::thread::sleep(TICK);
    }
    fs::rename(&path, &rotated).unwrap();
    while !path.exists() {
        std::thread::sleep(TICK);
    }
    world.audit.stopped("SIGTERM");
    world.log.finish();
    assert_eq!(events(&lines(&rotated)), ["started"]);
    assert_eq!(events(&lines(&path)), ["stopped"]);
}

/// One that nobody reads from, and one whose reader has stopped.
#[test]
fn a_pipe_is_never_waited_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(matches!(open(&path), Err(Error::Open { .. })));
    let mut reader = fs::File::options().read(true).write(true).open(&path).unwrap();
    let (audit, log) = open_every(&path, TICK).unwrap();
    // A pipe takes 64 KiB. What tells of the loss is short, and may still fit where the others did not: so more than once.
    while audit.0.as_ref().unwrap().lost.load(Ordering::Relaxed) == 0 {
        for number in 0..60 {
            audit.reload_refused("x", &format!("{number}{}", "x".repeat(1000)));
        }
        std::thread::sleep(TICK);
    }
    let nothing_lost = log.finish();
    let mut written = vec![0; 1 << 20];
    let len = reader.read(&mut written).unwrap();
    let told = String::from_utf8_lossy(&written[..len]).contains("events_lost");
    assert!(told || !nothing_lost, "events were lost without a word");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_and_one_that_is_off_costs_nothing() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(open(folder.path()), Err(Error::Open { .. })));
    Audit::default().configuration_loaded("x", &"", || unreachable!("nobody listens"));
}

#[test]
fn what_clients_bring_about_leaves_room_for_the_rest_and_what_is_lost_is_told() {
    let (sender, messages) = mpsc::sync_channel(QUEUE);
    let queue = Arc::new(Queue {
        sender,
        waiting: AtomicUsize::new(0),
        lost: AtomicU64::new(0),
    });
    let audit = Audit(Some(Arc::clone(&queue)));
    // Nobody writes yet.
    for peer in 0..QUEUE {
        audit.access_refused("state_prefix", &peer.to_string(), "", &"");
    }
    assert_eq!(queue.lost.load(Ordering::Relaxed), (QUEUE - QUEUE_FOR_CLIENTS) as u64);
    audit.stopped("SIGTERM");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    Log::start(&path, messages, queue, TICK).unwrap().finish();
    let lines = lines(&path);
    assert_eq!(lines.len(), QUEUE_FOR_CLIENTS + 2);
    let told = events(&lines);
    assert!(told.contains(&"stopped"));
    let lost = lines.iter().find(|line| line["event"] == "events_lost").unwrap();
    assert_eq!(lost["count"], QUEUE - QUEUE_FOR_CLIENTS);
}
