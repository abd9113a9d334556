//! Records for webhooks: which changes of a topic are logged.

use super::{
    cluster_state::ClusterState, names::TopicSubject, partition::Partition,
    unforwarded::PartitionLog,
};
use crate::{channel::sends_subscription_count, config::WebhookEvent, hub::Hub};
use std::sync::Arc;

/// The webhook events of a topic that the application has configured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct WebhookInterest {
    /// Whether the total is reported when it changes from none to some and back.
    occupancy: bool,
    members: bool,
    counts: bool,
}

impl WebhookInterest {
    pub(super) fn for_subject(hub: &Hub, subject: &TopicSubject) -> Self {
        match subject {
            TopicSubject::Channel(channel) if channel.is_listed() => Self {
                occupancy: hub.wants(WebhookEvent::ChannelOccupied),
                members: channel.is_presence() && hub.wants(WebhookEvent::MemberAdded),
                counts: hub.read_config(|config| sends_subscription_count(channel, config))
                    && hub.wants(WebhookEvent::SubscriptionCount),
            },
            TopicSubject::User(_) => {
                Self { occupancy: hub.wants(WebhookEvent::UserOnline), ..Self::default() }
            }
            TopicSubject::Channel(_) | TopicSubject::Connections => Self::default(),
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether anything of the app is logged by topics.
    pub(super) fn any_of(hub: &Hub) -> bool {
        let kinds = [
            WebhookEvent::ChannelOccupied,
            WebhookEvent::MemberAdded,
            WebhookEvent::SubscriptionCount,
            WebhookEvent::UserOnline,
        ];
        kinds.into_iter().any(|kind| hub.wants(kind))
    }

    /// The flags of `sync.lua`.
    pub(super) fn flags(self) -> impl Iterator<Item = char> {
        let flags = [(self.occupancy, 'w'), (self.members, 'm'), (self.counts, 'n')];
        flags.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, flag)| flag)
    }
}

impl ClusterState {
    /// Whether `sync.lua` itself notifies the nodes of what it has logged for an app.
    pub(super) fn script_notifies(&self, app_id: &str, partition: Partition) -> bool {
        partition == Partition::LEASES && partition == self.names.app_partition(app_id)
    }

    /// Queues the log of a partition for forwarding.
    pub(super) fn enqueue_forwarding(&self, app_id: &Arc<str>, partition: Partition) {
        if !self.script_notifies(app_id, partition) {
            let app_id = Arc::clone(app_id);
            self.unforwarded.add(PartitionLog { app_id, partition });
        }
    }
}
