//! Delivers the queued requests of an endpoint.

use super::{
    client::Post,
    endpoint::Endpoint,
    envelope::{self, WebhookRequest},
    queue::{LIFETIME, Queue, RequestId},
    resend::{post_recorded, record_given_up},
    restart_on_panic,
    retry::{Failure, Retries, RetryContext, RetryDecision},
    stats::Dropped,
};
use crate::{
    clock::now,
    http_client::{ConnectError, Connector, HttpError},
};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, time};

/// How long an idle connection is kept open. Servers close idle connections after some seconds,
/// Node after five, and a request that crosses the close is lost.
const IDLE: Duration = Duration::from_secs(4);
/// Minimum interval between attempts at the same dead letter.
const DEAD_LETTER_INTERVAL: Duration = Duration::from_secs(30);
/// Minimum interval between two attempts at any dead letters.
const DEAD_LETTER_GAP: Duration = Duration::from_secs(1);

/// Whether a delivery continues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DeliveryPhase {
    /// It continues.
    Running,
    /// No more requests will be added, and each waiting one has one attempt left.
    LastAttempt,
}

/// Delivers the requests of a queue to its endpoint until `end`.
pub(super) fn deliver<Q: Queue + 'static>(
    endpoint: Arc<Endpoint>,
    queue: Arc<Q>,
    connector: Arc<ArcSwap<Connector>>,
    end: watch::Receiver<DeliveryPhase>,
) -> impl Future<Output = ()> + Send + 'static {
    restart_on_panic(move || {
        let posts = [(); 2].map(|()| endpoint.client(Arc::clone(&connector)));
        EndpointDelivery::new(Arc::clone(&endpoint), Arc::clone(&queue), posts, end.clone()).run()
    })
}

/// The delivery to one endpoint.
#[derive(Debug)]
struct EndpointDelivery<P, Q> {
    main: QueueDelivery<P, Q>,
    dead_letters: DeadLetterDelivery<P, Q>,
}

/// Delivers the requests in the queue, in order. A failing request blocks the following ones until
/// it is too old, unless it is at fault itself ([`Retries`]): then it is split, and the remaining
/// part becomes a dead letter.
#[derive(Debug)]
struct QueueDelivery<P, Q> {
    endpoint: Arc<Endpoint>,
    queue: Arc<Q>,
    post: P,
    retries: Retries,
    end: watch::Receiver<DeliveryPhase>,
    /// Whether the oldest request waits for its next attempt.
    is_failing: Arc<AtomicBool>,
    /// When the request of the latest failed attempt was created, and the record of that attempt.
    failed: Option<(Instant, Option<u64>)>,
}

/// The delivery of dead letters.
#[derive(Debug)]
struct DeadLetterDelivery<P, Q> {
    endpoint: Arc<Endpoint>,
    queue: Arc<Q>,
    post: P,
    end: watch::Receiver<DeliveryPhase>,
    /// Whether the endpoint currently rejects other requests as well.
    is_failing: Arc<AtomicBool>,
}

/// The result of an attempt.
enum DeliveryAttempt {
    Delivered,
    /// It failed, with the error, and the record of the attempt.
    Failed(Failure, String, Option<u64>),
}

/// Posts a request once.
async fn attempt(
    post: &mut impl Post,
    endpoint: &Endpoint,
    request: &WebhookRequest,
    is_retry: bool,
) -> DeliveryAttempt {
    let (result, recorded) = post_recorded(post, endpoint, request, is_retry).await;
    let (failure, error) = match result {
        Ok(response) if response.status.is_success() => return DeliveryAttempt::Delivered,
        Ok(response) => {
            (Failure::from_status(response.status), format!("status {}", response.status.as_u16()))
        }
        Err(error) => {
            let failure = match error {
                HttpError::Connect(
                    ConnectError::Resolve(_)
                    | ConnectError::Private(_)
                    | ConnectError::Connect(_)
                    | ConnectError::Tls(_),
                ) => Failure::Unavailable,
                HttpError::Http(_) | HttpError::Timeout(_) => Failure::Unclear,
            };
            (failure, error.to_string())
        }
    };
    endpoint.stats.failed.add(1);
    DeliveryAttempt::Failed(failure, error, recorded)
}

fn delivered(endpoint: &Endpoint, request: &WebhookRequest) {
    endpoint.stats.sent.add(request.events);
    endpoint.stats.latency.observe(now().saturating_duration_since(request.created_at));
}

impl<P: Post, Q: Queue> EndpointDelivery<P, Q> {
    /// Creates a delivery that uses the first of `posts`, and the second for dead letters.
    fn new(
        endpoint: Arc<Endpoint>,
        queue: Arc<Q>,
        posts: [P; 2],
        end: watch::Receiver<DeliveryPhase>,
    ) -> Self {
        let [post, second] = posts;
        let is_failing = Arc::new(AtomicBool::default());
        let dead_letters = DeadLetterDelivery {
            endpoint: Arc::clone(&endpoint),
            queue: Arc::clone(&queue),
            post: second,
            end: end.clone(),
            is_failing: Arc::clone(&is_failing),
        };
        let retries = Retries::default();
        Self {
            main: QueueDelivery { endpoint, queue, post, retries, end, is_failing, failed: None },
            dead_letters,
        }
    }

    /// Delivers until the end: nothing waits any more, or the last attempt has failed.
    async fn run(self) {
        tokio::join!(self.main.run(), self.dead_letters.run());
    }
}

impl<P: Post, Q: Queue> QueueDelivery<P, Q> {
    async fn run(mut self) {
        while let Some((request_id, request)) = self.next().await {
            let DeliveryAttempt::Failed(failure, error, recorded) =
                self.attempt(request_id, &request).await
            else {
                continue;
            };
            self.failed = Some((request.created_at, recorded));
            let next = match self.retries.failed(failure, self.context()) {
                RetryDecision::Probe => self.probe().await,
                next @ (RetryDecision::Retry(_) | RetryDecision::Isolate(_)) => next,
            };
            let wait = match next {
                RetryDecision::Retry(wait) => wait,
                RetryDecision::Isolate(wait) => {
                    if self.isolate(request_id, &request, &error).await {
                        if !wait.is_zero() {
                            self.pause(wait).await;
                        }
                        continue;
                    }
                    self.retries.next_delay(self.context())
                }
                RetryDecision::Probe => continue,
            };
            self.is_failing.store(true, Ordering::Relaxed);
            self.log_failure(&error, wait);
            if self.is_last() {
                return;
            }
            self.pause(wait).await;
        }
    }

    fn is_last(&self) -> bool {
        *self.end.borrow() != DeliveryPhase::Running || self.end.has_changed().is_err()
    }

    fn context(&self) -> RetryContext {
        RetryContext {
            has_dead_letters: 0 < self.queue.dead_letters(),
            is_last: self.is_last(),
            random: rand::random(),
        }
    }

    /// Waits for the next request; `None` if there will be no more.
    async fn next(&mut self) -> Option<(RequestId, WebhookRequest)> {
        let mut is_resting = false;
        loop {
            self.expire().await;
            if let Some(first) = self.queue.first_now().await {
                return Some(first);
            }
            if self.is_last() {
                return None;
            }
            tokio::select! {
                _ = self.queue.first() => {}
                _ = self.end.wait_for(|end| *end != DeliveryPhase::Running) => {}
                () = time::sleep(IDLE), if !is_resting => {
                    self.post.on_idle();
                    is_resting = true;
                }
            }
        }
    }

    /// Tries to deliver a request once.
    async fn attempt(
        &mut self,
        request_id: RequestId,
        request: &WebhookRequest,
    ) -> DeliveryAttempt {
        let is_retry = self.retries.record_attempt(request_id);
        if is_retry {
            self.endpoint.stats.retried.add(1);
        }
        let attempt = attempt(&mut self.post, &self.endpoint, request, is_retry).await;
        if matches!(attempt, DeliveryAttempt::Delivered) {
            self.queue.ack(request_id).await;
            delivered(&self.endpoint, request);
            self.retries.succeeded();
            self.is_failing.store(false, Ordering::Relaxed);
        }
        attempt
    }

    /// Sends a probe: a request without events.
    async fn probe(&mut self) -> RetryDecision {
        let probe = WebhookRequest::probe(&self.endpoint.signer.load(), envelope::time_ms(), now());
        let is_accepted = matches!(
            attempt(&mut self.post, &self.endpoint, &probe, true).await,
            DeliveryAttempt::Delivered
        );
        self.retries.probed(is_accepted, self.context())
    }

    /// Splits a request at fault, or moves it to the dead letters. Returns whether the queue could do so.
    async fn isolate(
        &mut self,
        request_id: RequestId,
        request: &WebhookRequest,
        error: &str,
    ) -> bool {
        let halves = request.halves(&self.endpoint.signer.load());
        if let Some(halves) = halves {
            if !self.queue.split(request_id, halves).await {
                return false;
            }
            self.endpoint.stats.split.add(1);
            self.retries.record_split(2);
        } else {
            let Some(dropped) = self.queue.add_dead_letter(request_id).await else { return false };
            self.endpoint.log_rejection("webhook event moved to the dead letters", request, error);
            self.endpoint.count_dropped(Dropped::Rejected, dropped, now());
            record_given_up(self.failed.take().and_then(|(_, recorded)| recorded));
            self.retries.record_split(0);
        }
        self.is_failing.store(false, Ordering::Relaxed);
        true
    }

    fn log_failure(&self, error: &str, wait: Duration) {
        tracing::warn!(
            app = self.endpoint.app_id,
            webhook = %self.endpoint.name(),
            host = self.endpoint.target.origin.authority(),
            error,
            failures = self.retries.consecutive_failures(),
            retry_in_ms = wait.as_millis(),
            "webhook failed"
        );
    }

    /// Waits before the next attempt; drops requests that become too old meanwhile.
    async fn pause(&mut self, wait: Duration) {
        let end = now() + wait;
        while now() < end && !self.is_last() {
            self.expire().await;
            let first = self.queue.first_now().await;
            let expiry = first.map(|(_, request)| request.created_at + LIFETIME);
            let until = expiry.map_or(end, |expiry| expiry.min(end));
            tokio::select! {
                () = time::sleep_until(until.into()) => {}
                _ = self.end.wait_for(|end| *end != DeliveryPhase::Running) => {}
            }
        }
    }

    async fn expire(&mut self) {
        let now = now();
        if let Some(before) = now.checked_sub(LIFETIME) {
            let events = self.queue.drop_older(before).await;
            self.endpoint.count_dropped(Dropped::Expired, events, now);
            if let Some((_, recorded)) = self.failed.take_if(|(created, _)| *created <= before) {
                record_given_up(recorded);
            }
        }
    }
}

impl<P: Post, Q: Queue> DeadLetterDelivery<P, Q> {
    /// Retries the dead letters in turn, until the end.
    async fn run(mut self) {
        let mut end = self.end.clone();
        tokio::select! {
            () = self.deliver() => {}
            _ = end.wait_for(|end| *end != DeliveryPhase::Running) => {}
        }
    }

    async fn deliver(&mut self) {
        let mut turn = 0;
        // A queue in Redis may have some already.
        self.expire().await;
        loop {
            let count = self.queue.dead_letters();
            if count == 0 {
                turn = 0;
                self.post.on_idle();
                self.queue.dead_letter_added().await;
                time::sleep(DEAD_LETTER_GAP).await;
                continue;
            }
            let share = DEAD_LETTER_INTERVAL / u32::try_from(count).unwrap_or(u32::MAX);
            time::sleep(share.max(DEAD_LETTER_GAP)).await;
            self.expire().await;
            if !self.is_failing.load(Ordering::Relaxed)
                && let Some((request_id, request)) = self.queue.dead_letter(turn).await
                && !self.attempt(request_id, &request).await
            {
                turn += 1;
            }
        }
    }

    /// Returns true if the request was delivered: then the next one has its position.
    async fn attempt(&mut self, request_id: RequestId, request: &WebhookRequest) -> bool {
        self.endpoint.stats.retried.add(1);
        match attempt(&mut self.post, &self.endpoint, request, true).await {
            DeliveryAttempt::Delivered => {
                self.queue.ack_dead_letter(request_id).await;
                delivered(&self.endpoint, request);
                true
            }
            DeliveryAttempt::Failed(_, error, recorded) => {
                record_given_up(recorded);
                self.endpoint.log_rejection("webhook event rejected again", request, &error);
                false
            }
        }
    }

    async fn expire(&mut self) {
        let now = now();
        if let Some(before) = now.checked_sub(LIFETIME) {
            let events = self.queue.drop_older_dead_letters(before).await;
            self.endpoint.count_dropped(Dropped::Rejected, events, now);
        }
    }
}

#[cfg(test)]
mod tests;
