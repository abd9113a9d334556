//! Simulated servers and the connections to them, on tokio's paused clock.
//!
//! A *wire* is one connection of one node to one server: two pipes of bytes, each with a delay drawn from the seed. A
//! pipe keeps the order, so replies and pushes arrive in the order in which the server sent them. One task delivers
//! everything in the order of the due times.
//!
//! [`Network::dial`] opens a wire as a byte stream, [`Network::connect`] opens one with the client of redis-rs. Faults
//! of wires and servers are in `faults`, those of a Redis Cluster in `cluster`.

mod client;
mod cluster;
mod faults;
mod host;
mod pipe;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use client::SimClient;
pub(crate) use faults::{Direction, KeptData, Late, OldMaster, WireFilter};
pub(crate) use stream::SimStream;

use super::model::{
    lua::LuaEngine,
    replies::Bytes,
    server::{ConnectionId, ModelServer},
    slots::Address,
    state::{ModelState, Rules},
};
use host::{HostId, SimHost};
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

/// The id of a simulated node, or of a client of the test.
pub(crate) type NodeId = usize;

/// The one-way delay by default.
const LATENCY: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(2);
/// The clock of the servers at the start of the simulation, in µs since 1970.
const EPOCH_US: u64 = 1_750_000_000_000_000;

/// All servers and the wires to them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    shared: Arc<NetworkInner>,
}

#[derive(Debug)]
struct NetworkInner {
    state: Mutex<NetworkState>,
    /// Notified when a delivery is due before the task wakes up.
    earlier: Notify,
}

#[derive(Debug)]
struct NetworkState {
    random: StdRng,
    start: Instant,
    engine: Arc<LuaEngine<ModelState>>,
    hosts: Vec<SimHost>,
    addresses: BTreeMap<Address, HostId>,
    wires: BTreeMap<ConnectionId, Wire>,
    last_wire: ConnectionId,
    /// Pipes with deliveries, by due time.
    due: BinaryHeap<Reverse<(Instant, u64, ConnectionId, Direction)>>,
    dues: u64,
    /// The time until which the task sleeps.
    sleeps_until: Option<Instant>,
    stalls: Vec<faults::Stall>,
    latencies: BTreeMap<NodeId, RangeInclusive<Duration>>,
    latency: RangeInclusive<Duration>,
    /// The bandwidth of each wire of a node, in bytes a second.
    bandwidths: BTreeMap<NodeId, u32>,
}

impl Network {
    /// A network without servers. All random choices derive from `seed`. Requires a runtime with a paused clock.
    pub(crate) fn new(seed: u64) -> Self {
        let state = NetworkState {
            random: StdRng::seed_from_u64(seed),
            start: Instant::now(),
            engine: Arc::new(LuaEngine::new()),
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
        let shared = Arc::new(NetworkInner { state: Mutex::new(state), earlier: Notify::new() });
        tokio::spawn(deliver(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Adds an empty server.
    pub(crate) fn add_server(&self, host: &str, port: u16) {
        let mut state = self.lock();
        let seed = state.random.random();
        let server = ModelServer::new(&state.engine, seed);
        state.add_host(server, (host.to_owned(), port));
    }

    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        self.shared.state.lock().expect("the simulation has one thread")
    }

    /// Changes the state, and lets the task check for due deliveries.
    fn change<R>(&self, change: impl FnOnce(&mut NetworkState) -> R) -> R {
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
    pub(crate) async fn dial(&self, host: &str, port: u16, node: NodeId) -> io::Result<SimStream> {
        let (accept, accepted) = oneshot::channel();
        let address = (host.to_owned(), port);
        let stream = self.change(|state| {
            let server = state.addresses.get(&address).copied();
            let id = state.open(node, server, &address, accept);
            SimStream::new(self.clone(), id)
        });
        match accepted.await {
            Ok(true) => Ok(stream),
            Ok(false) | Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Executes a command of the test at once, in any state of the server.
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

    /// The number of commands that a server has executed for connections.
    pub(crate) fn commands(&self, host: &str, port: u16) -> u64 {
        let state = self.lock();
        state.hosts[state.host_at(host, port)].commands
    }

    /// Changes the rejection rules of a server.
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

impl NetworkState {
    fn host_at(&self, host: &str, port: u16) -> HostId {
        self.addresses[&(host.to_owned(), port)]
    }

    fn add_host(&mut self, server: ModelServer, address: Address) -> HostId {
        let id = self.hosts.len();
        self.hosts.push(SimHost::new(server, address.clone()));
        self.addresses.insert(address, id);
        id
    }

    /// The current time of a server's clock.
    fn now_us(&self, host: HostId) -> u64 {
        let passed = u64::try_from((Instant::now() - self.start).as_micros()).expect("it fits");
        (EPOCH_US + passed).saturating_add_signed(self.hosts[host].offset_us)
    }

    /// Delivers everything that is due. Returns the time of the next delivery.
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

async fn deliver(shared: Weak<NetworkInner>) {
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
