//! The logs of channels with subscribers on this node.
//!
//! They are in the memory of the node. While a channel has subscribers here, its topic receives each event in order, or forces
//! the subscribers to subscribe again. So a log is whole until one of both ends, and is dropped then.

use super::{clock::now, cluster_state::ClusterState};
use crate::{
    broker::logs::Logs,
    hub::Hub,
    protocol::{ChannelName, Frame, FrameKind, SocketId},
};

/// The logs of an app. Nothing depends on their random epoch, so it is not drawn through `random`.
pub(super) fn logs(hub: &Hub) -> &Logs {
    hub.broker_state(|| Logs::new(rand::random(), Vec::new()))
}

impl ClusterState {
    /// Delivers a frame to the subscribers of this node, and logs it if it is an event of the application.
    pub(super) fn deliver(
        &self,
        hub: &Hub,
        channel: &ChannelName,
        frame: &Frame,
        except: Option<SocketId>,
    ) {
        let Some(mut locked) = hub.lock(channel) else { return };
        let logs = logs(hub);
        let is_logged = frame.kind() == FrameKind::Event && logs.is_active();
        let append = || logs.append(&self.logs, channel, frame, except, now());
        let logged = if is_logged { append() } else { 0 };
        locked.deliver_logged(frame, except, logged);
    }
}
