//! The calls that read and change the log and the queues of an app in Redis: a log of events, and a
//! queue of requests for each endpoint. The delivering node interprets the records.
//!
//! One node at a time holds the *lease* to read an app's log. It removes records and appends the
//! resulting requests to the queues in one step, so that nothing is lost or sent twice if it dies
//! in between. All these keys of an app are in the app's partition. Redis rejects commands of a node
//! whose own lease has expired (see `src/broker/redis/lua/fencing.lua`).

use super::{
    read,
    scripts::StoreScripts,
    values::{CommitResult, LogRecord, PollReply, QueueState},
};
use crate::{
    broker::{
        Unavailable,
        redis::{AppCall, AppScripts, OVERHEAD_BYTES, RedisBroker, ScriptReply, Unexpected},
    },
    webhook::store::log::{Commit, NotCommitted, RECORDS_MAX},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The logs and the queues of all apps.
#[derive(Debug)]
pub(in crate::webhook) struct StoreClients {
    broker: RedisBroker,
    scripts: Arc<StoreScripts>,
}

/// A handle to the log and the queues of one app. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::webhook) struct StoreClient {
    pub(super) app: AppScripts,
    pub(super) scripts: Arc<StoreScripts>,
}

/// How long the number of a process's last appended part is kept, which makes appending idempotent.
/// A process retries much sooner.
const APPENDED_MEMORY: Duration = Duration::from_secs(600);
/// How long a queue is kept after the last addition. Its requests expire after 5 minutes.
pub(super) const QUEUE_MEMORY: Duration = Duration::from_secs(900);

impl StoreClients {
    pub(in crate::webhook) fn new(broker: &RedisBroker) -> Self {
        Self { broker: broker.clone(), scripts: Arc::new(StoreScripts::new(broker)) }
    }

    /// The log and the queues of an app.
    pub(in crate::webhook) fn store(&self, app_id: &str) -> StoreClient {
        StoreClient { app: self.broker.app_scripts(app_id), scripts: Arc::clone(&self.scripts) }
    }
}

impl StoreClient {
    /// How long a lease lasts without another poll.
    pub(in crate::webhook) const LEASE: Duration = Duration::from_secs(5);
    /// Bytes that an entry of a log or queue counts in addition to its own.
    pub(in crate::webhook) const OVERHEAD_BYTES: usize = OVERHEAD_BYTES;
    /// Maximum number of records that one poll returns.
    pub(in crate::webhook) const RECORDS_MAX: usize = RECORDS_MAX;

    /// A new name for a lease of this process.
    #[must_use]
    pub(in crate::webhook) fn new_lease(&self) -> String {
        self.app.random_name()
    }

    /// Waits until a record is appended to the empty log. May return spuriously. Safe to cancel.
    pub(in crate::webhook) async fn logged(&self) {
        self.app.wait_logged().await;
    }

    /// Waits until another node has released the lease. May return spuriously. Safe to cancel.
    pub(in crate::webhook) async fn released(&self) {
        self.app.wait_lease_released().await;
    }

    /// Whether the process that holds this lease was silent for longer than a living one; if it was
    /// never heard, since `since`.
    #[must_use]
    pub(in crate::webhook) fn is_silent(&self, lease: &str, since: Instant) -> bool {
        self.app.has_missed_heartbeats(lease, since)
    }

    /// Appends entries, all of them or none. `number` is the number of this part, counted from 1;
    /// repeating it has no effect.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been appended.
    pub(in crate::webhook) async fn append(
        &self,
        number: u64,
        entries: &[LogRecord],
    ) -> Result<(), Unavailable> {
        let mut call = self
            .app
            .call(&self.scripts.append)?
            .key(self.app.log_key())
            .key(self.app.log_state_key())
            .key(format!("{}:{}", self.app.key("appended"), self.app.process()))
            .number(number)
            .number(APPENDED_MEMORY.as_millis());
        for entry in entries {
            call = call.number(entry.at_us).number(entry.most_bytes).arg(&*entry.record);
        }
        if self.flag(&mut self.run(call).await?)? {
            self.app.notify_logged().await;
        }
        Ok(())
    }

    /// Reads the log if this process holds the lease, renews it, or finds it free. `queues` are the
    /// names of the endpoints' queues.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: this process may hold the lease.
    pub(in crate::webhook) async fn poll(
        &self,
        lease: &str,
        queues: &[String],
    ) -> Result<PollReply, Unavailable> {
        let mut call = self
            .app
            .call(&self.scripts.poll)?
            .key(self.app.key("leader"))
            .key(self.app.log_key())
            .key(self.app.log_state_key())
            // The delayed events.
            .key(self.app.key("held"))
            .arg(lease)
            .arg(format!("{}.", self.app.process()))
            .number(Self::LEASE.as_millis())
            .number(Self::RECORDS_MAX)
            .number(queues.len());
        for queue in queues {
            call = call.arg(self.queue(queue));
        }
        let (reply, now_ms) = self.app.run(call).await?;
        read::poll(reply, now_ms).map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// Commits the changes of some records, if the lease is still held.
    ///
    /// # Errors
    ///
    /// [`NotCommitted`] says whether that is certain.
    pub(in crate::webhook) async fn commit(
        &self,
        lease: &str,
        queues: &[String],
        most_bytes: usize,
        commit: &Commit,
    ) -> Result<CommitResult, NotCommitted> {
        let mut call = self
            .app
            .call(&self.scripts.commit)
            .map_err(|Unavailable| NotCommitted::Unknown)?
            .key(self.app.key("leader"))
            .key(self.app.log_key())
            .key(self.app.log_state_key())
            .key(self.app.key("held"));
        for queue in queues {
            call = call.key(self.queue(queue));
        }
        call = call
            .arg(lease)
            .number(Self::LEASE.as_millis())
            .number(commit.read.count)
            .number(commit.read.bytes)
            .number(most_bytes)
            .number(QUEUE_MEMORY.as_millis())
            .number(commit.delayed.len());
        for (name, delayed) in &commit.delayed {
            call = call.arg(&**name).arg(&**delayed);
        }
        for request in &commit.requests {
            let (queue, events) = (request.endpoint + 1, request.events);
            call = call.number(queue).number(events).arg(&request.body);
        }
        let reply = self.run(call).await.map_err(|Unavailable| NotCommitted::Unknown)?;
        match read::commit(reply) {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(NotCommitted::NotOurs),
            Err(Unexpected) => {
                self.app.unexpected_reply();
                Err(NotCommitted::Unknown)
            }
        }
    }

    /// Acknowledges the request `done` if it is the oldest of the queue, drops those older than
    /// `lifetime`, and returns the oldest.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been done.
    pub(in crate::webhook) async fn head(
        &self,
        queue: &str,
        done: Option<u64>,
        lifetime: Duration,
    ) -> Result<QueueState, Unavailable> {
        let call = self
            .app
            .call(&self.scripts.head)?
            .key(self.queue(queue))
            .key(self.app.log_state_key())
            .number(done.unwrap_or(0))
            .number(lifetime.as_millis());
        let (reply, now_ms) = self.app.run(call).await?;
        read::head(reply, now_ms).map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// Releases the lease, and notifies the other nodes.
    pub(in crate::webhook) async fn release(&self, lease: &str) {
        // If it fails, the lease expires.
        let Ok(call) = self.app.call(&self.scripts.release) else { return };
        let call = call.key(self.app.key("leader")).arg(lease);
        let Ok(mut reply) = self.run(call).await else { return };
        if self.flag(&mut reply) == Ok(true) {
            self.app.notify_webhook_lease_released().await;
        }
    }

    pub(super) async fn run(&self, call: AppCall) -> Result<ScriptReply, Unavailable> {
        self.app.run(call).await.map(|(reply, _)| reply)
    }

    /// Reads the next value, which is 1 or 0.
    fn flag(&self, reply: &mut ScriptReply) -> Result<bool, Unavailable> {
        reply.number().map(|number| number == 1).map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// The key of an endpoint's queue.
    pub(super) fn queue(&self, queue: &str) -> String {
        format!("{}:{queue}", self.app.key("queue"))
    }
}

#[cfg(test)]
mod tests;
