//! Says when files may have changed: told by the kernel, and every minute in any case.
//!
//! The kernel tells of what happens on this machine. A network file system changed from another one, a mount put over a
//! folder, or a limit on watches that is used up leave only the look every minute.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::inotify::Inotify;
use super::mounts::warn_of_mounts;
use super::places::places;

/// Time between two looks without an event: what kube-apiserver gives its encryption configuration.
pub const POLL: Duration = Duration::from_secs(60);

/// How long nothing may happen to the files after an event before it is told: one who writes a file, or several that go
/// together, does so in several steps. Longer than a few renames take, and not so long that anybody would wait for it.
const QUIET: Duration = Duration::from_millis(10);

/// An event is told after this long even where there is no quiet.
const LONGEST_UNREST: Duration = Duration::from_millis(200);

/// Why files are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something happened to one of them.
    Event,
    /// It is time.
    Poll,
}

/// Watches some files, wherever symbolic links lead and while they do not exist, too.
#[derive(Debug)]
pub struct Watcher {
    paths: Vec<PathBuf>,
    poll: Duration,
    next_poll: Instant,
    /// None while the kernel gives none.
    inotify: Option<Inotify>,
    /// Whether the operator knows of that.
    is_loss_told: bool,
    /// Since when, and when last, events came that have not been told yet.
    unrest: Option<(Instant, Instant)>,
}

impl Watcher {
    /// Watches the files at `paths` from now on: what happens between this call and [`Watcher::changed`] is told. Every
    /// `poll` (see [`POLL`]) they count as changed in any case. Must be called on the runtime that will wait.
    pub fn new(paths: Vec<PathBuf>, poll: Duration) -> Self {
        warn_of_mounts(&paths);
        let mut watcher = Self {
            paths,
            poll,
            next_poll: Instant::now() + poll,
            inotify: None,
            is_loss_told: false,
            unrest: None,
        };
        watcher.watch();
        watcher
    }

    /// Returns when any of the files may have changed since the last return, or since the beginning. One who reads them
    /// afterwards reads the change, or one after it. Nothing is lost when this is dropped halfway.
    pub async fn changed(&mut self) -> Change {
        loop {
            let quiet = self
                .unrest
                .map(|(first, last)| (last + QUIET).min(first + LONGEST_UNREST));
            let touched = async {
                match &mut self.inotify {
                    Some(inotify) => inotify.touched().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = sleep_until(quiet.unwrap_or(self.next_poll)), if quiet.is_some() => return self.told(Change::Event),
                () = sleep_until(self.next_poll) => return self.told(Change::Poll),
                touched = touched => match touched {
                    Ok(true) => {
                        let now = Instant::now();
                        self.unrest = Some((self.unrest.map_or(now, |(first, _)| first), now));
                    }
                    Ok(false) => {}
                    Err(error) => {
                        self.lost(&error);
                        self.unrest = Some((Instant::now(), Instant::now()));
                    }
                },
            }
        }
    }

    fn told(&mut self, change: Change) -> Change {
        // Links may lead elsewhere now. First the new places are watched, then whoever asked reads: so no change is
        // between the two.
        self.watch();
        self.unrest = None;
        self.next_poll = Instant::now() + self.poll;
        change
    }

    /// Watches what the paths lead to now, and tries again what failed before.
    fn watch(&mut self) {
        match self.try_watch() {
            Ok(()) => self.is_loss_told = false,
            Err(error) => self.lost(&error),
        }
    }

    fn try_watch(&mut self) -> io::Result<()> {
        let mut inotify = match self.inotify.take() {
            Some(inotify) => inotify,
            None => Inotify::new()?,
        };
        let mut wanted = self.places();
        let mut outcome = inotify.watch(&wanted);
        // A link that changed just before its folder was watched has made no event. One who changes it all the time
        // makes some.
        for _ in 0..3 {
            let now = self.places();
            if outcome.is_err() || now == wanted {
                break;
            }
            wanted = now;
            outcome = inotify.watch(&wanted);
        }
        // Even where some places cannot be watched, the others are of use.
        self.inotify = Some(inotify);
        outcome
    }

    fn places(&self) -> Vec<super::places::Place> {
        self.paths.iter().flat_map(|path| places(path)).collect()
    }

    fn lost(&mut self, error: &io::Error) {
        if !self.is_loss_told {
            self.is_loss_told = true;
            tracing::warn!(
                %error,
                "the kernel gives no (or not all) file events: changed files are seen at the next look only, every {:?}. \
                 Folders of files that are followed must be ours to list, and fs.inotify.max_user_instances and \
                 max_user_watches high enough",
                self.poll
            );
        }
    }
}

#[cfg(test)]
mod tests;
