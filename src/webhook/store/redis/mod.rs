//! Webhooks in a cluster: log and queues are in Redis.
//!
//! Every node appends the events that it observes to the common log (`outgoing`); paired events are
//! logged by the script that makes the change. One node at a time holds the *lease* of an app: it
//! reads records from the log, decides with the debouncer which events are reported and when,
//! and adds the resulting requests to the endpoints' queues, all in one step of Redis.
//! The same node delivers (`reader`, `queue`). When it dies, another acquires the lease some seconds later
//! and continues with the state in Redis.
//!
//! The other nodes learn from the control channel that the holder is alive, and do not poll Redis.

mod calls;
mod dead_letters;
mod outgoing;
mod queue;
mod read;
mod reader;
mod scripts;
mod values;

pub(in crate::webhook) use calls::{StoreClient, StoreClients};
pub(in crate::webhook) use queue::RedisQueue;
#[cfg(test)]
pub(in crate::webhook) use values::{LogRecord, PollReply};

use super::log::Full;
use crate::{clock::now, hub::HubEvent, webhook::settings::AppWebhookSettings};
use arc_swap::ArcSwap;
use outgoing::OutgoingLog;
use parking_lot::Mutex;
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;

/// The state of an app's webhooks in a cluster, besides its endpoints.
#[derive(Debug)]
pub(in crate::webhook) struct RedisStore {
    pub(in crate::webhook) client: StoreClient,
    outgoing: OutgoingLog,
    /// The number of parts that were appended.
    appended: Mutex<u64>,
    pub(in crate::webhook) lease: WebhookLease,
    /// The settings of this node.
    settings: ArcSwap<AppWebhookSettings>,
}

impl RedisStore {
    pub(in crate::webhook) fn new(client: StoreClient, settings: Arc<AppWebhookSettings>) -> Self {
        Self {
            lease: WebhookLease::new(client.new_lease()),
            client,
            outgoing: OutgoingLog::default(),
            appended: Mutex::default(),
            settings: ArcSwap::new(settings),
        }
    }

    /// Makes these settings apply to all records that this node reads from now on.
    pub(in crate::webhook) fn set_settings(&self, settings: Arc<AppWebhookSettings>) {
        self.settings.store(settings);
    }

    /// Queues an event for the log.
    ///
    /// # Errors
    ///
    /// [`Full`] if too much is queued already.
    pub(in crate::webhook) fn append(&self, at_us: u64, hub_event: &HubEvent) -> Result<(), Full> {
        self.outgoing.push(at_us, hub_event)
    }

    /// Appends the queued events to the log until `ending` is true, then the rest if Redis is
    /// available.
    pub(in crate::webhook) async fn log(&self, ending: watch::Receiver<bool>) {
        self.outgoing.append_all(&self.client, &self.appended, ending).await;
    }

    /// The number of events that are not appended yet.
    pub(in crate::webhook) fn unlogged(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether this node holds the lease, for the metrics.
    pub(in crate::webhook) fn is_leader(&self) -> bool {
        self.lease.is_ours()
    }
}

/// The lease, as far as this node knows.
#[derive(Debug)]
pub(in crate::webhook) struct WebhookLease {
    /// The name under which this node acquires it.
    name: Mutex<String>,
    /// Until when this node certainly holds it.
    until: Mutex<Option<Instant>>,
}

impl WebhookLease {
    fn new(name: String) -> Self {
        Self { name: Mutex::new(name), until: Mutex::new(None) }
    }

    pub(in crate::webhook) fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Changes the name: writes under the earlier one are rejected after the next poll.
    fn rename(&self, name: String) {
        *self.name.lock() = name;
    }

    pub(in crate::webhook) fn lasts_until(&self, until: Instant) {
        *self.until.lock() = Some(until);
    }

    pub(in crate::webhook) fn ends(&self) {
        *self.until.lock() = None;
    }

    pub(in crate::webhook) fn is_ours(&self) -> bool {
        let until = *self.until.lock();
        until.is_some_and(|until| now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_lease_lasts_until_its_end() {
        let lease = WebhookLease::new(String::new());
        assert!(!lease.is_ours());
        lease.lasts_until(now() + Duration::from_secs(60));
        assert!(lease.is_ours());
        lease.ends();
        assert!(!lease.is_ours());
        lease.lasts_until(now());
        assert!(!lease.is_ours(), "it is over");
    }
}
