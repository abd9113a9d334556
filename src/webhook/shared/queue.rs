//! The queue of one endpoint in Redis, as the node sees it that delivers.

use super::{
    super::{
        endpoint::{Endpoint, now},
        envelope::Notice,
        queue::{LIFETIME, Place, Queue},
        stats::Dropped,
    },
    Shared,
};
use crate::{cluster, signature::Signer};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time};

/// See the module. Reads only while the turn is this node's.
#[derive(Debug)]
pub(super) struct SharedQueue {
    shared: Arc<Shared>,
    name: String,
    endpoint: Arc<Endpoint>,
    signer: Signer,
    head: Mutex<Option<(Place, Notice)>>,
    changed: Notify,
}

/// How long to wait before asking Redis again.
const RETRY: Duration = Duration::from_millis(200);

impl SharedQueue {
    pub(super) fn new(
        shared: Arc<Shared>,
        name: String,
        endpoint: Arc<Endpoint>,
        signer: Signer,
    ) -> Self {
        let (head, changed) = (Mutex::default(), Notify::new());
        Self { shared, name, endpoint, signer, head, changed }
    }

    /// So many events wait now. `has_lost_some`: the oldest may be gone.
    pub(super) fn set_waiting(&self, events: usize, has_lost_some: bool) {
        if has_lost_some {
            *self.lock() = None;
        }
        self.endpoint.stats.waiting.set(events);
        if 0 < events {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Place, Notice)>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the queue says, and gives the events that were too old.
    fn take(&self, queue: cluster::Queue) -> usize {
        let head = queue.head.map(|head| {
            let created_at = now().checked_sub(head.age).unwrap_or_else(now);
            let body = String::from_utf8_lossy(&head.body).into_owned();
            (Place(head.id), Notice::of_body(&self.signer, body, head.events, created_at))
        });
        *self.lock() = head;
        self.endpoint.stats.waiting.set(queue.waiting);
        queue.expired
    }
}

impl Queue for SharedQueue {
    async fn first(&self) -> (Place, Notice) {
        loop {
            if let Some(first) = self.first_now().await {
                return first;
            }
            self.changed.notified().await;
        }
    }

    async fn first_now(&self) -> Option<(Place, Notice)> {
        if !self.shared.turn.is_ours() {
            return None;
        }
        let known = self.lock().clone();
        if known.is_some() {
            return known;
        }
        let queue = self.shared.store.head(&self.name, None, LIFETIME).await.ok()?;
        let expired = self.take(queue);
        self.endpoint.count_dropped(Dropped::Expired, expired, now());
        self.lock().clone()
    }

    /// While Redis is away this waits: what was taken is not to be sent again when it is back.
    async fn done(&self, place: Place) {
        loop {
            match self.shared.store.head(&self.name, Some(place.0), LIFETIME).await {
                Ok(queue) => {
                    let expired = self.take(queue);
                    return self.endpoint.count_dropped(Dropped::Expired, expired, now());
                }
                Err(cluster::Unavailable) => time::sleep(RETRY).await,
            }
        }
    }

    async fn drop_older(&self, before: Instant) -> usize {
        let is_old = self.lock().as_ref().is_some_and(|(_, head)| head.created_at <= before);
        if !is_old {
            return 0;
        }
        let lifetime = now().saturating_duration_since(before);
        if let Ok(queue) = self.shared.store.head(&self.name, None, lifetime).await {
            return self.take(queue);
        }
        // It is old nevertheless, and not to be sent.
        *self.lock() = None;
        0
    }
}
