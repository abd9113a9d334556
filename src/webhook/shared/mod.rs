//! Webhooks of an app that lives on several nodes: what waits lies in Redis.
//!
//! Every node appends what it observes to the log that all share (`outgoing`); what comes and goes
//! is put there by the step that makes it so. One node at a time has the *lease* to tell: it takes
//! records off the log, has a state machine decide what is told of them and when (`machine`), and
//! puts the requests that come of it into the endpoints' queues, all in one step of Redis. The same
//! node delivers (`queue`). When it dies, another has the lease some seconds later, and goes on with
//! what is in Redis.
//!
//! The others learn from the bus that whoever has the lease is alive, and ask Redis for nothing.

mod dispatcher;
mod machine;
mod outgoing;
mod queue;

pub(super) use dispatcher::dispatch;

use super::log::Full;
use crate::{cluster::Store, hub::HubEvent};
use outgoing::Outgoing;
use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

/// What an app that lives on several nodes has beside its endpoints.
#[derive(Debug)]
pub(super) struct SharedWebhooks {
    pub(super) store: Store,
    outgoing: Outgoing,
    /// How many parts were appended.
    appended: Mutex<u64>,
    lease: WebhookLease,
}

impl SharedWebhooks {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            outgoing: Outgoing::default(),
            appended: Mutex::default(),
            lease: WebhookLease::default(),
        }
    }

    /// Has an occurrence logged.
    ///
    /// # Errors
    ///
    /// [`Full`] when too much waits already.
    pub(super) fn append(&self, at_us: u64, hub_event: &HubEvent) -> Result<(), Full> {
        self.outgoing.push(at_us, hub_event)
    }

    /// Logs what is appended until `ending` is true, and as much as can be then.
    pub(super) async fn log(&self, ending: watch::Receiver<bool>) {
        self.outgoing.append_all(&self.store, &self.appended, ending).await;
    }

    /// How much is not logged.
    pub(super) fn unlogged(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether this node has the lease to tell, for the metrics.
    pub(super) fn is_leader(&self) -> bool {
        self.lease.is_ours()
    }
}

/// The lease of this node: until when it certainly lasts.
#[derive(Debug, Default)]
struct WebhookLease(Mutex<Option<Instant>>);

impl WebhookLease {
    fn lasts_until(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn ends(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_ours(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_turn_lasts_until_its_end() {
        let lease = WebhookLease::default();
        assert!(!lease.is_ours());
        lease.lasts_until(Instant::now() + Duration::from_secs(60));
        assert!(lease.is_ours());
        lease.ends();
        assert!(!lease.is_ours());
        lease.lasts_until(Instant::now());
        assert!(!lease.is_ours(), "it is over");
    }
}
