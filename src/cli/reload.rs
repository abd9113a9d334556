//! Reloads the configuration on SIGHUP.

use super::{ConfigArgs, files, log::LevelSwitch, systemd};
use crate::{
    config::{ConfigError, Files, Flags, Loaded, LogLevel},
    server::{PreparedReload, ReloadError, ReloadSummary, Reloader},
};
use std::{fmt::Display, sync::Arc};
use tokio::{signal::unix::Signal, task};

/// The parts that a reload needs.
#[derive(Debug)]
pub(super) struct Reloading {
    pub(super) sources: ConfigArgs,
    pub(super) flags: Flags,
    pub(super) reloader: Arc<Reloader>,
    pub(super) level: LevelSwitch,
}

/// The files and certificates that were read with a configuration.
#[derive(Debug)]
struct LoadedFiles {
    warnings: Vec<String>,
    files: Files,
}

/// The error of a rejected reload.
#[derive(Debug)]
enum RejectedReload {
    /// The configuration is invalid.
    Config(ConfigError),
    /// The configuration cannot be applied.
    Reload(ReloadError),
}

impl Reloading {
    /// Reloads the configuration on each SIGHUP. `files` are those that the server was started
    /// with.
    pub(super) async fn reload_on(self, mut hangup: Signal, mut files: Files) {
        let this = Arc::new(self);
        while hangup.recv().await.is_some() {
            tracing::info!("reload begun");
            systemd::reloading();
            // Reading files may block, so it runs on another thread.
            let (reading, before) = (Arc::clone(&this), files.clone());
            match task::spawn_blocking(move || reading.prepare_counted(before)).await {
                Ok(Ok((read, prepared))) => {
                    files = read.files;
                    this.apply(&read.warnings, prepared);
                }
                Ok(Err(RejectedReload::Config(error))) => reject(error),
                Ok(Err(RejectedReload::Reload(error))) => reject(error),
                Err(_panicked) => tracing::error!("panic recovered"),
            }
            systemd::ready();
        }
    }

    fn prepare_counted(
        &self,
        before: Files,
    ) -> Result<(LoadedFiles, PreparedReload), RejectedReload> {
        self.prepare(before).inspect_err(|_| self.reloader.count_rejected())
    }

    /// Reads everything again, as at startup, and changes nothing.
    fn prepare(&self, before: Files) -> Result<(LoadedFiles, PreparedReload), RejectedReload> {
        let mut loaded =
            self.sources.read(self.flags.clone(), before).map_err(RejectedReload::Config)?;
        files::check(&mut loaded, false).map_err(RejectedReload::Config)?;
        let Loaded { config, warnings, files, .. } = loaded;
        let prepared = self.reloader.prepare(config).map_err(RejectedReload::Reload)?;
        Ok((LoadedFiles { warnings, files }, prepared))
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

fn more_verbose(one: LogLevel, other: LogLevel) -> LogLevel {
    if tracing::Level::from(one) < tracing::Level::from(other) { other } else { one }
}

fn reject(error: impl Display) {
    tracing::error!(%error, "reload rejected, everything stays as it was");
}

/// Logs the changes in one line, and the settings that need a restart in others.
fn log_result(reloaded: &ReloadSummary) {
    let ReloadSummary { changes, is_certificate_new } = reloaded;
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
        tracing::warn!(key, "changed in the configuration, but only a restart changes it");
    }
}

fn joined(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}
