//! The number of commands that nodes send to Redis, as counted by Redis.

use std::time::Duration;

use crate::support::{Api, C, Group, Listener, Monitor, Outcome, R};

#[tokio::test]
async fn a_publish_is_one_script_call() {
    let group = Group::of(2).await;
    let (a, b) = (Listener::of(&group.nodes[0]).await, Listener::of(&group.nodes[1]).await);
    for channel in [C, "cache-c"] {
        a.subscribe(channel).await;
        b.subscribe(channel).await;
    }
    let mut monitor = Monitor::start(&group.redis).await;
    for channel in [C, "cache-c", "without-subscribers"] {
        let mut api = Api::new(group.nodes[0].address);
        // The first publish may load the script.
        assert_eq!(api.publish(channel, "e", "0").await, Outcome::Accepted);
        let publishes = async {
            for number in 1..=100 {
                let outcome = api.publish(channel, "e", &number.to_string()).await;
                assert_eq!(outcome, Outcome::Accepted);
            }
        };
        let commands = monitor.commands_of(publishes).await;
        let index_updates = commands.rare_index_updates();
        commands.are_scripts(channel, 100 + index_updates, 2);
    }
    a.receives("e", C, 101, Duration::from_secs(5)).await;
    b.receives("e", "cache-c", 101, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn publishes_at_once_are_one_script_call_each_at_most() {
    let group = Group::of(2).await;
    let listener = Listener::of(&group.nodes[1]).await;
    listener.subscribe(C).await;
    let mut monitor = Monitor::start(&group.redis).await;
    group.nodes[0].publish(C, "e", "0").await;
    let address = group.nodes[0].address;
    let publishes = async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 1..=100 {
            tasks.spawn(async move {
                let outcome = Api::new(address).publish(C, "e", &number.to_string()).await;
                assert_eq!(outcome, Outcome::Accepted);
            });
        }
        tasks.join_all().await;
    };
    monitor.commands_of(publishes).await.are_at_most("publishes at once", 100, 2);
    listener.receives("e", C, 101, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_subscription_to_a_known_channel_is_one_script_call_and_so_is_its_end() {
    let group = Group::of(2).await;
    let mut listeners = Vec::new();
    for _ in 0..30 {
        listeners.push(Listener::of(&group.nodes[0]).await);
    }
    for (channel, is_presence) in [(C, false), ("private-c", false), (R, true)] {
        let first = Listener::of(&group.nodes[0]).await;
        let subscribe = async |listener: &Listener, user: &str| {
            if is_presence {
                listener.join(channel, user).await;
            } else {
                listener.subscribe(channel).await;
            }
        };
        subscribe(&first, "first").await;
        let mut monitor = Monitor::start(&group.redis).await;
        let all = async {
            for (number, listener) in listeners.iter().enumerate() {
                subscribe(listener, &number.to_string()).await;
            }
        };
        monitor.commands_of(all).await.are_scripts(channel, 30, 2);
        let leave = async {
            for listener in &listeners {
                listener.leave(channel);
            }
            let alone = async || {
                let reply = group.nodes[0].channel(channel, "").await;
                reply["occupied"] == true
            };
            assert!(alone().await);
            for listener in &listeners {
                listener.ping_barrier().await;
            }
        };
        monitor.commands_of(leave).await.are_at_most(channel, 31, 2);
    }
}

#[tokio::test]
async fn idle_nodes_send_two_commands_a_second_at_most() {
    let group = Group::of(2).await;
    let mut listeners = Vec::new();
    for number in 0..20 {
        let listener = Listener::of(&group.nodes[number % 2]).await;
        for channel in 0..50 {
            listener.subscribe(&format!("c{number}.{channel}")).await;
        }
        listener.join(R, &number.to_string()).await;
        listeners.push(listener);
    }
    let mut monitor = Monitor::start(&group.redis).await;
    // The duration of a round of comparisons.
    let idle = monitor.commands_of(tokio::time::sleep(Duration::from_secs(30))).await;
    idle.are_at_most("nothing happens", 0, 2);
}

#[tokio::test]
async fn a_query_of_the_http_api_is_one_command() {
    let group = Group::of(2).await;
    let listener = Listener::of(&group.nodes[0]).await;
    for number in 0..30 {
        listener.subscribe(&format!("c{number}")).await;
        listener.join(&format!("presence-{number}"), "1").await;
    }
    group.nodes[0].publish("cache-x", "e", "1").await;
    let mut monitor = Monitor::start(&group.redis).await;
    let prefix = ("filter_by_prefix", "presence-");
    let queries: [(&str, &[(&str, &str)]); 9] = [
        ("channels", &[]),
        ("channels", &[("info", "subscription_count")]),
        ("channels", &[prefix, ("info", "user_count")]),
        ("channels/c1", &[("info", "subscription_count")]),
        ("channels/presence-1", &[("info", "user_count")]),
        ("channels/cache-x", &[("info", "cache")]),
        ("channels/presence-1/users", &[]),
        ("channels/presence-1/users", &[("with_user_info", "1")]),
        ("connections", &[]),
    ];
    for (path, query) in queries {
        let mut api = Api::new(group.nodes[1].address);
        let read = async |api: &mut Api| {
            let response = api.get(path, query).await.expect("the node answers");
            assert_eq!(response.status, 200, "{response:?}");
        };
        read(&mut api).await;
        let asking = async {
            for _ in 0..20 {
                read(&mut api).await;
            }
        };
        monitor.commands_of(asking).await.are_at_most(&format!("{path} {query:?}"), 20, 2);
    }
}
