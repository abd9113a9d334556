//! The webhook log and queues of an app in Redis: a log of events, and a queue of requests for each
//! endpoint. The delivering node interprets the records.
//!
//! One node at a time holds the *lease* to read an app's log. It removes records and appends the
//! resulting requests to the queues in one step, so that nothing is lost or sent twice if it dies
//! in between. All these keys of an app are in its home partition. Redis refuses commands of a node
//! whose own lease has expired (see `lua/guard.lua`).

mod aside;
mod notifiers;
mod read;

pub(super) use notifiers::LogNotifiers;

use super::{
    Cluster,
    clock::now,
    envelope::ControlMessage,
    error::Unavailable,
    link_state::Joined,
    lua,
    names::Names,
    random,
    reason::was_refused,
    scripts::{Script, ScriptCall, ScriptReply, Status, Unexpected},
    shared::ClusterState,
};
use notifiers::{LogNotifier, process_of};
use redis::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// A handle to the log and the queues of one app. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<ClusterState>,
    app_id: Arc<str>,
    notifier: Arc<LogNotifier>,
}

/// A record to append to the log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// When it happened, in µs since 1970 by the clock of the Redis that made the change; 0 for the
    /// time of the append.
    pub at_us: u64,
    /// The maximum size of the log including it, in bytes.
    pub most_bytes: usize,
    /// The record.
    pub record: Vec<u8>,
}

/// The result of a poll: who holds the lease.
#[derive(Debug)]
pub enum Poll {
    /// Another process holds it.
    Held {
        /// The name of the other's lease.
        by: String,
        /// The time until it expires, unless it is renewed.
        remaining: Duration,
    },
    /// This process holds it.
    Ours(View),
}

/// The state of the log for the holder of the lease.
#[derive(Debug, Default)]
pub struct View {
    /// Whether the lease is new, so that earlier knowledge is invalid.
    pub is_new: bool,
    /// Redis' clock, in ms since 1970.
    pub now_ms: u64,
    /// The number of records that were dropped since the last poll, because the log was full.
    pub lost: usize,
    /// The oldest records, each after its time in µs since 1970 and a space.
    pub records: Vec<Vec<u8>>,
    /// Whether `records` is the whole log.
    pub is_all: bool,
    /// The number of queued events, for each queue.
    pub waiting: Vec<usize>,
    /// For a new lease: the held events, by name.
    pub held: Vec<(String, String)>,
}

/// The changes that result from some records.
#[derive(Debug, Default)]
pub struct Commit {
    /// The number of records to remove, from the oldest.
    pub records: usize,
    /// The size of these records in bytes.
    pub bytes: usize,
    /// The changed held events, by name; an empty value removes one.
    pub held: Vec<(String, String)>,
    /// Requests: the index of the queue, the number of events, and the body.
    pub requests: Vec<(usize, usize, Vec<u8>)>,
}

/// The result of a commit, for each queue.
#[derive(Debug)]
pub struct CommitResult {
    /// Events that were dropped to make room, or for which there was none.
    pub dropped: Vec<usize>,
    /// The number of queued events.
    pub waiting: Vec<usize>,
    /// The number of records left in the log.
    pub left: usize,
}

/// The oldest request of a queue.
#[derive(Debug)]
pub struct Head {
    /// Its id, unique within the app.
    pub id: u64,
    /// The time since it was queued.
    pub age: Duration,
    /// The number of its events.
    pub events: usize,
    /// The request's body.
    pub body: Vec<u8>,
}

/// The state of a queue.
#[derive(Debug, Default)]
pub struct QueueState {
    /// Events that were dropped because their requests were too old.
    pub expired: usize,
    /// The number of queued events.
    pub waiting: usize,
    /// The oldest request; of those set aside, the requested one.
    pub head: Option<Head>,
    /// The number of requests that are set aside, if requested.
    pub count: usize,
}

/// The error of a commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotCommitted {
    /// The lease has expired. Nothing was changed.
    NotOurs,
    /// There was no answer: it may have been committed.
    Unknown,
}

/// How long the number of a process's last appended part is kept, which makes appending idempotent.
/// A process retries much sooner.
const APPENDED_MEMORY: Duration = Duration::from_secs(600);
/// How long a queue is kept after the last addition. Its requests expire after 5 minutes.
const QUEUE_MEMORY: Duration = Duration::from_secs(900);
/// Timeout of a call.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
impl Cluster {
    /// The log and the queues of an app.
    #[must_use]
    pub fn store(&self, app_id: &str) -> Store {
        let app_id = app_id.into();
        let notifier = self.shared.notifiers.notifier(&app_id);
        Store { shared: Arc::clone(&self.shared), app_id, notifier }
    }
}

impl Store {
    /// How long a lease lasts without another poll.
    pub const LEASE: Duration = Duration::from_secs(5);
    /// Maximum bytes of an app's log.
    pub const LOG_BYTES_MAX: usize = lua::LOG_BYTES_MAX;
    /// Bytes that an entry of a log or queue counts in addition to its own.
    pub const OVERHEAD_BYTES: usize = lua::OVERHEAD_BYTES;
    /// Maximum number of records that one poll returns.
    pub const RECORDS_MAX: usize = 1_000;

    /// A new name for a lease of this process.
    #[must_use]
    pub fn new_lease(&self) -> String {
        format!("{}.{}", self.shared.process(), random::digits())
    }

    /// Waits until a record is appended to the empty log. May return spuriously. Safe to cancel.
    pub async fn logged(&self) {
        self.notifier.logged.notified().await;
    }

    /// Waits until another node has released the lease. May return spuriously. Safe to cancel.
    pub async fn vacant(&self) {
        self.notifier.vacant.notified().await;
    }

    /// Whether the process that holds this lease was silent for longer than a living one; if it was
    /// never heard, since `since`.
    #[must_use]
    pub fn is_silent(&self, lease: &str, since: Instant) -> bool {
        self.shared.notifiers.is_silent(process_of(lease), since, now())
    }

    /// Appends entries, all of them or none. `number` is the number of this part, counted from 1;
    /// repeating it has no effect.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been appended.
    pub async fn append(&self, number: u64, entries: &[LogRecord]) -> Result<(), Unavailable> {
        let (names, joined) = (&self.shared.names, self.joined()?);
        let mut call = self
            .call(&self.shared.scripts.append, &joined)
            .key(names.log(&self.app_id))
            .key(names.log_state(&self.app_id))
            .key(names.appended(&self.app_id, &self.shared.process()))
            .number(number)
            .number(APPENDED_MEMORY.as_millis());
        for entry in entries {
            call = call.number(entry.at_us).number(entry.most_bytes).arg(&*entry.record);
        }
        if self.flag(&mut self.run(&joined, call).await?)? {
            self.tell_all(&ControlMessage::Logged { app_id: self.app_id.to_string() }).await;
        }
        Ok(())
    }

    /// Reads the log if this process holds the lease, renews it, or finds it free. `queues` are the
    /// names of the endpoints' queues.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: this process may hold the lease.
    pub async fn poll(&self, lease: &str, queues: &[String]) -> Result<Poll, Unavailable> {
        let (names, joined) = (&self.shared.names, self.joined()?);
        let mut call = self
            .call(&self.shared.scripts.poll, &joined)
            .key(names.webhook_lease(&self.app_id))
            .key(names.log(&self.app_id))
            .key(names.log_state(&self.app_id))
            .key(names.held(&self.app_id))
            .arg(lease)
            .arg(format!("{}.", self.shared.process()))
            .number(Self::LEASE.as_millis())
            .number(Self::RECORDS_MAX)
            .number(queues.len());
        for queue in queues {
            call = call.arg(names.queue(&self.app_id, queue));
        }
        let (answer, now_ms) = self.run_at(&joined, call).await?;
        read::poll(answer, now_ms).map_err(|Unexpected| self.unexpected_reply())
    }

    /// Commits the changes of some records, if the lease is still held.
    ///
    /// # Errors
    ///
    /// [`NotCommitted`] says whether that is certain.
    pub async fn commit(
        &self,
        lease: &str,
        queues: &[String],
        most_bytes: usize,
        commit: &Commit,
    ) -> Result<CommitResult, NotCommitted> {
        let names = &self.shared.names;
        let joined = self.joined().map_err(|Unavailable| NotCommitted::Unknown)?;
        let mut call = self
            .call(&self.shared.scripts.commit, &joined)
            .key(names.webhook_lease(&self.app_id))
            .key(names.log(&self.app_id))
            .key(names.log_state(&self.app_id))
            .key(names.held(&self.app_id));
        for queue in queues {
            call = call.key(names.queue(&self.app_id, queue));
        }
        call = call
            .arg(lease)
            .number(Self::LEASE.as_millis())
            .number(commit.records)
            .number(commit.bytes)
            .number(most_bytes)
            .number(QUEUE_MEMORY.as_millis())
            .number(commit.held.len());
        for (name, held) in &commit.held {
            call = call.arg(&**name).arg(&**held);
        }
        for (queue, events, body) in &commit.requests {
            call = call.number(queue + 1).number(events).arg(&**body);
        }
        let answer = self.run(&joined, call).await.map_err(|Unavailable| NotCommitted::Unknown)?;
        match read::commit(answer) {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(NotCommitted::NotOurs),
            Err(Unexpected) => {
                self.unexpected_reply();
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
    pub async fn head(
        &self,
        queue: &str,
        done: Option<u64>,
        lifetime: Duration,
    ) -> Result<QueueState, Unavailable> {
        let (names, joined) = (&self.shared.names, self.joined()?);
        let call = self
            .call(&self.shared.scripts.head, &joined)
            .key(names.queue(&self.app_id, queue))
            .key(names.log_state(&self.app_id))
            .number(done.unwrap_or(0))
            .number(lifetime.as_millis());
        let (answer, now_ms) = self.run_at(&joined, call).await?;
        read::head(answer, now_ms).map_err(|Unexpected| self.unexpected_reply())
    }

    /// Releases the lease, and notifies the other nodes.
    pub async fn release(&self, lease: &str) {
        // If it fails, the lease expires.
        let Ok(joined) = self.joined() else { return };
        let call = self
            .call(&self.shared.scripts.release, &joined)
            .key(self.shared.names.webhook_lease(&self.app_id))
            .arg(lease);
        let Ok(mut answer) = self.run(&joined, call).await else { return };
        if self.flag(&mut answer) == Ok(true) {
            self.tell_all(&ControlMessage::Vacant { app_id: self.app_id.to_string() }).await;
        }
    }

    /// Notifies all nodes. If it fails, they poll a little later.
    async fn tell_all(&self, control_message: &ControlMessage) {
        if self.shared.notify(&control_message.encode()).await.is_err() {
            tracing::debug!(app = &*self.app_id, "the nodes were not notified");
        }
    }

    fn joined(&self) -> Result<Joined, Unavailable> {
        self.shared.joined_now().ok_or(Unavailable)
    }

    /// A call of a guarded script in the app's home partition.
    fn call(&self, script: &Arc<Script>, joined: &Joined) -> ScriptCall {
        let names = &self.shared.names;
        ScriptCall::guarded(script, names.home_of(&self.app_id), names, &joined.lease)
    }

    async fn run(&self, joined: &Joined, call: ScriptCall) -> Result<ScriptReply, Unavailable> {
        self.run_at(joined, call).await.map(|(answer, _)| answer)
    }

    /// The answer after its status, and the server's clock in ms.
    async fn run_at(
        &self,
        joined: &Joined,
        call: ScriptCall,
    ) -> Result<(ScriptReply, u64), Unavailable> {
        let value = self.ask(joined, call).await?;
        let mut answer = ScriptReply::new(value).map_err(|Unexpected| self.unexpected_reply())?;
        match answer.status().map_err(|Unexpected| self.unexpected_reply())? {
            (Status::Done, now_ms) => return Ok((answer, now_ms)),
            (Status::Refused, _) => self.shared.refused(&joined.lease),
            (Status::Late, _) => {}
        }
        Err(Unavailable)
    }

    async fn ask(&self, joined: &Joined, call: ScriptCall) -> Result<Value, Unavailable> {
        match timeout(ANSWER_WITHIN, call.run(&joined.connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::debug!(app = &*self.app_id, %error, "redis does not serve the webhooks");
                if was_refused(&error) {
                    self.shared.metrics.unexpected_data("what belongs to webhooks");
                }
                Err(Unavailable)
            }
            Err(_elapsed) => Err(Unavailable),
        }
    }

    /// Reads the next value, which is 1 or 0.
    fn flag(&self, answer: &mut ScriptReply) -> Result<bool, Unavailable> {
        answer.number().map(|number| number == 1).map_err(|Unexpected| self.unexpected_reply())
    }

    fn unexpected_reply(&self) -> Unavailable {
        self.shared.metrics.unexpected_data("what belongs to webhooks");
        Unavailable
    }
}

impl Names {
    /// The key of an app's log.
    pub(super) fn log(&self, app_id: &str) -> String {
        self.of_app("log", app_id)
    }

    /// The key of the counters of log and queues.
    pub(super) fn log_state(&self, app_id: &str) -> String {
        self.of_app("logstate", app_id)
    }

    /// The key of the events that the delivering node holds back.
    pub(super) fn held(&self, app_id: &str) -> String {
        self.of_app("held", app_id)
    }

    /// The key of the lease to deliver the app's webhooks.
    pub(super) fn webhook_lease(&self, app_id: &str) -> String {
        self.of_app("teller", app_id)
    }

    /// The key of an endpoint's queue.
    pub(super) fn queue(&self, app_id: &str, queue: &str) -> String {
        format!("{}:{queue}", self.of_app("queue", app_id))
    }

    /// The key of the number of a process's last appended part.
    pub(super) fn appended(&self, app_id: &str, process: &str) -> String {
        format!("{}:{process}", self.of_app("appended", app_id))
    }
}

#[cfg(test)]
mod tests;
