//! Queries of the HTTP API, answered by this node or by the cluster.

use super::Node;
use crate::{
    clock,
    cluster::{Asked, ChannelList, Unavailable},
    hub::{ChannelSummary, Counts, Hub},
    protocol::ChannelName,
};
use std::sync::Arc;

/// The broker is unavailable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BrokerUnavailable;

impl From<Unavailable> for BrokerUnavailable {
    fn from(_: Unavailable) -> Self {
        Self
    }
}

/// The channels with subscribers.
#[derive(Debug)]
pub enum OccupiedChannels {
    /// Of a single node: only channels with the prefix.
    Local(Vec<(ChannelName, Counts)>),
    /// Of the cluster: channels with the prefix, and others.
    Shared(Arc<ChannelList>),
}

impl Node {
    /// The channels with subscribers whose names begin with `prefix`.
    ///
    /// # Errors
    ///
    /// [`BrokerUnavailable`].
    pub async fn channels(
        &self,
        hub: &Hub,
        prefix: &str,
    ) -> Result<OccupiedChannels, BrokerUnavailable> {
        match &self.cluster {
            Some(cluster) => Ok(OccupiedChannels::Shared(cluster.channels(hub, prefix).await?)),
            None => Ok(OccupiedChannels::Local(hub.occupied_channels(prefix))),
        }
    }

    /// One channel, whether or not it exists.
    ///
    /// # Errors
    ///
    /// [`BrokerUnavailable`].
    pub async fn channel(
        &self,
        hub: &Hub,
        name: &ChannelName,
    ) -> Result<ChannelSummary, BrokerUnavailable> {
        match &self.cluster {
            Some(cluster) => Ok(cluster.channel(hub, name, Asked::Summary).await?.summary),
            None => Ok(hub.channel_summary(name, clock::now())),
        }
    }

    /// The distinct users of a presence channel, sorted by id, each with its info: a JSON object,
    /// or empty if it was not requested.
    ///
    /// # Errors
    ///
    /// [`BrokerUnavailable`].
    pub async fn users(
        &self,
        hub: &Hub,
        name: &ChannelName,
        with_info: bool,
    ) -> Result<Vec<(Arc<str>, Arc<str>)>, BrokerUnavailable> {
        let asked = if with_info { Asked::UsersWithInfo } else { Asked::Users };
        match &self.cluster {
            Some(cluster) => Ok(cluster.channel(hub, name, asked).await?.users),
            None => Ok(hub.users(name)),
        }
    }

    /// The number of connections of the app.
    ///
    /// # Errors
    ///
    /// [`BrokerUnavailable`].
    pub async fn connections(&self, hub: &Hub) -> Result<usize, BrokerUnavailable> {
        match &self.cluster {
            Some(cluster) => Ok(cluster.connections(hub).await?),
            None => Ok(hub.connections()),
        }
    }

    /// Closes all connections of a signed-in user.
    ///
    /// # Errors
    ///
    /// [`BrokerUnavailable`].
    pub async fn terminate(&self, hub: &Hub, user_id: &str) -> Result<(), BrokerUnavailable> {
        if let Some(cluster) = &self.cluster {
            return Ok(cluster.terminate(hub, user_id).await?);
        }
        hub.terminate(user_id);
        Ok(())
    }
}
