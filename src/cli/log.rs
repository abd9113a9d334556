//! The log of a server, and its level while that runs.

use crate::config::{LogConfig, LogFormat, LogLevel};
use std::io;
use tracing::{Level, subscriber::set_global_default};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    Registry, filter::LevelFilter, fmt, layer::SubscriberExt as _, registry, reload,
};

/// Sets the least important line that is still written.
#[derive(Clone, Debug)]
pub(super) struct LevelSwitch(reload::Handle<LevelFilter, Registry>);

/// Begins to log, on a thread of its own: whoever reads the log may be slow or gone, and must not
/// hold up a shard. Lines beyond some thousands that wait are dropped. What waits is written when
/// the guard is dropped.
pub(super) fn begin(config: &LogConfig) -> (LevelSwitch, WorkerGuard) {
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    let (level, switch) = reload::Layer::new(filter(config.level));
    let lines = fmt::layer().with_writer(writer);
    let set = match config.format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
            set_global_default(registry().with(level).with(lines))
        }
        LogFormat::Json => {
            set_global_default(registry().with(level).with(lines.json().flatten_event(true)))
        }
    };
    // It can only have been set before, by a program that embeds this one.
    let _ = set;
    (LevelSwitch(switch), guard)
}

impl LevelSwitch {
    /// Sets the level.
    pub(super) fn set(&self, level: LogLevel) {
        // It fails when somebody else's log is in use, which has a level of its own.
        let _ = self.0.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    LevelFilter::from_level(Level::from(level))
}
