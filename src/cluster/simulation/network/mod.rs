//! Servers and the wires to them, on tokio's paused clock.
//!
//! A *wire* is one connection of one node to one server: two pipes of bytes, each with a delay drawn from the seed. The
//! order within a pipe is kept, so replies and pushes arrive in the order in which the server has sent them. One task
//! moves everything, in the order of the times at which it is due.
//!
//! [`Network::dial`] opens a wire as a byte stream, [`Network::connect`] puts the client of redis-rs on one. What
//! happens to wires and servers is in `faults`, and `cluster` for those of a Redis Cluster.

mod client;
mod cluster;
mod faults;
mod host;
mod pipe;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use client::Client;
pub(crate) use faults::{Direction, Keep, Late, OldMaster, Wires};
pub(crate) use stream::Stream;

use super::model::{
    lua::Engine,
    replies::Bytes,
    server::{ConnectionId, Server},
    slots::Address,
    state::{Rules, State as ServerState},
};
use host::{Host, HostId};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redis::Value;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use wire::Wire;

/// A node of the simulation, or a client of the test's.
pub(crate) type NodeId = usize;

/// The delay of one way, unless a test says otherwise.
const LATENCY: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(2);
/// The time of the servers' clocks when the simulation begins, in µs since 1970.
const EPOCH_US: u64 = 1_750_000_000_000_000;

/// All servers, and the wires to them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is due earlier than the task knows.
    earlier: Notify,
}

#[derive(Debug)]
struct State {
    random: StdRng,
    start: Instant,
    engine: Arc<Engine<ServerState>>,
    hosts: Vec<Host>,
    addresses: BTreeMap<Address, HostId>,
    wires: BTreeMap<ConnectionId, Wire>,
    last_wire: ConnectionId,
    /// Pipes in which something is due, by when that is.
    due: BinaryHeap<Reverse<(Instant, u64, ConnectionId, Direction)>>,
    dues: u64,
    /// Until when the task sleeps.
    sleeps_until: Option<Instant>,
    stalls: Vec<faults::Stall>,
    latencies: BTreeMap<NodeId, RangeInclusive<Duration>>,
    latency: RangeInclusive<Duration>,
    /// Bytes a second of each wire of a node.
    bandwidths: BTreeMap<NodeId, u32>,
}

impl Network {
    /// A network without servers. Everything random follows from `seed`. Needs a runtime with a paused clock.
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            engine: Arc::new(Engine::new()),
            hosts: Vec::new(),
            addresses: BTreeMap::new(),
            wires: BTreeMap::new(),
            last_wire: 0,
            due: BinaryHeap::new(),
            dues: 0,
            sleeps_until: None,
            stalls: Vec::new(),
            latencies: BTreeMap::new(),
            latency: LATENCY,
            bandwidths: BTreeMap::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), earlier: Notify::new() });
        tokio::spawn(deliver(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Adds an empty server.
    pub(crate) fn add_server(&self, host: &str, port: u16) {
        let mut state = self.lock();
        let seed = state.random.random();
        let server = Server::new(&state.engine, seed);
        state.add_host(server, (host.to_owned(), port));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("the simulation has one thread")
    }

    /// Works on the state, and has the task look at what is due now.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let next = state.due.peek().map(|Reverse((due, ..))| *due);
        if next.is_some_and(|next| state.sleeps_until.is_none_or(|until| next < until)) {
            state.sleeps_until = next;
            self.shared.earlier.notify_one();
        }
        result
    }

    /// Opens a wire of a node to the server at an address.
    ///
    /// # Errors
    ///
    /// No server listens there.
    pub(crate) async fn dial(&self, host: &str, port: u16, node: NodeId) -> io::Result<Stream> {
        let (accept, accepted) = oneshot::channel();
        let address = (host.to_owned(), port);
        let stream = self.change(|state| {
            let server = state.addresses.get(&address).copied();
            let id = state.open(node, server, &address, accept);
            Stream::new(self.clone(), id)
        });
        match accepted.await {
            Ok(true) => Ok(stream),
            Ok(false) | Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Executes a command at a server at once, whatever state the server is in: for the test itself.
    pub(crate) fn ask(&self, host: &str, port: u16, words: &[&str]) -> Value {
        let words: Vec<Bytes> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.change(|state| {
            let id = state.addresses[&(host.to_owned(), port)];
            let mut replies = state.execute(id, 0, &words);
            assert_eq!(replies.len(), 1, "the test itself subscribes to nothing");
            replies.remove(0)
        })
    }

    /// The keys of a server that have not expired.
    pub(crate) fn keys(&self, host: &str, port: u16) -> Vec<Bytes> {
        let mut state = self.lock();
        let host = state.host_at(host, port);
        let now = state.now_us(host);
        state.hosts[host].server.keys(now)
    }

    /// The id of the run of a server.
    pub(crate) fn run_id(&self, host: &str, port: u16) -> String {
        let state = self.lock();
        state.hosts[state.host_at(host, port)].server.run_id().to_owned()
    }

    /// How many commands a server has executed for connections.
    pub(crate) fn commands(&self, host: &str, port: u16) -> u64 {
        let state = self.lock();
        state.hosts[state.host_at(host, port)].commands
    }

    /// Changes what a server refuses.
    pub(crate) fn rules(&self, host: &str, port: u16, change: impl FnOnce(&mut Rules)) {
        let mut state = self.lock();
        let host = state.host_at(host, port);
        change(state.hosts[host].server.rules());
    }

    /// Changes a setting of a server, such as `maxmemory-policy`.
    pub(crate) fn set(&self, host: &str, port: u16, name: &str, value: &str) {
        let mut state = self.lock();
        let host = state.host_at(host, port);
        state.hosts[host].server.settings().insert(name.to_owned(), value.to_owned());
    }
}

impl State {
    fn host_at(&self, host: &str, port: u16) -> HostId {
        self.addresses[&(host.to_owned(), port)]
    }

    fn add_host(&mut self, server: Server, address: Address) -> HostId {
        let id = self.hosts.len();
        self.hosts.push(Host::new(server, address.clone()));
        self.addresses.insert(address, id);
        id
    }

    /// The clock of a server.
    fn now_us(&self, host: HostId) -> u64 {
        let passed = u64::try_from((Instant::now() - self.start).as_micros()).expect("it fits");
        (EPOCH_US + passed).saturating_add_signed(self.hosts[host].offset_us)
    }

    /// Moves everything that is due, and returns the time of the next move.
    fn deliver_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some(Reverse((due, _, wire, direction))) = self.due.peek().copied() {
            if now < due {
                break;
            }
            self.due.pop();
            self.deliver(wire, direction, now);
        }
        self.sleeps_until = self.due.peek().map(|Reverse((due, ..))| *due);
        self.sleeps_until
    }

    fn schedule(&mut self, wire: ConnectionId, direction: Direction, due: Instant) {
        self.dues += 1;
        self.due.push(Reverse((due, self.dues, wire, direction)));
    }
}

async fn deliver(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let next = shared.state.lock().expect("one thread").deliver_due();
        let sleep = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.earlier.notified() => {}
            () = sleep => {}
        }
    }
}
