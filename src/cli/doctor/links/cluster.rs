//! From the application through all nodes to clients: events, and members.

use super::{
    super::{
        Checkup,
        causes::{
            api::{NODES_NOT_JOINED, PUBLISH_REACHES_OTHER_SERVER, ROSTERS_DIFFER},
            local::SUBSCRIPTION_FAILED,
        },
        probe::{NotSubscribed, OpenClient, Peer, SignedAnswer, call},
        public::{NO_API, NO_CONNECTION},
        report::Outcome,
    },
    api::{EVENT, failed_later, publish_peer},
    client::another,
};
use crate::config::AppConfig;
use hyper::Method;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{self, Instant};

/// The clients and the publishes of a trial: enough for a proxy that balances to use several nodes.
const CLIENTS: usize = 4;
const PUBLISHES: usize = 4;
/// How long an event or a member may take to be seen everywhere.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// The causes of events and members that are not seen everywhere.
const APART: [&str; 3] = ["nodes_not_joined", "rosters_differ", "publish_reaches_other_server"];
const NODE_HEADER: &str = "x-campanile-node";

/// Clients at the public address, subscribed to one channel.
struct Trial {
    app: AppConfig,
    peer: Peer,
    channel: String,
    clients: Vec<OpenClient>,
}

/// The events that arrived.
struct Arrivals {
    /// For each client, the numbers of the events that it received.
    of_clients: Vec<BTreeSet<u64>>,
    /// The nodes that answered the publishes, as far as they say so.
    nodes: BTreeSet<String>,
    took: Duration,
}

/// Publishes as the application does, and has several clients wait for the events as browsers do.
pub(in crate::cli::doctor) async fn delivery(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(&APART) {
        return skipped;
    }
    let mut trial = match trial(checkup, "private").await {
        Ok(trial) => trial,
        Err(skipped) => return skipped,
    };
    let arrivals = match trial.publish_and_receive(checkup).await {
        Ok(arrivals) => arrivals,
        Err(outcome) => {
            trial.close().await;
            return outcome;
        }
    };
    let peer = trial.peer.clone();
    trial.close().await;
    judge(checkup, &peer, &arrivals)
}

fn judge(checkup: &Checkup<'_>, peer: &Peer, arrivals: &Arrivals) -> Outcome {
    let received: usize = arrivals.of_clients.iter().map(BTreeSet::len).sum();
    let nodes = match arrivals.nodes.len() {
        0 | 1 => String::new(),
        count => format!(" through {count} nodes"),
    };
    if received == CLIENTS * PUBLISHES {
        let ms = arrivals.took.as_millis();
        return Outcome::Well(format!("each event arrived at each client{nodes} within {ms} ms"));
    }
    let public = checkup.public.as_ref().map(|public| public.peer.ws_url("")).unwrap_or_default();
    let seen = format!(
        "{PUBLISHES} events were accepted at {}{nodes}, and of {CLIENTS} clients at {public} ",
        peer.http_url("")
    );
    if received == 0 {
        return PUBLISH_REACHES_OTHER_SERVER.found(format!("{seen}none received any.")).into();
    }
    let counts: Vec<_> =
        arrivals.of_clients.iter().map(|received| received.len().to_string()).collect();
    NODES_NOT_JOINED
        .found(format!("{seen}received {} of them.", counts.join(", ")))
        .line("config.toml of each node, [redis]", "url = \"redis://HOST:6379\"")
        .into()
}

/// Has two users join a channel, and asks for its members again and again: all nodes must know both.
pub(in crate::cli::doctor) async fn presence(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(&APART) {
        return skipped;
    }
    let trial = match trial(checkup, "presence").await {
        Ok(trial) => trial,
        Err(skipped) => return skipped,
    };
    let start = Instant::now();
    let mut answers = BTreeSet::new();
    while start.elapsed() < SEEN_WITHIN {
        answers = match trial.rosters(checkup).await {
            Ok(answers) => answers,
            Err(outcome) => {
                trial.close().await;
                return outcome;
            }
        };
        if answers == BTreeSet::from([CLIENTS]) {
            break;
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    trial.close().await;
    if answers == BTreeSet::from([CLIENTS]) {
        return Outcome::Well(format!("all nodes know all {CLIENTS} members"));
    }
    let counts: Vec<_> = answers.iter().map(ToString::to_string).collect();
    ROSTERS_DIFFER
        .found(format!(
            "{CLIENTS} members are on a presence channel, and the nodes answer {}.",
            counts.join(" or ")
        ))
        .into()
}

/// Opens clients and subscribes them to a new channel.
async fn trial(checkup: &Checkup<'_>, kind: &str) -> Result<Trial, Outcome> {
    if let Some(skipped) = checkup.blocked(NO_CONNECTION).or_else(|| checkup.blocked(NO_API)) {
        return Err(skipped);
    }
    let app = checkup.inputs.app();
    let app = app.ok_or_else(|| Outcome::Skipped("no app is configured".to_owned()))?;
    let (peer, _) = publish_peer(checkup).map_err(Outcome::Skipped)?;
    let channel = format!("{kind}-campanile-doctor-{:x}", rand::random::<u64>());
    let mut trial = Trial { app, peer, channel, clients: Vec::new() };
    for number in 0..CLIENTS {
        let opened = match another(checkup).await {
            Ok(client) => {
                trial.clients.push(*client);
                let failed = |why| {
                    SUBSCRIPTION_FAILED
                        .found(format!("A subscription at the public address was {why}."))
                        .into()
                };
                trial.subscribe(number).await.map_err(failed)
            }
            Err(outcome) => Err(outcome),
        };
        if let Err(outcome) = opened {
            trial.close().await;
            return Err(outcome);
        }
    }
    Ok(trial)
}

impl Trial {
    /// Subscribes a client, on a presence channel as a user of its own.
    async fn subscribe(&mut self, number: usize) -> Result<(), NotSubscribed> {
        let client = &mut self.clients[number];
        let data = self.channel.starts_with("presence-").then(|| {
            json!({"user_id": format!("campanile-doctor-{number}"), "user_info": {}}).to_string()
        });
        client.subscribe(&self.app, &self.channel, data.as_deref()).await
    }

    /// Publishes numbered events, each over its own connection, and collects what arrives.
    async fn publish_and_receive(&mut self, checkup: &Checkup<'_>) -> Result<Arrivals, Outcome> {
        let start = Instant::now();
        let mut nodes = BTreeSet::new();
        for number in 0..PUBLISHES {
            let data = json!({"number": number}).to_string();
            let body = json!({"name": EVENT, "channel": self.channel, "data": data}).to_string();
            let called = call(&self.peer, &self.app, Method::POST, "events", body).await;
            let called = match called {
                Ok(called) if called.answer.status == 200 => called,
                failed => return Err(failed_later(checkup, &self.peer, &self.app, failed)),
            };
            nodes.extend(
                called
                    .answer
                    .headers
                    .get(NODE_HEADER)
                    .and_then(|node| Some(node.to_str().ok()?.to_owned())),
            );
        }
        let deadline = Instant::now() + SEEN_WITHIN;
        let mut of_clients = Vec::new();
        for client in &mut self.clients {
            let mut received = BTreeSet::new();
            while received.len() < PUBLISHES {
                let left = deadline.saturating_duration_since(Instant::now());
                // What has arrived is read even at the deadline.
                let left = left.max(Duration::from_millis(50));
                match client.socket.next_event(|name| name == EVENT, left).await {
                    Ok((_, data)) => received.extend(data["number"].as_u64()),
                    Err(_) => break,
                }
            }
            of_clients.push(received);
        }
        Ok(Arrivals { of_clients, nodes, took: start.elapsed() })
    }

    /// The numbers of members that several requests were answered with.
    async fn rosters(&self, checkup: &Checkup<'_>) -> Result<BTreeSet<usize>, Outcome> {
        let path = format!("channels/{}/users", self.channel);
        let mut counts = BTreeSet::new();
        for _ in 0..PUBLISHES {
            let called = call(&self.peer, &self.app, Method::GET, &path, String::new()).await;
            let users =
                |called: &SignedAnswer| Some(called.answer.json()["users"].as_array()?.len());
            match called.as_ref().ok().and_then(users) {
                Some(count) => counts.insert(count),
                None => return Err(failed_later(checkup, &self.peer, &self.app, called)),
            };
        }
        Ok(counts)
    }

    async fn close(self) {
        for client in self.clients {
            client.socket.close().await;
        }
    }
}
