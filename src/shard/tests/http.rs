//! HTTP connections before their upgrade.

use super::*;
use crate::{
    hub::{ConnectionRef, ShardSet},
    permit::Permit,
    shard::{AcceptedSocket, Handled, RequestHandler, ResponseSender},
};
use parking_lot::Mutex;

/// The input of connections that were handed over.
type HandedOver = Arc<Mutex<Vec<Vec<u8>>>>;

/// What answers the requests that were begun, in order.
type Begun = Arc<Mutex<Vec<ResponseSender>>>;

/// Understands requests of six bytes: `POST`, and a letter. `p` publishes on the channel `c`, `b` begins something,
/// `f` fills the socket. Anything else is handed over.
#[derive(Debug)]
struct Letters {
    node: Arc<Node>,
    /// The shards that a publish has reached.
    reached: ShardSet,
    idle_until: Option<Instant>,
    handed_over: HandedOver,
    owner: Option<ConnectionRef>,
    begun: Begun,
}

const BEGIN: &[u8] = b"POST b";
const PUBLISH: &[u8] = b"POST p";
const FILL: &[u8] = b"POST f";
const FILLING: usize = 1 << 22;

impl RequestHandler for Letters {
    fn owned_by(&mut self, _: &Arc<Node>, connection: ConnectionRef) {
        self.owner = Some(connection);
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn handle(&mut self, input: &[u8], output: &mut Vec<u8>, _: Instant) -> Handled {
        match input {
            [b'P', b'O', b'S', b'T', b' ', b'p', ..] => {
                publish_on(&self.node, "c", "1", None);
                output.extend_from_slice(b"ok");
            }
            [b'P', b'O', b'S', b'T', b' ', b'b', ..] => {
                let inboxes = Arc::clone(self.node.inboxes());
                self.begun.lock().push(ResponseSender::new(inboxes, self.owner.unwrap()));
                return Handled::Begun { consumed: 6 };
            }
            [b'P', b'O', b'S', b'T', b' ', b'f', ..] => output.resize(output.len() + FILLING, b'x'),
            [b'P', ..] if input.len() < 6 => return Handled::Incomplete { needed: 6 },
            _ => return Handled::Other,
        }
        Handled::Response { consumed: 6, reached: self.reached }
    }

    fn deadline(&self, _: Option<Instant>) -> Option<Instant> {
        self.idle_until
    }

    fn answered(&mut self, _: Instant) {}

    fn into_permit(self: Box<Self>) -> Permit {
        Quota::new(0).try_acquire().unwrap()
    }

    fn hand_over(self: Box<Self>, socket: TcpStream, input: Vec<u8>, _: DrainGuard) {
        drop(socket);
        self.handed_over.lock().push(input);
    }
}

impl ShardFixture {
    /// An HTTP client whose publishes reach `reached`, and what is handed over of it.
    fn http_client(&mut self, reached: ShardSet) -> (TcpStream, HandedOver) {
        self.http_client_until(reached, None)
    }

    /// An HTTP client, what is handed over of it, and what answers the requests that it begins.
    fn beginning_client(&mut self) -> (TcpStream, HandedOver, Begun) {
        let begun = Begun::default();
        let (client, handed_over) = self.http_client_with(shards(&[]), None, Arc::clone(&begun));
        (client, handed_over, begun)
    }

    /// A client whose request was begun before a drain without a successor, and what answers it.
    fn draining_client(&mut self) -> (TcpStream, Begun) {
        let (client, _, begun) = self.beginning_client();
        self.send(&client, BEGIN);
        self.run_until_idle();
        self.shutdown.start();
        self.shutdown.set_mode(DrainMode::NoSuccessor);
        (client, begun)
    }

    fn http_client_until(
        &mut self,
        reached: ShardSet,
        idle_until: Option<Instant>,
    ) -> (TcpStream, HandedOver) {
        self.http_client_with(reached, idle_until, Begun::default())
    }

    fn http_client_with(
        &mut self,
        reached: ShardSet,
        idle_until: Option<Instant>,
        begun: Begun,
    ) -> (TcpStream, HandedOver) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let handed_over = HandedOver::default();
        let node = Arc::clone(&self.node);
        let to = Arc::clone(&handed_over);
        let handler = Letters { node, reached, idle_until, handed_over: to, owner: None, begun };
        let drain = self.shutdown.guard();
        let (handler, now) = (Box::new(handler), clock::now());
        self.shard.now = now;
        self.shard.add_accepted(AcceptedSocket { socket, handler, drain });
        (client, handed_over)
    }
}

fn shards(indexes: &[usize]) -> ShardSet {
    let mut set = ShardSet::default();
    for index in indexes {
        set.insert(ShardIndex::new(*index));
    }
    set
}

#[tokio::test]
async fn an_event_is_delivered_and_then_answered_in_one_turn() {
    let mut fixture = ShardFixture::new();
    let subscriber = fixture.subscribers(1, "c").remove(0);
    let (client, _) = fixture.http_client(shards(&[0]));
    for count in [1, 3] {
        fixture.send(&client, &PUBLISH.repeat(count));
        fixture.turn();
        let events = read_all(&subscriber).matches(r#""event":"e""#).count();
        assert_eq!((events, read_all(&client)), (count, "ok".repeat(count)));
    }
}

#[tokio::test]
async fn an_answer_waits_while_a_shard_with_deliveries_is_behind() {
    let mut fixture = ShardFixture::new();
    let subscriber = fixture.subscribers(1, "c").remove(0);
    let node = Arc::clone(&fixture.node);
    let other = node.inboxes().inbox(ShardIndex::new(1));
    other.set_behind(true);
    let (waits, _) = fixture.http_client(shards(&[0, 1]));
    let (does_not, _) = fixture.http_client(shards(&[0]));
    for client in [&waits, &does_not] {
        fixture.send(client, PUBLISH);
    }
    // The next request is not read before the answer to this one.
    (&waits).write_all(PUBLISH).unwrap();
    fixture.run_until_idle();
    assert_eq!((read_all(&waits), read_all(&does_not)), (String::new(), "ok".to_owned()));
    let before = read_all(&subscriber).matches(r#""event":"e""#).count();
    assert!((2..=3).contains(&before), "delivered all the same: {before}");
    other.set_behind(false);
    fixture.run_until_idle();
    assert_eq!(read_all(&waits), "okok");
}

#[tokio::test]
async fn requests_that_wait_for_the_broker_are_answered_in_order() {
    let mut fixture = ShardFixture::new();
    let (client, handed_over, begun) = fixture.beginning_client();
    fixture.send(&client, &[BEGIN, BEGIN, PUBLISH, BEGIN].concat());
    for _ in 0..3 {
        fixture.run_until_idle();
        assert_eq!(begun.lock().len(), 1, "the next request waits");
        let node = Arc::clone(&fixture.node);
        let other = node.inboxes().inbox(ShardIndex::new(1));
        other.set_behind(true);
        begun.lock().remove(0).send(b"later ".to_vec(), shards(&[1]));
        fixture.run_until_idle();
        assert_eq!(read_all(&client), "", "a shard with deliveries is behind");
        other.set_behind(false);
        fixture.run_until_idle();
        let answer = read_all(&client);
        assert!(["later ", "later ok"].contains(&&*answer), "{answer}");
    }
    assert!(begun.lock().is_empty() && handed_over.lock().is_empty());
}

#[tokio::test]
async fn a_connection_whose_request_is_never_answered_is_closed() {
    let mut fixture = ShardFixture::new();
    let (client, handed_over, begun) = fixture.beginning_client();
    fixture.send(&client, BEGIN);
    fixture.run_until_idle();
    let key = fixture.connection_of(&client).key;
    let node = Arc::clone(&fixture.node);
    node.inboxes().inbox(ShardIndex::new(0)).push(crate::hub::Delivery::Evict(key));
    fixture.shutdown.start();
    fixture.run_until_idle();
    assert_eq!(fixture.shard.http_connections, 1, "it is neither evicted nor handed over");
    begun.lock().clear();
    fixture.run_until_idle();
    assert_eq!((fixture.shard.connections.len(), handed_over.lock().len()), (0, 0));
    // The response to a connection that has ended.
    let (client, _, begun) = fixture.beginning_client();
    drop(client);
    begun.lock().clear();
    fixture.run_until_idle();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_broker_is_answered_during_a_drain() {
    let mut fixture = ShardFixture::new();
    let _subscriber = fixture.subscribers(1, "c");
    let (client, begun) = fixture.draining_client();
    fixture.advance(Duration::from_millis(700)).await;
    assert_eq!(fixture.shard.connections.len(), 1, "the others were dropped");
    begun.lock().remove(0).send(b"late".to_vec(), shards(&[]));
    fixture.run_until_idle();
    assert_eq!(read_all(&client), "late");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_is_dropped_at_the_end_of_a_drain() {
    let mut fixture = ShardFixture::new();
    let _client = fixture.draining_client();
    fixture.advance(Duration::from_secs(1)).await;
    fixture.turn();
    assert_eq!(fixture.shard.connections.len(), 0);
}

/// Otherwise a process with connections that are read slowly would look dead.
#[tokio::test]
async fn sockets_are_polled_while_clients_are_not_read() {
    let mut fixture = ShardFixture::new();
    let client = fixture.subscribers(1, "c").remove(0);
    let node = Arc::clone(&fixture.node);
    let other = node.inboxes().inbox(ShardIndex::new(1));
    for _ in 0..100 {
        let nothing = crate::hub::Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
        other.push(nothing);
    }
    assert!(node.is_backpressured());
    fixture.send(&client, &message(r#"{"event":"pusher:ping"}"#));
    for _ in 0..3 {
        fixture.turn();
    }
    let shard = &fixture.shard;
    assert_eq!((shard.paused_reads.len(), shard.pending_reads.len()), (1, 0), "it is noticed once");
    assert_eq!(read_all(&client), "");
    other.drain_into(&mut std::collections::VecDeque::new());
    fixture.run_until_idle();
    assert!(read_all(&client).contains("pusher:pong"));
}

/// Clients are not read while an inbox is long; publishers wait by their answers.
#[tokio::test]
async fn the_next_request_is_read_although_the_inbox_of_a_shard_is_long() {
    let mut fixture = ShardFixture::new();
    let node = Arc::clone(&fixture.node);
    let other = node.inboxes().inbox(ShardIndex::new(1));
    other.set_behind(true);
    let (client, _) = fixture.http_client(shards(&[1]));
    for _ in 0..2 {
        fixture.send(&client, PUBLISH);
        fixture.turn();
    }
    assert_eq!(read_all(&client), "", "the second one waits for the answer to the first one");
    for _ in 0..100 {
        let nothing = crate::hub::Delivery::Close { keys: Vec::new(), code: CloseCode::Draining };
        other.push(nothing);
    }
    assert!(node.is_backpressured());
    other.set_behind(false);
    (0..3).for_each(|_| fixture.turn());
    assert_eq!(read_all(&client), "okok");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_request_is_handed_over_after_a_while() {
    let mut fixture = ShardFixture::new();
    let (client, handed_over) = fixture.http_client(shards(&[0]));
    fixture.send(&client, &PUBLISH[..3]);
    fixture.advance(Duration::from_millis(249)).await;
    assert!(handed_over.lock().is_empty());
    fixture.advance(Duration::from_millis(50)).await;
    assert_eq!(*handed_over.lock(), [&PUBLISH[..3]]);
    let (client, handed_over) = fixture.http_client(shards(&[0]));
    fixture.send(&client, &PUBLISH[..3]);
    fixture.run_until_idle();
    fixture.send(&client, &PUBLISH[3..]);
    fixture.run_until_idle();
    assert_eq!((read_all(&client), handed_over.lock().len()), ("ok".to_owned(), 0));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_incomplete_request_begins_with_the_answer_before_it() {
    let mut fixture = ShardFixture::new();
    let node = Arc::clone(&fixture.node);
    let other = node.inboxes().inbox(ShardIndex::new(1));
    other.set_behind(true);
    let (client, handed_over) = fixture.http_client(shards(&[0, 1]));
    fixture.send(&client, &[PUBLISH, &PUBLISH[..5]].concat());
    fixture.advance(Duration::from_millis(400)).await;
    assert!(handed_over.lock().is_empty(), "its answer would be lost");
    other.set_behind(false);
    fixture.run_until_idle();
    assert_eq!((read_all(&client), handed_over.lock().len()), ("ok".to_owned(), 0));
    fixture.advance(Duration::from_millis(300)).await;
    assert_eq!(*handed_over.lock(), [&PUBLISH[..5]]);
}

#[tokio::test]
async fn a_request_that_ends_too_early_is_handed_over() {
    let mut fixture = ShardFixture::new();
    let (client, handed_over) = fixture.http_client(shards(&[0]));
    fixture.send(&client, &PUBLISH[..3]);
    fixture.run_until_idle();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    fixture.run_until_idle();
    assert_eq!(*handed_over.lock(), [&PUBLISH[..3]]);
    assert_eq!((fixture.shard.connections.len(), fixture.shard.http_connections), (0, 0));
}

#[tokio::test]
async fn another_request_is_handed_over_after_the_answers_before_it() {
    let mut fixture = ShardFixture::new();
    let (client, handed_over) = fixture.http_client(shards(&[0]));
    fixture.send(&client, &[PUBLISH, PUBLISH, b"GET x", PUBLISH].concat());
    fixture.run_until_idle();
    assert_eq!(read_all(&client), "okok");
    assert_eq!(*handed_over.lock(), [[b"GET x", PUBLISH].concat()]);
    assert_eq!((fixture.shard.connections.len(), fixture.shard.http_connections), (0, 0));
}

#[tokio::test]
async fn a_response_that_blocks_is_continued_before_the_next_request_is_read() {
    let mut fixture = ShardFixture::new();
    let (client, _) = fixture.http_client(shards(&[0]));
    fixture.send(&client, &[FILL, PUBLISH].concat());
    fixture.run_until_idle();
    assert!(fixture.connection_of(&client).is_blocked);
    let mut received = Vec::new();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while received.len() < FILLING + 2 {
        assert!(Instant::now() < deadline, "{} bytes arrived", received.len());
        let mut buffer = vec![0; 1 << 16];
        if let Ok(len) = (&client).read(&mut buffer) {
            received.extend_from_slice(&buffer[..len]);
        }
        fixture.run_until_idle();
    }
    assert!(received.ends_with(b"xok"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_at_its_deadline_or_when_it_is_evicted() {
    let mut fixture = ShardFixture::new();
    let until = clock::now() + Duration::from_secs(5);
    let (_idle, _) = fixture.http_client_until(shards(&[0]), Some(until));
    let (evicted, _) = fixture.http_client(shards(&[0]));
    fixture.run_until_idle();
    let key = fixture.connection_of(&evicted).key;
    let node = Arc::clone(&fixture.node);
    node.inboxes().inbox(ShardIndex::new(0)).push(crate::hub::Delivery::Evict(key));
    fixture.run_until_idle();
    assert_eq!(fixture.shard.http_connections, 1);
    fixture.advance(Duration::from_millis(4_900)).await;
    assert_eq!(fixture.shard.http_connections, 1);
    fixture.advance(Duration::from_millis(200)).await;
    assert_eq!((fixture.shard.connections.len(), fixture.shard.http_connections), (0, 0));
}

#[tokio::test]
async fn all_are_handed_over_when_the_process_shuts_down() {
    let mut fixture = ShardFixture::new();
    let (_client, handed_over) = fixture.http_client(shards(&[0]));
    fixture.run_until_idle();
    fixture.shutdown.start();
    fixture.run_until_idle();
    assert_eq!(*handed_over.lock(), [Vec::<u8>::new()]);
    let (_late, handed_over) = fixture.http_client(shards(&[0]));
    assert_eq!(*handed_over.lock(), [Vec::<u8>::new()]);
    assert_eq!((fixture.shard.connections.len(), fixture.shard.http_connections), (0, 0));
}
