//! The budgets of one turn; work beyond them is done in later turns.

use super::*;
use std::net::Shutdown as Half;

/// A shard that does not limit the messages of its clients, with large buffers.
fn unlimited() -> ShardFixture {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Accepted sockets inherit the buffer size.
    socket.set_recv_buffer_size(1 << 20).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(16).unwrap();
    ShardFixture::build(socket.into(), MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_messages_per_second = 0;
    })
}

/// Messages without a response, with this total size.
fn unanswered(bytes: usize) -> Vec<u8> {
    message(&format!("{:114}", r#"{"event":"pusher:pong"}"#)).repeat(bytes / 120)
}

#[tokio::test(start_paused = true)]
async fn a_turn_reads_no_more_than_its_budget() {
    let mut fixture = unlimited();
    let clients: Vec<TcpStream> = (0..8).map(|_| fixture.connect(b"")).collect();
    fixture.run_until_idle();
    let sent = unanswered(60_000);
    for client in &clients {
        fixture.send(client, &sent);
    }
    fixture.turn();
    let left = clients.iter().filter(|client| fixture.unread(client) == sent.len()).count();
    assert_eq!(left, 3, "256 KiB cover five, of which the last was begun within it");
    assert!(fixture.shard.has_work(), "the rest is still scheduled");
    fixture.turn();
    assert!(
        clients.iter().all(|client| fixture.unread(client) == 0),
        "the next turn reads the rest"
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_reads_one_client_twice() {
    let mut fixture = unlimited();
    let (flood, other) = (fixture.connect(b""), fixture.connect(b""));
    fixture.run_until_idle();
    let sent = unanswered(300_000);
    fixture.send(&flood, &sent);
    fixture.send(&other, &message(r#"{"event":"pusher:ping"}"#));
    fixture.turn();
    assert_eq!(fixture.unread(&flood), sent.len() - 2 * 64 * 1024);
    assert_eq!(fixture.unread(&other), 0);
    fixture.run_until_idle();
    assert_eq!(fixture.unread(&flood), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_is_read_after_all_data() {
    let mut fixture = unlimited();
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    let last = message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
    fixture.send(&client, &[unanswered(200_000), last].concat());
    client.shutdown(Half::Write).unwrap();
    let frames = fixture.receive(&client, |frames| {
        frames.iter().any(|frame| is_event(frame, "pusher_internal:subscription_succeeded"))
    });
    assert!(frames.iter().all(|frame| close_code(frame).is_none()));
    while !fixture.shard.connections.is_empty() {
        fixture.run_until_idle();
    }
    assert_eq!(fixture.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn clients_are_not_read_while_a_shard_has_much_to_deliver() {
    let mut fixture = ShardFixture::new();
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    let other = fixture.node.inboxes().inbox(ShardIndex::new(1));
    let nothing = crate::hub::Delivery::Connections { keys: Vec::new(), frame: Frame::ping() };
    for _ in 0..64 {
        other.push(nothing.clone());
    }
    let ping = message(r#"{"event":"pusher:ping"}"#);
    fixture.send(&client, &ping);
    for _ in 0..5 {
        fixture.turn();
        assert_eq!(fixture.unread(&client), ping.len());
    }
    fixture
        .node
        .inboxes()
        .inbox(ShardIndex::new(1))
        .drain_into(&mut std::collections::VecDeque::new());
    fixture.receive(&client, |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
}

#[tokio::test(start_paused = true)]
async fn a_turn_flushes_one_slice() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(200, "c");
    for client in &clients {
        fixture.shard.send(fixture.connection_of(client).key.slot, Frame::ping());
    }
    for turn in 1..=3 {
        fixture.turn();
        let waiting = fixture
            .shard
            .connections
            .iter()
            .filter(|(_, connection)| !connection.outbox.is_empty());
        assert_eq!(waiting.count(), 200 - 64 * turn);
    }
    for client in &clients {
        fixture.receive(client, |frames| frames == &[(PING, Vec::new())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_client_is_read_again_after_its_pause() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Half of the outbox limit may be sent at once, and all of it within a second.
    let mut fixture = ShardFixture::build(listener, MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_outbox_bytes = MAX_OUTBOX_BYTES;
    });
    fixture.publish("cache-c", &"x".repeat(40_000));
    let ask = message(r#"{"event":"pusher:subscribe","data":{"channel":"cache-c"}}"#);
    let leave = message(r#"{"event":"pusher:unsubscribe","data":{"channel":"cache-c"}}"#);
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.send(&client, &[&ask[..], &leave, &ask, &leave, &ask].concat());
    let events = |frames: &Frames| frames.iter().filter(|frame| is_event(frame, "e")).count();
    fixture.receive(&client, |frames| events(frames) == 2);
    fixture.run_until_idle();
    assert_eq!(fixture.subscriptions(), 1, "the second response exceeded the rate");
    assert!(read_frames(&client).is_empty());
    // Of 80 KB, 50 KB are free; the rest takes 0.3 s at 100 KB a second.
    fixture.advance(Duration::from_millis(300)).await;
    assert!(read_frames(&client).is_empty(), "frames have headers, which count as well");
    fixture.advance(Duration::from_millis(100)).await;
    fixture.receive(&client, |frames| events(frames) == 1);
}

#[tokio::test(start_paused = true)]
async fn output_beyond_the_budget_is_written_in_later_turns() {
    let mut fixture =
        ShardFixture::with(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), 1 << 26);
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    let slot = fixture.connection_of(&client).key.slot;
    for _ in 0..8_000 {
        fixture.shard.send(slot, text_frame());
    }
    let frames = fixture.receive(&client, |frames| 8_000 <= frames.len());
    assert_eq!(frames.len(), 8_001, "a megabyte, and the first frame");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_receives_its_last_responses() {
    let mut fixture = ShardFixture::new();
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.send(&client, &message(r#"{"event":"pusher:ping"}"#));
    client.shutdown(Half::Write).unwrap();
    fixture.receive(&client, |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
}

#[tokio::test(start_paused = true)]
async fn the_close_frame_of_a_throttled_client_is_read_when_the_server_closes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut fixture = ShardFixture::build(listener, MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_outbox_bytes = 1_024;
    });
    let ping = message(r#"{"event":"pusher:ping"}"#);
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.send(&client, &[&ping.repeat(40)[..], &control(CLOSE)].concat());
    fixture.run_until_idle();
    assert_eq!(fixture.shard.connections.len(), 1, "the client exceeded the output rate");
    fixture.node.hub("app-id").unwrap().close();
    let began = clock::now();
    while !fixture.shard.connections.is_empty() {
        assert!(clock::now() - began < Duration::from_secs(1), "its close frame is not read");
        fixture.advance(Duration::from_millis(50)).await;
    }
}
