//! Timers, with a simulated clock.

use super::*;
use crate::shard::{
    connection::{CLOSING_TIMEOUT, REJECTION_TIMEOUT},
    wheel::Wheel,
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// The number of WebSocket pings and of protocol pings.
fn pings(frames: &Frames) -> (usize, usize) {
    let of_websocket = frames.iter().filter(|(first, _)| *first == PING).count();
    (of_websocket, frames.iter().filter(|frame| is_event(frame, "pusher:ping")).count())
}

impl ShardFixture {
    fn is_pinged(&mut self, client: &TcpStream) {
        let frames =
            self.receive(client, |frames| frames.iter().any(|it| is_event(it, "pusher:ping")));
        assert_eq!(pings(&frames), (1, 1), "one of each");
    }
}

/// Whether the client has received neither a ping nor a close frame.
fn is_left_alone(client: &TcpStream) -> bool {
    let frames = read_frames(client);
    pings(&frames) == (0, 0) && frames.iter().all(|frame| close_code(frame).is_none())
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_then_closed_with_any_timeouts() {
    // One revolution of the wheel is 51.2 seconds.
    for (activity, pong) in [(1, 1), (30, 30), (51, 52), (52, 51), (120, 30), (3_600, 600)] {
        let mut fixture = ShardFixture::with_timeouts(activity, pong);
        // Its deadlines are shortly before those of the other connection.
        let early = fixture.connect(b"");
        fixture.advance(Duration::from_millis(333)).await;
        let client = fixture.connect(b"");
        fixture.run_until_idle();
        let [activity, pong] = [activity, pong].map(Duration::from_secs);
        fixture.advance(activity - MILLISECOND).await;
        assert!(is_left_alone(&client), "{activity:?}: not yet");
        fixture.advance(Wheel::STEP + MILLISECOND).await;
        fixture.is_pinged(&client);
        fixture.advance(pong - Wheel::STEP - MILLISECOND).await;
        assert!(is_left_alone(&client), "{pong:?}: it has time to reply");
        fixture.advance(2 * Wheel::STEP).await;
        assert_eq!(fixture.receive_close_code(&client), 4201, "{pong:?}");
        assert_eq!(fixture.receive_close_code(&early), 4201, "{pong:?}");
        fixture.advance(CLOSING_TIMEOUT + Wheel::STEP).await;
        assert!(fixture.shard.connections.is_empty());
        assert_eq!(fixture.shard.wake_at(), None, "no deadline is left");
        assert_eq!(fixture.shutdown.dropped(), 0, "only a shutdown counts them");
    }
}

#[tokio::test(start_paused = true)]
async fn any_input_delays_the_ping() {
    let inputs: [&[u8]; 5] = [
        &control(PING),
        &control(PONG),
        &message(r#"{"event":"pusher:ping"}"#),
        &message(r#"{"event":"pusher:pong"}"#),
        &message("malformed"),
    ];
    let mut fixture = ShardFixture::with_timeouts(120, 30);
    let client = fixture.connect(b"");
    for input in inputs {
        fixture.advance(Duration::from_secs(119)).await;
        assert!(is_left_alone(&client), "{input:?}");
        fixture.send(&client, input);
    }
    fixture.advance(Duration::from_secs(119)).await;
    assert!(is_left_alone(&client));
    fixture.advance(Duration::from_secs(2)).await;
    fixture.is_pinged(&client);
    // A reply in the last second keeps the connection open, and the next ping is sent on
    // schedule.
    fixture.advance(Duration::from_secs(28)).await;
    fixture.send(&client, &control(PONG));
    fixture.advance(Duration::from_secs(119)).await;
    assert!(is_left_alone(&client));
    fixture.advance(Duration::from_secs(2)).await;
    fixture.is_pinged(&client);
}

#[tokio::test(start_paused = true)]
async fn output_of_the_server_does_not_delay_the_ping() {
    let mut fixture = ShardFixture::with_timeouts(120, 30);
    let clients = fixture.subscribers(1, "c");
    for _ in 0..12 {
        fixture.advance(Duration::from_secs(10)).await;
        fixture.publish("c", "1");
    }
    fixture.advance(Duration::from_secs(1)).await;
    fixture.is_pinged(&clients[0]);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_message_times_out_even_if_bytes_trickle_in() {
    let mut fixture = ShardFixture::with_timeouts(3_600, 30);
    let text = message(&format!("{:100}", r#"{"event":"pusher:ping"}"#));
    let (mut slow, busy) = (fixture.connect(b""), fixture.connect(b""));
    fixture.run_until_idle();
    fixture.send(&slow, &text[..3]);
    fixture.run_until_idle();
    // A deadline of 10 s, from the first byte.
    for byte in &text[3..12] {
        fixture.advance(Duration::from_secs(1)).await;
        fixture.send(&slow, &[*byte]);
        fixture.send(&busy, &text);
    }
    fixture.advance(Duration::from_millis(999)).await;
    assert!(is_left_alone(&slow), "the deadline has not passed");
    fixture.advance(Wheel::STEP + MILLISECOND).await;
    assert_eq!(fixture.receive_close_code(&slow), 4100);
    slow.set_nonblocking(false).unwrap();
    assert_eq!(slow.read(&mut [0]).unwrap(), 0, "the stream ends");
    fixture.advance(CLOSING_TIMEOUT + Wheel::STEP).await;
    assert_eq!(fixture.shard.connections.len(), 1);
    assert!(is_left_alone(&busy), "complete messages have no deadline");
}

#[tokio::test(start_paused = true)]
async fn a_complete_message_has_no_deadline() {
    let mut fixture = ShardFixture::with_timeouts(3_600, 30);
    let text = message(r#"{"event":"pusher:ping"}"#);
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    for _ in 0..5 {
        fixture.send(&client, &text[..9]);
        fixture.advance(Duration::from_secs(9)).await;
        fixture.send(&client, &text[9..]);
        fixture
            .receive(&client, |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
    }
    fixture.advance(Duration::from_secs(60)).await;
    assert!(is_left_alone(&client));
}

#[tokio::test(start_paused = true)]
async fn the_reply_to_a_close_frame_has_a_timeout() {
    for (code, by, seconds) in [(4003, CLOSING_TIMEOUT, 5), (4100, REJECTION_TIMEOUT, 2)] {
        assert_eq!(by, Duration::from_secs(seconds));
        let mut fixture = ShardFixture::with_timeouts(3_600, 30);
        let mut connect = || match code {
            4003 => fixture.connect(b""),
            _ => fixture.rejected(fixture.shutdown.guard()),
        };
        let (silent, replying) = (connect(), connect());
        fixture.run_until_idle();
        fixture.node.hub("app-id").unwrap().close();
        fixture.run_until_idle();
        assert_eq!(fixture.receive_close_code(&silent), code);
        assert_eq!(fixture.receive_close_code(&replying), code);
        assert_eq!(fixture.shard.connections.len(), 2, "the server waits for the reply");
        fixture.send(&replying, &control(CLOSE));
        // A closing connection is read only at intervals.
        fixture.advance(2 * Wheel::STEP).await;
        assert_eq!(fixture.shard.connections.len(), 1, "one has replied");
        fixture.advance(by - 2 * Wheel::STEP - MILLISECOND).await;
        assert_eq!(fixture.shard.connections.len(), 1, "the deadline has not passed");
        fixture.advance(Wheel::STEP + MILLISECOND).await;
        assert!(fixture.shard.connections.is_empty(), "the deadline has passed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_after_the_close_is_read_slowly() {
    let mut fixture = ShardFixture::with_timeouts(3_600, 30);
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.node.hub("app-id").unwrap().close();
    assert_eq!(fixture.receive_close_code(&client), 4003);
    fixture.send(&client, &message("1"));
    fixture.run_until_idle();
    let unread = |fixture: &ShardFixture| fixture.connection_of(&client).may_have_input;
    assert!(!unread(&fixture), "it is read once");
    fixture.send(&client, &message("2"));
    fixture.run_until_idle();
    assert!(unread(&fixture), "the next read is later");
    fixture.advance(Duration::from_millis(49)).await;
    assert!(unread(&fixture));
    fixture.advance(Wheel::STEP + 2 * MILLISECOND).await;
    assert!(!unread(&fixture));
}

#[tokio::test(start_paused = true)]
async fn a_connection_not_authorized_in_time_is_closed() {
    let mut fixture = ShardFixture::with_timeouts(3_600, 30);
    let mut app = fixture.node.hub("app-id").unwrap().app().config.clone();
    app.authorized_connections_timeout_s = 60;
    fixture.node.hub("app-id").unwrap().app_handle().store(Arc::new(crate::app::App::new(app)));
    let client = fixture.connect(b"");
    fixture.advance(Duration::from_secs(60) - MILLISECOND).await;
    assert!(is_left_alone(&client));
    fixture.advance(Wheel::STEP + MILLISECOND).await;
    assert_eq!(fixture.receive_close_code(&client), 4009);
}
