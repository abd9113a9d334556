//! A client of the storm: it comes and goes, subscribes and leaves, publishes and whispers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::kit::{Api, Entry, Listener, WHISPER};

use super::world::World;

/// Channels of each kind; clients meet on few, so that much happens on each.
const PUBLIC: usize = 6;
const PRIVATE: usize = 3;
const PRESENCE: usize = 4;
/// Users, of whom most have several connections.
const USERS: usize = 60;
/// Milliseconds between two actions of a client.
const PAUSE: std::ops::Range<u64> = 300..1_500;

/// All that one client did and heard.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) user: String,
    /// Connections that ended, by their names, and what was heard on them.
    pub(super) past: Vec<(String, Vec<Entry>)>,
    /// The connection that was there at the end.
    pub(super) present: Option<Session>,
}

impl Life {
    /// All connections and what was heard on them.
    pub(super) fn all(&self) -> Vec<(String, Vec<Entry>)> {
        let mut all = self.past.clone();
        all.extend(
            self.present.iter().map(|session| (session.name.clone(), session.listener.heard())),
        );
        all
    }
}

/// A connection and what it wants.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) listener: Listener,
    /// Channels that it asked for and did not leave, and how often it asked.
    pub(super) wanted: BTreeMap<String, usize>,
    asked: BTreeMap<String, usize>,
}

/// Lives until the storm is over.
pub(super) async fn live(world: Arc<World>, index: usize) -> Life {
    let mut lots = world.lots(u64::try_from(index).expect("there are few clients"));
    let mut stopping = world.stopping();
    let mut life = Life { user: format!("u{}", index % USERS), past: Vec::new(), present: None };
    let mut whispers = 0;
    loop {
        let pause = Duration::from_millis(lots.random_range(PAUSE));
        let stopped = tokio::time::timeout(pause, stopping.wait_for(|stopped| *stopped));
        if stopped.await.is_ok() {
            return life;
        }
        if let Some(session) = life.present.take_if(|session| session.listener.closed().is_some()) {
            life.past.push((session.name, session.listener.heard()));
        }
        if life.present.is_none() {
            let past = life.past.len();
            life.present = connect(&world, &mut lots, &format!("client {index}/{past}")).await;
        }
        if let Some(session) = &mut life.present {
            match lots.random_range(0..100) {
                0..3 => hang_up(&mut life),
                3..35 => subscribe(session, &mut lots, &life.user),
                35..45 => leave(session, &mut lots),
                45..60 => {
                    whispers += 1;
                    whisper(session, &mut lots, &format!("{WHISPER} {index} {whispers}"));
                }
                _ => publish(&world, &mut lots).await,
            }
        }
    }
}

async fn connect(world: &World, lots: &mut StdRng, name: &str) -> Option<Session> {
    let address = world.any_node(lots)?;
    let listener = Listener::connect(address).await?;
    let name = format!("{name} ({} on {address})", listener.socket_id);
    Some(Session { name, listener, wanted: BTreeMap::new(), asked: BTreeMap::new() })
}

fn hang_up(life: &mut Life) {
    if let Some(session) = life.present.take() {
        life.past.push((session.name, session.listener.hang_up()));
    }
}

fn subscribe(session: &mut Session, lots: &mut StdRng, user: &str) {
    let channel = any_channel(lots);
    if session.wanted.contains_key(&channel) {
        return;
    }
    let asked = session.asked.entry(channel.clone()).or_default();
    *asked += 1;
    session.wanted.insert(channel.clone(), *asked);
    if channel.starts_with("presence-") {
        session.listener.ask_as(&channel, user);
    } else {
        session.listener.ask_for(&channel);
    }
}

/// Leaves a channel whose subscription was acknowledged, so that each acknowledgement belongs to one request.
fn leave(session: &mut Session, lots: &mut StdRng) {
    if let Some(channel) = any_acknowledged(session, lots, "") {
        session.wanted.remove(&channel);
        session.listener.leave(&channel);
    }
}

fn whisper(session: &Session, lots: &mut StdRng, data: &str) {
    if let Some(channel) = any_acknowledged(session, lots, "pr") {
        session.listener.whisper("client-whisper", &channel, data);
    }
}

async fn publish(world: &World, lots: &mut StdRng) {
    let channel = any_channel(lots);
    if let Some(node) = world.any_node(lots) {
        world.ledger.publish(&mut Api::new(node), node, &channel).await;
    }
}

fn any_channel(lots: &mut StdRng) -> String {
    match lots.random_range(0..PUBLIC + PRIVATE + PRESENCE) {
        number if number < PUBLIC => format!("c{number}"),
        number if number < PUBLIC + PRIVATE => format!("private-{number}"),
        number => format!("presence-{number}"),
    }
}

/// One of the subscriptions that were acknowledged to channels whose names begin so.
fn any_acknowledged(session: &Session, lots: &mut StdRng, beginning: &str) -> Option<String> {
    let is_acknowledged = |(channel, asked): &(&String, &usize)| {
        channel.starts_with(beginning) && session.listener.acknowledgements(channel) == **asked
    };
    let channels: Vec<&String> =
        session.wanted.iter().filter(is_acknowledged).map(|(channel, _)| channel).collect();
    (!channels.is_empty()).then(|| channels[lots.random_range(0..channels.len())].clone())
}
