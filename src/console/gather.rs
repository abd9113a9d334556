//! Joins the answers of all nodes of a cluster to one for the page.

use super::{
    context::Context,
    output::{Closed, Output},
    overview,
    peers::{Gathering, Part},
    request::Watch,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// How long the first answer waits for all nodes.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long the lists of a node are shown without new ones.
const LISTS_SHOWN: Duration = Duration::from_secs(6);
/// How long a node may be silent about a connection that it has.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Maximum number of items of a list.
const ITEMS_MAX: usize = 200;

/// Sends what is watched on all nodes until the page is gone.
pub(super) async fn watch(
    context: &Context,
    watch: &Watch,
    request: &str,
    output: &Output,
) -> Result<(), Closed> {
    let mut nodes =
        Nodes { own: context.node().name().into(), gathering: Gathering::start(context, request) };
    match watch {
        Watch::Overview => nodes.overview(output).await,
        Watch::Connections(_) => nodes.lists(output).await,
        Watch::Connection(_) => nodes.connection(output).await,
        Watch::Authorizations(_) | Watch::Webhooks(_) | Watch::Log => nodes.records(output).await,
        Watch::Channels(_) | Watch::Channel(_) => {
            output.error("the channels of all nodes are known to each").await
        }
    }
}

/// The first result of a call that one of the nodes can do.
///
/// # Errors
///
/// The error of this node, if no other has a result within `wait`.
pub(super) async fn call(
    context: &Context,
    request: &str,
    wait: Duration,
) -> Result<Value, String> {
    let own = context.node().name();
    let mut gathering = Gathering::start(context, request);
    let deadline = Instant::now() + wait;
    let mut error = "no node has answered in time".to_owned();
    for _ in 0..gathering.nodes() {
        match time::timeout_at(deadline, gathering.next()).await {
            Ok((_, Part::Result(result) | Part::Data(result))) => return Ok(result),
            Ok((node, Part::Error(of_node))) if *node == *own => error = of_node,
            Ok((_, Part::Error(_))) => {}
            Err(_) => break,
        }
    }
    Err(error)
}

/// The answers of the nodes to a request.
struct Nodes {
    /// The name of this node.
    own: Arc<str>,
    gathering: Gathering,
}

/// Whether it was answered to the end.
type IsOver = bool;

impl Nodes {
    /// The records of all nodes: the latest of each, and then new ones as they are recorded.
    async fn records(&mut self, output: &Output) -> Result<(), Closed> {
        let (deadline, mut answered) = (Instant::now() + FIRST_WAIT, 0);
        let mut latest = Vec::new();
        while answered < self.gathering.nodes() {
            let Ok((node, part)) = time::timeout_at(deadline, self.gathering.next()).await else {
                break;
            };
            match part {
                Part::Result(list) => {
                    answered += 1;
                    latest.extend(items(list).map(|item| labelled(item, &node)));
                }
                Part::Data(item) => latest.push(labelled(item, &node)),
                Part::Error(error) if node == self.own => return output.error(error).await,
                Part::Error(_) => answered += 1,
            }
        }
        latest.sort_by_key(|item| item["time"].as_u64());
        output.result(latest).await?;
        while !self.send_records(output).await? {}
        Ok(())
    }

    async fn send_records(&mut self, output: &Output) -> Result<IsOver, Closed> {
        let (node, part) = self.gathering.next().await;
        match part {
            Part::Result(list) => {
                for item in items(list) {
                    output.data(labelled(item, &node)).await?;
                }
            }
            Part::Data(item) => output.data(labelled(item, &node)).await?,
            Part::Error(error) if node == self.own => {
                output.error(error).await?;
                return Ok(true);
            }
            Part::Error(_) => {}
        }
        Ok(false)
    }

    /// The connections of all nodes, whenever this one has read its own.
    async fn lists(&mut self, output: &Output) -> Result<(), Closed> {
        let deadline = Instant::now() + FIRST_WAIT;
        let mut latest = BTreeMap::new();
        let mut is_first = true;
        loop {
            let next = match (is_first, self.gathering.nodes() <= latest.len()) {
                (true, true) => None,
                (true, false) => time::timeout_at(deadline, self.gathering.next()).await.ok(),
                (false, _) => Some(self.gathering.next().await),
            };
            let is_due = match next {
                Some((node, Part::Result(lists) | Part::Data(lists))) => {
                    let is_own = node == self.own;
                    latest.insert(node, (Instant::now(), lists));
                    is_own && !is_first
                }
                Some((node, Part::Error(error))) if node == self.own => {
                    return output.error(error).await;
                }
                Some((_, Part::Error(_))) => false,
                None => true,
            };
            if !is_due {
                continue;
            }
            latest.retain(|_, (at, _)| at.elapsed() < LISTS_SHOWN);
            let lists = joined_lists(&latest, self.gathering.nodes());
            if std::mem::take(&mut is_first) {
                output.result(lists).await?;
            } else {
                output.data(lists).await?;
            }
        }
    }

    /// The connection of the first node that knows it.
    async fn connection(&mut self, output: &Output) -> Result<(), Closed> {
        let deadline = Instant::now() + FIRST_WAIT;
        let (mut owner, mut own_error, mut errors) = (None, None, 0);
        loop {
            let next = self.gathering.next();
            let next = match &owner {
                None => time::timeout_at(deadline, next).await.ok(),
                Some(owner) if *owner == self.own => Some(next.await),
                Some(_) => time::timeout(SILENCE_MAX, next).await.ok(),
            };
            let Some((node, part)) = next else {
                let error = own_error.unwrap_or_else(|| "the node does not answer".to_owned());
                return output.error(error).await;
            };
            match part {
                Part::Result(state) if owner.is_none() => {
                    output.result(labelled(state, &node)).await?;
                    owner = Some(node);
                }
                Part::Data(item) if owner.as_ref() == Some(&node) => {
                    let is_last = item["type"] == "closed";
                    output.data(item).await?;
                    if is_last {
                        return Ok(());
                    }
                }
                Part::Error(error) if owner.as_ref().is_none_or(|owner| *owner == node) => {
                    errors += 1;
                    if owner.is_some() || errors == self.gathering.nodes() {
                        return output.error(own_error.unwrap_or(error)).await;
                    }
                    if node == self.own {
                        own_error = Some(error);
                    }
                }
                Part::Result(_) | Part::Data(_) | Part::Error(_) => {}
            }
        }
    }

    /// The overview of this node, with the connections that the apps have on all nodes.
    async fn overview(&mut self, output: &Output) -> Result<(), Closed> {
        let mut of_others = BTreeMap::new();
        let mut is_first = true;
        loop {
            let (node, part) = self.gathering.next().await;
            let mut data = match part {
                Part::Result(data) | Part::Data(data) if node == self.own => data,
                Part::Result(data) | Part::Data(data) => {
                    of_others.insert(node, (Instant::now(), data));
                    continue;
                }
                Part::Error(error) if node == self.own => return output.error(error).await,
                Part::Error(_) => continue,
            };
            of_others.retain(|_, (at, _)| at.elapsed() < LISTS_SHOWN);
            overview::add_apps(&mut data, of_others.values().map(|(_, data)| data));
            if std::mem::take(&mut is_first) {
                output.result(data).await?;
            } else {
                output.data(data).await?;
            }
        }
    }
}

/// The lists of all nodes as one, the newest items first.
fn joined_lists(latest: &BTreeMap<Arc<str>, (Instant, Value)>, nodes: usize) -> Value {
    let list = |name: &str, time: &str| {
        let of_nodes = latest.iter().flat_map(|(node, (_, lists))| {
            items(lists[name].clone()).map(|item| labelled(item, node))
        });
        let mut joined: Vec<_> = of_nodes.collect();
        joined.sort_by_key(|item| std::cmp::Reverse(item[time].as_u64()));
        joined.truncate(ITEMS_MAX);
        joined
    };
    let total: u64 = latest.values().filter_map(|(_, lists)| lists["total"].as_u64()).sum();
    json!({
        "total": total,
        "connections": list("connections", "connected_at"),
        "closed": list("closed", "closed_at"),
        "rejected": list("rejected", "time"),
        "nodes": {"asked": nodes, "answered": latest.len()},
    })
}

fn items(list: Value) -> impl Iterator<Item = Value> {
    match list {
        Value::Array(items) => items,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Vec::new()
        }
    }
    .into_iter()
}

/// An item with the name of its node.
fn labelled(mut item: Value, node: &str) -> Value {
    if item.is_object() {
        item["node"] = node.into();
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_all_nodes_are_one_with_the_newest_first() {
        let lists = |times: &[u64]| {
            let connections: Vec<_> = times.iter().map(|at| json!({"connected_at": at})).collect();
            let total = times.len();
            (
                Instant::now(),
                json!({"total": total, "connections": connections, "closed": [], "rejected": []}),
            )
        };
        let latest = [("a".into(), lists(&[1, 4])), ("b".into(), lists(&[3]))].into();
        let joined = joined_lists(&latest, 3);
        let connection = |at: u64, node: &str| json!({"connected_at": at, "node": node});
        assert_eq!(
            joined["connections"],
            json!([connection(4, "a"), connection(3, "b"), connection(1, "a")])
        );
        assert_eq!((&joined["total"], &joined["rejected"]), (&json!(3), &json!([])));
        assert_eq!(joined["nodes"], json!({"asked": 3, "answered": 2}));
        let many: Vec<_> = (0..150).collect();
        let latest = [("a".into(), lists(&many)), ("b".into(), lists(&many))].into();
        let joined = joined_lists(&latest, 2);
        assert_eq!(joined["connections"].as_array().unwrap().len(), ITEMS_MAX);
        assert_eq!(joined["total"], 300);
    }
}
