//! A TCP proxy between a node and Redis that injects network faults.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::within;

/// The bytes of one write while the bandwidth is limited.
const CHUNK: usize = 4_096;

/// What the proxy does with the bytes that it receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkFault {
    /// Delivers the bytes.
    None,
    /// Drops what the node sends and delivers what Redis sends.
    DropToRedis,
    /// Drops what Redis sends and delivers what the node sends.
    DropToNode,
    /// Holds what Redis sends until the link changes, and delivers what the node sends.
    HoldToNode,
    /// Holds what the node sends until the link changes, and delivers what Redis sends.
    HoldToRedis,
    /// Holds the bytes of both sides; new connections wait. If the node gives up a connection meanwhile, the bytes that
    /// it had sent are still delivered.
    HoldBoth,
    /// Drops all bytes; new connections wait.
    DropBoth,
    /// Resets all connections, new ones included.
    Reset,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TransferMode {
    Deliver,
    Hold,
    Drop,
}

impl LinkFault {
    fn to_redis(self) -> TransferMode {
        match self {
            Self::None | Self::DropToNode | Self::HoldToNode => TransferMode::Deliver,
            Self::HoldToRedis | Self::HoldBoth => TransferMode::Hold,
            Self::DropToRedis | Self::DropBoth | Self::Reset => TransferMode::Drop,
        }
    }

    fn to_node(self) -> TransferMode {
        match self {
            Self::None | Self::DropToRedis | Self::HoldToRedis => TransferMode::Deliver,
            Self::HoldToNode | Self::HoldBoth => TransferMode::Hold,
            Self::DropToNode | Self::DropBoth | Self::Reset => TransferMode::Drop,
        }
    }

    fn takes_connections(self) -> bool {
        !matches!(self, Self::DropBoth | Self::HoldBoth)
    }
}

/// The state of the network between one node and Redis.
#[derive(Clone, Copy, Debug)]
struct Network {
    link: LinkFault,
    redis: SocketAddr,
    /// The delay in each direction.
    delay: Duration,
    bytes_per_second: Option<u32>,
    /// The delay of bytes on a connection that the node has given up, counted from when the link is whole.
    old_bytes_delay: Duration,
    /// Another link for the connections that had subscribed to a bus by that time.
    buses: Option<(LinkFault, Instant)>,
    /// How many times the node's side of all connections was closed.
    cuts: u32,
}

/// A proxy on a port of its own.
///
/// Dropped bytes are lost: a connection with a gap is reset when the link is whole again, since TCP would not deliver
/// the bytes behind the gap either.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    observed: watch::Sender<Observed>,
    accepting: JoinHandle<()>,
}

/// What tests wait for.
#[derive(Debug, Default)]
struct Observed {
    /// Connections that the node has given up and whose bytes were delivered late, at their begin and at their end.
    late_begun: usize,
    late_ended: usize,
}

impl Proxy {
    /// Starts a proxy that forwards to this server.
    pub async fn in_front_of(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let (network, seen) = watch::channel(Network {
            link: LinkFault::None,
            redis,
            delay: Duration::ZERO,
            bytes_per_second: None,
            old_bytes_delay: Duration::ZERO,
            buses: None,
            cuts: 0,
        });
        let observed = watch::Sender::new(Observed::default());
        let accepting = tokio::spawn(accept(listener, seen, observed.clone()));
        Self { address, network, observed, accepting }
    }

    /// The address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of Redis behind the proxy.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes the link of all connections.
    pub fn set(&self, link: LinkFault) {
        self.network.send_modify(|network| network.link = link);
    }

    /// Waits until the bytes of all connections that the node has given up are delivered. There must be some.
    pub async fn has_delivered_old_bytes(&self) {
        let is_over = |now: &Observed| 0 < now.late_begun && now.late_begun == now.late_ended;
        let mut observed = self.observed.subscribe();
        within("old bytes", observed.wait_for(is_over)).await.expect("the proxy is there");
    }

    /// Changes the link of the existing connections that have subscribed to a bus.
    pub fn set_buses(&self, link: LinkFault) {
        self.network.send_modify(|network| network.buses = Some((link, Instant::now())));
    }

    /// Sets the delay, in each direction, of bytes sent from now on.
    pub fn delay(&self, delay: Duration) {
        self.network.send_modify(|network| network.delay = delay);
    }

    /// Limits the bandwidth of each connection and direction.
    pub fn limit(&self, bytes_per_second: Option<u32>) {
        self.network.send_modify(|network| network.bytes_per_second = bytes_per_second);
    }

    /// Sets the delay of bytes on connections that the node gives up, counted from when the link is whole.
    pub fn delay_old_bytes(&self, delay: Duration) {
        self.network.send_modify(|network| network.old_bytes_delay = delay);
    }

    /// Closes the node's side of all connections and makes the link whole. Bytes that the node had sent and that were
    /// held arrive after `delay`.
    pub fn cut(&self, delay: Duration) {
        self.network.send_modify(|network| {
            network.cuts += 1;
            network.old_bytes_delay = delay;
            network.link = LinkFault::None;
        });
    }

    /// Connects new connections to another Redis and closes the existing ones.
    pub fn redirect(&self, redis: SocketAddr) {
        self.network.send_modify(|network| {
            network.redis = redis;
            network.cuts += 1;
            network.old_bytes_delay = Duration::ZERO;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    network: watch::Receiver<Network>,
    observed: watch::Sender<Observed>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(carry(stream, network.clone(), observed.clone()));
    }
}

/// One connection through the proxy.
#[derive(Debug)]
struct Carried {
    network: watch::Receiver<Network>,
    observed: watch::Sender<Observed>,
    /// The value of `Network::cuts` when the connection began.
    cuts: u32,
    lost_bytes: watch::Sender<bool>,
    opened: Instant,
    /// Whether the connection has subscribed to a bus.
    is_bus: AtomicBool,
    /// Whether the node has closed the connection.
    is_old: AtomicBool,
}

/// Bytes, and when they are due.
type Queue = mpsc::UnboundedReceiver<(Instant, Vec<u8>)>;

/// Carries one connection until either side ends it, or the link breaks it.
async fn carry(
    mut node: TcpStream,
    mut network: watch::Receiver<Network>,
    observed: watch::Sender<Observed>,
) {
    if network.wait_for(|network| network.link.takes_connections()).await.is_err() {
        return;
    }
    let Network { link, redis, cuts, .. } = *network.borrow();
    if link == LinkFault::Reset {
        reset(&node);
        return;
    }
    let Ok(mut redis) = TcpStream::connect(redis).await else {
        return;
    };
    for stream in [&node, &redis] {
        // The connection may be closed already.
        let _already_gone = stream.set_nodelay(true);
    }
    let lost_bytes = watch::Sender::new(false);
    let carried = Carried {
        network,
        observed,
        cuts,
        lost_bytes,
        opened: Instant::now(),
        is_bus: AtomicBool::new(false),
        is_old: AtomicBool::new(false),
    };
    let is_broken = {
        let ((from_node, to_node), (from_redis, to_redis)) = (node.split(), redis.split());
        tokio::select! {
            () = carried.deliver_to_redis(from_node, to_redis) => false,
            () = carried.deliver_to_node(from_redis, to_node) => false,
            () = carried.broken() => true,
        }
    };
    if is_broken {
        reset(&node);
        reset(&redis);
    }
}

impl Carried {
    /// Delivers until Redis closes the connection, or until the node has closed it and all its bytes are delivered.
    async fn deliver_to_redis(&self, from: ReadHalf<'_>, to: WriteHalf<'_>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let reading = async {
            tokio::select! {
                () = self.read(from, queue) => {}
                () = self.cut() => {}
            }
            self.is_old.store(true, Ordering::Relaxed);
        };
        let writing = self.write(queued, to, LinkFault::to_redis);
        tokio::pin!(writing);
        tokio::select! {
            _ = &mut writing => {}
            () = reading => {
                writing.await;
            }
        }
    }

    /// Delivers until Redis has closed the connection and all its bytes are delivered.
    async fn deliver_to_node(&self, from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let (queue, queued) = mpsc::unbounded_channel();
        let both = async {
            let (reading, writing) =
                (self.read(from, queue), self.write(queued, &mut to, LinkFault::to_node));
            tokio::pin!(writing);
            tokio::select! {
                is_taken = &mut writing => is_taken,
                () = reading => writing.await,
            }
        };
        let is_taken = tokio::select! {
            is_taken = both => is_taken,
            () = self.cut() => false,
        };
        if !is_taken {
            // The node may have closed the connection itself. The bytes that it had sent are still delivered.
            let _already_gone = to.shutdown().await;
            std::future::pending::<()>().await;
        }
    }

    fn link(&self, network: &Network) -> LinkFault {
        match network.buses {
            Some((link, at)) if self.is_bus.load(Ordering::Relaxed) && self.opened < at => link,
            _ => network.link,
        }
    }

    async fn cut(&self) {
        let mut network = self.network.clone();
        // A dropped proxy never cuts the connection.
        if network.wait_for(|network| network.cuts != self.cuts).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the connection must be reset: the link resets it, or the link is whole again and bytes were lost.
    async fn broken(&self) {
        let (mut network, mut lost) = (self.network.clone(), self.lost_bytes.subscribe());
        loop {
            let (now, has_gap) =
                (self.link(&network.borrow_and_update()), *lost.borrow_and_update());
            if now == LinkFault::Reset || (has_gap && now == LinkFault::None) {
                return;
            }
            tokio::select! {
                changed = network.changed() => if changed.is_err() { return },
                changed = lost.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn read(&self, mut from: ReadHalf<'_>, queue: mpsc::UnboundedSender<(Instant, Vec<u8>)>) {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if buffer[..count].windows(9).any(|word| word == b"SUBSCRIBE") {
                self.is_bus.store(true, Ordering::Relaxed);
            }
            let due = Instant::now() + self.network.borrow().delay;
            if queue.send((due, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    }

    /// Writes the queued bytes when they are due. Returns `false` if the receiver does not accept them any more.
    async fn write<W>(
        &self,
        mut queue: Queue,
        mut to: W,
        passage: fn(LinkFault) -> TransferMode,
    ) -> bool
    where
        W: AsyncWriteExt + Unpin,
    {
        let mut network = self.network.clone();
        let mut late = None;
        while let Some((due, bytes)) = queue.recv().await {
            tokio::time::sleep_until(due).await;
            let settled =
                network.wait_for(|now| passage(self.link(now)) != TransferMode::Hold).await;
            let Ok(now) = settled.map(|network| *network) else {
                return true;
            };
            if passage(self.link(&now)) == TransferMode::Drop {
                self.lost_bytes.send_replace(true);
                continue;
            }
            let is_old = self.is_old.load(Ordering::Relaxed) || now.cuts != self.cuts;
            if is_old && late.is_none() {
                late = Some(Late::begin(&self.observed));
                tokio::time::sleep(now.old_bytes_delay).await;
            }
            for chunk in bytes.chunks(now.bytes_per_second.map_or(usize::MAX, |_| CHUNK)) {
                if let Some(bytes_per_second) = now.bytes_per_second {
                    let length = u32::try_from(chunk.len()).expect("a chunk is small");
                    let time = f64::from(length) / f64::from(bytes_per_second);
                    tokio::time::sleep(Duration::from_secs_f64(time)).await;
                }
                if to.write_all(chunk).await.is_err() {
                    return false;
                }
            }
        }
        true
    }
}

/// A connection that the node has given up, while its bytes are delivered.
struct Late<'a>(&'a watch::Sender<Observed>);

impl<'a> Late<'a> {
    fn begin(observed: &'a watch::Sender<Observed>) -> Self {
        observed.send_modify(|now| now.late_begun += 1);
        Self(observed)
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|now| now.late_ended += 1);
    }
}

/// Has the kernel send a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // The connection may be closed already.
    let _already_gone = stream.set_zero_linger();
}
