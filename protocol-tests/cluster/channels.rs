//! `GET /channels` with many channels and many concurrent requests, while other channels are occupied and vacated.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{Api, Group, Listener, Monitor, Outcome, RECOVERY_MAX};
use kit::{Redis, Resp, Server, Settings, cluster_settings, eventually, metrics};

/// The length of the channel names. It is the maximum, so a few channels make the list as long as tens of thousands
/// with short names.
const NAME_LENGTH: usize = 1_000;
/// How many channels one client subscribes to.
const PER_CLIENT: usize = 1_000;
/// How many requests are concurrent.
const AT_ONCE: usize = 80;
/// How long a client may take to subscribe to all its channels.
const SUBSCRIBED: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    let settings = cluster_settings().app("max_channel_name_length", NAME_LENGTH);
    // The test subscribes faster than the limit allows.
    settings.connection("max_messages_per_second", 0)
}

fn long_name(number: usize) -> String {
    format!("{number:0>NAME_LENGTH$}")
}

/// A client that is subscribed to all these channels.
async fn occupant(node: &Server, names: impl IntoIterator<Item = String>) -> Listener {
    let listener = Listener::of(node).await;
    let mut count = 0;
    for name in names {
        listener.send_subscribe(&name);
        count += 1;
    }
    let acknowledged = "pusher_internal:subscription_succeeded";
    listener
        .until("all subscriptions are acknowledged", SUBSCRIBED, |entries| {
            let done = entries.iter().filter(|entry| entry.message(acknowledged, None).is_some());
            done.count() == count
        })
        .await;
    listener
}

/// The channels in the response of a node, `None` for status 503.
async fn listed(api: &mut Api, query: &[(&str, &str)]) -> Option<BTreeSet<String>> {
    let answer = api.get("channels", query).await.expect("the node answers");
    if answer.status == 503 {
        return None;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    Some(answer.body["channels"].as_object().expect("channels").keys().cloned().collect())
}

#[tokio::test]
async fn concurrent_requests_for_a_long_list_do_not_delay_publishes() {
    let group = Group::with(1, settings(), Redis::start().await).await;
    let mut occupants = Vec::new();
    for client in 0..2 {
        let names = (0..PER_CLIENT).map(|number| long_name(client * PER_CLIENT + number));
        occupants.push(occupant(&group.nodes[0], names).await);
    }
    let address = group.nodes[0].address;
    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish_until(address, Arc::clone(&is_over)));
    let mut requests = JoinSet::new();
    for _ in 0..AT_ONCE {
        requests.spawn(async move {
            let listed = listed(&mut Api::new(address), &[]).await;
            listed.map(|names| names.len())
        });
    }
    let answers = requests.join_all().await;
    is_over.store(true, Ordering::Relaxed);
    let published = publishing.await.expect("every publish was accepted");
    assert!(0 < published, "events were published meanwhile");
    let whole = answers.iter().filter(|names| **names == Some(2 * PER_CLIENT)).count();
    assert_eq!(whole, AT_ONCE, "{answers:?}");
    let lost = metrics(address).await.sum("campanile_broker_disconnects_total");
    assert!(lost < 0.5, "the link was lost {lost} times");
}

async fn publish_until(node: SocketAddr, is_over: Arc<AtomicBool>) -> usize {
    let (mut api, mut published) = (Api::new(node), 0);
    while !is_over.load(Ordering::Relaxed) {
        assert_eq!(api.publish("c", "e", "1").await, Outcome::Accepted);
        published += 1;
    }
    published
}

#[tokio::test]
async fn concurrent_requests_share_reads() {
    let group = Group::of(1).await;
    let names = (0..PER_CLIENT).map(|number| format!("c{number}"));
    let _occupant = occupant(&group.nodes[0], names).await;
    let address = group.nodes[0].address;
    let mut monitor = Monitor::start(&group.redis).await;
    let requests = async {
        let mut requests = JoinSet::new();
        for number in 0..AT_ONCE {
            requests.spawn(async move {
                let prefix = if number % 2 == 0 { "c" } else { "c1" };
                let query = [("filter_by_prefix", prefix), ("info", "subscription_count")];
                let names = listed(&mut Api::new(address), &query).await.expect("an answer");
                let expected = if number % 2 == 0 { PER_CLIENT } else { 111 };
                assert_eq!(names.len(), expected);
            });
        }
        requests.join_all().await;
    };
    // Each read serves all requests that have arrived by then. How many arrive during a read depends on the scheduler.
    monitor.commands_of(requests).await.are_at_most("lists", AT_ONCE / 2, 1);
}

#[tokio::test]
async fn a_permanently_occupied_channel_is_in_every_list_while_others_change() {
    let group = Group::with(2, settings(), Redis::start().await).await;
    let staying: BTreeSet<String> = (0..PER_CLIENT).map(long_name).collect();
    let _occupant = occupant(&group.nodes[0], staying.iter().cloned()).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let lists = Arc::new(AtomicUsize::new(0));
    let mut asking = JoinSet::new();
    for node in group.addresses().into_iter().cycle().take(6) {
        let (staying, is_over, lists) = (staying.clone(), Arc::clone(&is_over), Arc::clone(&lists));
        asking.spawn(async move {
            let mut api = Api::new(node);
            while !is_over.load(Ordering::Relaxed) {
                let names = listed(&mut api, &[]).await.expect("Redis answers");
                let missing = staying.difference(&names).count();
                assert_eq!(missing, 0, "channels missing of {}", staying.len());
                lists.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut api = Api::new(group.nodes[0].address);
    // Long enough for the hash to grow and shrink.
    for round in 0..4 {
        let visitor = Listener::of(&group.nodes[1]).await;
        let passing: Vec<String> =
            (0..400).map(|number| format!("visited-{round}-{number}")).collect();
        for channel in &passing {
            visitor.send_subscribe(channel);
        }
        let last = passing.last().expect("there are channels");
        visitor.receives("pusher_internal:subscription_succeeded", last, 1, SUBSCRIBED).await;
        // An acknowledged subscription is in every later response, also of a node that is already answering requests.
        let names = listed(&mut api, &[("filter_by_prefix", "visited-")]).await.expect("an answer");
        assert!(names.contains(last), "{last} is not among {} channels", names.len());
        assert!(
            names.iter().all(|name| name.starts_with("visited-")),
            "only channels with the prefix"
        );
        for channel in &passing {
            visitor.leave(channel);
        }
        visitor.ping_barrier().await;
    }
    is_over.store(true, Ordering::Relaxed);
    asking.join_all().await;
    assert!(4 < lists.load(Ordering::Relaxed), "lists were read throughout");
}

#[tokio::test]
async fn a_prefix_is_taken_literally_and_read_by_itself() {
    let group = Group::of(1).await;
    let names = ["a", "ab", "b", "presence-a", "private-a", "cache-a"];
    let occupant = occupant(&group.nodes[0], ["a", "ab", "b"].map(str::to_owned)).await;
    occupant.join("presence-a", "1").await;
    occupant.subscribe("private-a").await;
    occupant.subscribe("cache-a").await;
    let mut api = Api::new(group.nodes[0].address);
    let mut monitor = Monitor::start(&group.redis).await;
    for (prefix, expected) in [
        ("", 6),
        ("a", 2),
        ("p", 2),
        ("presence-", 1),
        ("presence-a", 1),
        ("presence-ab", 0),
        ("*", 0),
        ("?", 0),
        ("[ab]", 0),
        ("[^x]", 0),
        ("\\a", 0),
        ("a*", 0),
        ("\u{e9}", 0),
    ] {
        let found = listed(&mut api, &[("filter_by_prefix", prefix)]).await.expect("an answer");
        let matching = names.iter().filter(|name| name.starts_with(prefix));
        let matching: BTreeSet<String> = matching.map(|name| (*name).to_owned()).collect();
        assert_eq!((found, matching.len()), (matching, expected), "{prefix}");
    }
    let commands = monitor.since_last().await;
    let scans = commands.iter().filter(|line| line.contains("\"presence-*\"")).count();
    assert!(0 < scans, "the prefix is passed to Redis: {commands:?}");
}

#[tokio::test]
async fn no_list_is_incomplete_after_redis_was_flushed() {
    let group = Group::of(2).await;
    let names: BTreeSet<String> = (0..PER_CLIENT).map(|number| format!("c{number}")).collect();
    let _occupant = occupant(&group.nodes[0], names.iter().cloned()).await;
    let mut redis = group.redis.client().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut asking = JoinSet::new();
    for node in group.addresses() {
        let (names, is_over) = (names.clone(), Arc::clone(&is_over));
        asking.spawn(async move {
            let mut api = Api::new(node);
            while !is_over.load(Ordering::Relaxed) {
                // The response is 503 during the repair, or complete.
                if let Some(listed) = listed(&mut api, &[]).await {
                    assert_eq!(
                        names.difference(&listed).count(),
                        0,
                        "channels missing of {}",
                        names.len()
                    );
                }
                let answer = api.get("connections", &[]).await.expect("the node answers");
                if answer.status == 200 {
                    assert_eq!(answer.body["connections"], 1);
                }
            }
        });
    }
    for flush in ["FLUSHALL", "FLUSHDB", "FLUSHALL"] {
        redis.command(&[flush]).await;
        // A node has written its data again.
        eventually("Redis has data again", async || {
            redis.command(&["DBSIZE"]).await != Resp::Number(0)
        })
        .await;
        group.are_ready(2 * RECOVERY_MAX).await;
    }
    let mut api = Api::new(group.nodes[1].address);
    let start = Instant::now();
    // A node that has not noticed the last flush yet is ready.
    while listed(&mut api, &[]).await.as_ref() != Some(&names) {
        assert!(start.elapsed() < RECOVERY_MAX, "the list is complete");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    asking.join_all().await;
}
