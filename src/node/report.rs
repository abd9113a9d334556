//! What the consoles of a cluster show of a node.

use super::Node;
use crate::metrics::NodeTotals;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A node, its state and its totals.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NodeReport {
    /// The name of the node.
    pub node: String,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Why it does not.
    pub reasons: Vec<String>,
    /// Its totals.
    #[serde(flatten)]
    pub totals: NodeTotals,
}

impl Node {
    /// The report of this node.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        let reasons = self.not_ready_reasons();
        let totals = self.totals();
        NodeReport { node: self.name().to_owned(), ready: reasons.is_empty(), reasons, totals }
    }

    /// The latest reports of the other nodes. They send some while this is called.
    #[must_use]
    pub fn reports_of_others(&self, now: Instant) -> Vec<NodeReport> {
        let Some(broker) = self.broker.redis() else { return Vec::new() };
        broker.want_reports();
        let reports = broker.reports_of_others(now);
        reports.iter().filter_map(|report| serde_json::from_str(report).ok()).collect()
    }

    /// Sends the report of this node to the others, if one of them wants it. Returns when to look again.
    pub(super) fn send_due_report(&self, now: Instant) -> Option<Instant> {
        let broker = self.broker.redis()?;
        if broker.is_report_due(now) {
            // A report is a few numbers and texts.
            broker.send_report(&serde_json::to_string(&self.report()).unwrap_or_default());
        }
        // The requests of the others set no alarm, and the broker's own timers run more often anyway.
        Some(now)
    }
}
