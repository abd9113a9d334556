use super::*;
use crate::webhook::{
    envelope::WebhookRequest,
    queue::RequestId,
    store::{Store, memory::MemoryLog},
    testbed::{connector, settings},
};
use std::{
    future,
    sync::atomic::AtomicUsize,
    time::{Duration, Instant},
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

const A: &str = "http://127.0.0.1/a";
const B: &str = "http://127.0.0.1/b";

/// An empty queue. A delivery that reads it waits until it is open.
#[derive(Debug)]
struct Gate {
    open: Semaphore,
    /// The number of times that it was read.
    reads: AtomicUsize,
}

impl Gate {
    fn closed() -> Arc<Self> {
        Arc::new(Self { open: Semaphore::new(0), reads: AtomicUsize::new(0) })
    }

    fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS);
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Queue for Gate {
    async fn first(&self) -> (RequestId, WebhookRequest) {
        future::pending().await
    }

    async fn first_now(&self) -> Option<(RequestId, WebhookRequest)> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        drop(self.open.acquire().await.unwrap());
        None
    }

    async fn ack(&self, _request_id: RequestId) {}

    async fn drop_older(&self, _before: Instant) -> usize {
        0
    }

    async fn split(&self, _request_id: RequestId, _halves: [WebhookRequest; 2]) -> bool {
        false
    }

    async fn add_dead_letter(&self, _request_id: RequestId) -> Option<usize> {
        None
    }

    fn dead_letters(&self) -> usize {
        0
    }

    async fn dead_letter_added(&self) {
        future::pending::<()>().await;
    }

    async fn dead_letter(&self, _turn: usize) -> Option<(RequestId, WebhookRequest)> {
        None
    }

    async fn ack_dead_letter(&self, _request_id: RequestId) {}

    async fn drop_older_dead_letters(&self, _before: Instant) -> usize {
        0
    }
}

/// Deliveries of an app, and the settings of A and B.
fn deliveries() -> (Deliveries<Gate>, Arc<AppWebhookSettings>) {
    let settings = Arc::new(settings(&[A, B]));
    let store = Store::Memory(MemoryLog::new(Arc::clone(&settings)));
    let app = Arc::new(AppWebhooks::new("app-id".to_owned(), Arc::clone(&settings), store));
    (Deliveries::new(app, connector()), settings)
}

/// Longer than a task takes to start or to end.
async fn a_moment() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_waits_for_earlier_ones_to_the_same_url_only() {
    let (mut deliveries, settings) = deliveries();
    let [old_a, old_b, new_a, new_b] = [(); 4].map(|()| Gate::closed());
    deliveries.apply_settings(&settings, &[Arc::clone(&old_a), Arc::clone(&old_b)]);
    a_moment().await;
    assert_eq!([&old_a, &old_b].map(|gate| gate.reads()), [1, 1]);
    deliveries.apply_settings(&settings, &[Arc::clone(&new_a), Arc::clone(&new_b)]);
    a_moment().await;
    assert_eq!([&new_a, &new_b].map(|gate| gate.reads()), [0, 0]);
    old_b.open();
    a_moment().await;
    assert_eq!([&new_a, &new_b].map(|gate| gate.reads()), [0, 1]);
    old_a.open();
    a_moment().await;
    assert_eq!([&new_a, &new_b].map(|gate| gate.reads()), [1, 1]);
    assert_eq!(Arc::strong_count(&old_a), 1, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stays_is_delivered_on() {
    let (mut deliveries, settings) = deliveries();
    let gates = [(); 2].map(|()| Gate::closed());
    for _ in 0..2 {
        deliveries.apply_settings(&settings, &gates);
        a_moment().await;
    }
    gates[0].open();
    a_moment().await;
    assert_eq!([&gates[0], &gates[1]].map(|gate| gate.reads()), [1, 1], "nothing was restarted");
    assert_eq!(deliveries.tasks.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_each_delivery() {
    let (mut deliveries, settings) = deliveries();
    let gates = [(); 2].map(|()| Gate::closed());
    deliveries.apply_settings(&settings, &gates);
    a_moment().await;
    let finished = deliveries.finish();
    tokio::pin!(finished);
    for gate in &gates {
        assert!(timeout(Duration::from_secs(60), &mut finished).await.is_err());
        gate.open();
    }
    timeout(Duration::from_secs(1), finished).await.unwrap();
}
