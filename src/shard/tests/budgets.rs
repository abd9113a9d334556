//! The budgets of one turn; work beyond them is done in later turns.

use super::*;
use std::net::Shutdown as Half;

/// A shard that does not limit the messages of its clients, with large buffers.
fn unlimited() -> Bench {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Accepted sockets inherit the buffer size.
    socket.set_recv_buffer_size(1 << 20).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(16).unwrap();
    Bench::build(socket.into(), MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_messages_per_second = 0;
    })
}

/// Messages without an answer, with this total size.
fn unanswered(bytes: usize) -> Vec<u8> {
    message(&format!("{:114}", r#"{"event":"pusher:pong"}"#)).repeat(bytes / 120)
}

#[tokio::test(start_paused = true)]
async fn a_turn_reads_no_more_than_its_budget() {
    let mut bench = unlimited();
    let clients: Vec<TcpStream> = (0..8).map(|_| bench.connect(b"")).collect();
    bench.settle();
    let sent = unanswered(60_000);
    for client in &clients {
        bench.send(client, &sent);
    }
    bench.turn();
    let left = clients.iter().filter(|client| bench.unread(client) == sent.len()).count();
    assert_eq!(left, 3, "256 KiB cover five, of which the last was begun within it");
    assert!(bench.shard.has_work(), "the rest is still scheduled");
    bench.turn();
    assert!(clients.iter().all(|client| bench.unread(client) == 0), "the next turn reads the rest");
}

#[tokio::test(start_paused = true)]
async fn a_turn_reads_one_client_twice() {
    let mut bench = unlimited();
    let (flood, other) = (bench.connect(b""), bench.connect(b""));
    bench.settle();
    let sent = unanswered(300_000);
    bench.send(&flood, &sent);
    bench.send(&other, &message(r#"{"event":"pusher:ping"}"#));
    bench.turn();
    assert_eq!(bench.unread(&flood), sent.len() - 2 * 64 * 1024);
    assert_eq!(bench.unread(&other), 0);
    bench.settle();
    assert_eq!(bench.unread(&flood), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_is_read_after_all_data() {
    let mut bench = unlimited();
    let client = bench.connect(b"");
    bench.settle();
    let last = message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
    bench.send(&client, &[unanswered(200_000), last].concat());
    client.shutdown(Half::Write).unwrap();
    let frames = bench.receive(&client, |frames| {
        frames.iter().any(|frame| is_event(frame, "pusher_internal:subscription_succeeded"))
    });
    assert!(frames.iter().all(|frame| close_code(frame).is_none()));
    while !bench.shard.connections.is_empty() {
        bench.settle();
    }
    assert_eq!(bench.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn clients_are_not_read_while_a_shard_has_much_to_deliver() {
    let mut bench = Bench::new();
    let client = bench.connect(b"");
    bench.settle();
    let other = bench.node.inboxes().inbox(ShardIndex::new(1));
    let nothing = crate::hub::Delivery::Connections { keys: Vec::new(), frame: Frame::ping() };
    for _ in 0..64 {
        other.push(nothing.clone());
    }
    let ping = message(r#"{"event":"pusher:ping"}"#);
    bench.send(&client, &ping);
    for _ in 0..5 {
        bench.turn();
        assert_eq!(bench.unread(&client), ping.len());
    }
    bench
        .node
        .inboxes()
        .inbox(ShardIndex::new(1))
        .drain_into(&mut std::collections::VecDeque::new());
    bench.receive(&client, |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
}

#[tokio::test(start_paused = true)]
async fn a_turn_flushes_one_slice() {
    let mut bench = Bench::new();
    let clients = bench.subscribers(200, "c");
    for client in &clients {
        bench.shard.send(bench.connection_of(client).key.slot, Frame::ping());
    }
    for turn in 1..=3 {
        bench.turn();
        let waiting =
            bench.shard.connections.iter().filter(|(_, connection)| !connection.outbox.is_empty());
        assert_eq!(waiting.count(), 200 - 64 * turn);
    }
    for client in &clients {
        bench.receive(client, |frames| frames == &[(PING, Vec::new())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_client_is_read_again_after_its_pause() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Half of the outbox limit may be sent at once, and all of it within a second.
    let mut bench = Bench::build(listener, MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_outbox_bytes = MAX_OUTBOX_BYTES;
    });
    bench.publish("cache-c", &"x".repeat(40_000));
    let ask = message(r#"{"event":"pusher:subscribe","data":{"channel":"cache-c"}}"#);
    let leave = message(r#"{"event":"pusher:unsubscribe","data":{"channel":"cache-c"}}"#);
    let client = bench.connect(b"");
    bench.settle();
    bench.send(&client, &[&ask[..], &leave, &ask, &leave, &ask].concat());
    let events = |frames: &Frames| frames.iter().filter(|frame| is_event(frame, "e")).count();
    bench.receive(&client, |frames| events(frames) == 2);
    bench.settle();
    assert_eq!(bench.subscriptions(), 1, "the second answer exceeded the rate");
    assert!(read_frames(&client).is_empty());
    // Of 80 KB, 50 KB are free; the rest takes 0.3 s at 100 KB a second.
    bench.pass(Duration::from_millis(300)).await;
    assert!(read_frames(&client).is_empty(), "frames have headers, which count as well");
    bench.pass(Duration::from_millis(100)).await;
    bench.receive(&client, |frames| events(frames) == 1);
}

#[tokio::test(start_paused = true)]
async fn output_beyond_the_budget_is_written_in_later_turns() {
    let mut bench = Bench::with(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), 1 << 26);
    let client = bench.connect(b"");
    bench.settle();
    let slot = bench.connection_of(&client).key.slot;
    for _ in 0..8_000 {
        bench.shard.send(slot, text_frame());
    }
    let frames = bench.receive(&client, |frames| 8_000 <= frames.len());
    assert_eq!(frames.len(), 8_001, "a megabyte, and the first frame");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_receives_its_last_answers() {
    let mut bench = Bench::new();
    let client = bench.connect(b"");
    bench.settle();
    bench.send(&client, &message(r#"{"event":"pusher:ping"}"#));
    client.shutdown(Half::Write).unwrap();
    bench.receive(&client, |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
}

#[tokio::test(start_paused = true)]
async fn the_close_frame_of_a_throttled_client_is_read_when_the_server_closes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut bench = Bench::build(listener, MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_outbox_bytes = 1_024;
    });
    let ping = message(r#"{"event":"pusher:ping"}"#);
    let client = bench.connect(b"");
    bench.settle();
    bench.send(&client, &[&ping.repeat(40)[..], &control(CLOSE)].concat());
    bench.settle();
    assert_eq!(bench.shard.connections.len(), 1, "the client exceeded the output rate");
    bench.node.hub("app-id").unwrap().close();
    let began = clock::now();
    while !bench.shard.connections.is_empty() {
        assert!(clock::now() - began < Duration::from_secs(1), "its close frame is not read");
        bench.pass(Duration::from_millis(50)).await;
    }
}
