//! Clients that read more slowly than they are sent data.

use super::*;

const SUBSCRIBE: &str = r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#;

impl ShardFixture {
    /// A subscriber whose socket is marked as full, regardless of the kernel's buffer.
    fn blocked_subscriber(&mut self) -> TcpStream {
        let client = self.subscribers(1, "c").remove(0);
        let slot = self.slot_of(&client) as usize;
        self.shard.connections[slot].is_blocked = true;
        client
    }

    /// Sends to a client until its socket is full.
    fn fill(&mut self, client: &TcpStream) {
        while !self.connection_of(client).is_blocked {
            self.shard.send(self.slot_of(client), text_frame());
            self.run_until_idle();
        }
    }

    fn slot_of(&self, client: &TcpStream) -> u32 {
        self.connection_of(client).key.slot
    }

    fn waiting_for(&self, client: &TcpStream) -> usize {
        self.connection_of(client).outbox.bytes()
    }

    /// Whether publishers have to wait.
    fn has_backpressure(&self) -> bool {
        let inbox = self.node.inboxes().inbox(ShardIndex::new(0));
        inbox.wait_for_backpressure().now_or_never().is_none()
    }
}

fn events(frames: &Frames) -> usize {
    frames.iter().filter(|frame| is_event(frame, "e")).count()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_closed_and_the_others_lose_nothing() {
    const PUBLISHED: usize = 100;
    let mut fixture = ShardFixture::with_small_buffers(MAX_OUTBOX_BYTES);
    let reads = fixture.subscribers(3, "c");
    let sleeps = fixture.connect_with_small_buffer(&message(SUBSCRIBE));
    fixture.run_until_idle();
    let data = "x".repeat(10_000);
    for _ in 0..PUBLISHED {
        fixture.publish("c", &data);
        for client in &reads {
            fixture.receive(client, |frames| events(frames) == 1);
        }
    }
    let closed = fixture.connection_of(&sleeps);
    assert!(matches!(closed.phase, Phase::Closing(_)));
    assert!(closed.outbox.bytes() < 11_000, "the queue is freed at once, except for a cut frame");
    assert_eq!(fixture.subscriptions(), 3, "its subscription has ended");
    let received =
        fixture.receive(&sleeps, |frames| frames.last().is_some_and(|(first, _)| *first == CLOSE));
    let taken = events(&received);
    assert!(0 < taken && taken < PUBLISHED, "events queued before arrive whole: {taken}");
    assert_eq!(received.last().and_then(close_code), Some(4100));
}

#[tokio::test(start_paused = true)]
async fn an_outbox_is_limited_to_the_byte() {
    for is_fan_out in [false, true] {
        let mut fixture = ShardFixture::new();
        let client = fixture.blocked_subscriber();
        let slot = fixture.slot_of(&client);
        fixture.publish("c", "");
        let before = fixture.waiting_for(&client);
        fixture.run_until_idle();
        let frame_of_no_data = fixture.waiting_for(&client) - before;
        assert!(0 < frame_of_no_data, "it is queued behind the others");
        let push = |fixture: &mut ShardFixture, bytes: usize| {
            if is_fan_out {
                // A length above 125 takes two more bytes.
                fixture.publish("c", &"x".repeat(bytes - frame_of_no_data - 2));
            } else {
                fixture.shard.send(slot, Frame::raw(vec![0; bytes]));
            }
            fixture.run_until_idle();
        };
        while fixture.waiting_for(&client) + 20_000 < MAX_OUTBOX_BYTES {
            push(&mut fixture, 10_000);
        }
        // Fill the outbox, except for the room for one more event.
        let room = MAX_OUTBOX_BYTES - fixture.waiting_for(&client) - frame_of_no_data;
        push(&mut fixture, room);
        fixture.publish("c", "");
        fixture.run_until_idle();
        assert_eq!(fixture.waiting_for(&client), MAX_OUTBOX_BYTES);
        assert!(fixture.connection_of(&client).is_open(), "at the limit, fan-out: {is_fan_out}");
        fixture.shard.send(slot, Frame::raw(vec![0]));
        assert!(!fixture.connection_of(&client).is_open(), "one byte more");
        assert!(fixture.waiting_for(&client) < 30_000, "the outbox is dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn one_more_event_than_fits_closes_a_blocked_subscriber() {
    let mut fixture = ShardFixture::new();
    let client = fixture.blocked_subscriber();
    let slot = fixture.slot_of(&client);
    let room = MAX_OUTBOX_BYTES - fixture.waiting_for(&client);
    fixture.shard.send(slot, Frame::raw(vec![0; room]));
    assert!(fixture.connection_of(&client).is_open());
    fixture.publish("c", "1");
    fixture.run_until_idle();
    assert!(!fixture.connection_of(&client).is_open());
}

#[tokio::test(start_paused = true)]
async fn a_writable_outbox_is_flushed_before_its_connection_is_closed() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(2, "c");
    let slot = fixture.slot_of(&clients[0]);
    for _ in 0..=MAX_OUTBOX_BYTES / 127 {
        fixture.shard.send(slot, text_frame());
    }
    fixture.publish("c", "1");
    let frames = fixture.receive(&clients[0], |frames| events(frames) == 1);
    assert_eq!(frames.len(), MAX_OUTBOX_BYTES / 127 + 2, "all frames, in order");
    assert!(is_event(&frames[frames.len() - 1], "e"));
    assert!(fixture.connection_of(&clients[0]).is_open());
}

#[tokio::test(start_paused = true)]
async fn a_blocked_client_is_not_read_until_it_reads() {
    let mut fixture = ShardFixture::with_small_buffers(MAX_OUTBOX_BYTES);
    let client = fixture.connect_with_small_buffer(b"");
    fixture.run_until_idle();
    let ping = message(r#"{"event":"pusher:ping"}"#);
    let (mut asked, mut rounds) = (0, 0);
    while rounds < 10 {
        fixture.fill(&client);
        let waiting = fixture.waiting_for(&client);
        fixture.send(&client, &ping);
        asked += 1;
        fixture.turn();
        // The kernel may have had room for some bytes.
        if waiting <= fixture.waiting_for(&client) {
            assert!(ping.len() <= fixture.unread(&client), "it stays in the socket");
            assert_eq!(fixture.waiting_for(&client), waiting, "no reply is sent");
            rounds += 1;
        }
    }
    let is_pong = |frame: &&(u8, Vec<u8>)| is_event(frame, "pusher:pong");
    fixture.receive(&client, |frames| frames.iter().filter(is_pong).count() == asked);
    assert_eq!(fixture.unread(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn publishers_wait_for_slow_connections_but_not_for_blocked_ones() {
    // More than one slice: the last connections are served in the next turn.
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(65, "c");
    let last = fixture.slot_of(&clients[64]);
    let cases = [
        (BACKPRESSURE_BYTES, false, false),
        (BACKPRESSURE_BYTES + 1, true, false),
        (BACKPRESSURE_BYTES + 1, false, true),
    ];
    for (bytes, has_backpressure, is_blocked) in cases {
        for client in &clients[..64] {
            fixture.shard.send(fixture.slot_of(client), Frame::raw(vec![0]));
        }
        fixture.shard.send(last, Frame::raw(vec![0; bytes]));
        fixture.shard.connections[last as usize].is_blocked = is_blocked;
        fixture.turn();
        assert_eq!(fixture.waiting_for(&clients[64]), bytes, "it is served in the next turn");
        assert_eq!(fixture.has_backpressure(), has_backpressure, "{bytes} bytes");
        let node = Arc::clone(&fixture.node);
        let waiting = tokio::spawn(async move {
            node.inboxes().inbox(ShardIndex::new(0)).wait_for_backpressure().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(waiting.is_finished(), !has_backpressure);
        fixture.run_until_idle();
        waiting.await.expect("a publisher continues when the backlog is written");
    }
}

#[tokio::test(start_paused = true)]
async fn publishers_wait_while_deliveries_are_queued() {
    let mut fixture = ShardFixture::new();
    let clients = fixture.subscribers(100, "c");
    // At most 16,384 frames are handed out per turn.
    for _ in 0..200 {
        fixture.publish("c", "1");
    }
    fixture.turn();
    assert!(fixture.has_backpressure() && !fixture.shard.batch.is_empty());
    fixture.run_until_idle();
    assert!(!fixture.has_backpressure());
    for client in &clients {
        fixture.receive(client, |frames| events(frames) == 200);
    }
}
