//! One webhook: its settings and its queue.

use super::{
    WebhookError,
    client::{EndpointClient, Target, headers},
    envelope::WebhookRequest,
    queue::memory::MemoryQueue,
    stats::{Dropped, LOG_INTERVAL, Stats},
};
use crate::{
    clock::now,
    config::{AppConfig, Secret, WebhookConfig},
    http_client::Connector,
    signature::Signer,
    throttle::LogThrottle,
};
use arc_swap::ArcSwap;
use hyper::HeaderMap;
use std::{sync::Arc, time::Instant};

/// One webhook of one app, identified by its URL: a reload that keeps the URL keeps the queue and
/// its order, even if other settings change.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) app_id: String,
    name: ArcSwap<String>,
    pub(super) url: Secret,
    pub(super) target: Arc<Target>,
    /// The queue of this node. In a cluster, the queue is in Redis.
    pub(super) queue: Arc<MemoryQueue>,
    pub(super) stats: Stats,
    /// Signs requests that are made later: halves of requests, and probes.
    pub(super) signer: ArcSwap<Signer>,
    headers: Arc<ArcSwap<HeaderMap>>,
    drops: LogThrottle,
    pub(super) rejections: LogThrottle,
}

impl Endpoint {
    pub(super) fn new(
        app: &AppConfig,
        name: &str,
        webhook: &WebhookConfig,
    ) -> Result<Self, WebhookError> {
        let target = Target::parse(&webhook.url).ok_or_else(|| WebhookError::Host {
            app_id: app.id.clone(),
            webhook: name.to_owned(),
        })?;
        Ok(Self {
            headers: Arc::new(ArcSwap::from_pointee(headers(&app.key, &webhook.headers))),
            app_id: app.id.clone(),
            name: ArcSwap::from_pointee(name.to_owned()),
            url: Secret::new(webhook.url.as_str()),
            target: Arc::new(target),
            queue: Arc::default(),
            stats: Stats::default(),
            signer: ArcSwap::from_pointee(Signer::new(app.secret.expose())),
            drops: LogThrottle::with_interval(LOG_INTERVAL),
            rejections: LogThrottle::with_interval(LOG_INTERVAL),
        })
    }

    /// The webhook's name in metrics and logs.
    pub(super) fn name(&self) -> Arc<String> {
        self.name.load_full()
    }

    /// Applies the settings of `new`, which has the same URL.
    pub(super) fn apply_settings(&self, new: &Self) {
        self.name.store(new.name.load_full());
        self.headers.store(new.headers.load_full());
        self.signer.store(new.signer.load_full());
    }

    /// A client for this endpoint.
    pub(super) fn client(&self, connector: Arc<ArcSwap<Connector>>) -> EndpointClient {
        EndpointClient::new(connector, Arc::clone(&self.target), Arc::clone(&self.headers))
    }

    /// Queues a request.
    pub(super) fn push(&self, request: WebhookRequest) {
        let now = request.created_at;
        self.count_dropped(Dropped::Overflow, self.queue.push(request), now);
    }

    /// Logs an event that the endpoint rejects, at a limited rate.
    pub(super) fn log_rejection(&self, what: &str, request: &WebhookRequest, error: &str) {
        if let Some(requests) = self.rejections.record(1, now()) {
            let (event, channel) = request.label();
            tracing::warn!(
                app = self.app_id,
                webhook = %self.name(),
                host = self.target.origin.authority(),
                error,
                event,
                channel,
                requests,
                "{what}"
            );
        }
    }

    /// Counts dropped events, and logs them at a limited rate.
    pub(super) fn count_dropped(&self, reason: Dropped, events: usize, now: Instant) {
        if events == 0 {
            return;
        }
        self.stats.dropped(reason).add(events);
        if let Some(events) = self.drops.record(events as u64, now) {
            tracing::warn!(
                app = self.app_id,
                webhook = %self.name(),
                host = self.target.origin.authority(),
                events,
                reason = reason.as_str(),
                "webhook events dropped"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_changes_all_settings_of_an_endpoint() {
        let endpoint = |name: &str, secret: &str| {
            let headers = [("X-A".to_owned(), Secret::new(name))].into();
            let webhook =
                WebhookConfig { url: "http://a.test".into(), headers, ..WebhookConfig::default() };
            let app = AppConfig { secret: Secret::new(secret), ..AppConfig::development() };
            Endpoint::new(&app, name, &webhook).unwrap()
        };
        let (old, fresh) = (endpoint("old", "1"), endpoint("fresh", "2"));
        old.apply_settings(&fresh);
        assert_eq!(old.name().as_str(), "fresh");
        assert_eq!(old.headers.load()["x-a"], "fresh");
        assert_eq!(old.signer.load().sign("x"), Signer::new("2").sign("x"));
    }

    #[test]
    fn dropped_events_are_counted_by_reason() {
        let webhook = WebhookConfig { url: "http://a.test".into(), ..WebhookConfig::default() };
        let endpoint = Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap();
        let now = now();
        endpoint.count_dropped(Dropped::Overflow, 3, now);
        endpoint.count_dropped(Dropped::Overflow, 4, now);
        endpoint.count_dropped(Dropped::Expired, 0, now);
        let counts = [Dropped::Overflow, Dropped::Expired, Dropped::Rejected]
            .map(|reason| endpoint.stats.dropped(reason).get());
        assert_eq!(counts, [7, 0, 0]);
        let large = || "x".repeat(2 * 1_024 * 1_024);
        for events in [1, 2] {
            let request = WebhookRequest::new(&Signer::new("s"), (&large(), events), 0, now);
            endpoint.push(request);
        }
        assert_eq!(endpoint.stats.dropped(Dropped::Overflow).get(), 8);
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let headers = [("Authorization".to_owned(), Secret::new("hunter2"))].into();
        let url = "http://a.test/hunter2?token=hunter2".to_owned();
        let webhook = WebhookConfig { url, headers, ..WebhookConfig::default() };
        let endpoint = Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap();
        let client = endpoint.client(Arc::new(ArcSwap::from_pointee(Connector::new(None, false))));
        assert!(!format!("{endpoint:?}{client:?}{webhook:?}").contains("hunter2"));
    }
}
