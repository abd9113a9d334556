//! The logs of webhook records that are still to be forwarded.

use super::partition::Partition;
use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::Arc};

/// The webhook log of an app in a partition.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct PartitionLog {
    pub(super) app_id: Arc<str>,
    pub(super) partition: Partition,
}

/// Logs that may have records to forward. An entry for the app's own partition only triggers the
/// notification of the nodes.
#[derive(Debug, Default)]
pub(super) struct Unforwarded(Mutex<BTreeSet<PartitionLog>>);

impl Unforwarded {
    pub(super) fn add(&self, log: PartitionLog) {
        self.0.lock().insert(log);
    }

    /// Takes a log that is not being forwarded.
    pub(super) fn take(&self, in_flight: &BTreeSet<PartitionLog>) -> Option<PartitionLog> {
        let mut logs = self.0.lock();
        let log = logs.iter().find(|log| !in_flight.contains(log)).cloned()?;
        logs.take(&log)
    }
}
