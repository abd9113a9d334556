//! The queue of one endpoint in Redis, for the delivering node.

use super::{
    RedisStore,
    values::{Head, QueueState},
};
use crate::{
    broker::Unavailable,
    clock::now,
    signature::Signer,
    webhook::{
        endpoint::Endpoint,
        envelope::WebhookRequest,
        queue::{DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, LIFETIME, Queue, RequestId},
        stats::Dropped,
    },
};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time};

/// A queue in Redis. Reads only while this node holds the lease.
#[derive(Debug)]
pub(in crate::webhook) struct RedisQueue {
    store: Arc<RedisStore>,
    pub(in crate::webhook) name: String,
    pub(super) endpoint: Arc<Endpoint>,
    signer: Signer,
    head: Mutex<Option<(RequestId, WebhookRequest)>>,
    changed: Notify,
    /// Number of dead letters, as far as Redis has reported.
    dead_letters: AtomicUsize,
    dead_letter_added: Notify,
}

/// The pause before a retry while Redis is unavailable.
const RETRY: Duration = Duration::from_millis(200);

impl RedisQueue {
    pub(in crate::webhook) fn new(
        store: Arc<RedisStore>,
        name: String,
        endpoint: Arc<Endpoint>,
        signer: Signer,
    ) -> Self {
        Self {
            store,
            name,
            endpoint,
            signer,
            head: Mutex::default(),
            changed: Notify::new(),
            dead_letters: AtomicUsize::new(0),
            dead_letter_added: Notify::new(),
        }
    }

    /// Sets the number of queued events. `is_changed`: the oldest may be another one now.
    pub(in crate::webhook) fn set_waiting(&self, events: usize, is_changed: bool) {
        if is_changed {
            *self.head.lock() = None;
        }
        self.endpoint.stats.waiting.set(events);
        if 0 < events {
            self.changed.notify_one();
        }
    }

    fn request(&self, head: &Head) -> (RequestId, WebhookRequest) {
        let created_at = now().checked_sub(head.age).unwrap_or_else(now);
        let body = String::from_utf8_lossy(&head.body).into_owned();
        (RequestId(head.id), WebhookRequest::with_body(&self.signer, body, head.events, created_at))
    }

    /// Handles the state of the queue, and returns the events that were too old.
    fn take(&self, queue: QueueState) -> usize {
        *self.head.lock() = queue.head.map(|head| self.request(&head));
        self.endpoint.stats.waiting.set(queue.waiting);
        queue.expired
    }

    /// The same, for dead letters.
    fn take_dead_letters(
        &self,
        dead_letters: QueueState,
    ) -> (usize, Option<(RequestId, WebhookRequest)>) {
        self.dead_letters.store(dead_letters.count, Ordering::Relaxed);
        self.endpoint.stats.dead_letters.set(dead_letters.waiting);
        (dead_letters.expired, dead_letters.head.map(|head| self.request(&head)))
    }
}

impl Queue for RedisQueue {
    async fn first(&self) -> (RequestId, WebhookRequest) {
        loop {
            if let Some(first) = self.first_now().await {
                return first;
            }
            self.changed.notified().await;
        }
    }

    async fn first_now(&self) -> Option<(RequestId, WebhookRequest)> {
        if !self.store.lease.is_ours() {
            return None;
        }
        let known = self.head.lock().clone();
        if known.is_some() {
            return known;
        }
        let queue = self.store.client.head(&self.name, None, LIFETIME).await.ok()?;
        let expired = self.take(queue);
        self.endpoint.count_dropped(Dropped::Expired, expired, now());
        self.head.lock().clone()
    }

    /// Waits while Redis is unavailable, so that the acknowledged request is not sent again
    /// afterwards.
    async fn ack(&self, request_id: RequestId) {
        loop {
            match self.store.client.head(&self.name, Some(request_id.0), LIFETIME).await {
                Ok(queue) => {
                    let expired = self.take(queue);
                    return self.endpoint.count_dropped(Dropped::Expired, expired, now());
                }
                Err(Unavailable) => time::sleep(RETRY).await,
            }
        }
    }

    async fn drop_older(&self, before: Instant) -> usize {
        let is_old = self.head.lock().as_ref().is_some_and(|(_, head)| head.created_at <= before);
        if !is_old {
            return 0;
        }
        let lifetime = now().saturating_duration_since(before);
        if let Ok(queue) = self.store.client.head(&self.name, None, lifetime).await {
            return self.take(queue);
        }
        // It is too old nevertheless, and must not be sent.
        *self.head.lock() = None;
        0
    }

    async fn split(&self, request_id: RequestId, halves: [WebhookRequest; 2]) -> bool {
        let parts = halves.each_ref().map(|half| (half.events, &*half.body));
        let is_done = self.store.client.split(&self.name, request_id.0, &parts).await.is_ok();
        if is_done {
            *self.head.lock() = None;
        }
        is_done
    }

    async fn add_dead_letter(&self, request_id: RequestId) -> Option<usize> {
        let client = &self.store.client;
        let added = client
            .add_dead_letter(&self.name, request_id.0, DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX)
            .await;
        let dropped = added.ok()?;
        *self.head.lock() = None;
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
        self.dead_letter_added.notify_one();
        Some(dropped)
    }

    fn dead_letters(&self) -> usize {
        self.dead_letters.load(Ordering::Relaxed)
    }

    async fn dead_letter_added(&self) {
        self.dead_letter_added.notified().await;
    }

    async fn dead_letter(&self, turn: usize) -> Option<(RequestId, WebhookRequest)> {
        if !self.store.lease.is_ours() {
            return None;
        }
        let dead_letters =
            self.store.client.dead_letter(&self.name, None, LIFETIME, turn).await.ok()?;
        let (expired, head) = self.take_dead_letters(dead_letters);
        self.endpoint.count_dropped(Dropped::Rejected, expired, now());
        head
    }

    async fn ack_dead_letter(&self, request_id: RequestId) {
        loop {
            match self.store.client.dead_letter(&self.name, Some(request_id.0), LIFETIME, 0).await {
                Ok(dead_letters) => {
                    let (expired, _) = self.take_dead_letters(dead_letters);
                    return self.endpoint.count_dropped(Dropped::Rejected, expired, now());
                }
                Err(Unavailable) => time::sleep(RETRY).await,
            }
        }
    }

    async fn drop_older_dead_letters(&self, before: Instant) -> usize {
        let lifetime = now().saturating_duration_since(before);
        match self.store.client.dead_letter(&self.name, None, lifetime, 0).await {
            Ok(dead_letters) => self.take_dead_letters(dead_letters).0,
            Err(Unavailable) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
