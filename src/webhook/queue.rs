//! The queue of requests for one endpoint: what those in memory and in Redis (`store::redis`) have in
//! common.

pub(super) mod memory;

use super::envelope::WebhookRequest;
use std::time::{Duration, Instant};

/// The queue of one endpoint.
///
/// A request stays in it until it is acknowledged. A queue in Redis outlives its node: another node
/// continues with the unacknowledged requests. *Dead letters* are kept beside the queue: each
/// has one event that the endpoint rejects, and does not block others. They are retried separately.
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

    /// Moves the oldest request to the dead letters, if it is the one with `request_id`. Returns the
    /// number of events of the oldest dead letters that were dropped to make room; `None` if it failed.
    fn add_dead_letter(&self, request_id: RequestId) -> impl Future<Output = Option<usize>> + Send;

    /// The number of dead letters, as far as it is known.
    fn dead_letters(&self) -> usize;

    /// Waits until a dead letter is added. May return spuriously. Safe to cancel.
    fn dead_letter_added(&self) -> impl Future<Output = ()> + Send;

    /// The next dead letter when they are retried in turn, starting at turn 0.
    fn dead_letter(
        &self,
        turn: usize,
    ) -> impl Future<Output = Option<(RequestId, WebhookRequest)>> + Send;

    /// Removes the dead letter with `request_id`.
    fn ack_dead_letter(&self, request_id: RequestId) -> impl Future<Output = ()> + Send;

    /// Like [`Queue::drop_older`], for dead letters.
    fn drop_older_dead_letters(&self, before: Instant) -> impl Future<Output = usize> + Send;
}

/// Maximum age of a request: Pusher retries for 5 minutes, and Python's SDK rejects older ones.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// Maximum size of the queue of one endpoint, in bytes.
pub(super) const QUEUE_BYTES_MAX: usize = 3 * 1_024 * 1_024;
/// Maximum number of dead letters of one endpoint.
pub(super) const DEAD_LETTERS_MAX: usize = 1_000;
/// Maximum size of the dead letters of one endpoint, in bytes.
pub(super) const DEAD_LETTER_BYTES_MAX: usize = 1_024 * 1_024;

/// Identifies a request of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestId(pub(super) u64);
