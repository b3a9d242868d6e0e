//! The program of tests/torture/checker, which shares no code with the proxy: kube-apiserver's transformers on what etcd holds,
//! and porcupine on what clients saw. Its memory and time are bounded from outside, since such a search can take all there is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tokio::task::block_in_place;

/// Bytes of data that it may have, and what Go's collector keeps to before that.
const HARD: &str = "--data=3000000000";
const SOFT: &str = "1500MiB";
/// Seconds for one key's search, and for the whole program.
const KEY: &str = "4s";
const WHOLE: &str = "180";

/// The program.
#[derive(Clone, Debug)]
pub struct Checker {
    pub program: PathBuf,
}

impl Checker {
    /// Every value below `prefix` as kube-apiserver reads it with the configuration in the file at `config`, or why it cannot.
    pub fn read(
        &self,
        endpoints: &str,
        config: &Path,
        prefix: &str,
    ) -> Result<BTreeMap<String, Result<String, String>>, String> {
        let config = config.display().to_string();
        let words = [
            "read",
            "--endpoints",
            endpoints,
            "--config",
            &config,
            "--prefix",
            prefix,
        ];
        let (lines, ended) = self.run(&words);
        ended?;
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let pair = |line: Value| {
            let read = match line["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(text(&line, "value")),
            };
            (text(&line, "key"), read)
        };
        Ok(lines.into_iter().map(pair).collect())
    }

    /// porcupine's verdict on each key of the history in the file at `history`. Keys that it did not come to are not there.
    pub fn judge(&self, history: &Path) -> (BTreeMap<String, String>, Result<(), String>) {
        let history = history.display().to_string();
        let (lines, ended) = self.run(&["judge", "--history", &history, "--timeout", KEY]);
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let verdicts = lines.iter().map(|line| (text(line, "key"), text(line, "verdict")));
        (verdicts.collect(), ended)
    }

    /// What it printed, and whether it ended well.
    fn run(&self, words: &[&str]) -> (Vec<Value>, Result<(), String>) {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", WHOLE, "prlimit", HARD])
            .arg(&self.program)
            .args(words)
            .env("GOMEMLIMIT", SOFT)
            .env("GOMAXPROCS", "2");
        let output = block_in_place(|| command.output()).expect("`timeout` starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        // The last line may have been cut off.
        let lines = printed.lines().filter_map(|line| serde_json::from_str(line).ok());
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().next().unwrap_or_default().to_owned();
        let ended = output
            .status
            .success()
            .then_some(())
            .ok_or(format!("{}: {last}", output.status));
        (lines.collect(), ended)
    }
}
