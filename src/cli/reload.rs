//! Reloads the configuration on SIGHUP.

use super::{ConfigArgs, files, log::LogLevelHandle, systemd};
use crate::{
    config::{ConfigError, Files, Flags, Loaded, LogLevel},
    server::{PreparedReload, ReloadError, ReloadSummary, Reloader},
};
use std::{fmt::Display, sync::Arc};
use tokio::{signal::unix::Signal, task};

/// The task that reloads the configuration on SIGHUP.
#[derive(Debug)]
pub(super) struct SighupTask {
    pub(super) sources: ConfigArgs,
    pub(super) flags: Flags,
    pub(super) reloader: Arc<Reloader>,
    pub(super) level: LogLevelHandle,
}

/// What was read with a configuration besides the settings.
#[derive(Debug)]
struct LoadOutcome {
    warnings: Vec<String>,
    files: Files,
    /// The effective configuration with its sources.
    report: serde_json::Value,
}

/// The error of a rejected reload.
#[derive(Debug)]
enum ReloadRejected {
    /// The configuration is invalid.
    Config(ConfigError),
    /// The configuration cannot be applied.
    Reload(ReloadError),
}

impl SighupTask {
    /// Reloads the configuration on each SIGHUP. `files` are those that the server was started
    /// with.
    pub(super) async fn reload_on(self, mut hangup: Signal, mut files: Files) {
        let this = Arc::new(self);
        while hangup.recv().await.is_some() {
            tracing::info!("reload started");
            systemd::reloading();
            // Reading files may block, so it runs on another thread.
            let (reading, previous) = (Arc::clone(&this), files.clone());
            match task::spawn_blocking(move || reading.prepare_counted(previous)).await {
                Ok(Ok((read, prepared))) => {
                    files = read.files;
                    this.reloader.console().set_configuration(&read.report["settings"]);
                    this.apply(&read.warnings, prepared);
                }
                Ok(Err(ReloadRejected::Config(error))) => reject(error),
                Ok(Err(ReloadRejected::Reload(error))) => reject(error),
                Err(_panicked) => tracing::error!("panic recovered"),
            }
            systemd::ready();
        }
    }

    fn prepare_counted(
        &self,
        previous: Files,
    ) -> Result<(LoadOutcome, PreparedReload), ReloadRejected> {
        self.prepare(previous).inspect_err(|_| self.reloader.count_rejected())
    }

    /// Reads everything again, as at startup, and changes nothing.
    fn prepare(&self, previous: Files) -> Result<(LoadOutcome, PreparedReload), ReloadRejected> {
        let mut loaded =
            self.sources.read(self.flags.clone(), previous).map_err(ReloadRejected::Config)?;
        files::check(&mut loaded, false).map_err(ReloadRejected::Config)?;
        let report = loaded.to_json();
        let Loaded { config, warnings, files, .. } = loaded;
        let prepared = self.reloader.prepare(config).map_err(ReloadRejected::Reload)?;
        Ok((LoadOutcome { warnings, files, report }, prepared))
    }

    fn apply(&self, warnings: &[String], prepared: PreparedReload) {
        let (before, after) = prepared.log_levels();
        // Logged at the more verbose of the two levels.
        self.level.set(more_verbose(before, after));
        for warning in warnings {
            tracing::warn!(warning, "configuration");
        }
        log_result(&self.reloader.apply(prepared));
        self.level.set(after);
    }
}

fn more_verbose(a: LogLevel, b: LogLevel) -> LogLevel {
    if tracing::Level::from(a) < tracing::Level::from(b) { b } else { a }
}

fn reject(error: impl Display) {
    tracing::error!(%error, "reload rejected; configuration unchanged");
}

/// Logs the changes in one line, and the settings that need a restart in others.
fn log_result(summary: &ReloadSummary) {
    let ReloadSummary { changes, is_certificate_new } = summary;
    let changed: Vec<String> = changes.changed.iter().map(ToString::to_string).collect();
    tracing::info!(
        apps_added = joined(&changes.added),
        apps_removed = joined(&changes.removed),
        apps_changed = joined(&changed),
        settings = joined(&changes.settings),
        certificate = is_certificate_new.then_some("new"),
        "reloaded"
    );
    for key in &changes.restart_required {
        tracing::warn!(key, "setting changed; restart required");
    }
}

fn joined(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}
