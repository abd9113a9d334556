//! The settings of an app's webhooks.

use super::{
    WebhookError,
    endpoint::Endpoint,
    filter::{Filter, Kinds},
    name::names,
};
use crate::{
    config::{AppConfig, Secret, WebhookConfig},
    signature::Signer,
};
use std::{sync::Arc, time::Duration};

/// The settings of an app's webhooks. Replaced as a whole.
#[derive(Debug)]
pub(super) struct AppWebhookSettings {
    /// The kinds of events that are observed.
    pub(super) wanted: Kinds,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// The filter of each of `endpoints`, in the same order.
    pub(super) filters: Vec<Filter>,
    pub(super) signer: Signer,
    pub(super) batch_wait: Duration,
    /// The configuration from which the rest was made.
    source: SettingsSource,
}

#[derive(Debug, PartialEq)]
struct SettingsSource {
    key: String,
    secret: Secret,
    webhooks: Vec<WebhookConfig>,
    batch_wait: Duration,
}

impl AppWebhookSettings {
    pub(super) fn new(app: &AppConfig, batch_wait: Duration) -> Result<Self, WebhookError> {
        let names = names(app);
        let webhooks = names.iter().zip(&app.webhooks);
        let endpoints =
            webhooks.map(|(name, webhook)| Endpoint::new(app, name, webhook).map(Arc::new));
        let kinds: Kinds =
            app.webhooks.iter().flat_map(|webhook| &webhook.events).copied().collect();
        Ok(Self {
            wanted: kinds.with_counterparts(),
            endpoints: endpoints.collect::<Result<_, _>>()?,
            filters: app.webhooks.iter().map(Filter::new).collect(),
            signer: Signer::new(app.secret.expose()),
            batch_wait,
            source: SettingsSource {
                key: app.key.clone(),
                secret: app.secret.clone(),
                webhooks: app.webhooks.clone(),
                batch_wait,
            },
        })
    }

    /// Whether the configuration differs from that of `other`.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        self.source != other.source
    }

    pub(super) fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoints.iter().any(|found| Arc::ptr_eq(found, endpoint))
    }

    /// Keeps the endpoints of `before` with the same URLs, with the new settings. Of several with
    /// one URL, that of the same name is preferred.
    pub(super) fn take_over(&mut self, before: &Self) {
        let mut old = before.endpoints.clone();
        for with_name in [true, false] {
            for endpoint in &mut self.endpoints {
                if before.has(endpoint) {
                    continue;
                }
                let is_same = |known: &Arc<Endpoint>| {
                    known.url == endpoint.url && (!with_name || known.name() == endpoint.name())
                };
                if let Some(at) = old.iter().position(is_same) {
                    let known = old.remove(at);
                    known.apply_settings(endpoint);
                    *endpoint = known;
                }
            }
        }
    }
}
