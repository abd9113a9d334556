//! The servers of a Redis Cluster, and the partitions of each.
//!
//! The map of partitions to masters is checked each second. A partition is reported as moved if the
//! map has changed, a server answered with `MOVED`, or a server ended a subscription. A
//! subscription ends when its server leaves the map: a master that was emptied and became a replica
//! still accepts subscriptions, and publishes nothing.

use super::{
    client::{AbortOnDrop, Incoming},
    events::{LOST, LinkEvent, LinkEventSender, ServerId},
    server::{RedisServer, ServerConnector, ServerRequest, with_timeout},
    slots::{Redirection, SlotMap},
    stream::ServerAddress,
};
use crate::{backoff::Backoff, broker::redis::partition::Partition};
use futures_util::future::{join_all, select_ok, try_join_all};
use parking_lot::Mutex;
use redis::{Cmd, RedisError, RedisResult, Value, cmd};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OnceCell},
    time::{self, MissedTickBehavior, sleep},
};

/// The interval at which the map is checked.
pub(super) const REFRESH: Duration = Duration::from_secs(1);
/// The delay of a triggered refresh, so that simultaneous triggers cause one.
const COALESCE: Duration = Duration::from_millis(10);

/// Maximum number of redirections of a command. More in a row mean that servers contradict one
/// another.
const REDIRECTIONS_MAX: usize = 5;
/// The delays before a temporarily rejected command is sent again.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(20), max: Duration::from_millis(200), jitter: 0.0 };
/// Maximum number of pauses: a command is retried for about a second.
const RETRIES_MAX: u32 = 8;

/// The servers, with the task that checks the map.
#[derive(Debug)]
pub(super) struct RedisCluster {
    routing: Arc<ClusterRouter>,
    _task: AbortOnDrop,
}

#[derive(Debug)]
struct ClusterRouter {
    connector: ServerConnector,
    events: LinkEventSender,
    state: Mutex<RoutingState>,
    /// The number of servers opened so far.
    opened: AtomicU32,
    trigger: Arc<RefreshTrigger>,
}

#[derive(Debug)]
struct RoutingState {
    map: SlotMap,
    /// Servers by address, each opened when it is first needed.
    servers: BTreeMap<ServerAddress, Arc<OnceCell<Arc<RedisServer>>>>,
    /// Round-robin counter of the server that is polled next.
    next_server: usize,
}

/// Events that require a refresh of the map at once.
#[derive(Debug, Default)]
struct RefreshTrigger {
    changes: Mutex<MapChanges>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct MapChanges {
    moved: BTreeSet<Partition>,
    lost: BTreeSet<ServerAddress>,
}

impl RedisCluster {
    /// Connects to all masters. The map is that of the first of the seeds that answers.
    pub(super) async fn connect(
        opener: &ServerConnector,
        seeds: &[(String, u16)],
        events: LinkEventSender,
    ) -> RedisResult<Self> {
        let seeds = seeds.iter().map(|(host, port)| ServerAddress::Tcp(host.clone(), *port));
        let connecting = seeds.map(|seed| {
            Box::pin(async move {
                let client = opener.connect_one(&seed, |_| {}).await?;
                let reply = with_timeout(client.request(&slots())).await?;
                let map = SlotMap::from_reply(reply, &seed)
                    .ok_or_else(|| no_map("invalid reply to CLUSTER SLOTS"))?;
                match map.unassigned_slot() {
                    None => Ok(map),
                    Some(slot) => Err(no_map(&format!("no master serves the hash slot {slot}"))),
                }
            })
        });
        let (map, _) = select_ok(connecting).await?;
        let masters = map.masters();
        let state = Mutex::new(RoutingState { map, servers: BTreeMap::new(), next_server: 0 });
        let routing = Arc::new(ClusterRouter {
            connector: opener.clone(),
            events,
            state,
            opened: AtomicU32::new(0),
            trigger: Arc::default(),
        });
        try_join_all(masters.iter().map(|master| routing.server(master))).await?;
        let task = AbortOnDrop::spawn(Arc::clone(&routing).watch_map());
        Ok(Self { routing, _task: task })
    }

    /// Runs a request on the master of a partition.
    pub(super) async fn run(
        &self,
        partition: Partition,
        request: ServerRequest<'_>,
    ) -> RedisResult<Value> {
        let routing = &self.routing;
        let mut redirection = None;
        let (mut redirections, mut retries) = (0, 0);
        loop {
            let (address, is_asking) = match redirection.take() {
                Some(redirection) => redirection,
                None => (routing.master(partition)?, false),
            };
            let server = routing.server(&address).await?;
            let error = match server.run(request, is_asking).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            match Redirection::from_error(&error, &address) {
                // The server has ended the subscriptions itself.
                Some(Redirection::Moved(_) | Redirection::Ask(_))
                    if matches!(request, ServerRequest::Unsubscribe(_)) =>
                {
                    return Ok(Value::Nil);
                }
                Some(Redirection::Moved(to)) if redirections < REDIRECTIONS_MAX => {
                    redirections += 1;
                    routing.move_partition(partition, to.clone());
                    redirection = Some((to, false));
                }
                Some(Redirection::Ask(to)) if redirections < REDIRECTIONS_MAX => {
                    redirections += 1;
                    redirection = Some((to, true));
                }
                Some(Redirection::TryAgain) if retries < RETRIES_MAX => {
                    sleep(BACKOFF.delay(retries, 0.0)).await;
                    retries += 1;
                }
                Some(_) | None => return Err(error),
            }
        }
    }

    /// All masters.
    pub(super) async fn servers(&self) -> RedisResult<Vec<Arc<RedisServer>>> {
        let masters = self.routing.state.lock().map.masters();
        try_join_all(masters.iter().map(|master| self.routing.server(master))).await
    }
}

impl ClusterRouter {
    fn master(&self, partition: Partition) -> RedisResult<ServerAddress> {
        let master = self.state.lock().map.master(partition).cloned();
        master.ok_or_else(|| no_map(&format!("no master serves {partition}")))
    }

    /// The server at an address; connects if necessary.
    async fn server(&self, address: &ServerAddress) -> RedisResult<Arc<RedisServer>> {
        let cell = Arc::clone(self.state.lock().servers.entry(address.clone()).or_default());
        let opened = cell.get_or_try_init(|| async {
            let (trigger, at) = (Arc::clone(&self.trigger), address.clone());
            let on_commands = move |incoming| {
                if incoming == Incoming::Lost {
                    trigger.lost(&at);
                }
            };
            let id = ServerId(self.opened.fetch_add(1, Ordering::Relaxed));
            let (trigger, at, events) =
                (Arc::clone(&self.trigger), address.clone(), self.events.clone());
            let on_pubsub = move |incoming| match incoming {
                Incoming::Message { pubsub_channel, message } => {
                    events.push(LinkEvent::Message { from: id, pubsub_channel, message });
                }
                Incoming::Unsubscribed { pubsub_channel } => {
                    if let Some(partition) = partition_of(&pubsub_channel) {
                        trigger.moved(partition);
                    }
                }
                Incoming::Lost => trigger.lost(&at),
            };
            self.connector.connect_pair(id, address, on_commands, on_pubsub).await.map(Arc::new)
        });
        opened.await.cloned().inspect_err(|_| self.trigger.lost(address))
    }

    /// Moves a partition to the server of a `MOVED`.
    fn move_partition(&self, partition: Partition, to: ServerAddress) {
        let mut state = self.state.lock();
        if state.map.master(partition) != Some(&to) {
            state.map.set(partition, to);
            self.trigger.moved(partition);
        }
    }

    /// Updates the map as long as the link exists.
    async fn watch_map(self: Arc<Self>) {
        let mut ticks = time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_urgent = tokio::select! {
                biased;
                _ = ticks.tick() => false,
                () = self.trigger.notify.notified() => true,
            };
            let changed = if is_urgent {
                sleep(COALESCE).await;
                self.refresh().await
            } else {
                self.poll_map().await
            };
            let MapChanges { mut moved, lost } = std::mem::take(&mut *self.trigger.changes.lock());
            moved.extend(changed);
            for partition in moved {
                self.events.push(LinkEvent::PartitionMoved(partition));
            }
            for address in lost {
                let mut state = self.state.lock();
                state.servers.remove(&address);
                if state.map.masters().contains(&address) {
                    self.events.push(LinkEvent::Lost(LOST));
                }
            }
        }
    }

    /// Requests the map of one server, and that of all if it differs.
    async fn poll_map(&self) -> Vec<Partition> {
        let server = {
            let mut state = self.state.lock();
            state.next_server += 1;
            let servers = connected_servers(&state);
            servers.get(state.next_server % servers.len().max(1)).cloned()
        };
        let view = match server {
            Some(server) => slot_map_of(&server).await,
            None => None,
        };
        if view.as_ref() == Some(&self.state.lock().map) {
            return Vec::new();
        }
        self.refresh().await
    }

    /// Requests the map of all servers, and adopts that of the majority.
    async fn refresh(&self) -> Vec<Partition> {
        let servers = connected_servers(&self.state.lock());
        let views = join_all(servers.iter().map(|server| slot_map_of(server))).await;
        let views: Vec<SlotMap> = views.into_iter().flatten().collect();
        let mut state = self.state.lock();
        let changed = state.map.adopt_majority(&views);
        if !changed.is_empty() {
            let masters = state.map.masters();
            state.servers.retain(|address, _| masters.contains(address));
        }
        changed
    }
}

impl RefreshTrigger {
    fn moved(&self, partition: Partition) {
        self.changes.lock().moved.insert(partition);
        self.notify.notify_one();
    }

    fn lost(&self, address: &ServerAddress) {
        self.changes.lock().lost.insert(address.clone());
        self.notify.notify_one();
    }
}

fn connected_servers(state: &RoutingState) -> Vec<Arc<RedisServer>> {
    state.servers.values().filter_map(|cell| cell.get().cloned()).collect()
}

async fn slot_map_of(server: &RedisServer) -> Option<SlotMap> {
    let reply = with_timeout(server.request(&slots())).await.ok()?;
    SlotMap::from_reply(reply, &server.address)
}

fn slots() -> Cmd {
    let mut slots = cmd("CLUSTER");
    slots.arg("SLOTS");
    slots
}

/// The partition of a pub/sub channel, by the hash tag in its name.
fn partition_of(pubsub_channel: &[u8]) -> Option<Partition> {
    let name = str::from_utf8(pubsub_channel).ok()?;
    let (_, rest) = name.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    Partition::from_tag(tag)
}

fn no_map(why: &str) -> RedisError {
    io::Error::other(format!("the Redis Cluster can't be used: {why}")).into()
}
