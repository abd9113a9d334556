//! Reconfigures a running server.

use super::{capacity::FileDescriptors, shard_config};
use crate::{
    config::{Changes, Config, ConfigError, LogLevel},
    console::Console,
    http::{HttpConnectionLimiter, HttpContext},
    node::Node,
    shard::ShardConfig,
    tls::{Tls, TlsError},
    webhook::{PreparedWebhooks, WebhookError},
};
use arc_swap::ArcSwap;
use std::{fmt, net::SocketAddr, sync::Arc};

/// Reconfigures a running server.
#[derive(Debug)]
pub struct Reloader {
    pub(super) current: ArcSwap<CurrentConfig>,
    pub(super) node: Arc<Node>,
    pub(super) http: Arc<ArcSwap<HttpContext>>,
    pub(super) console: Arc<Console>,
    pub(super) limiter: Arc<HttpConnectionLimiter>,
    pub(super) shard_settings: Arc<ArcSwap<ShardConfig>>,
    pub(super) descriptors: FileDescriptors,
    /// The address of the main listener.
    pub(super) address: SocketAddr,
}

/// The configuration that the server runs with, and its certificate.
#[derive(Debug)]
pub(super) struct CurrentConfig {
    pub(super) config: Config,
    pub(super) tls: Option<Arc<Tls>>,
}

/// A validated configuration; applying it cannot fail.
#[derive(Debug)]
pub struct PreparedReload {
    log_levels: (LogLevel, LogLevel),
    new: CurrentConfig,
    webhooks: PreparedWebhooks,
    summary: ReloadSummary,
}

/// What a reload changed.
#[derive(Debug)]
pub struct ReloadSummary {
    /// The changed settings.
    pub changes: Changes,
    /// Whether the certificate for new connections has changed, or TLS was enabled or disabled.
    pub is_certificate_new: bool,
}

/// The error of a rejected reload. Nothing has changed.
#[derive(Debug)]
pub enum ReloadError {
    /// The configuration is invalid for this running server.
    Config(ConfigError),
    /// The certificate or its key is invalid.
    Tls(TlsError),
    /// A webhook is invalid.
    Webhook(WebhookError),
    /// The configuration contains none of the served apps, and they have connections.
    AllAppsRemoved {
        /// The number of their connections.
        connections: usize,
    },
    /// The server is draining.
    Draining,
}

impl Reloader {
    /// Number of WebSocket connections of the server.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.node.local_connections()
    }

    /// The console.
    #[must_use]
    pub fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// Validates and prepares `new`. Changes nothing. Reads files.
    ///
    /// # Errors
    ///
    /// [`ReloadError`] if anything of it is invalid.
    pub fn prepare(&self, new: Config) -> Result<PreparedReload, ReloadError> {
        if self.node.is_draining() {
            return Err(ReloadError::Draining);
        }
        let current = self.current.load();
        let previous = current.tls.as_deref();
        let (config, changes) =
            current.config.reload(new, self.address.ip()).map_err(ReloadError::Config)?;
        self.reject_removal_of_all_apps(&changes)?;
        let tls = Tls::load(&config.server.tls, previous).map_err(ReloadError::Tls)?;
        let webhooks = PreparedWebhooks::new(&config).map_err(ReloadError::Webhook)?;
        let is_certificate_new = match (previous, &tls) {
            (Some(previous), Some(new)) => !previous.has_same_chain(new),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        Ok(PreparedReload {
            log_levels: (current.config.log.level, config.log.level),
            new: CurrentConfig { config, tls: tls.map(Arc::new) },
            webhooks,
            summary: ReloadSummary { changes, is_certificate_new },
        })
    }

    /// Rejects a reload that would close the connections of every app at once: a configuration
    /// without any of the apps is most likely a mistake.
    fn reject_removal_of_all_apps(&self, changes: &Changes) -> Result<(), ReloadError> {
        let current = self.current.load();
        if current.config.is_development() || changes.removed.len() < current.config.apps.len() {
            return Ok(());
        }
        let hubs = changes.removed.iter().filter_map(|id| self.node.hub(id));
        match hubs.map(|hub| hub.connection_count()).sum() {
            0 => Ok(()),
            connections => Err(ReloadError::AllAppsRemoved { connections }),
        }
    }

    /// Applies a prepared configuration, and returns the changes. Connections stay open, except
    /// those of removed or disabled apps. Needs a runtime.
    pub fn apply(&self, prepared: PreparedReload) -> ReloadSummary {
        let PreparedReload { new, webhooks, summary, .. } = prepared;
        let config = &new.config;
        let limits = self.descriptors.limits(&config.server);
        let metrics = self.node.metrics();
        metrics.set_limits(limits.max_connections, limits.max_http_connections);
        metrics.reloaded();
        self.limiter.set_max(limits.max_http_connections);
        self.shard_settings.store(Arc::new(shard_config(config)));
        self.http.store(Arc::new(HttpContext::new(
            config,
            Arc::clone(&self.node),
            new.tls.clone(),
            Arc::clone(&self.console),
        )));
        self.console.reconfigure(config);
        self.node.metrics().set_certificate_expiry(new.tls.as_deref().and_then(Tls::expiry));
        self.node.reconfigure(config, limits.max_connections, webhooks);
        self.current.store(Arc::new(new));
        summary
    }
}

impl Reloader {
    /// Counts a reload that was rejected because of an error.
    pub fn count_rejected(&self) {
        self.node.metrics().reload_rejected();
    }
}

impl PreparedReload {
    /// The log levels before and after.
    #[must_use]
    pub fn log_levels(&self) -> (LogLevel, LogLevel) {
        self.log_levels
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Webhook(error) => error.fmt(f),
            Self::AllAppsRemoved { connections } => write!(
                f,
                "apps: the new configuration removes every app, and {connections} connections are open: \
                 set enabled = false first to close them"
            ),
            Self::Draining => f.write_str("the server is shutting down"),
        }
    }
}

impl std::error::Error for ReloadError {}
