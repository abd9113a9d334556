//! Discarded input, and its cost.

use super::*;

/// A shard that accepts ten messages per client at once.
fn limited() -> ShardFixture {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    ShardFixture::build(listener, MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_messages_per_second = 5;
        // The burst is the number of channels plus this rate.
        config.connection.max_channels = 5;
    })
}

const PING_EVENT: &str = r#"{"event":"pusher:ping"}"#;

fn fragment(opcode: u8) -> [u8; 7] {
    [opcode, 0x81, 0, 0, 0, 0, b'x']
}

/// Fragments of one unfinished message.
fn fragments(count: usize) -> Vec<u8> {
    [fragment(0x01).to_vec(), fragment(0x00).repeat(count - 1)].concat()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_after_a_connection_has_ended() {
    let not_utf8 = [&[0x81, 0x82, 0, 0, 0, 0][..], &[0xff, 0xfe]].concat();
    let too_long = [&[0x81, 0xff, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0][..], &[b'x'; 100]].concat();
    let cases = [
        ("a flood", message(PING_EVENT).repeat(30)),
        ("control frames", control(PONG).repeat(30)),
        ("fragments", fragments(30)),
        ("text that is not UTF-8", not_utf8),
        ("a message that is too long", too_long),
        ("a frame without mask", vec![0x81, 0x01, b'x']),
    ];
    let subscribe = message(r#"{"event":"pusher:subscribe","data":{"channel":"c"}}"#);
    for (what, sent) in cases {
        let mut fixture = limited();
        let mut client = fixture.connect(b"");
        fixture.run_until_idle();
        // If the close frame were read, it would end the connection at once.
        let all = [&sent[..], &subscribe, &control(PING), &control(CLOSE)].concat();
        fixture.send(&client, &all);
        fixture.run_until_idle();
        let is_left = fixture.shard.connections.len() == 1;
        assert!(is_left, "{what}: the client closes the socket");
        let mut bytes = Vec::new();
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        client.read_to_end(&mut bytes).expect("the end of the stream");
        let frames = take_frames(&mut bytes);
        assert!(frames.last().and_then(close_code).is_some(), "{what}: {frames:?}");
        let named = |name| frames.iter().filter(|frame| is_event(frame, name)).count();
        assert_eq!(named("pusher_internal:subscription_succeeded"), 0, "{what}");
        assert_eq!(frames.iter().filter(|(first, _)| *first == PONG).count(), 0, "{what}");
        // Later input is discarded as well.
        client.set_nonblocking(true).unwrap();
        fixture.advance(Duration::from_millis(100)).await;
        fixture.send(&client, &[&subscribe[..], &control(CLOSE)].concat());
        fixture.advance(Duration::from_millis(100)).await;
        assert_eq!(fixture.shard.connections.len(), 1, "{what}");
        assert_eq!(fixture.subscriptions(), 0, "{what}");
        drop(client);
        fixture.advance(Duration::from_millis(100)).await;
        while !fixture.shard.connections.is_empty() {
            fixture.run_until_idle();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_fragment_of_a_read_counts_as_a_message() {
    // Ten are within the limit, ten more are dropped, and the last of those closes the connection.
    for (count, is_open) in [(19, true), (20, false)] {
        let mut fixture = limited();
        let client = fixture.connect(b"");
        fixture.run_until_idle();
        fixture.send(&client, &fragments(count));
        fixture.run_until_idle();
        assert_eq!(fixture.connection_of(&client).is_open(), is_open, "{count}");
        assert_eq!(fixture.connection_of(&client).incomplete.is_some(), is_open, "{count}");
    }
    // Each small read of a message counts as well.
    let mut fixture = limited();
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    for byte in &message(PING_EVENT)[..19] {
        fixture.send(&client, &[*byte]);
        fixture.run_until_idle();
        assert!(fixture.connection_of(&client).is_open());
    }
    fixture.send(&client, &message(PING_EVENT)[19..20]);
    fixture.run_until_idle();
    assert!(!fixture.connection_of(&client).is_open());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_is_seen_if_it_arrives_with_the_last_bytes() {
    let mut fixture = ShardFixture::new();
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.send(&client, &message("last words"));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    // Both cause a single edge of readiness.
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !fixture.shard.connections.is_empty() {
        assert!(Instant::now() < deadline, "the connection is still open");
        fixture.run_until_idle();
    }
}
