use super::{
    PATIENCE, connect, echo, eventually,
    fake::{Fake, bulk, push, slots},
    next, receives_nothing,
};
use crate::broker::redis::{
    link::{LinkEvent, LinkEvents, RedisConnection, routing::REFRESH},
    partition::{PARTITIONS, Partition},
};
use redis::RedisResult;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::timeout;

const LAST: u16 = 16_383;

/// Starts servers that agree on a slot map, which divides the slots evenly among the first ones.
async fn servers(count: usize) -> Vec<Fake> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Fake::start().await);
    }
    servers
}

fn ports<const N: usize>(fakes: &[Fake]) -> [u16; N] {
    std::array::from_fn(|at| fakes[at].port)
}

/// Sets a server's slot map, and its replies to some commands.
fn say(
    fake: &Fake,
    map: &[(u16, u16, u16)],
    reply: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) {
    let map = slots(map);
    fake.reply(move |line| if line == "CLUSTER SLOTS" { Some(map.clone()) } else { reply(line) });
}

async fn connected(seeds: &[&Fake]) -> (RedisConnection, LinkEvents) {
    let seeds: Vec<String> = seeds.iter().map(|fake| format!("127.0.0.1:{}", fake.port)).collect();
    connect(&format!("redis+cluster://{}", seeds.join(","))).await.unwrap()
}

fn partition(number: usize) -> Partition {
    Partition::all(PARTITIONS).nth(number).unwrap()
}

async fn ask(connection: &RedisConnection, partition: Partition) -> RedisResult<String> {
    let command = echo("a");
    timeout(PATIENCE, connection.query(partition, &command)).await.expect("a reply")
}

/// Receives the partitions that are reported as moved, and asserts that nothing else is reported.
async fn moved(events: &mut LinkEvents, count: usize) -> BTreeSet<Partition> {
    let mut moved = BTreeSet::new();
    for _ in 0..count {
        let LinkEvent::PartitionMoved(partition) = next(events).await else {
            panic!("another push than a moved partition")
        };
        moved.insert(partition);
    }
    receives_nothing(events, 2 * REFRESH).await;
    assert_eq!(moved.len(), count, "each is reported once");
    moved
}

/// The slots of two masters, half each.
fn halves(fakes: &[Fake]) -> [(u16, u16, u16); 2] {
    let [one, two] = ports(fakes);
    [(0, 8_191, one), (8_192, LAST, two)]
}

/// Two masters, each with half of the slots.
async fn two_masters() -> Vec<Fake> {
    let fakes = servers(2).await;
    for fake in &fakes {
        say(fake, &halves(&fakes), |_| None);
    }
    fakes
}

#[tokio::test]
async fn each_partition_is_queried_on_its_master() {
    let fakes = two_masters().await;
    let (connection, mut events) = connected(&[&fakes[1]]).await;
    for partition in Partition::all(PARTITIONS) {
        assert_eq!(ask(&connection, partition).await.unwrap(), "ECHO a");
        let command = echo("b");
        connection.query_in_order::<String>(partition, &command).await.unwrap();
        connection.subscribe(partition, &[Arc::from("x")]).await.unwrap();
    }
    for fake in &fakes {
        assert_eq!(fake.seen("ECHO"), 256);
        assert_eq!(fake.seen("SSUBSCRIBE"), 128);
    }
    receives_nothing(&mut events, 2 * REFRESH).await;
}

#[tokio::test]
async fn a_message_names_the_server_of_the_subscription() {
    let fakes = two_masters().await;
    let (connection, mut events) = connected(&[&fakes[0]]).await;
    let mut servers = Vec::new();
    for fake in &fakes {
        let is_its = |partition: &Partition| {
            halves(&fakes).iter().any(|(first, last, port)| {
                *port == fake.port && (*first..=*last).contains(&partition.slot())
            })
        };
        let partition = Partition::all(PARTITIONS).find(is_its).unwrap();
        let pubsub_channels = [Arc::from("x"), Arc::from("y")];
        let servers_of_channels = connection.subscribe(partition, &pubsub_channels).await.unwrap();
        assert_eq!(servers_of_channels.len(), 2, "one for each pub/sub channel");
        assert_eq!(servers_of_channels[0], servers_of_channels[1]);
        fake.push(&push(&["smessage", "x", "hello"]));
        let (pubsub_channel, message) = (b"x".to_vec(), b"hello".to_vec());
        assert_eq!(
            next(&mut events).await,
            LinkEvent::Message { from: servers_of_channels[0], pubsub_channel, message }
        );
        servers.push(servers_of_channels[0]);
    }
    assert_ne!(servers[0], servers[1]);
}

#[tokio::test]
async fn a_map_with_a_gap_is_not_used() {
    let fake = Fake::start().await;
    say(&fake, &[(0, 7_935, fake.port), (8_064, LAST, fake.port)], |_| None);
    let error = connect(&format!("redis+cluster://127.0.0.1:{}", fake.port)).await.unwrap_err();
    let slot = partition(124).slot();
    assert!(error.to_string().contains(&format!("the hash slot {slot}")), "{error}");
}

#[tokio::test]
async fn a_moved_partition_is_followed_at_once_and_reported_once() {
    let fakes = servers(2).await;
    let [one, two] = ports(&fakes);
    let before = [(0, 8_191, one), (8_192, LAST, two)];
    let slot = partition(3).slot();
    let reject = move |line: &str| {
        line.starts_with("ECHO").then(|| format!("-MOVED {slot} 127.0.0.1:{two}\r\n"))
    };
    say(&fakes[0], &before, reject);
    say(&fakes[1], &before, |_| None);
    let (connection, mut events) = connected(&[&fakes[0]]).await;
    // From now on both servers know the new map.
    let after = [(0, slot - 1, one), (slot, slot, two), (slot + 1, 8_191, one), (8_192, LAST, two)];
    say(&fakes[0], &after, reject);
    say(&fakes[1], &after, |_| None);
    for _ in 0..10 {
        assert_eq!(ask(&connection, partition(3)).await.unwrap(), "ECHO a");
    }
    assert_eq!((fakes[0].seen("ECHO"), fakes[1].seen("ECHO")), (1, 10));
    assert_eq!(moved(&mut events, 1).await, BTreeSet::from([partition(3)]));
}

#[tokio::test]
async fn a_loop_of_redirections_ends_with_an_error() {
    let fakes = servers(2).await;
    let [one, two] = ports(&fakes);
    let map = [(0, LAST, one)];
    say(&fakes[0], &map, move |line| {
        line.starts_with("ECHO").then(|| format!("-MOVED 0 :{two}\r\n"))
    });
    say(&fakes[1], &map, move |line| {
        line.starts_with("ECHO").then(|| format!("-MOVED 0 :{one}\r\n"))
    });
    let (connection, _pushes) = connected(&[&fakes[0]]).await;
    assert_eq!(ask(&connection, partition(0)).await.unwrap_err().code(), Some("MOVED"));
    assert_eq!(fakes[0].seen("ECHO") + fakes[1].seen("ECHO"), 6);
}

#[tokio::test]
async fn a_loop_of_questions_at_the_other_server_ends_with_an_error() {
    let fakes = servers(2).await;
    let [one, two] = ports(&fakes);
    let map = [(0, LAST, one)];
    for (fake, other) in [(&fakes[0], two), (&fakes[1], one)] {
        say(fake, &map, move |line| {
            line.starts_with("ECHO").then(|| format!("-ASK 0 :{other}\r\n"))
        });
    }
    let (connection, _pushes) = connected(&[&fakes[0]]).await;
    assert_eq!(ask(&connection, partition(0)).await.unwrap_err().code(), Some("ASK"));
    assert_eq!(fakes[0].seen("ECHO") + fakes[1].seen("ECHO"), 6);
}

#[tokio::test]
async fn a_migrating_key_is_queried_on_the_other_server() {
    let fakes = servers(2).await;
    let [one, two] = ports(&fakes);
    let map = [(0, LAST, one)];
    say(&fakes[0], &map, move |line| {
        line.starts_with("ECHO").then(|| format!("-ASK 0 127.0.0.1:{two}\r\n"))
    });
    say(&fakes[1], &map, |_| None);
    let (connection, mut events) = connected(&[&fakes[0]]).await;
    for count in 1..=3 {
        assert_eq!(ask(&connection, partition(0)).await.unwrap(), "ECHO a");
        assert_eq!((fakes[0].seen("ECHO"), fakes[1].seen("ASKING")), (count, count));
    }
    receives_nothing(&mut events, Duration::from_millis(50)).await;
}

#[tokio::test]
async fn temporary_errors_are_retried_for_a_second() {
    for rejection in ["TRYAGAIN x", "CLUSTERDOWN x", "LOADING x", "MASTERDOWN x"] {
        let fake = Fake::start().await;
        let map = [(0, LAST, fake.port)];
        let left = std::sync::Mutex::new(2);
        say(&fake, &map, move |line| {
            let mut left = left.lock().unwrap();
            let is_rejected = line.starts_with("ECHO") && 0 < *left;
            *left -= i32::from(is_rejected);
            is_rejected.then(|| format!("-{rejection}\r\n"))
        });
        let (connection, _pushes) = connected(&[&fake]).await;
        assert_eq!(ask(&connection, partition(0)).await.unwrap(), "ECHO a");
        assert_eq!(fake.seen("ECHO"), 3);
        say(&fake, &map, move |line| line.starts_with("ECHO").then(|| format!("-{rejection}\r\n")));
        let start = std::time::Instant::now();
        let error = ask(&connection, partition(0)).await.unwrap_err();
        assert_eq!(error.code(), rejection.split(' ').next());
        let waited = start.elapsed();
        assert!(
            Duration::from_millis(500) < waited && waited < Duration::from_secs(3),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn other_errors_are_returned() {
    let fake = Fake::start().await;
    say(&fake, &[(0, LAST, fake.port)], |line| {
        line.starts_with("ECHO").then(|| "-READONLY x\r\n".to_owned())
    });
    let (connection, _pushes) = connected(&[&fake]).await;
    assert_eq!(ask(&connection, partition(0)).await.unwrap_err().code(), Some("READONLY"));
    assert_eq!(fake.seen("ECHO"), 1);
}

/// A slotless master after a reshard: it has become a replica, which accepts subscriptions.
#[tokio::test]
async fn a_running_master_that_is_off_the_map_is_not_used() {
    let fakes = servers(3).await;
    let [one, two, three] = ports(&fakes);
    let before = [(0, 5_000, one), (5_001, 10_000, two), (10_001, LAST, three)];
    for fake in &fakes {
        say(fake, &before, |_| None);
    }
    let (connection, mut events) = connected(&[&fakes[0]]).await;
    let emptied: Vec<Partition> =
        Partition::all(PARTITIONS).filter(|it| (5_001..=10_000).contains(&it.slot())).collect();
    let after = [(0, 10_000, one), (10_001, LAST, three)];
    for fake in &fakes {
        say(fake, &after, |_| None);
    }
    let reported = moved(&mut events, emptied.len()).await;
    assert_eq!(reported, emptied.iter().copied().collect());
    for partition in &emptied {
        connection.subscribe(*partition, &[Arc::from("x")]).await.unwrap();
    }
    assert_eq!((fakes[0].seen("SSUBSCRIBE"), fakes[1].seen("SSUBSCRIBE")), (emptied.len(), 0));
    // The link does not need the replica.
    fakes[1].hang_up();
    receives_nothing(&mut events, 2 * REFRESH).await;
}

#[tokio::test]
async fn an_outdated_map_of_one_server_is_ignored() {
    let fakes = servers(3).await;
    let [one, two, three] = ports(&fakes);
    let map = [(0, 5_000, one), (5_001, 10_000, two), (10_001, LAST, three)];
    for fake in &fakes {
        say(fake, &map, |_| None);
    }
    let (connection, mut events) = connected(&[&fakes[0]]).await;
    say(&fakes[2], &[(0, LAST, three)], |_| None);
    receives_nothing(&mut events, 5 * REFRESH).await;
    ask(&connection, partition(0)).await.unwrap();
    assert_eq!(fakes[2].seen("ECHO"), 0);
}

#[tokio::test]
async fn a_subscription_that_a_server_ends_is_reported_for_its_partition() {
    let fake = Fake::start().await;
    say(&fake, &[(0, LAST, fake.port)], |_| None);
    let (connection, mut events) = connected(&[&fake]).await;
    let pubsub_channels: Vec<Arc<str>> =
        ["a", "b"].map(|name| format!("x:c{{{}}}{name}", partition(9)).into()).into();
    connection.subscribe(partition(9), &pubsub_channels).await.unwrap();
    let both: Vec<String> = pubsub_channels
        .iter()
        .map(|pubsub_channel| push(&["sunsubscribe", pubsub_channel]))
        .collect();
    fake.push(&both.concat());
    assert_eq!(moved(&mut events, 1).await, BTreeSet::from([partition(9)]));
    assert_eq!(ask(&connection, partition(9)).await.unwrap(), "ECHO a");
}

#[tokio::test]
async fn a_lost_master_ends_the_link_unless_it_is_off_the_map() {
    let fakes = two_masters().await;
    let (_connection, mut events) = connected(&[&fakes[0]]).await;
    fakes[1].hang_up();
    assert!(matches!(next(&mut events).await, LinkEvent::Lost(_)));

    let (_connection, mut events) = connected(&[&fakes[0]]).await;
    let [one, _] = ports(&fakes);
    say(&fakes[0], &[(0, LAST, one)], |_| None);
    fakes[1].hang_up();
    assert_eq!(moved(&mut events, 128).await.len(), 128);
}

#[tokio::test]
async fn connecting_needs_one_of_the_seeds_and_each_master() {
    let mut fakes = servers(3).await;
    let [one, two, _] = ports(&fakes);
    fakes[2].stop().await;
    let map = [(0, 8_191, one), (8_192, LAST, two)];
    for fake in &fakes[..2] {
        say(fake, &map, |_| None);
    }
    drop(connected(&[&fakes[2], &fakes[1]]).await);
    fakes[1].stop().await;
    let error = connect(&format!("redis+cluster://127.0.0.1:{one}")).await.unwrap_err();
    assert!(error.is_connection_refusal(), "{error}");
}

#[tokio::test]
async fn the_link_ends_with_its_last_user() {
    let fake = Fake::start().await;
    say(&fake, &[(0, LAST, fake.port)], |line| (line == "INFO memory").then(|| bulk("")));
    let (connection, mut events) = connected(&[&fake]).await;
    drop(connection.clone());
    assert_eq!(connection.memory_warning().await, None);
    let requested_at = fake.seen("CLUSTER SLOTS");
    eventually("the map is requested", || requested_at < fake.seen("CLUSTER SLOTS")).await;
    drop(connection);
    while next(&mut events).await != LinkEvent::Lost(super::super::LOST) {}
    let requested_at = fake.seen("CLUSTER SLOTS");
    tokio::time::sleep(2 * REFRESH).await;
    assert_eq!(fake.seen("CLUSTER SLOTS"), requested_at);
}

#[tokio::test]
async fn a_silent_master_ends_the_link() {
    let fakes = two_masters().await;
    let (_connection, mut events) = connected(&[&fakes[0]]).await;
    // The slot map is requested on the other connection.
    say(&fakes[1], &halves(&fakes), |line| line.starts_with("PING").then(String::new));
    assert!(matches!(next(&mut events).await, LinkEvent::Lost(_)));
}

#[tokio::test]
async fn an_unsubscription_follows_no_redirection() {
    for rejection in ["MOVED", "ASK"] {
        let fakes = servers(2).await;
        let [one, two] = ports(&fakes);
        say(&fakes[1], &[(0, LAST, one)], |_| None);
        say(&fakes[0], &[(0, LAST, one)], move |line| {
            let is_rejected = line.starts_with("SUNSUBSCRIBE");
            is_rejected.then(|| format!("-{rejection} 1 127.0.0.1:{two}\r\n"))
        });
        let (connection, mut events) = connected(&[&fakes[0]]).await;
        connection.unsubscribe(partition(1), &[Arc::from("x")]).await.unwrap();
        assert_eq!(fakes[1].seen("SUNSUBSCRIBE"), 0);
        receives_nothing(&mut events, Duration::from_millis(50)).await;
    }
}
