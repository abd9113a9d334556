//! The queue of requests for one endpoint, in memory.

use super::{DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, QUEUE_BYTES_MAX, Queue, RequestId};
use crate::webhook::envelope::WebhookRequest;
use parking_lot::Mutex;
use std::{collections::VecDeque, time::Instant};
use tokio::sync::Notify;

/// A queue in memory.
#[derive(Debug, Default)]
pub(in crate::webhook) struct MemoryQueue {
    queues: Mutex<Queues>,
    pushed: Notify,
    dead_letter_added: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    waiting: RequestQueue,
    dead_letters: RequestQueue,
    /// The number of ids assigned so far.
    ids: u64,
}

#[derive(Debug, Default)]
struct RequestQueue {
    requests: VecDeque<(RequestId, WebhookRequest)>,
    bytes: usize,
    events: usize,
}

impl MemoryQueue {
    /// Bytes that a request counts in addition to its body.
    const OVERHEAD_BYTES: usize = 256;
}

fn bytes(request: &WebhookRequest) -> usize {
    request.body.len() + MemoryQueue::OVERHEAD_BYTES
}

impl RequestQueue {
    fn pop(&mut self) -> Option<WebhookRequest> {
        self.remove(0)
    }

    fn remove(&mut self, at: usize) -> Option<WebhookRequest> {
        let (_, request) = self.requests.remove(at)?;
        self.bytes -= bytes(&request);
        self.events -= request.events;
        if self.requests.is_empty() {
            self.requests = VecDeque::new();
        }
        Some(request)
    }

    /// Removes the oldest request, if it is the one with `request_id`.
    fn pop_if(&mut self, request_id: RequestId) -> Option<WebhookRequest> {
        let is_first = self.requests.front().is_some_and(|(first, _)| *first == request_id);
        if is_first { self.pop() } else { None }
    }

    fn count(&mut self, request: &WebhookRequest) {
        self.bytes += bytes(request);
        self.events += request.events;
    }

    /// Appends a request. Drops the oldest to make room; returns how many events were dropped.
    fn push(
        &mut self,
        request_id: RequestId,
        request: WebhookRequest,
        (bytes_max, max): (usize, usize),
    ) -> usize {
        if bytes_max < bytes(&request) {
            // It is larger than the limit.
            return request.events;
        }
        let mut dropped = 0;
        while bytes_max < self.bytes + bytes(&request) || max <= self.requests.len() {
            dropped += self.pop().map_or(0, |request| request.events);
        }
        self.count(&request);
        self.requests.push_back((request_id, request));
        dropped
    }

    fn drop_older(&mut self, before: Instant) -> usize {
        let mut dropped = 0;
        while self.requests.front().is_some_and(|(_, request)| request.created_at <= before) {
            dropped += self.pop().map_or(0, |request| request.events);
        }
        dropped
    }
}

impl Queues {
    fn next_id(&mut self) -> RequestId {
        self.ids += 1;
        RequestId(self.ids)
    }
}

impl MemoryQueue {
    /// Appends a request. Drops the oldest beyond the limits; returns how many events were dropped.
    pub(in crate::webhook) fn push(&self, request: WebhookRequest) -> usize {
        let mut queues = self.queues.lock();
        let request_id = queues.next_id();
        let dropped = queues.waiting.push(request_id, request, (QUEUE_BYTES_MAX, usize::MAX));
        drop(queues);
        self.pushed.notify_one();
        dropped
    }

    /// The number of queued events, without dead letters.
    pub(in crate::webhook) fn events(&self) -> usize {
        self.queues.lock().waiting.events
    }

    /// The number of events of dead letters.
    pub(in crate::webhook) fn dead_letter_events(&self) -> usize {
        self.queues.lock().dead_letters.events
    }

    /// The number of queued events, with dead letters.
    pub(in crate::webhook) fn all_events(&self) -> usize {
        let queues = self.queues.lock();
        queues.waiting.events + queues.dead_letters.events
    }
}

impl Queue for MemoryQueue {
    async fn first(&self) -> (RequestId, WebhookRequest) {
        loop {
            if let Some(first) = self.first_now().await {
                return first;
            }
            self.pushed.notified().await;
        }
    }

    async fn first_now(&self) -> Option<(RequestId, WebhookRequest)> {
        self.queues.lock().waiting.requests.front().cloned()
    }

    async fn ack(&self, request_id: RequestId) {
        self.queues.lock().waiting.pop_if(request_id);
    }

    async fn drop_older(&self, before: Instant) -> usize {
        self.queues.lock().waiting.drop_older(before)
    }

    async fn split(&self, request_id: RequestId, halves: [WebhookRequest; 2]) -> bool {
        let mut queues = self.queues.lock();
        if queues.waiting.pop_if(request_id).is_some() {
            for half in halves.into_iter().rev() {
                let request_id = queues.next_id();
                queues.waiting.count(&half);
                queues.waiting.requests.push_front((request_id, half));
            }
        }
        true
    }

    async fn add_dead_letter(&self, request_id: RequestId) -> Option<usize> {
        let mut queues = self.queues.lock();
        let Some(request) = queues.waiting.pop_if(request_id) else { return Some(0) };
        let dropped = queues.dead_letters.push(
            request_id,
            request,
            (DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX),
        );
        self.dead_letter_added.notify_one();
        Some(dropped)
    }

    fn dead_letters(&self) -> usize {
        self.queues.lock().dead_letters.requests.len()
    }

    async fn dead_letter_added(&self) {
        self.dead_letter_added.notified().await;
    }

    async fn dead_letter(&self, turn: usize) -> Option<(RequestId, WebhookRequest)> {
        let queues = self.queues.lock();
        let at = turn.checked_rem(queues.dead_letters.requests.len())?;
        queues.dead_letters.requests.get(at).cloned()
    }

    async fn ack_dead_letter(&self, request_id: RequestId) {
        let dead_letters = &mut self.queues.lock().dead_letters;
        let found = dead_letters.requests.iter().position(|(known, _)| *known == request_id);
        found.map(|at| dead_letters.remove(at));
    }

    async fn drop_older_dead_letters(&self, before: Instant) -> usize {
        self.queues.lock().dead_letters.drop_older(before)
    }
}

#[cfg(test)]
pub(in crate::webhook) mod tests {
    use super::*;
    use crate::signature::Signer;
    use std::time::Duration;

    pub(in crate::webhook) fn request(
        text: &str,
        events: usize,
        created_at: Instant,
    ) -> WebhookRequest {
        WebhookRequest::new(&Signer::new("s"), (text, events), 0, created_at)
    }

    #[tokio::test]
    async fn a_request_stays_until_it_is_acknowledged() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        assert_eq!(queue.push(request("1", 2, now)), 0);
        assert_eq!(queue.push(request("2", 1, now)), 0);
        assert_eq!(queue.events(), 3);
        let (request_id, first) = queue.first_now().await.unwrap();
        let (again, _) = queue.first_now().await.unwrap();
        assert_eq!(request_id, again);
        assert_eq!(first.events, 2);
        queue.ack(request_id).await;
        queue.ack(request_id).await;
        assert_eq!(queue.events(), 1);
        let (request_id, _) = queue.first_now().await.unwrap();
        queue.ack(request_id).await;
        assert!(queue.first_now().await.is_none());
        let waiting = &queue.queues.lock().waiting;
        assert_eq!((waiting.bytes, waiting.requests.capacity()), (0, 0), "memory returns");
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_and_counted() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        let large = |events| request(&"x".repeat(1_024 * 1_024), events, now);
        assert_eq!([1, 2, 4, 8, 16].map(|events| queue.push(large(events))), [0, 0, 1, 2, 4]);
        assert!(queue.queues.lock().waiting.bytes <= QUEUE_BYTES_MAX);
        let (request_id, first) = queue.first_now().await.unwrap();
        assert_eq!(first.events, 8);
        let huge = request(&"x".repeat(QUEUE_BYTES_MAX), 32, now);
        assert_eq!(queue.push(huge), 32, "a request that cannot fit drops no other");
        assert_eq!(queue.events(), 24);
        // The first is being delivered when it is dropped.
        assert_eq!(queue.push(large(64)), 8);
        queue.ack(request_id).await;
        assert_eq!(queue.events(), 80, "the next is not taken for the one that is done");
    }

    /// A request of this size.
    fn taking(bytes: usize, events: usize, now: Instant) -> WebhookRequest {
        let empty = request("", 0, now).body.len();
        request(&"x".repeat(bytes - empty - MemoryQueue::OVERHEAD_BYTES), events, now)
    }

    #[tokio::test]
    async fn a_queue_holds_exactly_3_mib() {
        const MIB: usize = 1_024 * 1_024;
        let now = Instant::now();
        for (last, dropped) in [(MIB, 0), (MIB + 1, 1)] {
            let queue = MemoryQueue::default();
            assert_eq!(queue.push(taking(MIB, 1, now)) + queue.push(taking(MIB, 2, now)), 0);
            assert_eq!(queue.push(taking(last, 4, now)), dropped);
            assert_eq!(queue.events(), 7 - dropped);
        }
        let queue = MemoryQueue::default();
        assert_eq!(queue.push(request("1", 1, now)), 0);
        assert_eq!(queue.push(taking(3 * MIB + 1, 2, now)), 2, "it can't fit");
        assert_eq!(queue.push(taking(3 * MIB, 4, now)), 1, "it just fits");
        assert_eq!(queue.events(), 4);
    }

    #[tokio::test]
    async fn exactly_a_thousand_events_and_1_mib_are_moved_to_the_dead_letters() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        let add = async |request: WebhookRequest| {
            queue.push(request);
            let (request_id, _) = queue.first_now().await.unwrap();
            queue.add_dead_letter(request_id).await.unwrap()
        };
        for _ in 0..1_000 {
            assert_eq!(add(request("1", 1, now)).await, 0);
        }
        assert_eq!((add(request("1", 1, now)).await, queue.dead_letter_events()), (1, 1_000));
        assert_eq!(add(taking(1_024 * 1_024 + 1, 1, now)).await, 1, "it can't fit");
        assert_eq!(queue.dead_letter_events(), 1_000);
        assert_eq!(add(taking(1_024 * 1_024, 1, now)).await, 1_000, "it just fits");
        assert_eq!(
            (queue.dead_letters(), queue.dead_letter_events(), queue.all_events()),
            (1, 1, 1)
        );
    }

    #[tokio::test]
    async fn only_the_oldest_is_split_or_moved_to_the_dead_letters() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        queue.push(request("1,2", 2, now));
        let (request_id, first) = queue.first_now().await.unwrap();
        queue.push(request("3", 1, now));
        let halves = first.halves(&Signer::new("s")).unwrap();
        queue.ack(request_id).await;
        assert!(queue.split(request_id, halves).await, "there is nothing to do");
        assert_eq!(queue.add_dead_letter(request_id).await, Some(0));
        assert_eq!((queue.events(), queue.dead_letters()), (1, 0));
        queue.ack_dead_letter(request_id).await;
        let (request_id, first) = queue.first().await;
        assert_eq!(first.body, request("3", 1, now).body);
        assert_eq!(queue.add_dead_letter(request_id).await, Some(0));
        // A waiting one returns at once, because one was added.
        queue.dead_letter_added().await;
        assert_eq!((queue.events(), queue.dead_letters()), (0, 1));
        queue.ack_dead_letter(request_id).await;
        assert_eq!((queue.dead_letters(), queue.all_events()), (0, 0));
    }

    #[tokio::test]
    async fn requests_that_are_too_old_are_dropped() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        queue.push(request("1", 2, now));
        queue.push(request("2", 1, later));
        assert_eq!(queue.drop_older(now).await, 2);
        assert_eq!(queue.drop_older(now).await, 0);
        assert_eq!(queue.drop_older(later).await, 1);
    }

    #[tokio::test]
    async fn a_request_is_split_in_place() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        queue.push(request("1,2", 2, now));
        queue.push(request("3", 1, now));
        let (request_id, first) = queue.first_now().await.unwrap();
        let halves = first.halves(&Signer::new("s")).unwrap();
        queue.split(request_id, halves.clone()).await;
        queue.split(request_id, halves).await;
        assert_eq!(queue.events(), 3, "once only");
        for text in ["1", "2", "3"] {
            let (request_id, first) = queue.first_now().await.unwrap();
            assert_eq!(first.body, request(text, 1, now).body);
            queue.ack(request_id).await;
        }
        assert_eq!(queue.queues.lock().waiting.bytes, 0);
    }

    #[tokio::test]
    async fn dead_letters_are_limited_retried_in_turn_and_expire() {
        let (queue, now) = (MemoryQueue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let mut dropped = 0;
        for number in 0..=DEAD_LETTERS_MAX {
            let created_at = if number < 3 { now } else { later };
            queue.push(request(&number.to_string(), 1, created_at));
            let (request_id, _) = queue.first_now().await.unwrap();
            dropped += queue.add_dead_letter(request_id).await.unwrap();
        }
        assert_eq!((dropped, queue.dead_letters(), queue.events()), (1, DEAD_LETTERS_MAX, 0));
        assert_eq!(queue.dead_letter(0).await.unwrap().1.body, request("1", 1, now).body);
        let (request_id, second) = queue.dead_letter(DEAD_LETTERS_MAX + 1).await.unwrap();
        assert_eq!(second.body, request("2", 1, now).body);
        queue.ack_dead_letter(request_id).await;
        assert_eq!(queue.drop_older_dead_letters(now).await, 1);
        assert_eq!(
            (queue.dead_letters(), queue.all_events()),
            (DEAD_LETTERS_MAX - 2, DEAD_LETTERS_MAX - 2)
        );
        queue.push(request(&"x".repeat(DEAD_LETTER_BYTES_MAX), 1, later));
        let (request_id, _) = queue.first_now().await.unwrap();
        assert_eq!(
            queue.add_dead_letter(request_id).await,
            Some(1),
            "what can't fit pushes nothing out"
        );
        assert_eq!(queue.drop_older_dead_letters(later).await, DEAD_LETTERS_MAX - 2);
        assert!(queue.dead_letter(0).await.is_none());
        assert_eq!(queue.queues.lock().dead_letters.bytes, 0);
    }
}
