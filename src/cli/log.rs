//! The log of the process, and its level at runtime.

use super::{log_line::LogLine, log_warnings::RecordWarnings};
use crate::{
    config::{LogConfig, LogFormat, LogLevel},
    recent,
};
use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal},
};
use tracing::{Level, subscriber::set_global_default};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    Registry, filter::LevelFilter, fmt, layer::SubscriberExt as _, registry, reload,
};

/// Changes the minimum level of lines that are written.
#[derive(Clone, Debug)]
pub(super) struct LogLevelHandle(reload::Handle<LevelFilter, Registry>);

/// Starts to log on a separate thread: a slow reader of the log must not block a shard. Lines are
/// dropped if some thousands are queued. Queued lines are written when the guard is dropped.
pub(super) fn init(config: &LogConfig) -> (LogLevelHandle, WorkerGuard) {
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    let (level, switch) = reload::Layer::new(filter(config.level));
    let form = match config.format {
        LogFormat::Text => LogLine::Text { has_colours: has_colours() },
        LogFormat::Json => LogLine::Json,
    };
    let lines = fmt::layer().with_writer(writer).event_format(form);
    // Warnings of the start are kept until the console decides whether they are shown.
    recent::set_on(true);
    let set = set_global_default(registry().with(level).with(lines).with(RecordWarnings));
    // It fails only if a program that embeds the server has installed a logger before.
    let _ = set;
    (LogLevelHandle(switch), guard)
}

impl LogLevelHandle {
    /// Sets the level.
    pub(super) fn set(&self, level: LogLevel) {
        // It fails if another logger is installed, which has a level of its own.
        let _ = self.0.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    LevelFilter::from_level(Level::from(level))
}

/// Whether log lines may have colours.
fn has_colours() -> bool {
    let variable = |name| env::var_os(name);
    shows_colours(
        io::stderr().is_terminal(),
        variable("NO_COLOR").as_deref(),
        variable("TERM").as_deref(),
    )
}

/// Whether to use colours: on terminals that support them, unless `NO_COLOR` has any value
/// (no-color.org).
fn shows_colours(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_used_on_terminals_that_support_them() {
        let shows = |is_terminal, no_color: Option<&str>, term: Option<&str>| {
            shows_colours(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(shows(true, None, Some("xterm-256color")));
        assert!(shows(true, Some(""), None), "an empty NO_COLOR does not count");
        for no_color in ["1", "0", "false"] {
            assert!(!shows(true, Some(no_color), Some("xterm")));
        }
        assert!(!shows(true, None, Some("dumb")));
        assert!(!shows(false, None, Some("xterm")));
    }
}
