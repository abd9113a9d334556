//! Tests of the network.

use super::{Direction, KeptData, Late, Network, OldMaster, SimClient, WireFilter};
use crate::broker::redis::simulation::model::slots::slot_of;
use redis::{Cmd, ErrorKind, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

const HOST: &str = "redis";
const PORT: u16 = 6379;
/// The one-way delay in tests that depend on it.
const WAY: Duration = Duration::from_millis(10);

type Pushes = mpsc::UnboundedReceiver<PushInfo>;

/// A network with one server.
fn network() -> Network {
    let network = Network::new(1);
    network.add_server(HOST, PORT);
    network
}

/// A network with a Redis Cluster of the servers `a`, `b` and `c`.
fn cluster() -> Network {
    let network = Network::new(1);
    let addresses = [("a", 1), ("b", 2), ("c", 3)];
    for (host, port) in addresses {
        network.add_server(host, port);
    }
    network.make_cluster(&addresses);
    network
}

async fn connect(network: &Network, host: &str, port: u16, node: usize) -> (SimClient, Pushes) {
    let (sender, pushes) = mpsc::unbounded_channel();
    (network.connect(host, port, node, sender).await.unwrap(), pushes)
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

async fn request(client: &mut SimClient, words: &[&str]) -> RedisResult<Value> {
    client.request(&command(words)).await
}

/// Starts a request without waiting for its reply.
fn begin(client: &SimClient, words: &[&str]) -> tokio::task::JoinHandle<RedisResult<Value>> {
    let (mut client, command) = (client.clone(), command(words));
    tokio::spawn(async move { client.request(&command).await })
}

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

/// Receives the next message of a subscriber.
async fn message(pushes: &mut Pushes) -> Value {
    loop {
        let push = pushes.recv().await.unwrap();
        if matches!(push.kind, PushKind::Message | PushKind::SMessage) {
            return push.data[1].clone();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_one_round_trip() {
    let network = network();
    network.set_latency(None, WAY..=WAY);
    let (mut client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let start = Instant::now();
    assert_eq!(request(&mut client, &["SET", "k", "v"]).await.unwrap(), Value::Okay);
    assert_eq!(start.elapsed(), 2 * WAY);
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), text("v"));
}

#[tokio::test(start_paused = true)]
async fn the_order_of_a_wire_is_kept_with_any_delays() {
    let network = network();
    network.set_latency(None, Duration::ZERO..=Duration::from_millis(500));
    let (client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let (mut subscriber, mut pushes) = connect(&network, HOST, PORT, 1).await;
    request(&mut subscriber, &["SUBSCRIBE", "bus"]).await.unwrap();
    let begun: Vec<_> =
        (0..100).map(|number| begin(&client, &["PUBLISH", "bus", &number.to_string()])).collect();
    for request in begun {
        assert_eq!(request.await.unwrap().unwrap(), Value::Int(1));
    }
    for number in 0..100 {
        assert_eq!(message(&mut pushes).await, text(&number.to_string()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_before_the_reply_to_what_was_sent_after_it() {
    for after_reply in [false, true] {
        let network = network();
        network.rules(HOST, PORT, |rules| rules.pushes_after_reply = after_reply);
        let (mut client, mut pushes) = connect(&network, HOST, PORT, 0).await;
        request(&mut client, &["SUBSCRIBE", "bus"]).await.unwrap();
        let script = "redis.call('PUBLISH', 'bus', 'one') return 'two'";
        let reply = request(&mut client, &["EVAL", script, "0"]).await.unwrap();
        assert_eq!(reply, text("two"));
        // After the reply, no message is in transit, or only this one.
        let has_arrived = timeout(Duration::ZERO, message(&mut pushes)).await.is_ok();
        assert!(has_arrived || after_reply);
        if !has_arrived {
            assert_eq!(message(&mut pushes).await, text("one"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_fails_pending_requests() {
    let network = network();
    let (mut client, mut pushes) = connect(&network, HOST, PORT, 0).await;
    let pending = begin(&client, &["INCR", "k"]);
    tokio::task::yield_now().await;
    assert_eq!(network.cut(&WireFilter::all().of(1), Late::Lost), 0);
    assert_eq!(network.cut(&WireFilter::all().of(0), Late::Lost), 1);
    assert!(pending.await.unwrap().unwrap_err().is_io_error());
    assert_eq!(pushes.recv().await.unwrap().kind, PushKind::Disconnection);
    assert!(request(&mut client, &["PING"]).await.unwrap_err().is_io_error());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), Value::Nil);
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_cut_wire_can_arrive_later() {
    let network = network();
    network.set_latency(None, WAY..=WAY);
    let (client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let pending = [begin(&client, &["INCR", "k"]), begin(&client, &["INCR", "k"])];
    sleep(Duration::from_millis(1)).await;
    network.cut(&WireFilter::all(), Late::After(Duration::from_secs(30)));
    for pending in pending {
        assert!(pending.await.unwrap().is_err());
    }
    sleep(Duration::from_secs(29)).await;
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), Value::Nil);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), text("2"));
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_up_one_direction() {
    let network = network();
    network.set_latency(None, WAY..=WAY);
    let (client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let until = Instant::now() + Duration::from_secs(8);
    network.stall(&WireFilter::all().of(0).to(HOST, PORT), Direction::ToNode, until);
    let pending = begin(&client, &["SET", "k", "v"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), text("v"));
    assert!(!pending.is_finished());
    assert_eq!(pending.await.unwrap().unwrap(), Value::Okay);
    assert_eq!(Instant::now(), until);

    network.stall(
        &WireFilter::all(),
        Direction::ToServer,
        Instant::now() + Duration::from_secs(3_600),
    );
    let pending = begin(&client, &["SET", "k", "w"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), text("v"));
    network.heal();
    pending.await.unwrap().unwrap();
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), text("w"));
}

#[tokio::test(start_paused = true)]
async fn the_bandwidth_of_a_wire_is_limited() {
    let network = network();
    network.set_bandwidth(0, Some(125_000));
    let (mut client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let start = Instant::now();
    request(&mut client, &["SET", "k", &"x".repeat(250_000)]).await.unwrap();
    assert!((1_990..2_100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    network.set_bandwidth(0, None);
    let start = Instant::now();
    request(&mut client, &["GET", "k"]).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_paused_server_executes_nothing_until_it_goes_on() {
    let network = network();
    let (client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let until = Instant::now() + Duration::from_secs(5);
    network.pause(HOST, PORT, until);
    let pending = begin(&client, &["SET", "k", "v"]);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(network.ask(HOST, PORT, &["GET", "k"]), Value::Nil);
    pending.await.unwrap().unwrap();
    assert!(until <= Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_killed_server_rejects_connections_and_restarts_with_the_kept_data() {
    for (keep, left) in [
        (KeptData::All, text("3")),
        (KeptData::AllBut(1), text("2")),
        (KeptData::Nothing, Value::Nil),
    ] {
        let network = network();
        let run_id = network.run_id(HOST, PORT);
        let (mut client, mut pushes) = connect(&network, HOST, PORT, 0).await;
        request(&mut client, &["SCRIPT", "LOAD", "return 1"]).await.unwrap();
        for _ in 0..3 {
            request(&mut client, &["INCR", "k"]).await.unwrap();
        }
        network.kill(HOST, PORT);
        assert_eq!(pushes.recv().await.unwrap().kind, PushKind::Disconnection);
        let (sender, _pushes) = mpsc::unbounded_channel::<PushInfo>();
        let rejected = network.connect(HOST, PORT, 0, sender).await.unwrap_err();
        assert!(rejected.is_connection_refusal(), "{rejected}");
        network.restart(HOST, PORT, keep);
        let (mut client, _pushes) = connect(&network, HOST, PORT, 0).await;
        assert_eq!(request(&mut client, &["GET", "k"]).await.unwrap(), left);
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let unknown = request(&mut client, &["EVALSHA", sha, "0"]).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Server(ServerErrorKind::NoScript));
        assert_ne!(network.run_id(HOST, PORT), run_id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_replaces_a_master_that_may_keep_running() {
    for old in [OldMaster::Dies, OldMaster::Lives] {
        let network = network();
        let (mut before, _pushes) = connect(&network, HOST, PORT, 0).await;
        for _ in 0..5 {
            request(&mut before, &["INCR", "k"]).await.unwrap();
        }
        network.failover(HOST, PORT, 2, old);
        let (mut after, _pushes) = connect(&network, HOST, PORT, 1).await;
        assert_eq!(request(&mut after, &["INCR", "k"]).await.unwrap(), Value::Int(4));
        let reply = request(&mut before, &["INCR", "k"]).await;
        if old == OldMaster::Dies {
            assert!(reply.unwrap_err().is_io_error());
            continue;
        }
        assert_eq!(reply.unwrap(), Value::Int(6));
        network.demote_old(HOST, PORT);
        let rejected = request(&mut before, &["INCR", "k"]).await.unwrap_err();
        assert_eq!(rejected.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly));
        request(&mut after, &["INCR", "k"]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn data_clocks_and_rules_change_under_the_nodes() {
    let network = network();
    let (mut client, _pushes) = connect(&network, HOST, PORT, 0).await;
    for words in [["SET", "a", "1", "PX", "60000"], ["SET", "b", "1", "PX", "600000"]] {
        request(&mut client, &words).await.unwrap();
    }
    assert!(network.evict(HOST, PORT, b"a") && !network.evict(HOST, PORT, b"a"));
    assert_eq!(network.keys(HOST, PORT), [b"b"]);
    network.step_clock(HOST, PORT, 601_000);
    assert_eq!(request(&mut client, &["GET", "b"]).await.unwrap(), Value::Nil);
    request(&mut client, &["SET", "c", "1"]).await.unwrap();
    network.flush(HOST, PORT);
    assert!(network.keys(HOST, PORT).is_empty());
    network.rules(HOST, PORT, |rules| rules.out_of_memory = true);
    let rejected = request(&mut client, &["SET", "c", "1"]).await.unwrap_err();
    assert_eq!(rejected.code(), Some("OOM"));
    assert_eq!(request(&mut client, &["DEL", "c"]).await.unwrap(), Value::Int(0));
    let script = "return redis.call('DEL', 'c') + redis.call('HSET', 'h', 'f', 'v')";
    assert_eq!(request(&mut client, &["EVAL", script, "0"]).await.unwrap(), Value::Int(1));
    network.rules(HOST, PORT, |rules| rules.everything = Some("NOPERM no".into()));
    let rejected = request(&mut client, &["PING"]).await.unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::Server(ServerErrorKind::NoPerm));
    network.set(HOST, PORT, "maxmemory-policy", "allkeys-lru");
    let before = network.commands(HOST, PORT);
    network.rules(HOST, PORT, |rules| rules.everything = None);
    let info = format!("{:?}", request(&mut client, &["INFO", "memory"]).await.unwrap());
    assert!(info.contains("maxmemory_policy:allkeys-lru"), "{info}");
    assert_eq!(network.commands(HOST, PORT), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_fails_keeps_what_it_has_written() {
    let network = network();
    let (mut client, _pushes) = connect(&network, HOST, PORT, 0).await;
    let script = "redis.call('SET', 'k', 'v') redis.call('HGET', 'k', 'f')";
    let error = request(&mut client, &["EVAL", script, "0"]).await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"));
    assert_eq!(request(&mut client, &["GET", "k"]).await.unwrap(), text("v"));
}

fn kind_of(error: RedisResult<Value>) -> ServerErrorKind {
    let error = error.unwrap_err();
    let ErrorKind::Server(kind) = error.kind() else { panic!("{error}") };
    kind
}

#[tokio::test(start_paused = true)]
async fn a_slot_moves_with_its_keys_and_its_subscriptions() {
    let network = cluster();
    let slot = slot_of(b"{tag}1");
    let (owner, port, to) = if slot < 5462 { ("a", 1, ("b", 2)) } else { ("b", 2, ("a", 1)) };
    assert!(slot < 10_922, "the slot of the tag belongs to one of the first two servers");
    let (mut from, mut pushes) = connect(&network, owner, port, 0).await;
    let (mut new, _new_pushes) = connect(&network, to.0, to.1, 0).await;
    let (mut third, _third_pushes) = connect(&network, "c", 3, 0).await;
    request(&mut from, &["SET", "{tag}1", "v"]).await.unwrap();
    request(&mut from, &["SSUBSCRIBE", "{tag}bus"]).await.unwrap();
    assert_eq!(kind_of(request(&mut new, &["GET", "{tag}1"]).await), ServerErrorKind::Moved);
    assert_eq!(
        kind_of(request(&mut from, &["MGET", "{tag}1", "x"]).await),
        ServerErrorKind::CrossSlot
    );

    network.begin_migration(slot, to);
    assert_eq!(request(&mut from, &["GET", "{tag}1"]).await.unwrap(), text("v"));
    assert_eq!(kind_of(request(&mut from, &["GET", "{tag}2"]).await), ServerErrorKind::Ask);
    let both = ["EVAL", "return 1", "2", "{tag}1", "{tag}2"];
    assert_eq!(kind_of(request(&mut from, &both).await), ServerErrorKind::TryAgain);
    assert_eq!(kind_of(request(&mut new, &["SET", "{tag}2", "w"]).await), ServerErrorKind::Moved);
    request(&mut new, &["ASKING"]).await.unwrap();
    request(&mut new, &["SET", "{tag}2", "w"]).await.unwrap();
    request(&mut new, &["ASKING"]).await.unwrap();
    assert_eq!(kind_of(request(&mut new, &both).await), ServerErrorKind::TryAgain);
    assert!(network.move_key(slot, to));
    assert!(!network.move_key(slot, to));

    network.finish_migration(slot, to, &[]);
    assert_eq!(request(&mut new, &both).await.unwrap(), Value::Int(1));
    assert_eq!(kind_of(request(&mut from, &both).await), ServerErrorKind::Moved);
    let ended = async { while pushes.recv().await.unwrap().kind != PushKind::SUnsubscribe {} };
    timeout(Duration::from_secs(1), ended).await.unwrap();
    // A server with the old view redirects to the old owner.
    let moved = request(&mut third, &["GET", "{tag}1"]).await.unwrap_err();
    assert_eq!(moved.redirect_node(), Some((format!("{owner}:{port}").as_str(), slot)));
    network.set_slots("c", 3, to);
    let moved = request(&mut third, &["GET", "{tag}1"]).await.unwrap_err();
    assert_eq!(moved.redirect_node(), Some((format!("{}:{}", to.0, to.1).as_str(), slot)));
    let slots = format!("{:?}", request(&mut third, &["CLUSTER", "SLOTS"]).await.unwrap());
    assert!(slots.contains(&format!("int({slot}), int({slot})")), "{slots}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_receives_the_shard_channels_of_its_master_only() {
    let network = cluster();
    let (channel, of_a) = ("bus", slot_of(b"bus") < 5462);
    let (master, other) = if of_a { (("a", 1), ("b", 2)) } else { (("b", 2), ("a", 1)) };
    assert!(slot_of(b"bus") < 10_922);
    let (mut replica, mut pushes) = connect(&network, "c", 3, 0).await;
    let subscribe = ["SSUBSCRIBE", channel];
    assert_eq!(kind_of(request(&mut replica, &subscribe).await), ServerErrorKind::Moved);
    for slot in 10_922..16_384 {
        network.finish_migration(slot, master, &[other]);
    }
    network.make_replica("c", 3, master);
    request(&mut replica, &subscribe).await.unwrap();
    let (mut publisher, _pushes) = connect(&network, master.0, master.1, 0).await;
    assert_eq!(request(&mut publisher, &["SPUBLISH", channel, "m"]).await.unwrap(), Value::Int(0));
    assert_eq!(message(&mut pushes).await, text("m"));
    assert_eq!(kind_of(request(&mut replica, &["GET", channel]).await), ServerErrorKind::Moved);
}

#[tokio::test(start_paused = true)]
async fn a_replica_takes_the_slots_of_a_master_of_a_cluster() {
    for dies in [true, false] {
        let network = cluster();
        let key =
            (0..100).map(|number| number.to_string()).find(|key| slot_of(key.as_bytes()) < 5_000);
        let key = key.unwrap();
        let (mut old, _pushes) = connect(&network, "a", 1, 0).await;
        let (mut other, _pushes) = connect(&network, "b", 2, 0).await;
        for value in ["1", "2"] {
            request(&mut old, &["SET", &key, value]).await.unwrap();
        }
        network.cluster_failover(("a", 1), ("d", 4), 1, dies);
        let (mut new, _pushes) = connect(&network, "d", 4, 0).await;
        assert_eq!(request(&mut new, &["GET", &key]).await.unwrap(), text("1"));
        let moved = request(&mut other, &["GET", &key]).await.unwrap_err();
        assert_eq!(
            moved.redirect_node().map(|(address, _)| address.to_owned()),
            Some("d:4".into())
        );
        let reply = request(&mut old, &["GET", &key]).await;
        if dies {
            assert!(reply.unwrap_err().is_io_error());
        } else {
            assert_eq!(reply.unwrap(), text("2"));
            network.set_slots("a", 1, ("d", 4));
            assert_eq!(kind_of(request(&mut old, &["GET", &key]).await), ServerErrorKind::Moved);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_the_same_each_time() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let network = Network::new(7);
        network.add_server(HOST, PORT);
        let (client, _pushes) = connect(&network, HOST, PORT, 0).await;
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..50 {
            begin(&client, &["INCR", "k"]).await.unwrap().unwrap();
            times.push(start.elapsed());
        }
        runs.push((times, network.run_id(HOST, PORT)));
    }
    assert_eq!(runs[0], runs[1]);
}
