//! Runs the script of a publish together with those of others.

use crate::broker::redis::{
    cluster_state::ClusterState, link_state::JoinedLink, scripts::ScriptCall,
};
use redis::{RedisError, RedisResult, Value};
use std::{io, sync::Arc};

impl ClusterState {
    /// The reply to the call of a publish, which is sent with other publishes of this thread.
    pub(in crate::broker::redis) async fn run_publish(
        self: &Arc<Self>,
        call: ScriptCall,
        link: JoinedLink,
    ) -> RedisResult<Value> {
        let (reply, queue) = self.publish_groups.add(call, link);
        if let Some(queue) = queue {
            // A task of its own: the other publishes do not end with the one that has begun the group.
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                shared.publish_groups.send(queue, &shared.scripts, &shared.names).await;
            });
        }
        let not_sent = || io::Error::new(io::ErrorKind::BrokenPipe, "the publish was not sent");
        reply.await.map_err(|_| RedisError::from(not_sent()))?
    }
}
