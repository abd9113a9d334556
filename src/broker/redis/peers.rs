//! What the consoles of the nodes send each other: questions to all of them, and the answers to the node that
//! has asked.

use super::{
    RedisBroker,
    clock::now,
    cluster_state::ClusterState,
    console_peers::{ANSWER_MAX, PeerMessage},
    envelope::ControlMessage,
    partition::Partition,
    scripts::ScriptCall,
};
use crate::broker::Unavailable;
use std::sync::Arc;

impl RedisBroker {
    /// Sets what receives the messages of other consoles. It is set once.
    pub(crate) fn set_peer_receiver(
        &self,
        receiver: impl Fn(&str, PeerMessage<'_>) + Send + Sync + 'static,
    ) {
        self.shared.console_peers.set(Box::new(receiver));
    }

    /// The names of the other processes that share the Redis.
    #[must_use]
    pub(crate) fn other_processes(&self) -> Vec<String> {
        self.shared.ready_nodes.processes()
    }

    /// Sends a question to the consoles of the other nodes, at most `QUESTION_MAX` bytes.
    ///
    /// # Errors
    ///
    /// It was not sent.
    pub(crate) async fn ask_peers(&self, question: &str) -> Result<(), Unavailable> {
        let (process, text) = (self.shared.process(), question.to_owned());
        let message = ControlMessage::ConsoleQuestion { process, text };
        self.shared.publish_control(&message.encode()).await
    }

    /// Sends an answer to the console of another process. One that is too large is not sent.
    ///
    /// # Errors
    ///
    /// It was not sent.
    pub(crate) async fn answer_peer(&self, to: &str, answer: &str) -> Result<(), Unavailable> {
        if ANSWER_MAX < answer.len() {
            return Ok(());
        }
        let (process, text) = (self.shared.process(), answer.to_owned());
        let message = ControlMessage::ConsoleAnswer { process, text }.encode();
        let pubsub_channel = self.shared.names.process_channel(to);
        self.shared.publish_to(&pubsub_channel, &message).await
    }
}

impl ClusterState {
    /// The pub/sub channels of this process: that of all nodes, and its own.
    pub(super) fn control_channels(&self) -> [Arc<str>; 2] {
        let own = self.names.process_channel(&self.process());
        [self.names.control_channel().into(), own.into()]
    }

    pub(super) async fn publish_to(
        &self,
        pubsub_channel: &str,
        message: &str,
    ) -> Result<(), Unavailable> {
        let partition = Partition::LEASES;
        let deadline = now() + self.broker_wait;
        let call = |token: &_| {
            ScriptCall::fenced(&self.scripts.notify, partition, &self.names, token)
                .number(self.redis_clocks.at(partition, deadline))
                .arg(pubsub_channel)
                .arg(message)
        };
        self.run_fenced(partition, call).await.map(drop)
    }
}
