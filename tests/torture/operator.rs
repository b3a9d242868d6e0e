//! Whoever runs `secrets-encrypt`: the plan's commands one after the other, and what brings a rotation to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::clock::Clock;
use super::plan::{Command, Step};
use crate::common::process::Process;
use crate::common::rotation::Shared;

/// How long a command waits for members and the like by itself, and when it is ended from outside.
const TIMEOUT: &str = "--timeout=40s";
const LONGEST: Duration = Duration::from_secs(150);

/// The operator of one scene.
#[derive(Clone, Debug)]
pub struct Operator {
    shared: Arc<Shared>,
    folder: PathBuf,
    name: &'static str,
    clock: Option<Arc<Clock>>,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The command that runs.
    running: Mutex<Option<Process>>,
    stop: AtomicBool,
    number: AtomicUsize,
    /// By the command's words and how it ended.
    ends: Mutex<BTreeMap<(String, String), usize>>,
}

impl Operator {
    /// `name` tells their logs from those of others; `clock` is the wall clock of their commands.
    pub fn new(shared: Arc<Shared>, folder: PathBuf, name: &'static str, clock: Option<Clock>) -> Self {
        Self {
            shared,
            folder,
            name,
            clock: clock.map(Arc::new),
            inner: Arc::default(),
        }
    }

    /// Sends a signal to the command that runs, if one does.
    pub fn signal(&self, signal: &str) {
        if let Some(process) = self.running().as_mut()
            && process.is_running()
        {
            process.signal(signal);
        }
    }

    /// Steps the clock of the command that runs and of all after it.
    pub fn step_clock(&self, step: Step) {
        if let Some(clock) = &self.clock {
            clock.step(step);
        }
    }

    /// Runs commands until it is told to stop.
    pub async fn work(self, commands: Vec<Command>) {
        for words in commands.iter().cycle() {
            if self.inner.stop.load(Ordering::SeqCst) {
                return;
            }
            self.run(words).await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// After the command that runs no other is begun.
    pub fn stop(&self, stopped: bool) {
        self.inner.stop.store(stopped, Ordering::SeqCst);
    }

    /// Runs one to its end; its code and what it said. A signal is no code.
    pub async fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let number = self.inner.number.fetch_add(1, Ordering::SeqCst);
        let log = self.folder.join(format!("{}-{number}", self.name));
        let waits = !matches!(words[0], "status" | "export" | "purge");
        let all: Vec<&str> = words.iter().copied().chain(waits.then_some(TIMEOUT)).collect();
        let mut command = self.shared.command(&all);
        if let Some(clock) = &self.clock {
            clock.preload(&mut command);
        }
        let process = Process::spawn("secrets-encrypt", command, &log);
        *self.running() = Some(process);
        let start = Instant::now();
        let code = loop {
            sleep(Duration::from_millis(20)).await;
            let mut running = self.running();
            let process = running.as_mut().expect("it was put there");
            if !process.is_running() {
                break process.wait().code();
            }
            if start.elapsed() > LONGEST {
                process.kill();
            }
        };
        *self.running() = None;
        let how = match code {
            Some(code) => code.to_string(),
            None if start.elapsed() > LONGEST => "hangs".to_owned(),
            None => "killed".to_owned(),
        };
        let ends = &self.inner.ends;
        let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        let verb = if words[0] == "export" {
            words[0].to_owned()
        } else {
            words.join(" ")
        };
        *ends.entry((verb, how)).or_default() += 1;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        (code, said)
    }

    /// Writes the keyring in etcd to a new file.
    pub async fn export(&self, file: &Path) -> (Option<i32>, String) {
        let file = file.display().to_string();
        self.run(&["export", &file, "--yes"]).await
    }

    /// Brings what is under way to its end, and rotates once more; what stands in the way otherwise. Whatever the plan's commands
    /// left, one of a few documented ones must get past it.
    pub async fn settle(&self) -> Result<(), String> {
        let mut tried = Vec::new();
        let ways: [&[&str]; 6] = [
            &["rotate-keys", "--compact"],
            &["rotate"],
            &["reencrypt", "--compact"],
            &["abort", "--compact"],
            &["rotate-keys", "--compact"],
            &["rotate-keys", "--compact"],
        ];
        for words in ways {
            let (code, said) = self.run(words).await;
            if code == Some(0) && words[0] == "rotate-keys" {
                return Ok(());
            }
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            tried.push(format!("{} ends with {code:?}: {last}", words[0]));
        }
        Err(tried.join("; "))
    }

    /// How often each command ended how.
    pub fn ends(&self) -> BTreeMap<(String, String), usize> {
        self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
