//! The publishes of a test, with their times and outcomes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Api, Outcome};

/// The name of every event that the ledger publishes.
pub(crate) const EVENT: &str = "numbered";

/// A publish that was answered, or whose node died.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) node: SocketAddr,
    pub(crate) begun: Instant,
    pub(crate) answered: Instant,
    pub(crate) outcome: Outcome,
}

/// All publishes of a test. An event's data is its number.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    published: Mutex<Vec<Published>>,
}

impl Ledger {
    /// Publishes one event and records the outcome.
    pub(crate) async fn publish(&self, api: &mut Api, node: SocketAddr, channel: &str) -> Outcome {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let begun = Instant::now();
        let outcome = api.publish(channel, EVENT, &id).await;
        let answered = Instant::now();
        let channel = channel.to_owned();
        let published = Published { id, channel, node, begun, answered, outcome };
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(published);
        outcome
    }

    pub(crate) fn all(&self) -> Vec<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.all().iter().filter(|published| published.outcome == outcome).count()
    }

    /// How many publishes that began after `since` were accepted.
    pub(crate) fn accepted_since(&self, since: Instant) -> usize {
        let accepted = |published: &&Published| {
            published.outcome == Outcome::Accepted && since <= published.begun
        };
        self.all().iter().filter(accepted).count()
    }

    /// How long the slowest publish of an outcome took.
    pub(crate) fn slowest(&self, outcome: Outcome) -> Duration {
        let all = self.all();
        let times = all.iter().filter(|published| published.outcome == outcome);
        times.map(|published| published.answered - published.begun).max().unwrap_or_default()
    }
}

/// A publisher that runs in the background until it is stopped.
#[derive(Debug)]
pub(crate) struct Publishing {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Publishing {
    /// Starts no more publishes, and waits for the pending answers.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("every answer was a possible one");
    }
}

/// Publishes to `channel` through `node` every 20 ms, without waiting for the previous answers.
pub(crate) fn publish_from(ledger: &Arc<Ledger>, node: SocketAddr, channel: &str) -> Publishing {
    let (stop, mut stopped) = watch::channel(false);
    let (ledger, channel) = (Arc::clone(ledger), channel.to_owned());
    let task = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut publishes = JoinSet::new();
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                _ = ticks.tick() => {}
            }
            let (ledger, channel) = (Arc::clone(&ledger), channel.clone());
            publishes.spawn(async move {
                ledger.publish(&mut Api::new(node), node, &channel).await;
            });
        }
        while let Some(published) = publishes.join_next().await {
            published.expect("every answer was a possible one");
        }
    });
    Publishing { stop, task }
}
