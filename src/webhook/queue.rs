//! The queue of requests for one endpoint: what those in memory and in Redis (`store::redis`) have in
//! common.

pub(super) mod memory;

use super::envelope::WebhookRequest;
use std::time::{Duration, Instant};

/// The queue of one endpoint.
///
/// A request stays in it until it is acknowledged. A queue in Redis outlives its node: another node
/// continues with the unacknowledged requests. Requests that are *set aside* are kept beside the
/// queue: each has one event that the endpoint rejects, and does not block others.
pub(super) trait Queue: Send + Sync {
    /// Waits until there is a request, and returns the oldest with its id. Safe to cancel.
    fn first(&self) -> impl Future<Output = (RequestId, WebhookRequest)> + Send;

    /// Like [`Queue::first`], without waiting.
    fn first_now(&self) -> impl Future<Output = Option<(RequestId, WebhookRequest)>> + Send;

    /// Removes the request with `request_id`, if it was not dropped meanwhile.
    fn ack(&self, request_id: RequestId) -> impl Future<Output = ()> + Send;

    /// Drops requests created at `before` or earlier, and returns their number of events.
    fn drop_older(&self, before: Instant) -> impl Future<Output = usize> + Send;

    /// Replaces the oldest request by its two halves, if it is the one with `request_id`. Returns false if
    /// that failed: then nothing has changed.
    fn split(
        &self,
        request_id: RequestId,
        halves: [WebhookRequest; 2],
    ) -> impl Future<Output = bool> + Send;

    /// Sets the oldest request aside, if it is the one with `request_id`. Returns the number of events
    /// dropped to make room, of the oldest requests set aside; `None` if it failed.
    fn set_aside(&self, request_id: RequestId) -> impl Future<Output = Option<usize>> + Send;

    /// The number of requests that are set aside, as far as it is known.
    fn asides(&self) -> usize;

    /// Waits until a request is set aside. May return spuriously. Safe to cancel.
    fn aside_added(&self) -> impl Future<Output = ()> + Send;

    /// The next request when those set aside are retried in turn, starting at turn 0.
    fn aside(
        &self,
        turn: usize,
    ) -> impl Future<Output = Option<(RequestId, WebhookRequest)>> + Send;

    /// Removes the request with `request_id` from those that are set aside.
    fn ack_aside(&self, request_id: RequestId) -> impl Future<Output = ()> + Send;

    /// Like [`Queue::drop_older`], for requests that are set aside.
    fn drop_older_asides(&self, before: Instant) -> impl Future<Output = usize> + Send;
}

/// Maximum age of a request: Pusher retries for 5 minutes, and Python's SDK rejects older ones.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// Maximum size of the queue of one endpoint, in bytes.
pub(super) const QUEUE_BYTES_MAX: usize = 3 * 1_024 * 1_024;
/// Maximum number of requests that are set aside for one endpoint.
pub(super) const ASIDES_MAX: usize = 1_000;
/// Maximum number of bytes that are set aside for one endpoint.
pub(super) const ASIDE_BYTES_MAX: usize = 1_024 * 1_024;

/// Identifies a request of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestId(pub(super) u64);
