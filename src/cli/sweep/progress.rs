//! Progress on standard error: a bar on a terminal, a line now and then where there is none.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::sweep::{Observer, Progress, Stage};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two updates of the bar: it is told of every key.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// What the bar looks like.
const TEMPLATE: &str = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec:.0} {eta}";

/// Shows how it goes.
pub(in crate::cli) struct Display {
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

struct State {
    stage: Option<Stage>,
    began: Instant,
    done_at_begin: u64,
    shown: Instant,
}

/// For this process's standard error.
pub(in crate::cli) fn display() -> Arc<Display> {
    let now = Instant::now();
    Arc::new(Display {
        bar: io::stderr().is_terminal().then(bar),
        state: Mutex::new(State {
            stage: None,
            began: now,
            done_at_begin: 0,
            shown: now,
        }),
    })
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    // The default is shown where the template were wrong, which a test rules out.
    bar.set_style(ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Display {
    /// Takes the bar off the screen.
    pub(in crate::cli) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Display {
    fn notice(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => line(text),
        }
    }

    fn progress(&self, progress: &Progress) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = state.stage != Some(progress.stage);
        if is_new {
            state.stage = Some(progress.stage);
            state.began = now;
            state.done_at_begin = progress.done;
        }
        let pause = if self.bar.is_some() { DRAW_EVERY } else { LINE_EVERY };
        if !is_new && now - state.shown < pause {
            return;
        }
        state.shown = now;
        let what = match progress.stage {
            Stage::Rewrite => "rewriting",
            Stage::Look => "reading",
        };
        match &self.bar {
            Some(bar) => {
                if is_new {
                    bar.reset();
                    bar.set_message(what);
                }
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            None if is_new => line(&format!("{what}: about {} values", progress.total)),
            None => {
                let seconds = (now - state.began).as_secs().max(1);
                let rate = (progress.done - state.done_at_begin.min(progress.done)) / seconds;
                let left = (progress.total - progress.done.min(progress.total)).checked_div(rate);
                let left = left.map_or_else(String::new, |left| format!(", about {left} s left"));
                line(&format!(
                    "{what}: {} of about {} values, {} rewritten, {rate}/s{left}",
                    progress.done, progress.total, progress.rewritten
                ));
            }
        }
    }
}

/// What can't be written there can't be written anywhere.
fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bar_has_its_template() {
        assert!(indicatif::ProgressStyle::with_template(super::TEMPLATE).is_ok());
    }
}
