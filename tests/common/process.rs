//! A child process that ends with its handle, its output kept for when a test fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How long a condition may take to come true. Generous: it only bounds how long a failing test hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running program whose standard output and error go to one file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log file opens");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle of the log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} ({command:?})"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        }
    }

    /// The process's number, for looking at it under `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `condition` gives something, and fails the test if the process ends or patience does.
    pub fn wait_for<T>(&mut self, what: &str, mut condition: impl FnMut(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = condition(&self.output()) {
                return found;
            }
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("{} ended ({status}) before {what}:\n{}", self.name, self.output());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}: no sign of {what}:\n{}",
                self.name,
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} does not end:\n{}",
                self.name,
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal by name (`TERM`, `STOP`), which `std` cannot.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.id().to_string())
            .status();
        assert!(
            status.expect("kill runs").success(),
            "{} cannot be sent SIG{signal}",
            self.name
        );
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(20).collect();
            eprintln!("--- the last lines of {}:", self.name);
            for line in tail.iter().rev() {
                eprintln!("{}", line.chars().take(400).collect::<String>());
            }
        }
    }
}
