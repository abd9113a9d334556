//! The task that queries the database of apps, and applies the rows.

use super::{Answer, AppRef, AppsUnavailable, Node, Request, rows::Rows};
use crate::{
    app_database::{AppRecord, DatabaseError, IDS_MAX},
    clock,
    metrics::QueryResult,
    throttle::LogThrottle,
};
use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time,
};

/// How often known apps are checked for being due.
const TICK: Duration = Duration::from_millis(200);
/// How long no query is made after one has failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The requests that a query answers, by app id.
type Waiting = HashMap<String, Vec<oneshot::Sender<Answer>>>;

/// The result of a query.
#[derive(Debug)]
enum Completion {
    Found(AppRef, Result<Vec<AppRecord>, DatabaseError>),
    Refreshed(Vec<String>, Waiting, Result<(Vec<AppRecord>, bool), DatabaseError>),
    Pinged(Result<(), DatabaseError>),
}

/// The queries of the database.
#[derive(Debug)]
struct QueryTask {
    node: Arc<Node>,
    ttl: Duration,
    queries: JoinSet<Completion>,
    /// Maximum number of queries at the same time, which is that of connections: further ones would
    /// wait for those, and time out.
    queries_max: usize,
    /// The names that are looked up, with the callers that wait for the answer.
    finding: HashMap<AppRef, Vec<oneshot::Sender<Answer>>>,
    /// The names whose query has not begun.
    queue: VecDeque<AppRef>,
    /// Apps that are read again because of a request, with the callers that wait for that.
    refreshing: Waiting,
    /// Whether a query reads known apps again.
    is_refreshing: bool,
    /// When known apps are checked next for being due.
    refresh_at: Instant,
    /// Whether a query checks that the database answers.
    is_pinging: bool,
    outage: Option<Outage>,
    failures: LogThrottle,
    rejections: LogThrottle,
    rows: Rows,
}

/// The time in which the database does not answer.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    retry_at: Instant,
}

impl Node {
    /// Looks up apps in the database and reads known ones again, if there is a database. Never ends.
    pub async fn run_app_database(self: Arc<Self>) {
        let Some(database) = &self.database else { return };
        let Some(requests) = database.incoming.lock().take() else { return };
        let config = database.config.load().apps_from.clone();
        let query_task = QueryTask {
            ttl: Duration::from_secs(config.cache_ttl_s),
            queries: JoinSet::new(),
            queries_max: config.pool_size as usize,
            finding: HashMap::new(),
            queue: VecDeque::new(),
            refreshing: HashMap::new(),
            is_refreshing: false,
            refresh_at: clock::now(),
            is_pinging: false,
            outage: None,
            failures: LogThrottle::default(),
            rejections: LogThrottle::default(),
            rows: Rows::new(Arc::clone(&self)),
            node: Arc::clone(&self),
        };
        query_task.run(requests).await;
    }
}

impl QueryTask {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(request) = requests.recv() => self.step(|it| it.on_request(request)),
                Some(done) = self.queries.join_next() => match done {
                    Ok(done) => self.step(|it| it.on_done(done, clock::now())),
                    Err(_panicked) => self.forget_queries(),
                },
                _ = ticks.tick() => {}
            }
            self.step(|it| it.query(clock::now()));
        }
    }

    /// Takes a step. A panic gives up the queries, and not the lookups that follow.
    fn step(&mut self, step: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| step(self))).is_err() {
            self.forget_queries();
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Find(name, answer) => {
                // Found, or configured, since it was asked for.
                if let Some(hub) = self.node.known(&name) {
                    let _ = answer.send(Ok(Some(hub)));
                    return;
                }
                if self.outage.is_some() || super::LOOKUPS_MAX <= self.queue.len() {
                    let _ = answer.send(Err(AppsUnavailable));
                    return;
                }
                let waiting = self.finding.entry(name.clone()).or_default();
                if waiting.is_empty() {
                    self.queue.push_back(name);
                }
                waiting.push(answer);
            }
            Request::Refresh(_, answer) if self.outage.is_some() => {
                let _ = answer.send(Err(AppsUnavailable));
            }
            Request::Refresh(id, answer) => {
                let is_known = self.node.database.as_ref().is_some_and(|apps| apps.expire(&id));
                if is_known {
                    self.refreshing.entry(id).or_default().push(answer);
                    self.refresh_at = clock::now();
                } else {
                    // It was removed since it was asked for.
                    let _ = answer.send(Ok(None));
                }
            }
            Request::RefreshAll => {
                self.rows.forget_errors();
                self.refresh_at = clock::now();
            }
        }
    }

    /// Starts the queries that are due.
    fn query(&mut self, now: Instant) {
        let node = Arc::clone(&self.node);
        let Some(database) = node.database.as_deref() else { return };
        let connection = Arc::clone(&database.database);
        if let Some(outage) = self.outage {
            if outage.retry_at <= now {
                self.ping();
            }
            return;
        }
        // First: a refresh has its own query, and waits for one lookup at most.
        while self.queries.len() < self.queries_max
            && let Some(name) = self.queue.pop_front()
        {
            let connection = Arc::clone(&connection);
            self.queries.spawn(async move {
                let rows = connection.find(name.column, &name.value).await;
                Completion::Found(name, rows)
            });
        }
        if !self.is_refreshing && self.refresh_at <= now {
            self.refresh_at = now + TICK;
            let due = database.due(self.ttl, now, IDS_MAX);
            if !due.is_empty() {
                self.is_refreshing = true;
                // A request that comes while the query runs may be about a later change.
                let waiting =
                    due.iter().filter_map(|id| self.refreshing.remove_entry(id)).collect();
                for id in &due {
                    database.renew(id, now);
                }
                let connection = Arc::clone(&connection);
                self.queries.spawn(async move {
                    let rows = connection.read(&due).await;
                    Completion::Refreshed(due, waiting, rows)
                });
            }
        }
    }

    /// Checks that the database answers, unless that is being checked.
    fn ping(&mut self) {
        let Some(database) = self.node.database.as_deref() else { return };
        if !std::mem::replace(&mut self.is_pinging, true) {
            let connection = Arc::clone(&database.database);
            self.queries.spawn(async move { Completion::Pinged(connection.ping().await) });
        }
    }

    fn on_done(&mut self, done: Completion, now: Instant) {
        match done {
            Completion::Found(name, rows) => {
                let found = self.answered(rows, now).map(|rows| self.rows.found(&name, &rows, now));
                let waiting = self.finding.remove(&name).unwrap_or_default();
                for answer in waiting {
                    let _ = answer.send(found.clone());
                }
            }
            Completion::Refreshed(ids, waiting, rows) => {
                self.is_refreshing = false;
                self.refresh_at = now;
                let answered = self.answered(rows, now).map(|(rows, is_complete)| {
                    self.rows.read_again(&ids, &rows, is_complete);
                });
                if answered.is_err() {
                    self.refresh_at = now + RETRY_PAUSE;
                    if let Some(database) = self.node.database.as_deref() {
                        for id in &ids {
                            database.expire(id);
                        }
                    }
                }
                for (id, waiting) in waiting {
                    let hub = self.node.hub(&id);
                    for answer in waiting {
                        let _ = answer.send(answered.map(|()| hub.clone()));
                    }
                }
            }
            Completion::Pinged(result) => {
                self.is_pinging = false;
                if let Err(error @ DatabaseError::Rejected(_)) = &result {
                    self.begin_outage(error, now);
                }
                let _ = self.answered(result, now);
            }
        }
    }

    /// Counts the result of a query, and begins or ends an outage. A rejected query begins none by itself:
    /// clients choose the texts that are looked up, and the database may reject one of them.
    fn answered<T>(
        &mut self,
        result: Result<T, DatabaseError>,
        now: Instant,
    ) -> Result<T, AppsUnavailable> {
        self.node.metrics().app_database().queried(match &result {
            Ok(_) => QueryResult::Answered,
            Err(DatabaseError::Timeout) => QueryResult::Timeout,
            Err(DatabaseError::Failed(_) | DatabaseError::Rejected(_)) => QueryResult::Failed,
        });
        result
            .inspect(|_| {
                if let Some(outage) = self.outage.take() {
                    let after_s = now.saturating_duration_since(outage.since).as_secs();
                    tracing::info!(after_s, "app database available again");
                }
            })
            .map_err(|error| {
                if matches!(error, DatabaseError::Rejected(_)) {
                    if self.outage.is_none() {
                        if let Some(queries) = self.rejections.record(1, now) {
                            tracing::error!(%error, queries, "app database rejected a query");
                        }
                        self.ping();
                    }
                } else {
                    self.begin_outage(&error, now);
                }
                AppsUnavailable
            })
    }

    /// Begins an outage, or continues it.
    fn begin_outage(&mut self, error: &DatabaseError, now: Instant) {
        if let Some(failures) = self.failures.record(1, now) {
            tracing::error!(
                %error,
                failures,
                "app database unavailable: known apps are served, others cannot be looked up"
            );
        }
        let since = self.outage.map_or(now, |outage| outage.since);
        self.outage = Some(Outage { since, retry_at: now + RETRY_PAUSE });
        self.reject_waiting();
    }

    /// Rejects the lookups whose query has not begun, and all refreshes.
    fn reject_waiting(&mut self) {
        for name in std::mem::take(&mut self.queue) {
            for answer in self.finding.remove(&name).unwrap_or_default() {
                let _ = answer.send(Err(AppsUnavailable));
            }
        }
        for answer in std::mem::take(&mut self.refreshing).into_values().flatten() {
            let _ = answer.send(Err(AppsUnavailable));
        }
    }

    /// Gives all queries up, because one has panicked: those who wait must ask again.
    fn forget_queries(&mut self) {
        tracing::error!("panic recovered");
        self.queries.abort_all();
        self.queries = JoinSet::new();
        (self.is_refreshing, self.is_pinging) = (false, false);
        self.finding.clear();
        self.queue.clear();
        self.refreshing.clear();
        self.outage = None;
    }
}
