//! The webhooks of one app, and the task that makes notices of what happens in it.

use super::{
    batch::Batch,
    dial::WebhookError,
    endpoint::{Endpoint, now},
    envelope::{self, Notice},
    filter::Kinds,
    log::{Log as _, MemoryLog, READ_MAX},
    machine::Machine,
    shared::Shared,
    stats::{Count, RareLine},
};
use crate::hub::Occurrence;
use crate::{config::AppConfig, signature::Signer};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::watch,
    task,
    time::{self, sleep_until},
};

/// An app that has webhooks.
#[derive(Debug)]
pub(super) struct AppWebhooks {
    pub(super) id: String,
    /// What is worth observing.
    pub(super) wanted: Kinds,
    pub(super) log: MemoryLog,
    /// What happened and was not taken, because too much was.
    pub(super) lost: Count,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// Where there are other nodes, what these have in common. Log and queues above are empty then.
    pub(super) shared: OnceLock<Arc<Shared>>,
    pub(super) signer: Signer,
    pub(super) batch_wait: Duration,
}

impl AppWebhooks {
    pub(super) fn new(app: &AppConfig, batch_wait: Duration) -> Result<Self, WebhookError> {
        let numbered = app.webhooks.iter().enumerate();
        let endpoints = numbered.map(|(at, webhook)| Endpoint::new(app, at, webhook).map(Arc::new));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let kinds = endpoints.iter().map(|endpoint| endpoint.filter.kinds);
        Ok(Self {
            id: app.id.clone(),
            wanted: kinds.fold(Kinds::default(), Kinds::union).with_counterparts(),
            log: MemoryLog::default(),
            lost: Count::default(),
            endpoints,
            shared: OnceLock::new(),
            signer: Signer::new(app.secret.expose()),
            batch_wait,
        })
    }
}

/// How long to leave the log alone after a look at it. Whoever observes wakes the task once in that
/// time instead of each time.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// Makes notices of what happens in `app` until `ending` is true and the log is empty.
pub(super) async fn tell(app: Arc<AppWebhooks>, mut ending: watch::Receiver<bool>) {
    let mut teller = Teller::new(&app);
    let mut read = Vec::new();
    while !*ending.borrow() {
        let deadline = teller.deadline();
        tokio::select! {
            () = app.log.read(&mut read) => {}
            () = async { sleep_until(deadline.unwrap_or_else(now).into()).await },
                if deadline.is_some() => {}
            is_ending = ending.wait_for(|is_ending| *is_ending) => {
                if is_ending.is_err() {
                    break;
                }
            }
        }
        let is_behind = read.len() == READ_MAX;
        teller.take(&mut read, now());
        if is_behind {
            task::yield_now().await;
        } else {
            time::sleep(READ_PAUSE).await;
        }
    }
    app.log.read_now(&mut read);
    while !read.is_empty() {
        teller.take(&mut read, now());
        app.log.read_now(&mut read);
    }
    teller.finish(now());
}

/// What has happened and is not told yet, on its way through machine, filters and batches.
#[derive(Debug)]
struct Teller<'a> {
    app: &'a AppWebhooks,
    machine: Machine,
    /// One for each endpoint.
    batches: Vec<Batch>,
    told: Vec<Occurrence>,
    /// How many lost occurrences were logged.
    lost_seen: u64,
    losses: RareLine,
}

impl<'a> Teller<'a> {
    fn new(app: &'a AppWebhooks) -> Self {
        Self {
            app,
            machine: Machine::default(),
            batches: app.endpoints.iter().map(|_| Batch::new(app.batch_wait)).collect(),
            told: Vec::new(),
            lost_seen: 0,
            losses: RareLine::default(),
        }
    }

    /// When [`Teller::take`] has something to do even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let batches = self.batches.iter().filter_map(Batch::deadline);
        batches.chain(self.machine.deadline()).min()
    }

    fn take(&mut self, read: &mut Vec<Occurrence>, now: Instant) {
        for occurrence in read.drain(..) {
            self.machine.apply(occurrence, now, &mut self.told);
        }
        self.machine.advance(now, &mut self.told);
        self.tell(now);
        for (endpoint, batch) in self.app.endpoints.iter().zip(&mut self.batches) {
            if batch.is_due(now) {
                self.app.send(endpoint, batch, now);
            }
        }
        self.count_lost(now);
    }

    /// Lets go of all that was kept back.
    fn finish(&mut self, now: Instant) {
        self.machine.finish(&mut self.told);
        self.tell(now);
        for (endpoint, batch) in self.app.endpoints.iter().zip(&mut self.batches) {
            self.app.send(endpoint, batch, now);
        }
    }

    /// Puts what is told into the batches of those who want it.
    fn tell(&mut self, now: Instant) {
        for occurrence in self.told.drain(..) {
            let mut event = None;
            for (endpoint, batch) in self.app.endpoints.iter().zip(&mut self.batches) {
                if !endpoint.filter.passes(&occurrence) {
                    continue;
                }
                let event = event.get_or_insert_with(|| envelope::event(&occurrence));
                if !batch.has_room(event.len()) {
                    self.app.send(endpoint, batch, now);
                }
                batch.push(event, now);
                if batch.is_due(now) {
                    self.app.send(endpoint, batch, now);
                }
            }
        }
    }

    fn count_lost(&mut self, now: Instant) {
        self.app.lost.add(usize::try_from(self.machine.take_lost()).unwrap_or(usize::MAX));
        let lost = self.app.lost.get();
        if let Some(occurrences) = self.losses.due(lost - self.lost_seen, now) {
            tracing::warn!(app = self.app.id, occurrences, "webhook occurrences lost");
        }
        self.lost_seen = lost;
    }
}

impl AppWebhooks {
    /// Takes notice of an occurrence, which happened at `at_us` if it was decided elsewhere. What is
    /// too much to hold is lost, and counted.
    pub(super) fn observe(&self, at_us: u64, occurrence: Occurrence) {
        if !self.wanted.contains(occurrence.kind()) {
            return;
        }
        let taken = match self.shared.get() {
            Some(shared) => shared.append(at_us, &occurrence),
            None => self.log.append(occurrence),
        };
        if taken.is_err() {
            self.lost.add(1);
        }
    }

    /// Hands a batch over to its delivery.
    fn send(&self, endpoint: &Endpoint, batch: &mut Batch, now: Instant) {
        if let Some((events, count)) = batch.take() {
            let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let time_ms = since_1970.unwrap_or_default().as_millis();
            endpoint.push(Notice::new(&self.signer, (&events, count), time_ms, now));
        }
    }
}
