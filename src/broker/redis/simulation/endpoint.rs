//! The production link of a node over the simulated network.

use super::network::{Network, NodeId};
use crate::broker::redis::link::{RedisEndpoint, RedisStream};
use std::sync::Arc;

impl Network {
    /// The endpoint of a node for the servers at these addresses: those of a Redis Cluster, or only the first one.
    pub(in crate::broker::redis) fn endpoint(
        &self,
        node: NodeId,
        addresses: &[(&str, u16)],
        is_redis_cluster: bool,
    ) -> RedisEndpoint {
        let network = self.clone();
        let addresses: Vec<(String, u16)> =
            addresses.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        let dial = move |host: String, port| -> futures_util::future::BoxFuture<'static, _> {
            let network = network.clone();
            Box::pin(async move {
                let stream = network.dial(&host, port, node).await?;
                Ok(Box::new(stream) as Box<dyn RedisStream>)
            })
        };
        RedisEndpoint::over(Arc::new(dial), &addresses, is_redis_cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::{
        link::{LinkEvent, LinkEvents, RedisConnection},
        partition::{PARTITIONS, Partition},
    };
    use redis::{Cmd, cmd};
    use std::time::Duration;
    use tokio::time::timeout;

    const ADDRESSES: [(&str, u16); 3] = [("a", 1), ("b", 2), ("c", 3)];

    fn network() -> Network {
        let network = Network::new(1);
        for (host, port) in ADDRESSES {
            network.add_server(host, port);
        }
        network.make_cluster(&ADDRESSES);
        network
    }

    fn command(words: &[&str]) -> Cmd {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command
    }

    fn bus(partition: Partition) -> Arc<str> {
        format!("bus{{{partition}}}").into()
    }

    /// Publishes on the bus of a partition. Returns whether the message is received.
    async fn publish(
        connection: &RedisConnection,
        events: &mut LinkEvents,
        partition: Partition,
    ) -> bool {
        let publish = command(&["SPUBLISH", &bus(partition), "hello"]);
        connection.query::<usize>(partition, &publish).await.unwrap();
        let received = timeout(Duration::from_secs(1), events.next()).await;
        matches!(received, Ok(LinkEvent::Message { pubsub_channel: on, message, .. })
            if on == bus(partition).as_bytes() && message == b"hello")
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_has_every_partition_of_a_cluster() {
        let network = network();
        let (connection, mut events) =
            network.endpoint(0, &ADDRESSES[..1], true).connect().await.unwrap();
        connection.load(&["return 1", "return 2"]).await.unwrap();
        for partition in Partition::all(PARTITIONS) {
            connection.subscribe(partition, &[bus(partition)]).await.unwrap();
            assert!(publish(&connection, &mut events, partition).await);
            connection.unsubscribe(partition, &[bus(partition)]).await.unwrap();
            assert!(!publish(&connection, &mut events, partition).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_slot_is_reported_and_can_be_subscribed_again() {
        let network = network();
        let (connection, mut events) =
            network.endpoint(0, &ADDRESSES, true).connect().await.unwrap();
        let moved = Partition::LEASES;
        connection.subscribe(moved, &[bus(moved)]).await.unwrap();
        let key = format!("key{{{moved}}}");
        connection.query::<()>(moved, &command(&["SET", &key, "v"])).await.unwrap();
        network.begin_migration(moved.slot(), ("c", 3));
        // This key is still on the old server; the others have moved.
        let get = command(&["GET", &key]);
        assert_eq!(connection.query::<String>(moved, &get).await.unwrap(), "v");
        let missing = command(&["GET", &format!("other{{{moved}}}")]);
        assert_eq!(connection.query::<Option<String>>(moved, &missing).await.unwrap(), None);
        network.finish_migration(moved.slot(), ("c", 3), &[]);
        assert_eq!(events.next().await, LinkEvent::PartitionMoved(moved));
        assert_eq!(connection.query_in_order::<String>(moved, &get).await.unwrap(), "v");
        connection.subscribe(moved, &[bus(moved)]).await.unwrap();
        while !publish(&connection, &mut events, moved).await {}
    }
}
