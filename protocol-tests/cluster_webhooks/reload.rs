//! Webhooks that are changed by reloads, node by node.

use crate::group::{Group, is_ready, received, until, webhooks};
use kit::webhook_receiver::{WebhookReceiver, of_channel};
use kit::{LinkFault, Proxy, Redis, Settings, quoted};
use std::collections::BTreeMap;
use std::time::Duration;

const OCCUPIED: &str = r#"["channel_occupied"]"#;

async fn reload(group: &Group, settings: &Settings) {
    for at in 0..group.nodes.len() {
        reload_one(group, at, settings).await;
    }
}

async fn reload_one(group: &Group, at: usize, settings: &Settings) {
    let settings = settings.clone().section("redis", "url", quoted(&group.redis[0].url()));
    let report = group.nodes[at].reload(&settings).await;
    assert!(report.contains(" INFO "), "{report}");
}

#[tokio::test]
async fn webhooks_receive_events_while_they_are_configured() {
    let (mut one, mut two) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let group = Group::of(2, webhooks(&[(&one, OCCUPIED)])).await;
    let (mut a, mut b) = (group.client(0).await, group.client(1).await);
    a.subscribe("a").await;
    assert_eq!(received(&mut one, 1).await, [of_channel("channel_occupied", "a")]);
    reload(&group, &webhooks(&[(&two, OCCUPIED), (&one, OCCUPIED)])).await;
    b.subscribe("b").await;
    for receiver in [&mut one, &mut two] {
        assert_eq!(received(receiver, 1).await, [of_channel("channel_occupied", "b")]);
    }
    reload(&group, &webhooks(&[(&two, OCCUPIED)])).await;
    a.subscribe("c").await;
    assert_eq!(received(&mut two, 1).await, [of_channel("channel_occupied", "c")]);
    assert_eq!((one.count(), two.count()), (one.taken(), two.taken()), "no endpoint received more");
}

/// The delivering node's requests to Redis are held while the nodes reload, and delivered after an event that follows
/// the reload was logged: the node reads that event although its request was older than the reload.
#[tokio::test]
async fn an_event_after_a_reload_is_sent_with_the_new_settings_although_its_node_asked_before() {
    let (mut one, mut two) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let redis = Redis::start().await;
    let proxy = Proxy::in_front_of(redis.address()).await;
    let with = |receiver: &WebhookReceiver, url: String| {
        webhooks(&[(receiver, OCCUPIED)]).section("redis", "url", quoted(&url))
    };
    let delivering = with(&one, proxy.url()).start_node().await;
    let mut client = delivering.client().await;
    client.subscribe("a").await;
    assert_eq!(received(&mut one, 1).await, [of_channel("channel_occupied", "a")]);
    let other = with(&one, redis.url()).start_node().await;
    until("both nodes are ready", async || is_ready(&other).await).await;
    let mut client = other.client().await;
    for (round, channel) in ["b", "c", "d"].into_iter().enumerate() {
        let is_even = round % 2 == 0;
        let (receiver, unchanged) = if is_even { (&mut two, &one) } else { (&mut one, &two) };
        proxy.set(LinkFault::HoldToRedis);
        // The node reads the log every 1.5 s.
        tokio::time::sleep(Duration::from_millis(1_800)).await;
        delivering.reload(&with(receiver, proxy.url())).await;
        other.reload(&with(receiver, redis.url())).await;
        client.subscribe(channel).await;
        proxy.set(LinkFault::None);
        assert_eq!(received(receiver, 1).await, [of_channel("channel_occupied", channel)]);
        assert_eq!(unchanged.count(), unchanged.taken());
    }
}

#[tokio::test]
async fn an_app_that_gets_its_first_webhook_shares_it_with_the_other_nodes() {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::of(2, webhooks(&[])).await;
    let (mut a, mut b) = (group.client(0).await, group.client(1).await);
    reload(&group, &webhooks(&[(&receiver, OCCUPIED)])).await;
    for (client, channel) in [(&mut a, "a"), (&mut b, "b")] {
        client.subscribe(channel).await;
        assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", channel)]);
    }
    group.leader().await;
}

#[tokio::test]
async fn a_node_without_webhooks_leaves_the_delivery_to_others() {
    let mut receiver = WebhookReceiver::new().await;
    let group = Group::of(2, webhooks(&[(&receiver, OCCUPIED)])).await;
    let leader = group.leader().await;
    let other = 1 - leader;
    reload_one(&group, leader, &webhooks(&[])).await;
    let mut client = group.client(other).await;
    client.subscribe("a").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "a")]);
    assert_eq!(group.leader().await, other);
}

#[tokio::test]
async fn repeated_reloads_lose_nothing_and_duplicate_nothing() {
    let (mut receiver, other) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let settings = [
        webhooks(&[(&receiver, OCCUPIED)]),
        webhooks(&[(&other, OCCUPIED), (&receiver, OCCUPIED)]),
    ];
    let group = Group::of(2, settings[0].clone()).await;
    let (mut a, mut b) = (group.client(0).await, group.client(1).await);
    let mut expected = BTreeMap::new();
    for turn in 0..6 {
        for number in 0..20 {
            let channel = format!("{turn}-{number}");
            let client = if number % 2 == 0 { &mut a } else { &mut b };
            client.subscribe(&channel).await;
            expected.insert(channel, 1);
        }
        reload(&group, &settings[(turn + 1) % 2]).await;
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    while counts.values().sum::<usize>() < expected.len() {
        for event in receiver.next().await.events() {
            *counts.entry(event["channel"].as_str().expect("a name").to_owned()).or_default() += 1;
        }
    }
    assert_eq!(counts, expected);
    // The next event is delivered next.
    a.subscribe("last").await;
    assert_eq!(received(&mut receiver, 1).await, [of_channel("channel_occupied", "last")]);
}
