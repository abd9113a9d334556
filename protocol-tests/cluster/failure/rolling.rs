//! Graceful stops of nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    C, Group, Ledger, Listener, Outcome, R, RECOVERY_MAX, View, assert_history_valid,
    assert_view_everywhere, member, publish_from,
};
use kit::{KEY, Redis, Settings, cluster_settings};

fn with_grace() -> Settings {
    cluster_settings().server("shutdown_grace_s", 3)
}

/// The clients of a group whose nodes are replaced, by node, and those that were closed.
#[derive(Debug)]
pub(super) struct Clients {
    connected: Vec<Vec<(String, Listener)>>,
    finished: Vec<Listener>,
}

impl Clients {
    /// Four members of [`R`] on each node.
    pub(super) async fn of(group: &Group) -> Self {
        let mut connected = Vec::new();
        for (at, node) in group.nodes.iter().enumerate() {
            let mut here = Vec::new();
            for number in 0..4 {
                let user = format!("{at}-{number}");
                let listener = member(node, &user).await;
                here.push((user, listener));
            }
            connected.push(here);
        }
        Self { connected, finished: Vec::new() }
    }

    /// The connected users.
    pub(super) fn users(&self) -> Vec<String> {
        self.connected.iter().flatten().map(|(user, _)| user.clone()).collect()
    }

    /// All clients, those that were closed included.
    pub(super) fn all(self) -> Vec<Listener> {
        let connected = self.connected.into_iter().flatten().map(|(_, listener)| listener);
        self.finished.into_iter().chain(connected).collect()
    }
}

/// Replaces one node after the other by one with the settings of the group; closed clients reconnect to another node, and
/// events are published meanwhile.
pub(super) async fn replace_each(group: &mut Group, ledger: &Arc<Ledger>, clients: &mut Clients) {
    for _ in 0..group.nodes.len() {
        // The oldest node stops; a load balancer sends publishers and clients to the others.
        let publishing: Vec<_> =
            group.nodes[1..].iter().map(|node| publish_from(ledger, node.address, C)).collect();
        let mut old = group.nodes.remove(0);
        let leaving = clients.connected.remove(0);
        if let Some((_, first)) = leaving.first() {
            let seen = first.count("numbered", C);
            first.receives("numbered", C, seen + 10, RECOVERY_MAX).await;
        }
        old.signal("TERM");
        let mut moved = Vec::new();
        for (at, (_, listener)) in leaving.into_iter().enumerate() {
            let closed = "it is closed with 4200";
            listener.until(closed, Duration::from_secs(5), |_| listener.closed().is_some()).await;
            assert_eq!(listener.closed(), Some(4200), "{}", listener.tail(5));
            let user = format!("moved-{}", listener.socket_id);
            moved.push((user.clone(), member(&group.nodes[at % 2], &user).await));
            clients.finished.push(listener);
        }
        assert_eq!(old.process.exit_code().await, Some(0));
        group.grow().await;
        for publishing in publishing {
            publishing.stop().await;
        }
        clients.connected.push(Vec::new());
        for (at, client) in moved.into_iter().enumerate() {
            clients.connected[at % 2].push(client);
        }
    }
}

/// Asserts that no publish was rejected.
pub(super) fn assert_all_accepted(ledger: &Ledger) {
    let rejected: Vec<_> =
        ledger.all().into_iter().filter(|event| event.outcome != Outcome::Accepted).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
}

/// One node after the other is replaced; closed clients reconnect to another node.
#[tokio::test]
async fn a_rolling_restart_loses_nothing() {
    let mut group = Group::with(3, with_grace(), Redis::start().await).await;
    let ledger = Arc::new(Ledger::default());
    let mut clients = Clients::of(&group).await;
    replace_each(&mut group, &ledger, &mut clients).await;
    assert_all_accepted(&ledger);
    assert_history_valid(&ledger, &clients.all()).await;
}

/// A node that stops gracefully removes its members; the others need not wait for its lease to
/// expire.
#[tokio::test]
async fn a_graceful_stop_leaves_no_state() {
    let mut group = Group::with(2, with_grace(), Redis::start().await).await;
    let watcher = member(&group.nodes[0], "watcher").await;
    let leaving = [member(&group.nodes[1], "1").await, member(&group.nodes[1], "2").await];
    watcher.receives("pusher_internal:member_added", R, 2, RECOVERY_MAX).await;
    let mut old = group.nodes.remove(1);
    old.signal("TERM");
    assert_eq!(old.process.exit_code().await, Some(0));
    let ended = Instant::now();
    let truth = View::default().with_count(C, 1).with_users(R, &["watcher"]).with_connections(1);
    assert_view_everywhere(&group.addresses(), Duration::from_secs(5), &truth).await;
    assert!(ended.elapsed() < Duration::from_secs(6), "less than node_timeout_ms");
    watcher.receives("pusher_internal:member_removed", R, 2, RECOVERY_MAX).await;
    for listener in &leaving {
        assert_eq!(listener.closed(), Some(4200), "{}", listener.tail(5));
    }
    watcher.ping_barrier().await;
    assert_eq!(watcher.count("pusher_internal:member_removed", R), 2, "{}", watcher.tail(20));
}

/// A node that stops just after it has joined sends its clients to the others, whose heartbeats it has not received yet.
#[tokio::test]
async fn a_node_that_stops_as_soon_as_it_has_joined_closes_with_4200() {
    let mut group = Group::with(1, with_grace(), Redis::start().await).await;
    for _ in 0..10 {
        group.grow().await;
        let client = member(&group.nodes[1], "1").await;
        let mut old = group.nodes.remove(1);
        old.signal("TERM");
        assert_eq!(old.process.exit_code().await, Some(0));
        assert_eq!(client.closed(), Some(4200), "{}", client.tail(5));
    }
}

/// Nodes that shut down together do not send their clients to one another.
#[tokio::test]
async fn nodes_that_drain_at_once_close_with_4100() {
    let mut group = Group::with(3, with_grace(), Redis::start().await).await;
    let mut clients = Vec::new();
    for (at, node) in group.nodes.iter().enumerate() {
        clients.push(member(node, &format!("{at}-0")).await);
        clients.push(member(node, &format!("{at}-1")).await);
    }
    for node in &group.nodes {
        node.signal("TERM");
    }
    for client in &clients {
        client.until("it is closed", RECOVERY_MAX, |_| client.closed().is_some()).await;
        assert_eq!(client.closed(), Some(4100), "{}", client.tail(5));
    }
    for node in &mut group.nodes {
        assert_eq!(node.process.exit_code().await, Some(0));
    }
}

/// If the other node shuts down as well, the remaining clients are not sent to it.
#[tokio::test]
async fn a_node_may_drain_after_another_relied_on_it() {
    let settings = cluster_settings().server("shutdown_grace_s", 20).server("shards", 1);
    let mut group = Group::with(2, settings, Redis::start().await).await;
    let mut clients = Vec::new();
    for user in 0..60 {
        clients.push(member(&group.nodes[0], &user.to_string()).await);
    }
    group.nodes[0].signal("TERM");
    clients[0].until("the first is closed", RECOVERY_MAX, |_| clients[0].closed().is_some()).await;
    group.nodes[0].open(&format!("/app/{KEY}?protocol=7")).await.rejected(4100).await;
    group.nodes[1].signal("TERM");
    for client in &clients {
        client.until("it is closed", RECOVERY_MAX, |_| client.closed().is_some()).await;
    }
    assert_eq!(clients[0].closed(), Some(4200));
    let early = clients.iter().filter(|client| client.closed() == Some(4200)).count();
    let late = clients.iter().filter(|client| client.closed() == Some(4100)).count();
    assert!(early + late == 60 && early < 50, "{early} with 4200, {late} with 4100");
    for node in &mut group.nodes {
        assert_eq!(node.process.exit_code().await, Some(0));
    }
}

/// A node that is stopped while Redis is unreachable exits without waiting for it.
#[tokio::test]
async fn a_node_ends_in_time_without_redis() {
    let mut group = Group::with(1, with_grace(), Redis::start().await).await;
    let listener = member(&group.nodes[0], "1").await;
    group.redis.pause();
    let node = &mut group.nodes[0];
    node.signal("TERM");
    let start = Instant::now();
    let code = node.process.exit_code().await;
    assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(matches!(code, Some(0 | 1)), "the node exits by itself: {code:?}");
    listener.until("it is closed", RECOVERY_MAX, |_| listener.closed().is_some()).await;
}
