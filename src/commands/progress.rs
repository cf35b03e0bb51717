//! Shows on a terminal what a command is doing that takes long.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a command may take before anything is shown.
const DELAY: Duration = Duration::from_secs(2);
/// How often what is shown moves.
const TICK: Duration = Duration::from_millis(100);

/// What a command is doing. On stderr, if that is a terminal, and only after two seconds; cleared when this is dropped. Without colours.
pub(super) struct ProgressDisplay {
    bar: ProgressBar,
    /// Dropped to end the thread, which waits for [`DELAY`] to pass.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressDisplay {
    /// A command begins with this.
    pub(super) fn begin(phase: &'static str) -> ProgressDisplay {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_message(phase);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
            bar.set_style(style);
        }
        let mut progress = ProgressDisplay { bar, alive: None, thread: None };
        let terminal = std::env::var("TERM").unwrap_or_default();
        if is_shown(std::io::stderr().is_terminal(), &terminal) {
            let (alive, ended) = channel();
            let bar = progress.bar.clone();
            progress.alive = Some(alive);
            progress.thread = Some(thread::spawn(move || {
                if ended.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            }));
        }
        progress
    }

    /// From now on the command does this.
    pub(super) fn now(&self, phase: &'static str) {
        self.bar.set_message(phase);
    }

    /// Prints to stderr without mixing with what is shown.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.alive = None;
        // Only then does the thread certainly show nothing any more.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

/// Whether progress is shown on this stderr. A terminal of the type `dumb` cannot clear it.
fn is_shown(is_terminal: bool, kind: &str) -> bool {
    is_terminal && kind != "dumb"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_for_terminals_that_can_clear_it() {
        assert!(is_shown(true, "xterm-256color") && is_shown(true, ""));
        assert!(!is_shown(false, "xterm-256color") && !is_shown(true, "dumb"));
    }
}
