//! A single node, whose log is in memory.

use super::*;
use crate::{
    hub::hub_event_tests::one_of_each,
    webhook::{
        queue::{Queue, memory::MemoryQueue},
        store::memory::MemoryLog,
    },
};

/// An app with webhooks of these URLs, whose deliveries fail.
fn app(urls: &[&str]) -> Arc<AppWebhooks> {
    let settings = Arc::new(settings(urls));
    let store = Store::Memory(MemoryLog::new(Arc::clone(&settings)));
    Arc::new(AppWebhooks::new("app-id".to_owned(), settings, store))
}

fn log(app: &AppWebhooks) -> &MemoryLog {
    match &app.store {
        Store::Memory(log) => log,
        Store::Redis(_) => panic!("it is in memory"),
    }
}

/// Runs the app's task.
fn run(app: &Arc<AppWebhooks>) -> task::JoinHandle<()> {
    tokio::spawn(dispatch(Arc::clone(app), connector()))
}

/// The numbers of events in the requests that wait for an endpoint, which are removed.
async fn taken(queue: &MemoryQueue) -> Vec<usize> {
    let mut requests = Vec::new();
    while let Some((request_id, request)) = Queue::first_now(queue).await {
        Queue::ack(queue, request_id).await;
        requests.push(request.events);
    }
    requests
}

fn queue(app: &AppWebhooks) -> Arc<MemoryQueue> {
    Arc::clone(&app.settings().endpoints[0].queue)
}

#[tokio::test(start_paused = true)]
async fn events_are_collected_for_the_batch_wait_or_until_a_batch_is_full() {
    let app = app(&[A]);
    let _task = run(&app);
    sleep(Duration::from_secs(1)).await;
    app.observe(0, occupied("a"));
    sleep(BATCH_WAIT - Duration::from_millis(2)).await;
    app.observe(0, occupied("b"));
    assert_eq!(queue(&app).events(), 0);
    sleep(Duration::from_millis(4)).await;
    assert_eq!(taken(&queue(&app)).await, [2]);
    // The next begins another one.
    (0..99).for_each(|number| app.observe(0, occupied(&format!("c{number}"))));
    sleep(Duration::from_millis(2)).await;
    assert_eq!(queue(&app).events(), 0);
    app.observe(0, occupied("d"));
    sleep(Duration::from_millis(2)).await;
    assert_eq!(taken(&queue(&app)).await, [100]);
}

/// Batching included, it is reported within three seconds of the event, even if the log is read later.
#[tokio::test(start_paused = true)]
async fn a_departure_is_reported_three_seconds_after_it() {
    let app = app(&[A]);
    let _task = run(&app);
    sleep(Duration::from_secs(1)).await;
    app.observe(0, occupied("a"));
    app.observe(0, vacated("a"));
    sleep(Duration::from_millis(2_900)).await;
    assert_eq!(taken(&queue(&app)).await, [1]);
    sleep(BATCH_WAIT - Duration::from_millis(2)).await;
    assert_eq!(queue(&app).events(), 0);
    sleep(Duration::from_millis(4)).await;
    assert_eq!(taken(&queue(&app)).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_read_in_parts() {
    let app = app(&[A]);
    (0..=1_000).for_each(|number| app.observe(0, occupied(&format!("c{number}"))));
    let mut dispatcher = Dispatcher::new(&app, log(&app), connector());
    assert!(matches!(dispatcher.step().await, Step::Again));
    assert!(matches!(dispatcher.step().await, Step::Wait(None)));
    assert_eq!(queue(&app).events(), 1_001);
}

/// Nothing has to be polled while nothing happens.
#[tokio::test(start_paused = true)]
async fn an_idle_log_is_not_polled() {
    let app = app(&[A]);
    let mut dispatcher = Dispatcher::new(&app, log(&app), connector());
    assert!(matches!(dispatcher.step().await, Step::Wait(None)));
    let [.., miss] = [0, 5].map(|at| one_of_each()[at].clone());
    app.observe(0, miss);
    let Step::Wait(Some(until)) = dispatcher.step().await else { panic!("it forgets the miss") };
    assert!(Duration::from_secs(10) <= until - now());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_settings_keeps_deliveries_and_ends_those_of_removed_endpoints() {
    let app = app(&[A, B]);
    let mut dispatcher = Dispatcher::new(&app, log(&app), connector());
    dispatcher.step().await;
    let before = dispatcher.queues.clone();
    app.observe(0, occupied("a"));
    app.change(settings(&[C, B]));
    app.observe(0, occupied("b"));
    while !matches!(dispatcher.step().await, Step::Wait(_)) {}
    assert!(Arc::ptr_eq(&dispatcher.queues[1], &before[1]));
    let waiting = [&before[0], &before[1], &dispatcher.queues[0]].map(|queue| queue.events());
    assert_eq!(waiting, [1, 2, 1], "each has the events of its time");
    // The removed one has one attempt left, which fails.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&before[0]), 1, "nothing delivers it");
    assert!(2 < Arc::strong_count(&before[1]));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_all_events_have_one_attempt_left() {
    let app = app(&[A]);
    let task = run(&app);
    sleep(Duration::from_secs(1)).await;
    app.observe(0, occupied("a"));
    app.observe(0, vacated("a"));
    app.ending.send_replace(true);
    time::timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
    assert_eq!(queue(&app).events(), 2);
    let stats = &app.settings().endpoints[0].stats;
    assert_eq!(stats.failed.get(), 1);
}

/// The end may come before the first poll.
#[tokio::test(start_paused = true)]
async fn events_before_the_start_are_dispatched_even_if_the_end_follows_at_once() {
    let app = app(&[A]);
    app.observe(0, occupied("a"));
    app.ending.send_replace(true);
    run(&app).await.unwrap();
    assert_eq!(queue(&app).events(), 1);
}
