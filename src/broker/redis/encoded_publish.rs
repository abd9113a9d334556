//! A publish whose events are encoded, so that it does not borrow the request any more.

use super::{cluster_state::ClusterState, publish::OutgoingEvent};
use crate::{
    broker::{AppEvent, PublishError, logs::HistoryRule},
    channel::{Counts, LogLimits},
    config::AppConfig,
    hub::{Hub, ShardSet},
    protocol::{ChannelName, event},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Encoded events that are published through Redis.
#[derive(Debug)]
pub struct EncodedPublish {
    shared: Arc<ClusterState>,
    events: Vec<OutgoingEvent>,
}

impl EncodedPublish {
    pub(super) fn new(
        shared: &Arc<ClusterState>,
        hub: &Hub,
        events: &[AppEvent<'_>],
        now: Instant,
    ) -> Self {
        let app = hub.app();
        let retention = Duration::from_secs(app.config.cache_ttl_s);
        let each = events.iter().flat_map(|event| event.channels.iter().map(move |to| (event, to)));
        let encoded = each.map(|(event, channel)| OutgoingEvent {
            channel: channel.clone(),
            frame: event::app_event(&event.name, channel, &event.data, now),
            except: event.except,
            retention,
            publish_id: event.publish_id(channel),
            history: history_of(&app.config, channel),
        });
        Self { shared: Arc::clone(shared), events: encoded.collect() }
    }

    /// Publishes the events, as [`Broker::publish`](crate::broker::Broker::publish) does.
    ///
    /// # Errors
    ///
    /// [`PublishError::OutcomeUnknown`] if the event may have been delivered.
    pub async fn publish(&self, hub: &Hub) -> Result<(Vec<Counts>, ShardSet), PublishError> {
        let max_cache_bytes = hub.app().config.max_cache_bytes;
        let counts = self.shared.publish(&hub.app_id(), &self.events, max_cache_bytes).await?;
        let shards = self.events.iter().map(|event| hub.shards_of(&event.channel));
        Ok((counts, shards.fold(ShardSet::default(), ShardSet::union)))
    }
}

/// What the history of a channel keeps, if it has one.
pub(super) fn history_of(config: &AppConfig, channel: &ChannelName) -> Option<LogLimits> {
    HistoryRule::of_channel(config, channel).map(|rule| rule.limits)
}
