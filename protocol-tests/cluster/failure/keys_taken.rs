//! Keys and fields are deleted, evicted or overwritten. All are restored within a round of comparisons, and nothing is
//! sent to clients.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{C, Group, Listener, R, RECOVERY_MAX, View, assert_view_everywhere, member};
use kit::Settings;
use kit::webhook_receiver::WebhookReceiver;
use kit::{Redis, RedisClient, cluster_settings};

const NODE_TIMEOUT: Duration = Duration::from_secs(3);
/// The duration of a round of comparisons and of the repair of all differences: 30 s, and the rest for busy machines.
const ROUND: Duration = Duration::from_secs(45);
/// Longer than the delay after which departures are announced.
const ANNOUNCED: Duration = Duration::from_secs(5);
const CHANNELS: usize = 12;
/// Changes to the fields of hashes: one for the hashes of each channel.
const FIELDS: [Way; 9] = [
    Way::Field("t"),
    Way::Field("c"),
    Way::Field("n:"),
    Way::Field("u:"),
    Way::Field("m:"),
    Way::Field("e"),
    Way::Value("t", "7"),
    Way::Value("c", "9"),
    Way::Value("n:", "5"),
];

/// A way to remove or overwrite part of a hash.
#[derive(Clone, Copy, Debug)]
enum Way {
    Delete,
    Unlink,
    OtherType,
    /// Deletes the fields with this prefix.
    Field(&'static str),
    /// Sets the first field with this prefix.
    Value(&'static str, &'static str),
}

#[tokio::test]
async fn hashes_of_channels_are_restored_silently() {
    let taken = Taken::start().await;
    let put_back = taken.assert_restored(async |redis| {
        for (at, way) in [Way::Delete, Way::Unlink, Way::OtherType].into_iter().cycle().enumerate()
        {
            if at == CHANNELS {
                return;
            }
            for channel in [format!("c{at}"), format!("presence-{at}")] {
                let key = key_of(redis, &channel).await;
                way.take(redis, &key).await;
            }
        }
    });
    put_back.await;
}

#[tokio::test]
async fn hashes_of_users_connections_and_indexes_are_restored_silently() {
    let taken = Taken::start().await;
    let put_back = taken.assert_restored(async |redis| {
        for pattern in ["*:u{*", "*:n{*", "*:i{*", "*:j{*"] {
            delete(redis, pattern).await;
        }
    });
    put_back.await;
}

#[tokio::test]
async fn lists_and_entries_of_indexes_are_restored_silently() {
    let taken = Taken::start().await;
    let put_back = taken.assert_restored(async |redis| {
        delete(redis, "*:topics{*").await;
        for index in redis.command(&["KEYS", "*:i{*"]).await.texts() {
            let fields = redis.command(&["HKEYS", &index]).await.texts();
            for (at, field) in fields.iter().enumerate() {
                match at % 3 {
                    0 => redis.command(&["HDEL", &index, field]).await,
                    1 => redis.command(&["HSET", &index, field, "77 8"]).await,
                    _ => continue,
                };
            }
            redis.command(&["HSET", &index, "unknown-channel", "5 0"]).await;
        }
    });
    put_back.await;
}

/// A total, or the part of a node, is overwritten. Redis can't determine which of them is right, so a removal and a new
/// addition of a member may be sent.
#[tokio::test]
async fn fields_and_values_of_hashes_are_corrected() {
    let taken = Taken::start().await;
    let mut redis = taken.group.redis.client().await;
    let before = held(&mut redis).await;
    for (at, way) in FIELDS.into_iter().enumerate() {
        for channel in [format!("c{at}"), format!("presence-{at}")] {
            let key = key_of(&mut redis, &channel).await;
            way.take(&mut redis, &key).await;
        }
    }
    // Contributions of a node that never existed.
    let key = key_of(&mut redis, "presence-11").await;
    redis.command(&["HSET", &key, "n:ffffff.1", "5", "u:ffffff.1:ghost", ""]).await;
    redis.command(&["HSET", &key, "m:ghost", "1 {}", "t", "7", "c", "3"]).await;
    taken.holds_again(&mut redis, &before).await;
    for listener in &taken.listeners {
        listener.ping_barrier().await;
        assert_eq!(listener.closed(), None, "{}", listener.tail(9));
    }
}

/// Loss of the registry is handled like a flush of all data.
#[tokio::test]
async fn a_deleted_registry_is_restored_silently() {
    let taken = Taken::start().await;
    let put_back = taken.assert_restored(async |redis| {
        for pattern in ["*nodes{*", "*{nodes}*"] {
            delete(redis, pattern).await;
        }
    });
    put_back.await;
}

/// Other nodes must clean up after the node without the list of its topics.
#[tokio::test]
async fn the_members_of_a_dead_node_whose_list_was_deleted_are_removed() {
    let mut group = Group::with(2, plain(), Redis::start().await).await;
    let watcher = member(&group.nodes[0], "watcher").await;
    let dead = member(&group.nodes[1], "dead").await;
    dead.subscribe("only-there").await;
    dead.join("presence-only-there", "dead").await;
    dead.sign_in(&json!({ "id": "dead" }));
    dead.until("the client is signed in", RECOVERY_MAX, |received| {
        received.iter().any(|entry| entry.message("pusher:signin_success", None).is_some())
    })
    .await;
    watcher.receives("pusher_internal:member_added", R, 1, RECOVERY_MAX).await;
    group.kill(1).await;
    let mut redis = group.redis.client().await;
    delete(&mut redis, "*:topics{*").await;
    let truth = View::default().with_count(C, 1).with_users(R, &["watcher"]).with_connections(1);
    assert_view_everywhere(&group.addresses(), NODE_TIMEOUT + ROUND, &truth).await;
    watcher.receives("pusher_internal:member_removed", R, 1, RECOVERY_MAX).await;
    let start = Instant::now();
    while !redis.command(&["KEYS", "*:u{*dead*"]).await.texts().is_empty() {
        // The hash of a user is kept for a minute after the last connection.
        let users = redis.command(&["KEYS", "*:u{*dead*"]).await.texts();
        let total = redis.command(&["HGET", &users[0], "t"]).await;
        if total.text() == "0" {
            break;
        }
        assert!(start.elapsed() < ROUND, "the user remains: {total:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn plain() -> Settings {
    cluster_settings().section("redis", "node_timeout_ms", NODE_TIMEOUT.as_millis())
}

/// Two nodes with members, users and webhooks.
struct Taken {
    group: Group,
    receiver: WebhookReceiver,
    listeners: Vec<Listener>,
}

impl Taken {
    async fn start() -> Self {
        let receiver = WebhookReceiver::new().await;
        let events = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed", "subscription_count", "user_online", "user_offline"]"#;
        let webhook = format!(r#"[{{ url = "{}", events = {events} }}]"#, receiver.url());
        let settings = plain().app("webhooks", webhook);
        let group = Group::with(2, settings, Redis::start().await).await;
        let mut listeners = Vec::new();
        for (node, user) in group.nodes.iter().zip(["1", "2"]) {
            let listener = Listener::of(node).await;
            for number in 0..CHANNELS {
                listener.subscribe(&format!("c{number}")).await;
                listener.join(&format!("presence-{number}"), user).await;
            }
            listener.sign_in(&json!({ "id": user, "watchlist": ["1", "2"] }));
            listener
                .until("the client is signed in", RECOVERY_MAX, |received| {
                    received
                        .iter()
                        .any(|entry| entry.message("pusher:signin_success", None).is_some())
                })
                .await;
            listeners.push(listener);
        }
        let taken = Self { group, receiver, listeners };
        let addresses = taken.group.addresses();
        assert_view_everywhere(&addresses, RECOVERY_MAX, &taken.truth()).await;
        taken
    }

    fn truth(&self) -> View {
        let count = self.listeners.len() as u64;
        (0..CHANNELS).fold(View::default().with_connections(count), |view, number| {
            view.with_count(&format!("c{number}"), count)
                .with_users(&format!("presence-{number}"), &["1", "2"])
        })
    }

    /// Removes some data. Checks that Redis holds all of it again after a round, and that no client receives anything.
    async fn assert_restored(self, take: impl AsyncFnOnce(&mut RedisClient)) {
        let mut redis = self.group.redis.client().await;
        let before = held(&mut redis).await;
        let settled = self.settled().await;
        take(&mut redis).await;
        assert_ne!(held(&mut redis).await, before, "the data was removed");
        self.holds_again(&mut redis, &before).await;
        // A contribution that is not restored counts as a departure, which is announced after a delay.
        tokio::time::sleep(ANNOUNCED).await;
        for (listener, before) in self.listeners.iter().zip(settled.1) {
            listener.ping_barrier().await;
            let received = &listener.received()[before..];
            let pongs =
                received.iter().filter(|entry| entry.message("pusher:pong", None).is_some());
            assert_eq!(pongs.count(), received.len(), "unexpected messages: {}", listener.tail(20));
        }
        self.webhooks_go_on(settled.0).await;
    }

    /// Waits until Redis holds the previous data again.
    async fn holds_again(&self, redis: &mut RedisClient, before: &[String]) {
        let taken = Instant::now();
        loop {
            let now = held(redis).await;
            if now == before {
                break;
            }
            let missing: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
            let extra: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
            assert!(taken.elapsed() < ROUND, "missing {missing:#?}, extra {extra:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_view_everywhere(&self.group.addresses(), RECOVERY_MAX, &self.truth()).await;
    }

    /// The number of webhooks, and of messages of each listener, once no more arrive.
    async fn settled(&self) -> (usize, Vec<usize>) {
        loop {
            let count = || {
                let received = self.listeners.iter().map(|listener| listener.received().len());
                (self.receiver.count(), received.collect::<Vec<_>>())
            };
            let before = count();
            // Longer than the delay of vacated channels and removed members.
            tokio::time::sleep(Duration::from_millis(3_200)).await;
            if before == count() && 0 < before.0 {
                return before;
            }
        }
    }

    /// Checks that the next webhook after this many is that of a new channel.
    async fn webhooks_go_on(mut self, before: usize) {
        let marker = Listener::of(&self.group.nodes[0]).await;
        marker.subscribe("marker").await;
        let start = Instant::now();
        loop {
            while self.receiver.taken() < self.receiver.count() {
                let body = self.receiver.next().await.body;
                if before < self.receiver.taken() {
                    assert!(body.contains("\"marker\""), "a webhook was sent: {body}");
                    return;
                }
            }
            assert!(start.elapsed() < 2 * RECOVERY_MAX, "no webhook about the marker");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Way {
    async fn take(self, redis: &mut RedisClient, key: &str) {
        match self {
            Self::Delete => redis.command(&["DEL", key]).await,
            Self::Unlink => redis.command(&["UNLINK", key]).await,
            Self::OtherType => redis.command(&["SET", key, "something else"]).await,
            Self::Field(name) => {
                let mut words = fields(redis, key, name).await;
                if words.is_empty() {
                    return;
                }
                words.splice(0..0, ["HDEL".to_owned(), key.to_owned()]);
                redis.command(&words).await
            }
            Self::Value(name, value) => {
                let fields = fields(redis, key, name).await;
                let Some(field) = fields.first() else { return };
                redis.command(&["HSET", key, field, value]).await
            }
        };
    }
}

/// The fields with this name, or with this prefix if it ends with a colon.
async fn fields(redis: &mut RedisClient, key: &str, name: &str) -> Vec<String> {
    let fields = redis.command(&["HKEYS", key]).await.texts();
    let is_it =
        |field: &String| if name.ends_with(':') { field.starts_with(name) } else { field == name };
    fields.into_iter().filter(is_it).collect()
}

async fn delete(redis: &mut RedisClient, pattern: &str) {
    for key in redis.command(&["KEYS", pattern]).await.texts() {
        redis.command(&["DEL", &key]).await;
    }
}

/// The key of a channel's hash.
async fn key_of(redis: &mut RedisClient, channel: &str) -> String {
    let keys = redis.command(&["KEYS", &format!("*:c{{*:{channel}*")]).await.texts();
    let is_it = |key: &&String| {
        key.rsplit(':').next().is_some_and(|end| end.trim_end_matches('}') == channel)
    };
    keys.iter().find(is_it).unwrap_or_else(|| panic!("no key of {channel} in {keys:?}")).clone()
}

/// The data of topics, indexes and lists in Redis, without what a repair may change: epochs, versions, and the order of
/// nodes.
async fn held(redis: &mut RedisClient) -> Vec<String> {
    let mut lines = Vec::new();
    for pattern in ["*:c{*", "*:u{*", "*:n{*", "*:i{*", "*:j{*"] {
        for key in redis.command(&["KEYS", pattern]).await.texts() {
            let Some(answer) = redis.try_command(&["HGETALL", &key]).await else { continue };
            let pairs = answer.texts();
            for pair in pairs.chunks_exact(2) {
                let is_none = pair[0] == "c" && pair[1] == "0";
                if !matches!(pair[0].as_str(), "e" | "v" | "s" | "q" | "b") && !is_none {
                    lines.push(format!("{key} {} {}", pair[0], pair[1]));
                }
            }
        }
    }
    for key in redis.command(&["KEYS", "*:nodes{*"]).await.texts() {
        let fields = redis.command(&["HKEYS", &key]).await.texts();
        lines.extend(fields.into_iter().filter(|field| field.starts_with("n:")));
    }
    for key in redis.command(&["KEYS", "*:topics{*"]).await.texts() {
        for topic in redis.command(&["SMEMBERS", &key]).await.texts() {
            lines.push(format!("{key} {topic}"));
        }
    }
    lines.sort();
    lines
}
