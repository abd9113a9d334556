//! What the console sees of the cluster.

use super::{RedisBroker, coordinator::CoordinatorRequest, envelope::ControlMessage};
use crate::{hub::Hub, protocol::ChannelName};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A watched channel. Dropping it ends the watch.
#[derive(Debug)]
pub(in crate::broker) struct RedisWatch {
    broker: RedisBroker,
    app_id: Arc<str>,
    channel: ChannelName,
}

impl RedisBroker {
    /// How long the last heartbeat took; `None` before the first.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        Some(self.shared.round_trip()).filter(|time| !time.is_zero())
    }

    /// Asks the other nodes for their reports, for a few seconds.
    pub(crate) fn want_reports(&self) {
        self.notify_nodes(&ControlMessage::ReportsWanted);
    }

    /// The latest reports of the other nodes.
    #[must_use]
    pub(crate) fn reports_of_others(&self, now: Instant) -> Vec<String> {
        self.shared.reports.of_others(&self.shared.process(), now)
    }

    /// Whether this node is to send its report now. Nothing is due while no console asks.
    #[must_use]
    pub(crate) fn is_report_due(&self, now: Instant) -> bool {
        self.shared.reports.take_due(now)
    }

    /// Sends the report of this node to the others.
    pub(crate) fn send_report(&self, report: &str) {
        let (process, report) = (self.shared.process(), report.to_owned());
        self.notify_nodes(&ControlMessage::Report { process, report });
    }

    /// Publishes a control message in the background. If it fails, the next one follows in a second.
    fn notify_nodes(&self, control_message: &ControlMessage) {
        let (shared, text) = (Arc::clone(&self.shared), control_message.encode());
        tokio::spawn(async move {
            if shared.publish_control(&text).await.is_err() {
                tracing::debug!("publishing a report failed");
            }
        });
    }

    /// Gives the events that any node publishes on a channel to the watches of this node's hub.
    pub(in crate::broker) fn watch(&self, hub: &Hub, channel: ChannelName) -> RedisWatch {
        let app_id = hub.app_id();
        self.request(CoordinatorRequest::Watch {
            app_id: Arc::clone(&app_id),
            channel: channel.clone(),
        });
        RedisWatch { broker: self.clone(), app_id, channel }
    }
}

impl Drop for RedisWatch {
    fn drop(&mut self) {
        let (app_id, channel) = (Arc::clone(&self.app_id), self.channel.clone());
        self.broker.request(CoordinatorRequest::Unwatch { app_id, channel });
    }
}
