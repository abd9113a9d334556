//! Shows on a terminal what is being checked, on one line that changes.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

/// The line on standard error. Without a terminal, nothing is shown.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    /// Replaces the line.
    pub(super) fn show(&self, text: impl Display) {
        self.write(format_args!("\r\u{1b}[K{text} …"));
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        self.write("\r\u{1b}[K");
    }

    fn write(&self, text: impl Display) {
        if self.is_shown {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
        }
    }
}
