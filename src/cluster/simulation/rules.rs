//! Direct tests of script rules that other rules hide in an exploration, on one server.

use super::{network::Network, paused_runtime};
use crate::cluster::{membership::LAYOUT, scripts::Scripts, shared::Shared};
use redis::Value;
use std::time::Duration;

const HOST: &str = "redis";
const PORT: u16 = 6379;
const REGISTRY: &str = "nodes{0}";
const HASH: &str = "c{0}1:c";
/// A lease, in ms.
const LEASE: u64 = 6_000;

/// A server, and simulated writes of nodes.
struct Bench {
    network: Network,
    scripts: Scripts,
}

impl Bench {
    fn new() -> Self {
        let network = Network::new(1);
        network.add_server(HOST, PORT);
        Self { network, scripts: Shared::new("", false, Duration::ZERO).scripts }
    }

    fn call(&self, script: &str, keys: &[&str], arguments: &[&str]) -> Vec<Value> {
        let count = keys.len().to_string();
        let words = [&["EVAL", script, &count], keys, arguments].concat();
        let answer = self.network.ask(HOST, PORT, &words);
        if let Value::Array(values) = answer { values } else { panic!("{answer:?}") }
    }

    /// A heartbeat of a node in the home partition.
    fn heartbeat(&self, phase: &str, node: &str, link: &str, known: &[&str]) -> Vec<Value> {
        self.heartbeat_of_layout(LAYOUT, phase, node, link, known)
    }

    fn heartbeat_of_layout(
        &self,
        layout: &str,
        phase: &str,
        node: &str,
        link: &str,
        known: &[&str],
    ) -> Vec<Value> {
        let process = node.split('.').next().expect("a process");
        let lease = LEASE.to_string();
        let common = [
            phase, node, process, link, &lease, "g1", "bus", "3000", "1500", "60000", "", "R",
            layout, "0",
        ];
        self.call(&self.scripts.heartbeat.text, &[REGISTRY], &[&common, known].concat())
    }

    /// Has a node join, and opens the generation.
    fn join(&self, node: &str, link: &str) {
        for phase in ["join", "arrive"] {
            assert_eq!(word(&self.heartbeat(phase, node, link, &["other"])), "ok", "{phase}");
        }
        self.network.ask(HOST, PORT, &["HSET", REGISTRY, "o", "1"]);
    }

    /// Has a node sync a total of `total` subscriptions.
    fn sync(&self, generation: &str, node: &str, link: &str, total: &str) -> String {
        let keys = [REGISTRY, HASH, "i{0}1", "e{0}1:c", &format!("topics{{0}}{node}")];
        let arguments = [
            generation,
            node,
            link,
            "9999999999999",
            node,
            "e1",
            total,
            "fi",
            "0",
            "0",
            "c",
            "0",
            "",
            "bus",
            "",
            "0",
        ];
        word(&self.call(&self.scripts.sync.text, &keys, &arguments))
    }

    fn restore(&self, node: &str, reached: &str) {
        let arguments = ["g1", node, "1", "e1", reached];
        self.call(&self.scripts.restore.text, &[REGISTRY, HASH], &arguments);
    }

    fn field(&self, field: &str) -> String {
        let value = self.network.ask(HOST, PORT, &["HGET", HASH, field]);
        let Value::BulkString(bytes) = value else { return String::new() };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The status at the start of a script's reply.
fn word(answer: &[Value]) -> String {
    match answer.first() {
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    }
}

fn holds(is_held: bool, rule: &str) -> Result<(), String> {
    if is_held { Ok(()) } else { Err(rule.to_owned()) }
}

/// Writes of an old link, of another generation or of an unregistered node have no effect.
fn writes_need_a_lease(bench: &Bench) -> Result<(), String> {
    bench.join("a.1", "1");
    holds(bench.sync("g1", "a.1", "1", "2") == "ok", "a lease allows writes")?;
    bench.join("a.1", "2");
    for (generation, node, link, whose) in [
        ("g1", "a.1", "1", "an old link"),
        ("g0", "a.1", "2", "another generation"),
        ("g1", "b.1", "1", "a node that is not registered"),
    ] {
        let answer = bench.sync(generation, node, link, "7");
        holds(answer == "other" && bench.field("t") == "2", &format!("{whose} may not write"))?;
    }
    Ok(())
}

/// Nodes of another key layout are rejected while a node is alive, and take over after that.
fn layouts_do_not_mix(bench: &Bench) -> Result<(), String> {
    bench.join("a.1", "1");
    let other = |phase| word(&bench.heartbeat_of_layout("0", phase, "b.1", "1", &[]));
    holds(other("join") == "layout", "another layout is rejected")?;
    holds(bench.sync("g1", "a.1", "1", "1") == "ok", "the nodes that are there go on")?;
    bench.network.step_clock(HOST, PORT, i64::try_from(LEASE).expect("a small number") / 2);
    bench.heartbeat("beat", "a.1", "1", &[]);
    bench.network.step_clock(HOST, PORT, i64::try_from(LEASE).expect("a small number"));
    holds(other("join") == "ok", "a layout without a living node is replaced")?;
    let answer = bench.sync("g1", "a.1", "1", "2");
    holds(answer == "other", "nodes of the layout before may not write any more")
}

/// If no heartbeat arrives for a while, Redis was paused, so leases are renewed.
fn leases_last_while_redis_is_paused(bench: &Bench) -> Result<(), String> {
    bench.join("a.1", "1");
    bench.join("b.1", "1");
    bench.network.step_clock(HOST, PORT, 3_600_000);
    let answer = bench.heartbeat("beat", "b.1", "1", &[]);
    let dead = format!("{:?}", answer.get(5));
    holds(!dead.contains("a.1"), "no lease ends while Redis is paused")?;
    bench.network.step_clock(HOST, PORT, i64::try_from(LEASE / 2).expect("a small number"));
    bench.heartbeat("beat", "b.1", "1", &[]);
    bench.network.step_clock(HOST, PORT, i64::try_from(LEASE / 2).expect("a small number"));
    let dead = format!("{:?}", bench.heartbeat("beat", "b.1", "1", &[]).get(5));
    holds(dead.contains("a.1"), "a lease ends without heartbeats")
}

/// A sequence of an earlier generation that was reused by other events makes all nodes detect the
/// loss.
fn earlier_sequences_are_reported(bench: &Bench) -> Result<(), String> {
    bench.join("a.1", "1");
    bench.restore("a.1", "9");
    holds(bench.field("s") == "9", "a lost hash continues from the earlier sequence")?;
    bench.sync("g1", "a.1", "1", "1");
    bench.restore("a.1", "10");
    holds(bench.field("s") == "10", "the sequence continues from the highest one")?;
    // Another event was published meanwhile, with the sequence of an event that Redis has lost.
    for field in [["q", "g1"], ["b", "10"], ["s", "11"]] {
        bench.network.ask(HOST, PORT, &["HSET", HASH, field[0], field[1]]);
    }
    bench.restore("a.1", "11");
    holds(bench.field("s") == "12", "two events with one sequence are detected")?;
    bench.restore("a.1", "10");
    holds(bench.field("s") == "12", "a sequence that is not lost changes nothing")
}

/// Checks every rule.
pub(super) fn check() -> Result<(), String> {
    paused_runtime().block_on(async {
        writes_need_a_lease(&Bench::new())?;
        layouts_do_not_mix(&Bench::new())?;
        leases_last_while_redis_is_paused(&Bench::new())?;
        earlier_sequences_are_reported(&Bench::new())
    })
}

#[test]
fn the_rules_hold() {
    if let Err(rule) = check() {
        panic!("{rule}");
    }
}
