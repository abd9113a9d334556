//! The state that the HTTP API of each node returns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Api;

/// The true state of an app, or the state that a node returns.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct View {
    /// Subscriptions of each occupied channel without presence.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Users of each occupied presence channel.
    pub(crate) users: BTreeMap<String, BTreeSet<String>>,
    pub(crate) connections: u64,
}

impl View {
    /// Adds a channel with this many subscriptions.
    pub(crate) fn with_count(mut self, channel: &str, count: u64) -> Self {
        self.counts.insert(channel.to_owned(), count);
        self
    }

    /// Adds a presence channel with these users.
    pub(crate) fn with_users(mut self, channel: &str, users: &[&str]) -> Self {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.users.insert(channel.to_owned(), users);
        self
    }

    pub(crate) fn with_connections(mut self, connections: u64) -> Self {
        self.connections = connections;
        self
    }
}

/// The state that a node returns; an error names the response that was not successful.
pub(crate) async fn view(address: SocketAddr) -> Result<View, String> {
    let mut api = Api::new(address);
    let mut view = View::default();
    let channels = requested_at(&mut api, "channels", &[("info", "subscription_count")]).await?;
    for (channel, reported) in channels["channels"].as_object().into_iter().flatten() {
        if channel.starts_with("presence-") {
            view.users.insert(channel.clone(), channel_users(&mut api, channel).await?);
        } else {
            let count =
                reported["subscription_count"].as_u64().ok_or(format!("no count: {channels}"))?;
            view.counts.insert(channel.clone(), count);
        }
    }
    let connections = requested_at(&mut api, "connections", &[]).await?;
    view.connections = connections["connections"].as_u64().ok_or("no number of connections")?;
    Ok(view)
}

pub(crate) async fn channel_users(
    api: &mut Api,
    channel: &str,
) -> Result<BTreeSet<String>, String> {
    let users = requested_at(api, &format!("channels/{channel}/users"), &[]).await?;
    let users = users["users"].as_array().into_iter().flatten();
    Ok(users.filter_map(|user| user["id"].as_str()).map(str::to_owned).collect())
}

async fn requested_at(api: &mut Api, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
    match api.get(path, query).await {
        Some(answer) if answer.status == 200 => Ok(answer.body),
        answer => Err(format!("GET {path}: {answer:?}")),
    }
}

/// Waits until every node returns the true state.
pub(crate) async fn wait_for_state_on_all(
    nodes: &[SocketAddr],
    deadline: Duration,
    truth: &View,
) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let mut wrong = None;
        for node in nodes {
            match view(*node).await {
                Ok(reply) if reply == *truth => {}
                Ok(reply) => wrong = Some(difference(*node, &reply, truth)),
                Err(error) => wrong = Some(error),
            }
        }
        let Some(wrong) = wrong else { return Ok(()) };
        if deadline < start.elapsed() {
            return Err(format!("after {deadline:?}: {wrong}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Like [`wait_for_state_on_all`]; fails the test if the state does not become true in time.
pub(crate) async fn assert_view_everywhere(nodes: &[SocketAddr], deadline: Duration, truth: &View) {
    if let Err(wrong) = wait_for_state_on_all(nodes, deadline, truth).await {
        panic!("{wrong}");
    }
}

fn difference(node: SocketAddr, reply: &View, truth: &View) -> String {
    let mut lines = vec![format!("{node} is wrong:")];
    let names: BTreeSet<&String> = reply.counts.keys().chain(truth.counts.keys()).collect();
    for name in names {
        let (one, other) = (reply.counts.get(name), truth.counts.get(name));
        if one != other {
            lines.push(format!("  {name}: says {one:?}, is {other:?}"));
        }
    }
    let names: BTreeSet<&String> = reply.users.keys().chain(truth.users.keys()).collect();
    for name in names {
        let empty = BTreeSet::new();
        let one = reply.users.get(name).unwrap_or(&empty);
        let other = truth.users.get(name).unwrap_or(&empty);
        let (extra, missing) = (one.difference(other), other.difference(one));
        let (extra, missing): (Vec<_>, Vec<_>) = (extra.collect(), missing.collect());
        if !extra.is_empty() || !missing.is_empty() {
            lines.push(format!("  {name}: says too much {extra:?}, too little {missing:?}"));
        }
    }
    if reply.connections != truth.connections {
        lines.push(format!("  connections: says {}, is {}", reply.connections, truth.connections));
    }
    lines.join("\n")
}
