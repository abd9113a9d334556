//! A shard that a test runs turn by turn, with real loopback sockets.

mod blocked;
mod budgets;
mod drain_schedule;
mod frames;
mod http;
mod leaving;
mod reading;
mod settings;
mod timers;
mod windows;

use super::{connection::Phase, *};
use crate::{
    broker::AppEvent,
    clock,
    config::{Config, ResumeAck},
    hub::ShardIndex,
    node::{ClientAddress, ConnectRequest, Node},
    permit::Quota,
    protocol::{ChannelName, CloseCode, EventData, Frame, SocketId},
    shutdown::{DrainGuard, DrainMode, Shutdown},
    webhook::Webhooks,
};
use arc_swap::ArcSwap;
use frames::*;
use futures_util::FutureExt;
use socket2::{Domain, Socket, Type};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

const MAX_OUTBOX_BYTES: usize = 100_000;

/// Small enough that writes are cut in the middle of frames.
const SMALL_BUFFER: usize = 4 * 1024;

/// A shard, and the client side of its connections.
struct ShardFixture {
    shard: Shard,
    settings: Arc<ArcSwap<ShardConfig>>,
    node: Arc<Node>,
    shutdown: Shutdown,
    add_connection: mpsc::UnboundedSender<UpgradedSocket>,
    upgraded_sockets: mpsc::UnboundedReceiver<UpgradedSocket>,
    listener: TcpListener,
}

/// Encodes a text message as sent by a client, with a mask of zeros.
fn message(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    assert!(len < 126);
    [&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()
}

impl ShardFixture {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::with(listener, MAX_OUTBOX_BYTES)
    }

    /// A shard with these ping and pong timeouts, in seconds.
    fn with_timeouts(activity_timeout_s: u64, pong_timeout_s: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::build(listener, MAX_OUTBOX_BYTES, |config| {
            config.connection.activity_timeout_s = activity_timeout_s;
            config.connection.pong_timeout_s = pong_timeout_s;
        })
    }

    /// A shard whose sockets have minimal send buffers.
    fn with_small_buffers(max_outbox_bytes: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Accepted sockets inherit the buffer size.
        socket.set_send_buffer_size(SMALL_BUFFER).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(16).unwrap();
        Self::with(socket.into(), max_outbox_bytes)
    }

    fn with(listener: TcpListener, max_outbox_bytes: usize) -> Self {
        // No connection is pinged, however slow the machine is.
        Self::build(listener, max_outbox_bytes, |config| {
            config.connection.activity_timeout_s = 3_600;
        })
    }

    fn build(
        listener: TcpListener,
        max_outbox_bytes: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let shutdown = Shutdown::new();
        let mut config = Config::default();
        change(&mut config);
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        // The other shard gets no connections.
        let node = Arc::new(Node::new(&config, 2, 0, shutdown.clone(), webhooks));
        let config = ShardConfig {
            max_message_bytes: 65_536,
            max_outbox_bytes,
            message_timeout: Duration::from_secs(10),
            presence_grace: Duration::ZERO,
            resume_ack: ResumeAck::Pusher,
            resume_max_events: 300,
            shutdown_grace: Duration::from_secs(1),
        };
        let settings = Arc::new(ArcSwap::from_pointee(config));
        let shard = Shard::new(ShardIndex::new(0), Arc::clone(&node), Arc::clone(&settings));
        let shard = shard.unwrap();
        let (add_connection, upgraded_sockets) = mpsc::unbounded_channel();
        Self { shard, settings, node, shutdown, add_connection, upgraded_sockets, listener }
    }

    fn turn(&mut self) {
        let node = Arc::clone(&self.node);
        let inbox = node.inboxes().inbox(ShardIndex::new(0));
        self.shard.request_poll();
        let is_draining = self.shutdown.mode().is_some();
        self.shard.turn(inbox, &mut self.upgraded_sockets, is_draining);
    }

    /// Advances the paused clock, and runs each turn when it is due, like [`Shard::run`].
    async fn advance(&mut self, duration: Duration) {
        let end = clock::now() + duration;
        loop {
            self.run_until_idle();
            let now = clock::now();
            if end <= now {
                return;
            }
            let due = self.shard.wake_at().map_or(end, |at| at.min(end));
            assert!(now < due, "work is still due after a turn");
            tokio::time::advance(due - now).await;
        }
    }

    /// Writes to the server, and waits until the bytes are in the server's socket.
    fn send(&self, mut client: &TcpStream, bytes: &[u8]) {
        client.write_all(bytes).unwrap();
        let socket = self.connection_of(client).socket.tcp();
        let mut buffer = vec![0; bytes.len()];
        let deadline = Instant::now() + TEST_TIMEOUT;
        while socket.peek(&mut buffer).unwrap_or(0) < bytes.len() {
            assert!(Instant::now() < deadline, "the kernel does not deliver it");
        }
    }

    /// The number of bytes from a client that the server has not read.
    fn unread(&self, client: &TcpStream) -> usize {
        let mut buffer = vec![0; 1 << 20];
        self.connection_of(client).socket.tcp().peek(&mut buffer).unwrap_or(0)
    }

    fn connection_of(&self, client: &TcpStream) -> &connection::Connection {
        let address = client.local_addr().unwrap();
        let is_that = |connection: &&connection::Connection| {
            connection.socket.tcp().peer_addr().is_ok_and(|peer| peer == address)
        };
        self.shard.connections.iter().map(|(_, connection)| connection).find(is_that).unwrap()
    }

    /// Reads what a client receives until `is_enough` holds for the frames.
    fn receive(&mut self, client: &TcpStream, is_enough: impl Fn(&Frames) -> bool) -> Frames {
        let mut received = ReceivedFrames::by(client);
        while !is_enough(&received.frames) {
            self.run_until_idle();
            received.read();
        }
        received.frames
    }

    /// The code of the close frame that the client receives.
    fn receive_close_code(&mut self, client: &TcpStream) -> u16 {
        let frames =
            self.receive(client, |frames| frames.iter().any(|it| close_code(it).is_some()));
        assert_eq!(frames.iter().filter_map(close_code).count(), 1);
        frames.last().and_then(close_code).expect("nothing follows a close frame")
    }

    fn subscriptions(&self) -> usize {
        self.node.hub_by_key("app-key").unwrap().subscription_count()
    }

    /// Runs turns until no work is left.
    fn run_until_idle(&mut self) {
        self.turn();
        while self.shard.has_work() {
            self.turn();
        }
    }

    /// Connects clients that are subscribed to `channel`, and have read all frames so far.
    fn subscribers(&mut self, count: usize, channel: &str) -> Vec<TcpStream> {
        let subscribe =
            format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#);
        let clients: Vec<TcpStream> =
            (0..count).map(|_| self.connect(&message(&subscribe))).collect();
        self.run_until_idle();
        for client in &clients {
            let text = read_all(client);
            assert_eq!(text.matches("subscription_succeeded").count(), 1, "{text}");
        }
        clients
    }

    fn connect(&mut self, received: &[u8]) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        self.add_connection(received);
        client.set_nonblocking(true).unwrap();
        client
    }

    /// Connects a client with a minimal receive buffer.
    fn connect_with_small_buffer(&mut self, received: &[u8]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
        socket.connect(&self.listener.local_addr().unwrap().into()).unwrap();
        self.add_connection(received);
        socket.set_nonblocking(true).unwrap();
        socket.into()
    }

    /// Accepts the next connection.
    fn add_connection(&mut self, received: &[u8]) {
        let (socket, peer) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let client = self.admit(peer);
        let drain = self.shutdown.guard();
        self.hand_to_shard(socket, client, received, drain);
    }

    fn admit(&self, peer: SocketAddr) -> Result<Box<AdmittedClient>, CloseCode> {
        let peer = ClientAddress { address: peer.ip(), is_tls: false };
        let request = ConnectRequest {
            key: "app-key",
            token: None,
            protocol: Some("7"),
            origin: None,
            peer,
            is_from_loopback: true,
        };
        self.node.admit(request).now_or_never().unwrap().map(Box::new)
    }

    fn hand_to_shard(
        &self,
        socket: TcpStream,
        client: Result<Box<AdmittedClient>, CloseCode>,
        received: &[u8],
        drain: DrainGuard,
    ) {
        let (received, response) = (received.to_vec(), Vec::new());
        let (tls, permit) = (None, Quota::new(0).try_acquire().unwrap());
        let upgraded = UpgradedSocket { socket, tls, response, received, client, permit, drain };
        self.add_connection.send(upgraded).unwrap();
    }

    /// A connection that is rejected, and that the client never closes.
    fn rejected(&self, drain: DrainGuard) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        self.hand_to_shard(socket, Err(CloseCode::ShuttingDown), &[], drain);
        client
    }

    fn publish(&self, channel: &str, data: &str) {
        self.publish_except(channel, data, None);
    }

    fn publish_except(&self, channel: &str, data: &str, except: Option<SocketId>) {
        publish_on(&self.node, channel, data, except);
    }
}

fn publish_on(node: &Node, channel: &str, data: &str, except: Option<SocketId>) {
    let raw = serde_json::json!(data).to_string();
    let event = AppEvent {
        name: "e".into(),
        data: EventData::new(&raw),
        channels: vec![ChannelName::parse(channel, 200).unwrap()],
        except,
        idempotency_key: None,
    };
    let hub = node.hub_by_key("app-key").unwrap();
    let _ = node.broker().publish(&hub, &[event]).now_or_never().unwrap();
}

#[tokio::test]
async fn a_broadcast_is_flushed_in_slices_with_other_work_in_between() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(300, "c");
    fixture.publish("c", "1");
    fixture.turn();
    let reached = clients.iter().filter(|client| has_something(client)).count();
    assert!(0 < reached && reached < 100, "one slice, not all: {reached}");

    let mut asks = fixture.connect(&message(r#"{"event":"pusher:ping"}"#));
    fixture.turn();
    assert!(read_all(&asks).contains("pusher:pong"), "it is served in its first turn");
    asks.write_all(&message(r#"{"event":"pusher:ping"}"#)).unwrap();
    fixture.turn();
    assert!(read_all(&asks).contains("pusher:pong"), "its later messages are handled too");
    assert!(
        clients.iter().any(|client| !has_something(client)),
        "while the broadcast is under way"
    );

    fixture.run_until_idle();
    assert!(clients.iter().all(|client| read_all(client).matches(r#""event":"e""#).count() == 1));
}

#[tokio::test]
async fn events_are_batched_in_the_outboxes_of_waiting_connections() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(300, "c");
    for data in 0..5 {
        fixture.publish("c", &data.to_string());
        fixture.turn();
    }
    let writes_left = fixture.shard.dirty_len();
    assert!(writes_left < 300 * 4, "the last connections get several events in one write");
    fixture.run_until_idle();
    for client in &clients {
        let text = read_all(client);
        let order: Vec<_> =
            text.match_indices(r#""data":""#).map(|(at, _)| &text[at + 8..at + 9]).collect();
        assert_eq!(order, ["0", "1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn large_responses_to_small_requests_use_up_the_budget() {
    let mut fixture = ShardFixture::new();
    fixture.publish("cache-c", &"x".repeat(20_000));
    let mut clients: Vec<TcpStream> = (0..60).map(|_| fixture.connect(b"")).collect();
    fixture.run_until_idle();
    let subscribe = message(r#"{"event":"pusher:subscribe","data":{"channel":"cache-c"}}"#);
    for client in &mut clients {
        client.write_all(&subscribe).unwrap();
    }
    fixture.turn();
    let responses = fixture.node.hub_by_key("app-key").unwrap().subscription_count();
    assert!(0 < responses && responses < 30, "{responses} responses of 20,000 bytes in one turn");
    fixture.run_until_idle();
    assert!(clients.iter().all(|client| read_all(client).contains("xxx")));
}

#[tokio::test]
async fn connections_of_a_removed_app_are_closed_in_slices_including_late_ones() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(300, "c");
    fixture.node.hub("app-id").unwrap().close();
    fixture.turn();
    let left = fixture.node.hub("app-id").unwrap().subscription_count();
    assert_eq!(left, 300 - 64, "some of them, and not all");
    fixture.run_until_idle();
    assert_eq!(fixture.node.hub("app-id").unwrap().subscription_count(), 0);
    let late = fixture.connect(&[]);
    fixture.run_until_idle();
    for client in clients.iter().chain([&late]) {
        let text = read_all(client);
        assert!(text.contains(r#"\"code\":4003"#) || text.contains(r#""code":4003"#), "{text}");
    }
}

#[tokio::test]
async fn a_panic_closes_one_connection() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(3, "c");
    fixture.shard.catch_panic_for(1, |_, _| panic!("a bug, for the test"));
    fixture.publish("c", "1");
    fixture.run_until_idle();
    assert_eq!(fixture.shard.connections.len(), 2);
    let hears = |client: &TcpStream| read_all(client).contains(r#""event":"e""#);
    assert_eq!(clients.iter().filter(|client| hears(client)).count(), 2);
    assert_eq!(fixture.node.hub_by_key("app-key").unwrap().subscription_count(), 2);
}

#[tokio::test]
async fn only_connections_from_before_the_shutdown_are_dropped_at_its_end() {
    let mut fixture = ShardFixture::new();
    // A request that was in progress when the shutdown began.
    let early_drain = fixture.shutdown.guard();
    let rejected_before = fixture.rejected(fixture.shutdown.guard());
    let silent = fixture.connect(&[]);
    fixture.run_until_idle();
    fixture.shutdown.start();
    fixture.shutdown.set_mode(DrainMode::NoSuccessor);
    let rejected_since = fixture.rejected(fixture.shutdown.guard());
    fixture.run_until_idle();
    assert_eq!(fixture.shard.connections.len(), 3, "they have time to reply");
    while fixture.shard.connections.len() == 3 {
        fixture.turn();
    }
    assert_eq!(fixture.shutdown.dropped(), 1, "the admitted one");
    assert!(fixture.shard.is_idle_until_a_deadline(), "no step of the drain schedule is left");
    let rejected_late = fixture.rejected(early_drain);
    fixture.run_until_idle();
    let is_late = fixture.shard.connections.iter().all(|(_, left)| !left.drain.delays_drain());
    assert!(is_late && fixture.shard.connections.len() == 1, "it is not waited for");
    for client in [&rejected_before, &silent, &rejected_since, &rejected_late] {
        let text = read_all(client);
        assert!(text.contains("4100"), "{text}");
    }
    assert_eq!(fixture.shutdown.drain(Duration::ZERO).await, 0);
}

#[test]
fn a_connection_is_small() {
    // The minimum memory of an idle connection, the counts of its messages included; its session is
    // stored separately.
    let (connection, client) = (size_of::<connection::Connection>(), size_of::<AdmittedClient>());
    assert!(connection <= 152 && client <= 352, "{connection} {client}");
}
