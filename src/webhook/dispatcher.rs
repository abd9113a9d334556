//! The task that dispatches an app's events: from the log, through the debouncer, the filters and
//! the batches, to the queues of the endpoints.
//!
//! On a single node it always *leads*, which means that it reads the log and delivers. In a cluster
//! one node leads, and the others stand by.

use super::{
    app::AppWebhooks,
    batch::Batch,
    client::TIMEOUTS,
    debouncer::Debouncer,
    deliveries::Deliveries,
    envelope,
    settings::AppWebhookSettings,
    store::{
        Store,
        log::{
            Commit, EventLog, LeaseOfOther, NewRequest, NotCommitted, Poll, ReadRecords, Records,
        },
    },
};
use crate::{broker::Unavailable, clock::now, http_client::Connector, hub::HubEvent};
use arc_swap::ArcSwap;
use std::{
    future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task,
    time::{self, sleep_until},
};

/// Minimum time for which events are collected, so that the task is woken once in that time and not
/// for each event.
const COLLECT_MIN: Duration = Duration::from_millis(5);
/// The pause before a retry while Redis is unavailable.
const RETRY: Duration = Duration::from_millis(250);
/// How long storing the acknowledgement of a last attempt may take before the lease is released.
const ACK_MAX: Duration = Duration::from_secs(1);

/// Dispatches the events of `app` and delivers its requests, until the app's webhooks end. Then it
/// reads the rest of the log and tries each endpoint's queue a last time.
pub(super) async fn dispatch(app: Arc<AppWebhooks>, connector: Arc<ArcSwap<Connector>>) {
    match &app.store {
        Store::Memory(log) => run(&app, log, connector).await,
        Store::Redis(log) => run(&app, log, connector).await,
    }
}

async fn run<L: EventLog>(app: &Arc<AppWebhooks>, log: &L, connector: Arc<ArcSwap<Connector>>) {
    let (mut ending, mut changes) = (app.ending.subscribe(), app.watch());
    let mut dispatcher = Dispatcher::new(app, log, connector);
    loop {
        let step = dispatcher.step().await;
        tokio::select! {
            () = dispatcher.wait(step) => {}
            _ = changes.changed() => {}
            _ = ending.wait_for(|is_ending| *is_ending) => {}
        }
        if *ending.borrow() {
            return dispatcher.finish().await;
        }
    }
}

/// What to do next.
#[derive(Debug)]
enum Step {
    /// Poll again: the log has more records.
    Again,
    /// Wait for records, or until this time.
    Wait(Option<Instant>),
    /// Wait until another node's lease ends.
    StandBy(LeaseOfOther),
    /// Wait for settings with endpoints.
    Idle,
}

/// The state of dispatching.
#[derive(Debug)]
struct Dispatcher<'a, L: EventLog> {
    app: &'a Arc<AppWebhooks>,
    log: &'a L,
    connector: Arc<ArcSwap<Connector>>,
    settings: Arc<AppWebhookSettings>,
    /// The queue of each of the settings' endpoints.
    queues: Vec<Arc<L::Queue>>,
    debouncer: Debouncer,
    /// The deliveries, while this node leads.
    deliveries: Option<Deliveries<L::Queue>>,
}

impl<'a, L: EventLog> Dispatcher<'a, L> {
    fn new(app: &'a Arc<AppWebhooks>, log: &'a L, connector: Arc<ArcSwap<Connector>>) -> Self {
        let (debouncer, settings) = log.start();
        let queues = log.queues(&settings, &[]);
        Self { app, log, connector, settings, queues, debouncer, deliveries: None }
    }

    /// Polls the log, and queues requests for what it contains.
    async fn step(&mut self) -> Step {
        let step = self.poll().await;
        self.app.log_lost(now());
        step
    }

    async fn poll(&mut self) -> Step {
        let polled_at = now();
        match self.log.poll(&self.settings, &self.queues).await {
            Ok(Poll::Records(records)) => self.take(records, polled_at).await,
            Ok(Poll::Settings(settings)) => {
                self.apply_settings(settings);
                Step::Again
            }
            Ok(Poll::StandBy(lease)) => {
                self.step_down();
                Step::StandBy(lease)
            }
            Ok(Poll::NoEndpoints) => {
                // Meanwhile no node reads the log.
                self.leave(TIMEOUTS.total() + ACK_MAX).await;
                Step::Idle
            }
            Err(Unavailable) => Step::Wait(Some(polled_at + RETRY)),
        }
    }

    /// Dispatches the records.
    async fn take(&mut self, mut records: Records, polled_at: Instant) -> Step {
        self.lead(records.debouncer.take());
        let mut ready = Vec::new();
        for (at_ms, hub_event) in records.events {
            self.debouncer.apply(at_ms, hub_event, &mut ready);
        }
        if records.is_all {
            self.debouncer.advance(records.now_ms, &mut ready);
        }
        self.app.lost.add(records.lost + self.debouncer.take_lost());
        match self.commit(records.read, &ready, records.time_ms).await {
            Ok(_) if !records.is_all => Step::Again,
            Ok(0) => {
                let due = self.debouncer.deadline_ms().map(|due_ms| {
                    let due_in = Duration::from_millis(due_ms.saturating_sub(records.now_ms));
                    polled_at + due_in + self.settings.batch_wait
                });
                Step::Wait(due.into_iter().chain(records.renew_at).min())
            }
            // Records that arrived meanwhile cause no notification, since the log was not empty.
            Ok(_) => Step::Wait(Some(now() + self.settings.batch_wait)),
            Err(NotCommitted::NotOurs) => {
                self.step_down();
                Step::Wait(Some(polled_at + RETRY))
            }
            // The next poll shows whether it was committed.
            Err(NotCommitted::Unknown) => Step::Wait(Some(polled_at + RETRY)),
        }
    }

    /// Commits the records that were read, with the requests for the events of `ready`. Returns the
    /// number of records left in the log.
    async fn commit(
        &mut self,
        read: ReadRecords,
        ready: &[HubEvent],
        time_ms: u128,
    ) -> Result<usize, NotCommitted> {
        let requests = requests(&self.settings, ready, time_ms);
        let commit = Commit { read, delayed: self.debouncer.take_changes(), requests };
        if commit.is_empty() {
            return Ok(0);
        }
        self.log.commit(&self.settings, &self.queues, commit).await
    }

    /// Applies other settings to the following records.
    fn apply_settings(&mut self, settings: Arc<AppWebhookSettings>) {
        self.queues = self.log.queues(&settings, &self.queues);
        self.settings = settings;
        if let Some(deliveries) = &mut self.deliveries {
            deliveries.apply_settings(&self.settings, &self.queues);
        }
    }

    /// Leads, with the debouncer of a new lease if there is one.
    fn lead(&mut self, debouncer: Option<Box<Debouncer>>) {
        if let Some(debouncer) = debouncer {
            self.debouncer = *debouncer;
        }
        if self.deliveries.is_none() {
            if self.app.store.is_leader().is_some() {
                tracing::info!(app = self.app.id, "became webhook leader");
            }
            let (app, connector) = (Arc::clone(self.app), Arc::clone(&self.connector));
            let deliveries = self.deliveries.insert(Deliveries::new(app, connector));
            deliveries.apply_settings(&self.settings, &self.queues);
        }
    }

    /// Stops delivering: another node leads.
    fn step_down(&mut self) {
        if self.deliveries.take().is_some() {
            tracing::info!(app = self.app.id, "another node became webhook leader");
        }
    }

    /// Tries each queue once more, and releases the lease.
    async fn leave(&mut self, at_most: Duration) {
        if let Some(deliveries) = self.deliveries.take() {
            // An attempt that takes longer is cancelled.
            let _ = time::timeout(at_most, deliveries.finish()).await;
            self.log.release(&self.queues).await;
        }
    }

    /// Waits until the next step is due.
    async fn wait(&self, step: Step) {
        match step {
            Step::Again => task::yield_now().await,
            Step::Wait(until) => {
                tokio::select! {
                    () = self.log.has_records() => self.collect().await,
                    () = sleep_until(until.unwrap_or_else(now).into()), if until.is_some() => {}
                }
            }
            Step::StandBy(lease) => self.log.lease_is_free(&lease).await,
            Step::Idle => future::pending().await,
        }
    }

    /// Waits for events that can share a request with the first one.
    async fn collect(&self) {
        tokio::select! {
            () = time::sleep(self.settings.batch_wait.max(COLLECT_MIN)) => {}
            () = self.log.has_full_batch() => {}
        }
    }

    /// Ends when the node stops or the app is removed: a leader reads the rest of the log. On a
    /// single node, it also releases all delayed events.
    async fn finish(mut self) {
        if self.deliveries.is_none() {
            return;
        }
        while matches!(self.step().await, Step::Again) {}
        let mut ready = Vec::new();
        self.debouncer.finish(&mut ready);
        // Only a log in memory has any, and its commit succeeds.
        let _ = self.commit(ReadRecords::default(), &ready, envelope::time_ms()).await;
        self.leave(Duration::MAX).await;
    }
}

/// The requests with the events of `ready` for each endpoint whose filter they pass.
fn requests(settings: &AppWebhookSettings, ready: &[HubEvent], time_ms: u128) -> Vec<NewRequest> {
    let request = |endpoint, (text, events): (String, usize)| NewRequest {
        endpoint,
        events,
        body: envelope::body(&text, time_ms),
    };
    let mut batches: Vec<_> =
        settings.filters.iter().map(|filter| (filter, Batch::new(settings.batch_wait))).collect();
    let mut requests = Vec::new();
    for hub_event in ready {
        let mut text = None;
        for (endpoint, (filter, batch)) in batches.iter_mut().enumerate() {
            if filter.passes(hub_event) {
                let text = text.get_or_insert_with(|| envelope::event(hub_event));
                requests.extend(batch.add(text).map(|full| request(endpoint, full)));
            }
        }
    }
    for (endpoint, (_, batch)) in batches.iter_mut().enumerate() {
        requests.extend(batch.take().map(|rest| request(endpoint, rest)));
    }
    requests
}

#[cfg(test)]
mod tests;
