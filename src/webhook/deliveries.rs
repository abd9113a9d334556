//! The tasks that deliver the queues of an app's endpoints.

use super::{
    app::AppWebhooks,
    delivery::{DeliveryPhase, deliver},
    endpoint::Endpoint,
    queue::Queue,
    settings::AppWebhookSettings,
    stats::Dropped,
};
use crate::{clock::now, http_client::Connector};
use arc_swap::ArcSwap;
use std::sync::{Arc, atomic::Ordering};
use tokio::{sync::watch, task::JoinSet};

/// The running deliveries of an app. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Deliveries<Q> {
    app: Arc<AppWebhooks>,
    connector: Arc<ArcSwap<Connector>>,
    running: Vec<EndpointTask<Q>>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct EndpointTask<Q> {
    endpoint: Arc<Endpoint>,
    queue: Arc<Q>,
    /// Ends it. Closed when it has ended.
    end: Arc<watch::Sender<DeliveryPhase>>,
}

impl<Q: Queue + 'static> Deliveries<Q> {
    pub(super) fn new(app: Arc<AppWebhooks>, connector: Arc<ArcSwap<Connector>>) -> Self {
        Self { app, connector, running: Vec::new(), tasks: JoinSet::new() }
    }

    /// Starts a delivery of each new queue. Those of removed queues have one attempt left.
    pub(super) fn apply_settings(&mut self, settings: &AppWebhookSettings, queues: &[Arc<Q>]) {
        while self.tasks.try_join_next().is_some() {}
        let is_kept = |delivery: &EndpointTask<Q>| {
            queues.iter().any(|queue| Arc::ptr_eq(queue, &delivery.queue))
        };
        let removed: Vec<_> = self.running.extract_if(.., |delivery| !is_kept(delivery)).collect();
        for delivery in &removed {
            delivery.end.send_replace(DeliveryPhase::LastAttempt);
        }
        for (endpoint, queue) in settings.endpoints.iter().zip(queues) {
            if self.running.iter().any(|delivery| Arc::ptr_eq(&delivery.queue, queue)) {
                continue;
            }
            // Requests to one URL stay in order, although its queue in Redis has another name.
            let same_url = removed.iter().filter(|delivery| delivery.endpoint.url == endpoint.url);
            let before = same_url.map(|delivery| Arc::clone(&delivery.end)).collect();
            self.start(Arc::clone(endpoint), Arc::clone(queue), before);
        }
    }

    /// Starts a delivery that begins when those of `before` have ended.
    fn start(
        &mut self,
        endpoint: Arc<Endpoint>,
        queue: Arc<Q>,
        before: Vec<Arc<watch::Sender<DeliveryPhase>>>,
    ) {
        let end = Arc::new(watch::Sender::new(DeliveryPhase::Running));
        let connector = Arc::clone(&self.connector);
        let delivering =
            deliver(Arc::clone(&endpoint), Arc::clone(&queue), connector, end.subscribe());
        let (app, of) = (Arc::clone(&self.app), Arc::clone(&endpoint));
        self.tasks.spawn(async move {
            for end in before {
                end.closed().await;
            }
            delivering.await;
            if app.is_removed.load(Ordering::Relaxed) || !app.settings().has(&of) {
                of.count_dropped(Dropped::Removed, of.queue.all_events(), now());
            }
        });
        self.running.push(EndpointTask { endpoint, queue, end });
    }

    /// Tries each queue once more, until its first failure.
    pub(super) async fn finish(mut self) {
        for delivery in &self.running {
            delivery.end.send_replace(DeliveryPhase::LastAttempt);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
