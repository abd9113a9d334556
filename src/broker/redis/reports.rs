//! The totals of the nodes, which they publish only while the console of one of them shows them.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// When this node publishes its report, and the latest reports of the others.
#[derive(Debug, Default)]
pub(super) struct NodeReports(Mutex<Reports>);

#[derive(Debug, Default)]
struct Reports {
    wanted_until: Option<Instant>,
    sent_at: Option<Instant>,
    /// The reports, by the names of the processes.
    received: HashMap<String, (Instant, String)>,
}

/// How long a request for reports is in effect.
const WANTED: Duration = Duration::from_secs(3);
/// The interval of the reports of a node.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a report is shown.
const SHOWN: Duration = Duration::from_secs(5);
/// Maximum number of nodes whose reports are kept.
const NODES_MAX: usize = 1_000;
/// Maximum length of a report, in bytes.
const REPORT_MAX: usize = 2 * 1_024;

impl NodeReports {
    /// Records that a console wants reports.
    pub(super) fn want(&self, now: Instant) {
        self.0.lock().wanted_until = Some(now + WANTED);
    }

    /// Whether this node is to publish its report now.
    pub(super) fn take_due(&self, now: Instant) -> bool {
        let mut reports = self.0.lock();
        let is_wanted = reports.wanted_until.is_some_and(|until| now < until);
        let is_due = reports.sent_at.is_none_or(|at| at + INTERVAL <= now);
        if is_wanted && is_due {
            reports.sent_at = Some(now);
        }
        is_wanted && is_due
    }

    /// Keeps the report of another process.
    pub(super) fn receive(&self, process: &str, report: &str, now: Instant) {
        let received = &mut self.0.lock().received;
        received.retain(|_, (at, _)| now < *at + SHOWN);
        let has_room = received.len() < NODES_MAX || received.contains_key(process);
        if has_room && report.len() <= REPORT_MAX {
            received.insert(process.to_owned(), (now, report.to_owned()));
        }
    }

    /// The latest reports of other processes than this one.
    pub(super) fn of_others(&self, process: &str, now: Instant) -> Vec<String> {
        let reports = self.0.lock();
        let of_others = reports.received.iter().filter(|(of, _)| **of != process);
        let shown = of_others.filter(|(_, (at, _))| now < *at + SHOWN);
        shown.map(|(_, (_, report))| report.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_due_once_in_an_interval_while_it_is_wanted() {
        let (reports, now) = (NodeReports::default(), Instant::now());
        assert!(!reports.take_due(now), "no report is wanted");
        reports.want(now);
        assert!(reports.take_due(now) && !reports.take_due(now));
        assert!(reports.take_due(now + INTERVAL));
        assert!(!reports.take_due(now + WANTED));
    }

    #[test]
    fn reports_of_others_are_kept_for_a_while_within_a_bound() {
        let (reports, now) = (NodeReports::default(), Instant::now());
        reports.receive("1", "own", now);
        reports.receive("2", "first", now);
        reports.receive("2", "second", now);
        reports.receive("3", &"x".repeat(REPORT_MAX + 1), now);
        assert_eq!(reports.of_others("1", now), ["second"]);
        assert!(reports.of_others("1", now + SHOWN).is_empty());
        for process in 0..=NODES_MAX {
            reports.receive(&format!("p{process}"), "r", now);
        }
        assert_eq!(reports.0.lock().received.len(), NODES_MAX);
        reports.receive("4", "later", now + SHOWN);
        assert_eq!(reports.of_others("1", now + SHOWN), ["later"]);
    }
}
