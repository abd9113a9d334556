//! Metrics of the database of apps.

use super::{counter, table};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// The result of a query.
#[derive(Clone, Copy, Debug)]
pub enum QueryResult {
    /// The database has answered.
    Answered,
    /// The database could not be reached, or rejected the query.
    Failed,
    /// The database has not answered in time.
    Timeout,
}

/// The result of the lookup of an app that was not known.
#[derive(Clone, Copy, Debug)]
pub enum LookupResult {
    /// An app was found.
    Found,
    /// There is no such app.
    Unknown,
    /// The database has not answered, or too many lookups wait.
    Unavailable,
}

const QUERY_RESULTS: [&str; 3] = ["answered", "failed", "timeout"];
const LOOKUP_RESULTS: [&str; 3] = ["found", "unknown", "unavailable"];

/// The counters of the database of apps. All are 0 without one.
#[derive(Debug, Default)]
pub struct AppDatabaseMetrics {
    apps: AtomicU64,
    queries: [AtomicU64; QUERY_RESULTS.len()],
    lookups: [AtomicU64; LOOKUP_RESULTS.len()],
    rejected_rows: AtomicU64,
    /// In seconds since 1970.
    last_answer: AtomicU64,
}

impl AppDatabaseMetrics {
    /// Sets the number of known apps.
    pub fn set_apps(&self, apps: usize) {
        self.apps.store(apps as u64, Ordering::Relaxed);
    }

    /// Counts a query.
    pub fn queried(&self, result: QueryResult) {
        self.queries[result as usize].fetch_add(1, Ordering::Relaxed);
        if matches!(result, QueryResult::Answered) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.last_answer.store(now.as_secs(), Ordering::Relaxed);
        }
    }

    /// Counts a lookup.
    pub fn looked_up(&self, result: LookupResult) {
        self.lookups[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a row that was not taken over.
    pub fn row_rejected(&self) {
        self.rejected_rows.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        table::APP_DATABASE_APPS.encode_gauge(encoder, read(&self.apps))?;
        let mut family = table::APP_DATABASE_QUERIES.describe(encoder)?;
        for (result, count) in QUERY_RESULTS.iter().zip(&self.queries) {
            counter(&mut family, &[("result", *result)], read(count))?;
        }
        let mut family = table::APP_DATABASE_LOOKUPS.describe(encoder)?;
        for (result, count) in LOOKUP_RESULTS.iter().zip(&self.lookups) {
            counter(&mut family, &[("result", *result)], read(count))?;
        }
        let rejected = read(&self.rejected_rows);
        table::APP_DATABASE_REJECTED_ROWS
            .describe(encoder)?
            .encode_counter::<NoLabelSet, u64, u64>(&rejected, None)?;
        table::APP_DATABASE_LAST_ANSWER.encode_gauge(encoder, read(&self.last_answer))
    }
}
