//! The loop around something that is made of files: look at once, again when they change, again when told to, and more
//! often while looking fails.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::nudge::Nudged;
use super::watcher::{Change, Watcher};
use crate::types::Backoff;

/// First and longest wait while looking fails: those of kube-apiserver's queue for its encryption configuration
/// (`workqueue.DefaultTypedControllerRateLimiter`).
const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1000);

/// Something that is made of files and can be made anew.
pub trait Subject {
    /// Looks at the files and takes a change into use; says whether it is content with what it found. If not, it is
    /// asked again soon. Never ends the process, and keeps what it has where it finds nothing better.
    fn look(&mut self) -> impl Future<Output = bool> + Send;
}

/// Keeps `subject` up to date for as long as it is polled. It is `nudged` to look at once.
pub async fn follow(mut watcher: Watcher, mut nudged: Nudged, mut subject: impl Subject) {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    loop {
        let look = nudged.begin();
        let retry = if subject.look().await {
            backoff.reset();
            None
        } else {
            Some(Instant::now() + backoff.step())
        };
        nudged.over(look);
        tokio::select! {
            change = watcher.changed() => if change == Change::Event {
                backoff.reset();
            },
            () = due(retry) => {}
            () = nudged.wanted() => backoff.reset(),
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        // Gives others a turn even where the clock has not moved.
        Some(at) => sleep_until(at.max(Instant::now() + Duration::from_millis(1))).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::files::nudge;

    /// Is content from its `content_after`th look on, and reports each.
    struct Counting {
        looks: u32,
        content_after: u32,
        report: mpsc::UnboundedSender<u32>,
    }

    impl Subject for Counting {
        async fn look(&mut self) -> bool {
            self.looks += 1;
            self.report.send(self.looks).unwrap();
            self.looks >= self.content_after
        }
    }

    #[tokio::test]
    async fn one_who_is_not_content_is_asked_again_and_a_nudge_asks_at_once() {
        let (report, mut looks) = mpsc::unbounded_channel();
        let (nudge, nudged) = nudge();
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::new(vec![folder.path().join("none")], Duration::from_secs(3600));
        let subject = Counting {
            looks: 0,
            content_after: 4,
            report,
        };
        let following = tokio::spawn(follow(watcher, nudged, subject));
        for expected in 1..=4 {
            assert_eq!(looks.recv().await, Some(expected));
        }
        nudge.looked().await;
        assert_eq!(looks.recv().await, Some(5));
        std::fs::write(folder.path().join("none"), b"some").unwrap();
        assert_eq!(looks.recv().await, Some(6));
        following.abort();
    }
}
