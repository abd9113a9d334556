//! The channels that are watched for the console: their pub/sub channels are subscribed to, without a
//! contribution of this node, so that nothing counts a watch as a subscription.
//!
//! While a topic of this node has the same pub/sub channel, its subscription serves the watch.

use super::{Completion, Coordinator};
use crate::{
    broker::redis::{
        clock::now,
        envelope::{Envelope, Message},
        names::{TopicName, TopicSubject},
        partition::Partition,
    },
    protocol::ChannelName,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The watched channels, by the names of their topics.
#[derive(Debug, Default)]
pub(super) struct WatchedTopics {
    topics: HashMap<Arc<str>, WatchedTopic>,
    /// When the subscriptions were last renewed.
    renewed_at: Option<Instant>,
}

#[derive(Debug)]
struct WatchedTopic {
    app_id: Arc<str>,
    channel: ChannelName,
    partition: Partition,
    watchers: usize,
}

/// How often a subscription is renewed: the link, the server of a partition, or a topic that used the same
/// pub/sub channel may have ended it.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

impl Coordinator {
    fn topic_of_channel(&self, app_id: &Arc<str>, channel: &ChannelName) -> (Arc<str>, Partition) {
        let app_id = Arc::clone(app_id);
        let name = TopicName { app_id, subject: TopicSubject::Channel(channel.clone()) };
        (self.shared.names.topic_key(&name).into(), self.shared.names.partition(&name))
    }

    /// Adds a watcher of a channel.
    pub(super) fn watch(&mut self, app_id: Arc<str>, channel: ChannelName) {
        let (name, partition) = self.topic_of_channel(&app_id, &channel);
        let watched = WatchedTopic { app_id, channel, partition, watchers: 0 };
        self.watched.topics.entry(name).or_insert(watched).watchers += 1;
        self.watched.renewed_at = None;
        self.renew_watches(now());
    }

    /// Removes a watcher of a channel.
    pub(super) fn unwatch(&mut self, app_id: &Arc<str>, channel: &ChannelName) {
        let (name, partition) = self.topic_of_channel(app_id, channel);
        let Some(watched) = self.watched.topics.get_mut(&name) else { return };
        watched.watchers -= 1;
        if 0 < watched.watchers {
            return;
        }
        self.watched.topics.remove(&name);
        let connection = self.link.connection.clone();
        if let Some(connection) = connection.filter(|_| !self.topics.all.contains_key(&name)) {
            self.link.spawn(async move {
                // A topic that begins meanwhile may have subscribed before.
                let _result = connection.unsubscribe(partition, &[Arc::clone(&name)]).await;
                Completion::Unwatched(name)
            });
        }
    }

    /// Subscribes to the pub/sub channels that no topic of this node has subscribed to.
    pub(super) fn renew_watches(&mut self, now: Instant) {
        let is_due = self.watched.renewed_at.is_none_or(|at| at + RENEW_INTERVAL <= now);
        if self.watched.topics.is_empty() || !is_due || !self.may_sync() {
            return;
        }
        let Some(connection) = self.link.connection.clone() else { return };
        self.watched.renewed_at = Some(now);
        for (name, watched) in &self.watched.topics {
            if self.topics.all.contains_key(name) {
                continue;
            }
            let (connection, partition) = (connection.clone(), watched.partition);
            let name = [Arc::clone(name)];
            self.link.spawn(async move {
                match connection.subscribe(partition, &name).await {
                    Ok(_) => Completion::Subscribed,
                    Err(_) => Completion::TimedOut,
                }
            });
        }
    }

    /// Gives an event of a topic to the watchers of its channel.
    pub(super) fn on_watched_event(&self, name: &str, envelope: &Envelope) {
        let Some(watched) = self.watched.topics.get(name) else { return };
        if let Some(hub) = self.topics.hubs.get(&watched.app_id) {
            let Envelope { frame, except, .. } = envelope;
            hub.watches().event(&watched.app_id, &watched.channel, frame, *except);
        }
    }

    /// Handles a message of a channel that is watched and has no subscribers on this node.
    pub(super) fn on_watched_message(&self, pubsub_channel: &[u8], bytes: &[u8], now: Instant) {
        let name = std::str::from_utf8(pubsub_channel).unwrap_or_default();
        if self.watched.topics.contains_key(name)
            && let Ok(Message::Event { envelope, .. }) = Message::decode(bytes, now)
        {
            self.on_watched_event(name, &envelope);
        }
    }

    /// Whether any channel is watched.
    pub(super) fn has_watches(&self) -> bool {
        !self.watched.topics.is_empty()
    }
}
