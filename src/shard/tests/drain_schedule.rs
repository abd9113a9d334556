//! How connections are closed at shutdown.

use super::*;
use arc_swap::ArcSwap;

impl ShardTest {
    fn drain_with(&mut self, plan: DrainMode) {
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
        let mut test = ShardTest::new();
        let _present = test.connect(b"");
        test.run_until_idle();
        // The handshake was completed before the drain, so the connection is admitted.
        let client = TcpStream::connect(test.listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (socket, peer) = test.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let (admitted, drain) = (test.admit(peer), test.shutdown.guard());
        assert!(admitted.is_ok());
        test.drain_with(mode);
        test.turn();
        let subscribe = message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
        test.hand_to_shard(socket, admitted, &subscribe, drain);
        assert_eq!(test.receive_close_code(&client), 4100, "{mode:?}");
        assert_eq!(test.subscriptions(), 0);
        test.send(&client, &control(CLOSE));
        test.advance(Duration::from_millis(100)).await;
        assert!(test.shard.connections.len() <= 1, "{mode:?}: it is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_successor_connections_are_closed_one_after_the_other() {
    let mut test = ShardTest::new();
    let clients = test.subscribers(20, "c");
    test.drain_with(DrainMode::Staggered);
    // The grace period is 1 s, of which 0.7 s are for closing.
    test.run_until_idle();
    assert_eq!(test.open(), 19, "the first is closed at once");
    test.advance(Duration::from_millis(350)).await;
    assert_eq!(test.open(), 9);
    test.advance(Duration::from_millis(349)).await;
    assert_eq!(test.open(), 0);
    for client in &clients[1..] {
        assert_eq!(test.receive_close_code(client), 4200);
        test.send(client, &control(CLOSE));
    }
    test.advance(Duration::from_millis(150)).await;
    assert_eq!(test.shard.connections.len(), 1, "one does not reply");
    // It is dropped after 0.9 s.
    test.advance(Duration::from_millis(50)).await;
    assert_eq!(test.shard.connections.len(), 1);
    test.advance(Duration::from_millis(10)).await;
    assert_eq!(test.shard.connections.len(), 0);
    assert_eq!(test.shutdown.dropped(), 1, "only the one that did not reply");
    assert!(test.shard.is_idle_until_a_deadline(), "no step is left");
}

#[tokio::test(start_paused = true)]
async fn without_a_successor_connections_have_half_a_second_to_reply() {
    let mut test = ShardTest::new();
    let (silent, replying) = (test.connect(b""), test.connect(b""));
    test.run_until_idle();
    test.drain_with(DrainMode::NoSuccessor);
    assert_eq!(test.receive_close_code(&silent), 4100);
    assert_eq!(test.receive_close_code(&replying), 4100);
    test.send(&replying, &control(CLOSE));
    test.advance(Duration::from_millis(499)).await;
    assert_eq!(test.shard.connections.len(), 1);
    test.advance(Duration::from_millis(1)).await;
    assert!(test.shard.connections.is_empty());
    assert_eq!(test.shutdown.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn if_the_successor_ends_the_rest_is_closed_at_once() {
    let mut test = ShardTest::new();
    let clients = test.subscribers(20, "c");
    test.drain_with(DrainMode::Staggered);
    test.advance(Duration::from_millis(100)).await;
    let before = test.open();
    assert!(0 < before && before < 20);
    test.shutdown.set_mode(DrainMode::NoSuccessor);
    test.run_until_idle();
    assert_eq!(test.open(), 0);
    let codes: Vec<u16> = clients.iter().map(|client| test.receive_close_code(client)).collect();
    assert_eq!(codes.iter().filter(|code| **code == 4200).count(), 20 - before);
    assert_eq!(codes.iter().filter(|code| **code == 4100).count(), before);
}

impl ShardTest {
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
    let mut test = ShardTest::new();
    let running = test.run();
    // The clock advances only while the shard waits.
    let idle = || tokio::time::sleep(Duration::from_millis(20));
    idle().await;
    let mut client = test.connect(b"");
    let has = |name: &'static str| {
        move |frames: &Frames| frames.iter().any(|frame| is_event(frame, name))
    };
    received(&client, has("pusher:connection_established")).await;
    idle().await;
    client.write_all(&message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#)).unwrap();
    received(&client, has("pusher_internal:subscription_succeeded")).await;
    idle().await;
    test.publish("c", "1");
    received(&client, has("e")).await;
    idle().await;
    test.shutdown.start();
    idle().await;
    assert!(read_frames(&client).is_empty(), "the drain plan is not set yet");
    test.shutdown.set_mode(DrainMode::NoSuccessor);
    let frames = received(&client, |frames| frames.iter().any(|it| close_code(it).is_some())).await;
    assert_eq!(frames.last().and_then(close_code), Some(4100));
    client.write_all(&control(CLOSE)).unwrap();
    assert_eq!(test.shutdown.drain(TEST_TIMEOUT).await, 0, "nothing is left to wait for");
    assert!(!running.is_finished(), "late connections still receive a close frame");
    running.abort();
}

#[tokio::test]
async fn a_shard_continues_while_it_has_work() {
    const PUBLISHED: usize = 100;
    let mut test = ShardTest::new();
    let clients = test.subscribers(200, "c");
    let running = test.run();
    // More than one slice, and more than is handed out per turn.
    for _ in 0..PUBLISHED {
        test.publish("c", "1");
    }
    for client in &clients {
        received(client, |frames| frames.len() == PUBLISHED).await;
    }
    // More than are closed per turn.
    test.node.hub("app-id").unwrap().close();
    for client in &clients {
        let frames = received(client, |frames| frames.len() == 2).await;
        assert_eq!(close_code(&frames[1]), Some(4003));
    }
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shard_wakes_up_for_its_deadlines() {
    let mut test = ShardTest::with_timeouts(120, 30);
    let running = test.run();
    let client = test.connect(b"");
    let began = clock::now();
    let frames = received(&client, |frames| frames.len() == 1).await;
    assert!(is_event(&frames[0], "pusher:connection_established"));
    // Nothing else happens, so time passes from one deadline to the next.
    while test.node.connections_here() == 1 {
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
    let mut test = ShardTest::new();
    // Nothing else is due for an hour.
    let clients: Vec<TcpStream> = (0..20).map(|_| test.connect(b"")).collect();
    test.run_until_idle();
    test.drain_with(DrainMode::Staggered);
    let began = clock::now();
    test.run_until_idle();
    let in_ms = |test: &ShardTest| {
        let due = test.shard.wake_at().unwrap().saturating_duration_since(clock::now());
        due.as_millis()
    };
    assert_eq!(in_ms(&test), 10, "connections are closed every 10 ms");
    test.advance(Duration::from_millis(705)).await;
    assert_eq!(test.open(), 0);
    let closing_look = in_ms(&test);
    assert!((1..=100).contains(&closing_look), "all are closed: {closing_look}");
    test.advance(Duration::from_millis(185)).await;
    assert_eq!(in_ms(&test), 10, "the rest is dropped 900 ms after {began:?}");
    test.advance(Duration::from_millis(10)).await;
    assert!(test.shard.connections.is_empty());
    assert_eq!(test.shutdown.dropped(), clients.len());

    let mut test = ShardTest::new();
    let _silent = test.connect(b"");
    test.run_until_idle();
    test.drain_with(DrainMode::NoSuccessor);
    test.run_until_idle();
    assert_eq!(in_ms(&test), 500, "the time to reply");
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_connections_has_no_steps_to_take() {
    for mode in [DrainMode::Staggered, DrainMode::InheritedSocket, DrainMode::NoSuccessor] {
        let mut test = ShardTest::new();
        test.drain_with(mode);
        test.run_until_idle();
        assert_eq!(test.shard.wake_at(), None, "{mode:?}");
    }
}
