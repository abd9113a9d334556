//! The history of channels, which Redis keeps in their logs.

use super::{
    RedisBroker,
    channel_logs::LogRead,
    clock::now,
    cluster_state::ClusterState,
    scripts::{ScriptCall, Unexpected},
};
use crate::{
    broker::{HistoryRead, error::Unavailable, logs::HistoryRule},
    channel::HistoryQuery,
    hub::Hub,
    protocol::ChannelName,
};

impl RedisBroker {
    /// The events of a channel that are kept by a rule.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub(in crate::broker) async fn history(
        &self,
        hub: &Hub,
        name: &ChannelName,
        query: &HistoryQuery,
    ) -> Result<HistoryRead, Unavailable> {
        let rule = hub.read_config(|config| HistoryRule::of_channel(config, name));
        let Some(HistoryRule { limits, .. }) = rule else { return Ok(HistoryRead::NotKept) };
        // Entries of client events count as well.
        let events = limits.events.max(self.shared.logs.log_limits().events);
        let read = self.shared.channel_log(&hub.app_id(), name, (events, limits.bytes)).await?;
        Ok(match read {
            Some(read) => HistoryRead::of_page(read.log().page(query, limits, now())),
            None => HistoryRead::without_log(query),
        })
    }
}

impl ClusterState {
    /// The log of a channel, at most this many of its latest events and bytes. `None` if the channel has none.
    async fn channel_log(
        &self,
        app_id: &str,
        channel: &ChannelName,
        (events, bytes): (usize, usize),
    ) -> Result<Option<LogRead>, Unavailable> {
        let partition = self.names.channel_partition(app_id, channel);
        let (mut reply, _, redis_ms) = self
            .run_timed(partition, |token| {
                ScriptCall::fenced(&self.scripts.history, partition, &self.names, token)
                    .key(self.names.channel_topic_key(app_id, channel))
                    .key(self.names.channel_log_key(app_id, channel))
                    .number(events)
                    .number(bytes)
            })
            .await?;
        let read = reply
            .number()
            .and_then(|sequence| LogRead::parse(&mut reply, sequence, redis_ms, now()));
        read.map_err(|Unexpected| self.unexpected())
    }
}
