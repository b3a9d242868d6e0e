//! Tasks and threads that have to last as long as the process: when one of them panics or ends before it was told to, the
//! process is to end as well. Without the background's thread no permit to write would be renewed, and writes would wait for
//! ever; without a reload a changed key would never be seen. Something else starts the process again.

use tokio::sync::watch;

use crate::admin::Check;

/// Sees whether all of them are there.
#[derive(Clone, Debug)]
pub(super) struct Lasting(watch::Sender<State>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Lasts,
    /// By the name of the first that ended.
    Broken(&'static str),
    /// The process is ending, and they are expected to.
    Over,
}

/// Lives in the task or thread; dropped when that ends, however it does.
#[derive(Debug)]
pub(super) struct Lives {
    name: &'static str,
    state: watch::Sender<State>,
}

impl Lasting {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State::Lasts))
    }

    /// To be held by what is called `name` until its end.
    pub(super) fn lives(&self, name: &'static str) -> Lives {
        Lives {
            name,
            state: self.0.clone(),
        }
    }

    /// `task` as one of them.
    pub(super) fn task<F: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let lives = self.lives(name);
        async move {
            // Moved into the future: it goes with the task, whether that returns, panics or is aborted.
            let _lives = lives;
            task.await;
        }
    }

    /// Waits until one of them has ended before it was told to, and gives its name.
    pub(super) async fn broken(&self) -> &'static str {
        let mut state = self.0.subscribe();
        loop {
            if let State::Broken(name) = *state.borrow_and_update() {
                return name;
            }
            // The sender is this one's own.
            let _ = state.changed().await;
        }
    }

    /// From now on they are expected to end.
    pub(super) fn over(&self) {
        self.0.send_if_modified(|state| {
            let lasts = *state == State::Lasts;
            if lasts {
                *state = State::Over;
            }
            lasts
        });
    }

    /// The health check, which only a restart can mend.
    pub(super) fn check(&self) -> Check {
        let state = self.0.clone();
        let check = Check::new("background", move || match *state.borrow() {
            State::Lasts | State::Over => Ok(None),
            State::Broken(name) => Err(format!("{name} has ended, and so does this process")),
        });
        check.vital()
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        let name = self.name;
        let is_first = self.state.send_if_modified(|state| {
            let lasts = *state == State::Lasts;
            if lasts {
                *state = State::Broken(name);
            }
            lasts
        });
        if is_first {
            tracing::error!(
                what = name,
                panicked = std::thread::panicking(),
                "something without which this process cannot go on has ended: it drains and ends, to be started again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_named() {
        let lasting = Lasting::new();
        let _other = lasting.lives("the other");
        let lives = lasting.lives("the thread");
        let thread = thread::spawn(move || {
            let _lives = lives;
            panic!("on purpose");
        });
        assert_eq!(lasting.broken().await, "the thread");
        assert!(thread.join().is_err());
    }

    #[tokio::test]
    async fn a_thread_that_never_got_to_its_work_is_named() {
        let lasting = Lasting::new();
        let lives = lasting.lives("the thread");
        // As `on_etcd::spawn` drops its work where the system gives no event queue.
        let work = move || drop(lives);
        thread::spawn(move || drop(work)).join().unwrap();
        assert_eq!(lasting.broken().await, "the thread");
    }

    #[tokio::test]
    async fn a_task_that_returns_or_panics_is_named_and_the_first_counts() {
        for is_panicking in [false, true] {
            let (lasting, mut tasks) = (Lasting::new(), JoinSet::new());
            tasks.spawn(lasting.task("the task", async move { assert!(!is_panicking, "on purpose") }));
            assert_eq!(lasting.broken().await, "the task");
            drop(lasting.lives("a later one"));
            lasting.over();
            assert_eq!(lasting.broken().await, "the task");
        }
    }

    #[tokio::test]
    async fn what_ends_after_it_was_told_to_is_no_failure() {
        let (lasting, mut tasks) = (Lasting::new(), JoinSet::new());
        tasks.spawn(lasting.task("the task", std::future::pending()));
        let lives = lasting.lives("the thread");
        lasting.over();
        tasks.shutdown().await;
        drop(lives);
        tokio::select! {
            biased;
            name = lasting.broken() => panic!("{name}"),
            () = std::future::ready(()) => {}
        }
    }
}
