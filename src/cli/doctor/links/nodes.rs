//! The nodes behind the address that the application publishes to: whether they are one cluster.

use super::{
    super::{
        Checkup,
        causes::api::{NODES_NOT_JOINED, ROSTERS_DIFFER},
        finding::{Finding, Link},
        probe::{Peer, call},
        public::{NO_API, NO_PUBLIC_ADDRESS},
        report::Outcome,
    },
    api::{failed_later, publish_peer},
};
use crate::config::AppConfig;
use hyper::Method;
use serde_json::Value;
use std::collections::BTreeMap;

/// The number of requests, each over its own connection: a proxy that balances gives some of them to
/// each node.
const ASKED: usize = 12;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(NO_API) {
        return skipped;
    }
    if checkup.report.is_skipped(Link::Api) {
        return Outcome::Skipped("the HTTP API was not tried".to_owned());
    }
    let (Some(app), Ok((peer, _))) = (checkup.inputs.app(), publish_peer(checkup)) else {
        return Outcome::Skipped(NO_PUBLIC_ADDRESS.to_owned());
    };
    match nodes(checkup, &peer, &app).await {
        Ok(nodes) => judge(&peer, &nodes),
        Err(outcome) => outcome,
    }
}

/// What each node says of itself, by its name.
async fn nodes(
    checkup: &Checkup<'_>,
    peer: &Peer,
    app: &AppConfig,
) -> Result<BTreeMap<String, Value>, Outcome> {
    let mut nodes = BTreeMap::new();
    // Where the name has several addresses, they may lead to different nodes.
    let addresses = checkup.public.as_ref().map(|public| public.accepting.as_slice());
    let addresses = addresses.filter(|_| is_public(checkup, peer)).unwrap_or_default();
    for number in 0..ASKED {
        let address = addresses.get(number % addresses.len().max(1));
        let peer = &address.map_or_else(|| peer.clone(), |address| peer.at(*address));
        let called = call(peer, app, Method::GET, "diagnostics", String::new()).await;
        let called = match called {
            Ok(called) if called.answer.status < 500 => called,
            failed => return Err(failed_later(checkup, peer, app, failed)),
        };
        let body = called.answer.json();
        let Some(name) = body["node"].as_str().map(str::to_owned) else {
            let status = called.answer.status;
            let why = format!("the server does not describe itself: {status}");
            return Err(Outcome::Skipped(why));
        };
        nodes.insert(name, body);
    }
    Ok(nodes)
}

/// Whether the application publishes to the address that browsers use.
fn is_public(checkup: &Checkup<'_>, peer: &Peer) -> bool {
    let public = checkup.public.as_ref();
    public.is_some_and(|public| public.peer.full_authority() == peer.full_authority())
}

fn judge(peer: &Peer, nodes: &BTreeMap<String, Value>) -> Outcome {
    let names: Vec<_> = nodes.keys().map(String::as_str).collect();
    let knows_all = |node: &Value| {
        let known = node["cluster"]["nodes"].as_array();
        known.is_some_and(|known| names.iter().all(|name| known.iter().any(|k| k == name)))
    };
    if names.len() < 2 || nodes.values().all(knows_all) {
        let known = nodes.values().filter_map(|node| node["cluster"]["nodes"].as_array());
        return Outcome::Well(match known.map(Vec::len).max() {
            Some(count) => format!("{} of {count} nodes answered", names.len()),
            None => "one node, without Redis".to_owned(),
        });
    }
    let seen =
        format!("{} answers as {} nodes: {}", peer.http_url(""), names.len(), names.join(", "));
    let without: Vec<_> = names.iter().filter(|name| nodes[**name]["cluster"].is_null()).collect();
    if without.is_empty() { apart(nodes, &seen).into() } else { alone(&without, &seen).into() }
}

/// Some nodes have no Redis.
fn alone(without: &[&&str], seen: &str) -> Finding {
    let names: Vec<_> = without.iter().map(|name| **name).collect();
    NODES_NOT_JOINED
        .found(format!("{seen}; without Redis: {}.", names.join(", ")))
        .line("config.toml of each node, [redis]", "url = \"redis://HOST:6379\"")
}

/// All nodes have a Redis, and do not see each other there.
fn apart(nodes: &BTreeMap<String, Value>, seen: &str) -> Finding {
    let mut prefixes: Vec<_> =
        nodes.values().map(|node| node["cluster"]["prefix_hash"].to_string()).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let (how, change) = if prefixes.len() < 2 {
        ("their Redis servers differ", "url = \"redis://HOST:6379\"")
    } else {
        ("their redis.prefix differs", "prefix = \"campanile\"")
    };
    ROSTERS_DIFFER
        .found(format!("{seen}, which do not know each other: {how}."))
        .line("config.toml of each node, [redis]", change)
}
