//! A simulated client: it connects and disconnects, subscribes and unsubscribes, publishes and sends client events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::support::{Api, Listener, TimedObservation, WHISPER};

use super::world::World;

/// How many channels of each kind there are. They are few, so that each has many subscribers and events.
const PUBLIC: usize = 6;
const PRIVATE: usize = 3;
const PRESENCE: usize = 4;
const CACHE: usize = 2;
const PRIVATE_CACHE: usize = 2;
/// The probability that a client subscribes to the channel of its own user, which often has subscribers on one node
/// only.
const OWN: f64 = 0.25;
/// How many users there are. Most have several connections.
const USERS: usize = 60;

/// Everything that one client did and received.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) user: String,
    /// The ended connections by name, with everything that they received.
    pub(super) past: Vec<(String, Vec<TimedObservation>)>,
    /// The connection that was open at the end.
    pub(super) present: Option<ClientConnection>,
}

impl Life {
    /// Closes the connection without a close frame.
    pub(super) fn hang_up(&mut self) {
        if let Some(session) = self.present.take() {
            self.past.push((session.name, session.listener.hang_up()));
        }
    }

    /// All connections, with everything that they received.
    pub(super) fn all(&self) -> Vec<(String, Vec<TimedObservation>)> {
        let mut all = self.past.clone();
        all.extend(
            self.present.iter().map(|session| (session.name.clone(), session.listener.received())),
        );
        all
    }
}

/// An open connection and its subscriptions.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) name: String,
    pub(super) listener: Listener,
    node: SocketAddr,
    /// The channels that were requested and not left, each with the number of requests.
    pub(super) wanted: BTreeMap<String, usize>,
    requested_at: BTreeMap<String, usize>,
}

/// Runs a client until the end of the run.
pub(super) async fn live(world: Arc<World>, index: usize) -> Life {
    let mut random = world.random(u64::try_from(index).expect("the number of clients is small"));
    let mut stopping = world.stopping();
    let mut life = Life { user: format!("u{}", index % USERS), past: Vec::new(), present: None };
    let mut whispers = 0;
    loop {
        let pause = Duration::from_millis(random.random_range(world.pause.clone()));
        let stopped = tokio::time::timeout(pause, stopping.wait_for(|stopped| *stopped));
        if stopped.await.is_ok() {
            return life;
        }
        if life.present.as_ref().is_some_and(|session| world.is_paused(session.node))
            && random.random_bool(0.2)
        {
            life.hang_up();
        }
        if let Some(session) = life.present.take_if(|session| session.listener.closed().is_some()) {
            life.past.push((session.name, session.listener.received()));
        }
        if life.present.is_none() {
            let past = life.past.len();
            life.present = connect(&world, &mut random, &format!("client {index}/{past}")).await;
        }
        if let Some(session) = &mut life.present {
            match random.random_range(0..100) {
                0..3 => life.hang_up(),
                3..35 => subscribe(session, &mut random, &life.user),
                35..45 => leave(session, &mut random),
                45..60 => {
                    whispers += 1;
                    whisper(session, &mut random, &format!("{WHISPER} {index} {whispers}"));
                }
                _ => publish(&world, &mut random).await,
            }
        }
    }
}

async fn connect(world: &World, random: &mut StdRng, name: &str) -> Option<ClientConnection> {
    let address = world.any_node(random)?;
    let listener = Listener::connect(address).await?;
    let name = format!("{name} ({} on {address})", listener.socket_id);
    Some(ClientConnection {
        name,
        listener,
        node: address,
        wanted: BTreeMap::new(),
        requested_at: BTreeMap::new(),
    })
}

fn subscribe(session: &mut ClientConnection, random: &mut StdRng, user: &str) {
    let channel =
        if random.random_bool(OWN) { format!("presence-of-{user}") } else { any_channel(random) };
    if session.wanted.contains_key(&channel) {
        return;
    }
    let requested_at = session.requested_at.entry(channel.clone()).or_default();
    *requested_at += 1;
    session.wanted.insert(channel.clone(), *requested_at);
    if channel.starts_with("presence-") {
        session.listener.send_join(&channel, user);
    } else {
        session.listener.send_subscribe(&channel);
    }
}

/// Leaves a channel whose subscription was acknowledged, so that each acknowledgement belongs to one request.
fn leave(session: &mut ClientConnection, random: &mut StdRng) {
    if let Some(channel) = any_acknowledged(session, random, "") {
        session.wanted.remove(&channel);
        session.listener.leave(&channel);
    }
}

fn whisper(session: &ClientConnection, random: &mut StdRng, data: &str) {
    if let Some(channel) = any_acknowledged(session, random, "pr") {
        session.listener.whisper("client-whisper", &channel, data);
    }
}

async fn publish(world: &World, random: &mut StdRng) {
    let channel = any_channel(random);
    if let Some(node) = world.any_node(random) {
        world.ledger.publish(&mut Api::new(node), node, &channel).await;
    }
}

fn any_channel(random: &mut StdRng) -> String {
    let kinds = [
        ("c", PUBLIC),
        ("private-", PRIVATE),
        ("presence-", PRESENCE),
        ("cache-", CACHE),
        ("private-cache-", PRIVATE_CACHE),
    ];
    let all = kinds.iter().map(|(_, count)| count).sum();
    let mut number = random.random_range(0..all);
    for (kind, count) in kinds {
        if number < count {
            return format!("{kind}{number}");
        }
        number -= count;
    }
    unreachable!("the number is less than the sum")
}

/// A random acknowledged subscription to a channel whose name begins with a prefix.
fn any_acknowledged(
    session: &ClientConnection,
    random: &mut StdRng,
    beginning: &str,
) -> Option<String> {
    let is_acknowledged = |(channel, requested_at): &(&String, &usize)| {
        channel.starts_with(beginning)
            && session.listener.acknowledgements(channel) == **requested_at
    };
    let channels: Vec<&String> =
        session.wanted.iter().filter(is_acknowledged).map(|(channel, _)| channel).collect();
    (!channels.is_empty()).then(|| channels[random.random_range(0..channels.len())].clone())
}
