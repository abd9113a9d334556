use super::*;
use crate::{
    app::App,
    broker::{
        LogRequest, SubscribeRequest,
        redis::{SimulatedNode, SimulatedRedis},
    },
    channel::OFFLINE_GRACE,
    config::AppConfig,
    hub::{
        ConnectionKey, ConnectionRef, Hub, Inboxes, ShardIndex,
        hub_event_tests::{channel, one_of_each},
        testing::AllEventsObserver,
    },
    protocol::{Member, SocketId, User},
};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use tokio::time::sleep;

fn decode(text: &str) -> Option<HubEvent> {
    parse(format!("7 {text}").as_bytes()).map(|(number, hub_event)| {
        assert_eq!(number, 7);
        hub_event
    })
}

#[test]
fn an_event_is_decoded_as_it_was_encoded() {
    for hub_event in one_of_each() {
        assert_eq!(decode(&encode(&hub_event)), Some(hub_event));
    }
    assert_eq!(encode(&one_of_each()[0]), r#"{"k":"channel_occupied","c":"t"}"#);
}

#[test]
fn data_from_a_log_is_json_for_every_parser() {
    let text = r#"{"k":"client_event","c":"private-x","e":"client-a","d":"\"\\ud800\"","s":"1.1"}"#;
    let read = decode(text);
    let Some(HubEvent::ClientEvent { data, .. }) = read else { panic!("{read:?}") };
    assert_eq!(data, r#""\ufffd""#);
}

#[test]
fn other_bytes_are_rejected() {
    for text in [
        "",
        "{}",
        r#"{"k":"nothing","c":"t"}"#,
        r#"{"k":"channel_occupied"}"#,
        r#"{"k":"channel_occupied","c":"a b"}"#,
        r#"{"k":"member_added","c":"presence-x"}"#,
        r#"{"k":"client_event","c":"private-x","e":"client-a","d":"null","s":"0.1"}"#,
        r#"{"k":"user_online","c":"t"}"#,
        r#"{"k":"client_event","c":"private-x","e":"client-a","d":"\"\"],","s":"1.1"}"#,
        r#"{"k":"client_event","c":"private-x","e":"client-a","d":"{}","s":"1.1"}"#,
    ] {
        assert_eq!(decode(text), None, "{text}");
    }
    let occupied = encode(&one_of_each()[0]);
    for time in ["", "x ", "-1 ", "7", "99999999999999999999 "] {
        assert_eq!(parse(format!("{time}{occupied}").as_bytes()), None, "{time}");
    }
}

/// Longer than a change takes until it is in Redis.
const WRITTEN: Duration = Duration::from_millis(500);
/// Every character that a JSON encoder may treat in its own way.
const USER_ID: &str = "a\"b\\c/d\u{7f}\u{1}\té\u{2028}😀";

fn hub(node: &SimulatedNode) -> Arc<Hub> {
    let config = AppConfig { subscription_count: true, ..AppConfig::development() };
    let inboxes = Arc::new(Inboxes::new(1));
    let hub = Hub::new(App::new(config), inboxes, Arc::new(AllEventsObserver), crate::clock::now());
    let hub = Arc::new(hub);
    node.broker.set_apps(HashMap::from([(hub.app_id(), Arc::clone(&hub))]));
    hub
}

/// What `lua/sync.lua` logs when a channel, a presence channel and a user are entered and left.
async fn logged() -> Vec<String> {
    let mut redis = SimulatedRedis::new();
    let node = redis.join().await;
    let hub = hub(&node);
    let user_id: Arc<str> = USER_ID.into();
    let connection =
        ConnectionRef { shard: ShardIndex::new(0), key: ConnectionKey { slot: 1, generation: 0 } };
    let user_info = "{}".into();
    let member = Member { user_id: Arc::clone(&user_id), user_info };
    let user = User {
        id: Arc::clone(&user_id),
        info: None,
        watchlist: Vec::new(),
        watchlist_truncated: false,
    };
    let (plain, room) = (channel("t"), channel("presence-room"));
    let request = |ticket, channel, member| {
        let (socket_id, log) = (SocketId::from_random(1), LogRequest::No);
        SubscribeRequest { connection, socket_id, ticket, channel, member, log }
    };
    node.broker.subscribe(&hub, request(1, &plain, &None));
    sleep(WRITTEN).await;
    node.broker.subscribe(&hub, request(2, &room, &Some(member)));
    sleep(WRITTEN).await;
    node.broker.sign_in(&hub, connection, &user, "{}");
    sleep(WRITTEN).await;
    node.broker.unsubscribe(&hub, connection.shard, &plain, None);
    sleep(WRITTEN).await;
    node.broker.unsubscribe(&hub, connection.shard, &room, Some(&user_id));
    sleep(WRITTEN).await;
    node.broker.sign_out(&hub, connection, &user);
    sleep(OFFLINE_GRACE + WRITTEN).await;
    redis.ask(&["LRANGE", &redis.key("log{").expect("something is logged"), "0", "-1"])
}

/// The script is that of production, on a model of Redis. `protocol-tests/cluster/scripts` compares what it logs on
/// Redis with literal records.
#[tokio::test(start_paused = true)]
async fn the_script_logs_the_records_that_this_module_writes() {
    let user_id: Arc<str> = USER_ID.into();
    let (plain, room) = (channel("t"), channel("presence-room"));
    let count = |count| HubEvent::SubscriptionCount { channel: plain.clone(), count };
    let expected = [
        HubEvent::Occupied { channel: plain.clone() },
        count(1),
        HubEvent::Occupied { channel: room.clone() },
        HubEvent::MemberAdded { channel: room.clone(), user_id: Arc::clone(&user_id) },
        HubEvent::UserOnline { user_id: Arc::clone(&user_id) },
        HubEvent::Vacated { channel: plain.clone() },
        count(0),
        HubEvent::MemberRemoved { channel: room.clone(), user_id: Arc::clone(&user_id) },
        HubEvent::Vacated { channel: room },
        HubEvent::UserOffline { user_id },
    ];
    let made_by_cluster = expected.iter().map(|one| one.kind().as_str()).collect::<BTreeSet<_>>();
    let observed_by_nodes = [WebhookEvent::ClientEvent, WebhookEvent::CacheMiss];
    assert_eq!(
        made_by_cluster.len() + observed_by_nodes.len(),
        WebhookEvent::ALL.len(),
        "all kinds"
    );
    let records = logged().await;
    let events: Vec<_> = records
        .iter()
        .filter_map(|record| parse(record.as_bytes()))
        .map(|(_, hub_event)| hub_event)
        .collect();
    assert_eq!(events, expected, "{records:#?}");
    for (record, hub_event) in records.iter().zip(&expected) {
        let (_, script) = record.split_once(' ').expect("a time");
        // Lua's encoder escapes these two characters as well.
        let script = script.replace("\\/", "/").replace("\\u007f", "\u{7f}");
        assert_eq!(script, encode(hub_event), "members and their order");
    }
}
