//! The client of redis-rs over a wire.

use super::{Network, NodeId};
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, RedisResult, Value,
    aio::{AsyncPushSender, MultiplexedConnection},
};

/// A connection that several tasks can use concurrently.
#[derive(Clone, Debug)]
pub(crate) struct SimClient {
    connection: MultiplexedConnection,
    _task: std::sync::Arc<SimTask>,
}

#[derive(Debug)]
struct SimTask(tokio::task::JoinHandle<()>);

impl Network {
    /// Connects a node to the server at an address. Pushes of the server are sent to `push`.
    ///
    /// # Errors
    ///
    /// No server listens there, or it rejects the connection.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        node: NodeId,
        push: impl AsyncPushSender,
    ) -> RedisResult<SimClient> {
        let stream = self.dial(host, port, node).await?;
        let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new().set_push_sender(push).set_response_timeout(None);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let task = std::sync::Arc::new(SimTask(tokio::spawn(driver)));
        Ok(SimClient { connection, _task: task })
    }
}

impl SimClient {
    /// The reply to a command; an error reply is an error.
    pub(crate) async fn request(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.connection.send_packed_command(command).await?.extract_error()
    }
}

impl Drop for SimTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
