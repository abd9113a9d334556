//! How connections are closed at shutdown.

use super::*;
use arc_swap::ArcSwap;

impl ShardFixture {
    fn drain_with(&mut self, mode: DrainMode) {
        self.shutdown.start();
        self.shutdown.set_mode(mode);
    }

    fn open(&self) -> usize {
        self.shard.connections.iter().filter(|(_, connection)| connection.is_open()).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_handed_over_during_the_drain_is_closed() {
    for mode in [DrainMode::NoSuccessor, DrainMode::InheritedSocket, DrainMode::Staggered] {
        let mut fixture = ShardFixture::new();
        let _present = fixture.connect(b"");
        fixture.run_until_idle();
        // The handshake was completed before the drain, so the connection is admitted.
        let client = TcpStream::connect(fixture.listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (socket, peer) = fixture.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let (admitted, drain) = (fixture.admit(peer), fixture.shutdown.guard());
        assert!(admitted.is_ok());
        fixture.drain_with(mode);
        fixture.turn();
        let subscribe = message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
        fixture.hand_to_shard(socket, admitted, &subscribe, drain);
        assert_eq!(fixture.receive_close_code(&client), 4100, "{mode:?}");
        assert_eq!(fixture.subscriptions(), 0);
        fixture.send(&client, &control(CLOSE));
        fixture.advance(Duration::from_millis(100)).await;
        assert!(fixture.shard.connections.len() <= 1, "{mode:?}: it is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_successor_connections_are_closed_one_after_the_other() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(20, "c");
    fixture.drain_with(DrainMode::Staggered);
    // The grace period is 1 s, of which 0.7 s are for closing.
    fixture.run_until_idle();
    assert_eq!(fixture.open(), 19, "the first is closed at once");
    fixture.advance(Duration::from_millis(350)).await;
    assert_eq!(fixture.open(), 9);
    fixture.advance(Duration::from_millis(349)).await;
    assert_eq!(fixture.open(), 0);
    for client in &clients[1..] {
        assert_eq!(fixture.receive_close_code(client), 4200);
        fixture.send(client, &control(CLOSE));
    }
    fixture.advance(Duration::from_millis(150)).await;
    assert_eq!(fixture.shard.connections.len(), 1, "one does not reply");
    // It is dropped after 0.9 s.
    fixture.advance(Duration::from_millis(50)).await;
    assert_eq!(fixture.shard.connections.len(), 1);
    fixture.advance(Duration::from_millis(10)).await;
    assert_eq!(fixture.shard.connections.len(), 0);
    assert_eq!(fixture.shutdown.dropped(), 1, "only the one that did not reply");
    assert!(fixture.shard.is_idle_until_a_deadline(), "no step is left");
}

#[tokio::test(start_paused = true)]
async fn without_a_successor_connections_have_half_a_second_to_reply() {
    let mut fixture = ShardFixture::new();
    let (silent, replying) = (fixture.connect(b""), fixture.connect(b""));
    fixture.run_until_idle();
    fixture.drain_with(DrainMode::NoSuccessor);
    assert_eq!(fixture.receive_close_code(&silent), 4100);
    assert_eq!(fixture.receive_close_code(&replying), 4100);
    fixture.send(&replying, &control(CLOSE));
    fixture.advance(Duration::from_millis(499)).await;
    assert_eq!(fixture.shard.connections.len(), 1);
    fixture.advance(Duration::from_millis(1)).await;
    assert!(fixture.shard.connections.is_empty());
    assert_eq!(fixture.shutdown.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn if_the_successor_ends_the_rest_is_closed_at_once() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(20, "c");
    fixture.drain_with(DrainMode::Staggered);
    fixture.advance(Duration::from_millis(100)).await;
    let before = fixture.open();
    assert!(0 < before && before < 20);
    fixture.shutdown.set_mode(DrainMode::NoSuccessor);
    fixture.run_until_idle();
    assert_eq!(fixture.open(), 0);
    let codes: Vec<u16> = clients.iter().map(|client| fixture.receive_close_code(client)).collect();
    assert_eq!(codes.iter().filter(|code| **code == 4200).count(), 20 - before);
    assert_eq!(codes.iter().filter(|code| **code == 4100).count(), before);
}

impl ShardFixture {
    /// Runs the shard as a task.
    fn run(&mut self) -> tokio::task::JoinHandle<()> {
        let (_, no_adoptions) = mpsc::unbounded_channel();
        let upgraded_sockets = std::mem::replace(&mut self.upgraded_sockets, no_adoptions);
        let settings = Arc::new(ArcSwap::from_pointee(self.shard.config));
        let idle = Shard::new(ShardIndex::new(1), Arc::clone(&self.node), settings).unwrap();
        let shard = std::mem::replace(&mut self.shard, idle);
        let drain = self.shutdown.guard();
        tokio::spawn(async move {
            shard.run(upgraded_sockets, drain).await;
        })
    }
}

/// Reads from a running shard until `is_enough` holds for the received frames.
async fn received(client: &TcpStream, is_enough: impl Fn(&Frames) -> bool) -> Frames {
    let mut received = ReceivedFrames::by(client);
    while !is_enough(&received.frames) {
        tokio::task::yield_now().await;
        received.read();
    }
    received.frames
}

#[tokio::test(start_paused = true)]
async fn a_shard_wakes_up_for_each_kind_of_work() {
    let mut fixture = ShardFixture::new();
    let running = fixture.run();
    // The clock advances only while the shard waits.
    let idle = || tokio::time::sleep(Duration::from_millis(20));
    idle().await;
    let mut client = fixture.connect(b"");
    let has = |name: &'static str| {
        move |frames: &Frames| frames.iter().any(|frame| is_event(frame, name))
    };
    received(&client, has("pusher:connection_established")).await;
    idle().await;
    client.write_all(&message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#)).unwrap();
    received(&client, has("pusher_internal:subscription_succeeded")).await;
    idle().await;
    fixture.publish("c", "1");
    received(&client, has("e")).await;
    idle().await;
    fixture.shutdown.start();
    idle().await;
    assert!(read_frames(&client).is_empty(), "the drain mode is not set yet");
    fixture.shutdown.set_mode(DrainMode::NoSuccessor);
    let frames = received(&client, |frames| frames.iter().any(|it| close_code(it).is_some())).await;
    assert_eq!(frames.last().and_then(close_code), Some(4100));
    client.write_all(&control(CLOSE)).unwrap();
    assert_eq!(fixture.shutdown.drain(TEST_TIMEOUT).await, 0, "nothing is left to wait for");
    assert!(!running.is_finished(), "late connections still receive a close frame");
    running.abort();
}

#[tokio::test]
async fn a_shard_continues_while_it_has_work() {
    const PUBLISHED: usize = 100;
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(200, "c");
    let running = fixture.run();
    // More than one slice, and more than is handed out per turn.
    for _ in 0..PUBLISHED {
        fixture.publish("c", "1");
    }
    for client in &clients {
        received(client, |frames| frames.len() == PUBLISHED).await;
    }
    // More than are closed per turn.
    fixture.node.hub("app-id").unwrap().close();
    for client in &clients {
        let frames = received(client, |frames| frames.len() == 2).await;
        assert_eq!(close_code(&frames[1]), Some(4003));
    }
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shard_wakes_up_for_its_deadlines() {
    let mut fixture = ShardFixture::with_timeouts(120, 30);
    let running = fixture.run();
    let client = fixture.connect(b"");
    let began = clock::now();
    let frames = received(&client, |frames| frames.len() == 1).await;
    assert!(is_event(&frames[0], "pusher:connection_established"));
    // Nothing else happens, so time passes from one deadline to the next.
    while fixture.node.local_connections() == 1 {
        assert!(clock::now() - began < Duration::from_secs(300), "it is not closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let closed = clock::now() - began;
    assert!(Duration::from_secs(150) <= closed && closed < Duration::from_millis(150_200));
    let frames = received(&client, |frames| frames.len() == 4).await;
    assert!(frames[0].0 == PING && is_event(&frames[1], "pusher:ping"));
    assert_eq!(close_code(&frames[3]), Some(4201));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shard_wakes_up_for_each_step_of_a_drain() {
    let mut fixture = ShardFixture::new();
    // Nothing else is due for an hour.
    let clients: Vec<TcpStream> = (0..20).map(|_| fixture.connect(b"")).collect();
    fixture.run_until_idle();
    fixture.drain_with(DrainMode::Staggered);
    let began = clock::now();
    fixture.run_until_idle();
    let in_ms = |fixture: &ShardFixture| {
        let due = fixture.shard.wake_at().unwrap().saturating_duration_since(clock::now());
        due.as_millis()
    };
    assert_eq!(in_ms(&fixture), 10, "connections are closed every 10 ms");
    fixture.advance(Duration::from_millis(705)).await;
    assert_eq!(fixture.open(), 0);
    let closing_look = in_ms(&fixture);
    assert!((1..=100).contains(&closing_look), "all are closed: {closing_look}");
    fixture.advance(Duration::from_millis(185)).await;
    assert_eq!(in_ms(&fixture), 10, "the rest is dropped 900 ms after {began:?}");
    fixture.advance(Duration::from_millis(10)).await;
    assert!(fixture.shard.connections.is_empty());
    assert_eq!(fixture.shutdown.dropped(), clients.len());

    let mut fixture = ShardFixture::new();
    let _silent = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.drain_with(DrainMode::NoSuccessor);
    fixture.run_until_idle();
    assert_eq!(in_ms(&fixture), 500, "the time to reply");
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_connections_has_no_steps_to_take() {
    for mode in [DrainMode::Staggered, DrainMode::InheritedSocket, DrainMode::NoSuccessor] {
        let mut fixture = ShardFixture::new();
        fixture.drain_with(mode);
        fixture.run_until_idle();
        assert_eq!(fixture.shard.wake_at(), None, "{mode:?}");
    }
}
