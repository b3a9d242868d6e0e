//! What the environment says about a run.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::rotation::Home;

/// The run.
#[derive(Debug)]
pub struct Settings {
    /// `TORTURE_SEED`: what the plan is drawn from.
    pub seed: u64,
    /// `TORTURE_SECONDS`: no new round is begun after so long. Both modes have one round each in any case.
    pub length: Duration,
    /// `TORTURE_MODE`: `file` or `managed` alone; both in turn without it.
    pub mode: Option<Home>,
    /// `TORTURE_UNTIL_LOSS`: end with the first round that lost something.
    pub until_loss: bool,
    /// `TORTURE_CALM`: no faults at all. What fails then is the campaign itself.
    pub calm: bool,
    /// `TORTURE_CHECKER`: the program of tests/torture/checker.
    pub checker: Option<PathBuf>,
    /// `TORTURE_OTHER`: another build of the proxy, of the commit before for instance. One of the proxies is of it.
    pub other: Option<PathBuf>,
    /// `TORTURE_SUMMARY`: a file for the summary.
    pub summary: Option<PathBuf>,
}

impl Settings {
    /// # Panics
    /// On a value that is not one, and where the checker is absent without `TORTURE_CHECKER=none`: leaving it out is to be said.
    pub fn from_environment() -> Self {
        let number = |name: &str| {
            let text = env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(
                text.parse::<u64>()
                    .unwrap_or_else(|error| panic!("{name}={text}: {error}")),
            )
        };
        let path = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let mode = match env::var("TORTURE_MODE").unwrap_or_default().as_str() {
            "" => None,
            "file" => Some(Home::File),
            "managed" => Some(Home::Etcd),
            other => panic!("TORTURE_MODE={other}: file or managed"),
        };
        let checker = path("TORTURE_CHECKER").expect("TORTURE_CHECKER: `make torture` builds it; `none` leaves it out");
        let checker = (checker.as_os_str() != "none").then_some(checker);
        Self {
            seed: number("TORTURE_SEED").unwrap_or_else(rand::random),
            length: Duration::from_secs(number("TORTURE_SECONDS").unwrap_or(300)),
            mode,
            until_loss: number("TORTURE_UNTIL_LOSS").is_some_and(|on| on > 0),
            calm: number("TORTURE_CALM").is_some_and(|on| on > 0),
            checker,
            other: path("TORTURE_OTHER"),
            summary: path("TORTURE_SUMMARY"),
        }
    }

    /// What repeats the run.
    pub fn again(&self) -> String {
        let mode = match self.mode {
            None => String::new(),
            Some(mode) => format!(" TORTURE_MODE={}", name(mode)),
        };
        let other = match &self.other {
            None => String::new(),
            Some(other) => format!(" TORTURE_OTHER={}", other.display()),
        };
        format!(
            "TORTURE_SEED={} TORTURE_SECONDS={}{mode}{other} make torture",
            self.seed,
            self.length.as_secs()
        )
    }
}

/// What a mode is called.
pub fn name(mode: Home) -> &'static str {
    match mode {
        Home::File => "file",
        Home::Etcd => "managed",
    }
}
