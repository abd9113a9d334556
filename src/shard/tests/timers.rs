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

impl Bench {
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
        let mut bench = Bench::with_timeouts(activity, pong);
        // Its deadlines are shortly before those of the other connection.
        let early = bench.connect(b"");
        bench.pass(Duration::from_millis(333)).await;
        let client = bench.connect(b"");
        bench.settle();
        let [activity, pong] = [activity, pong].map(Duration::from_secs);
        bench.pass(activity - MILLISECOND).await;
        assert!(is_left_alone(&client), "{activity:?}: not yet");
        bench.pass(Wheel::STEP + MILLISECOND).await;
        bench.is_pinged(&client);
        bench.pass(pong - Wheel::STEP - MILLISECOND).await;
        assert!(is_left_alone(&client), "{pong:?}: it has time to answer");
        bench.pass(2 * Wheel::STEP).await;
        assert_eq!(bench.receive_close_code(&client), 4201, "{pong:?}");
        assert_eq!(bench.receive_close_code(&early), 4201, "{pong:?}");
        bench.pass(CLOSING_TIMEOUT + Wheel::STEP).await;
        assert!(bench.shard.connections.is_empty());
        assert_eq!(bench.shard.wake_at(), None, "no deadline is left");
        assert_eq!(bench.shutdown.dropped(), 0, "only a shutdown counts them");
    }
}

#[tokio::test(start_paused = true)]
async fn each_sign_of_life_delays_the_ping() {
    let signs: [&[u8]; 5] = [
        &control(PING),
        &control(PONG),
        &message(r#"{"event":"pusher:ping"}"#),
        &message(r#"{"event":"pusher:pong"}"#),
        &message("malformed"),
    ];
    let mut bench = Bench::with_timeouts(120, 30);
    let client = bench.connect(b"");
    for sign in signs {
        bench.pass(Duration::from_secs(119)).await;
        assert!(is_left_alone(&client), "{sign:?}");
        bench.send(&client, sign);
    }
    bench.pass(Duration::from_secs(119)).await;
    assert!(is_left_alone(&client));
    bench.pass(Duration::from_secs(2)).await;
    bench.is_pinged(&client);
    // An answer in the last second keeps the connection open, and the next ping is sent on
    // schedule.
    bench.pass(Duration::from_secs(28)).await;
    bench.send(&client, &control(PONG));
    bench.pass(Duration::from_secs(119)).await;
    assert!(is_left_alone(&client));
    bench.pass(Duration::from_secs(2)).await;
    bench.is_pinged(&client);
}

#[tokio::test(start_paused = true)]
async fn output_of_the_server_is_no_sign_of_life() {
    let mut bench = Bench::with_timeouts(120, 30);
    let clients = bench.subscribers(1, "c");
    for _ in 0..12 {
        bench.pass(Duration::from_secs(10)).await;
        bench.publish("c", "1");
    }
    bench.pass(Duration::from_secs(1)).await;
    bench.is_pinged(&clients[0]);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_message_times_out_even_if_bytes_trickle_in() {
    let mut bench = Bench::with_timeouts(3_600, 30);
    let text = message(&format!("{:100}", r#"{"event":"pusher:ping"}"#));
    let (mut slow, busy) = (bench.connect(b""), bench.connect(b""));
    bench.settle();
    bench.send(&slow, &text[..3]);
    bench.settle();
    // A deadline of 10 s, from the first byte.
    for byte in &text[3..12] {
        bench.pass(Duration::from_secs(1)).await;
        bench.send(&slow, &[*byte]);
        bench.send(&busy, &text);
    }
    bench.pass(Duration::from_millis(999)).await;
    assert!(is_left_alone(&slow), "the deadline has not passed");
    bench.pass(Wheel::STEP + MILLISECOND).await;
    assert_eq!(bench.receive_close_code(&slow), 4100);
    slow.set_nonblocking(false).unwrap();
    assert_eq!(slow.read(&mut [0]).unwrap(), 0, "the stream ends");
    bench.pass(CLOSING_TIMEOUT + Wheel::STEP).await;
    assert_eq!(bench.shard.connections.len(), 1);
    assert!(is_left_alone(&busy), "complete messages have no deadline");
}

#[tokio::test(start_paused = true)]
async fn a_complete_message_has_no_deadline() {
    let mut bench = Bench::with_timeouts(3_600, 30);
    let text = message(r#"{"event":"pusher:ping"}"#);
    let client = bench.connect(b"");
    bench.settle();
    for _ in 0..5 {
        bench.send(&client, &text[..9]);
        bench.pass(Duration::from_secs(9)).await;
        bench.send(&client, &text[9..]);
        bench.receive(&client, |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
    }
    bench.pass(Duration::from_secs(60)).await;
    assert!(is_left_alone(&client));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_close_frame_has_a_timeout() {
    for (code, by, seconds) in [(4003, CLOSING_TIMEOUT, 5), (4100, REJECTION_TIMEOUT, 2)] {
        assert_eq!(by, Duration::from_secs(seconds));
        let mut bench = Bench::with_timeouts(3_600, 30);
        let mut connect = || match code {
            4003 => bench.connect(b""),
            _ => bench.rejected(bench.shutdown.guard()),
        };
        let (silent, answers) = (connect(), connect());
        bench.settle();
        bench.node.hub("app-id").unwrap().close();
        bench.settle();
        assert_eq!(bench.receive_close_code(&silent), code);
        assert_eq!(bench.receive_close_code(&answers), code);
        assert_eq!(bench.shard.connections.len(), 2, "the server waits for the answer");
        bench.send(&answers, &control(CLOSE));
        // A closing connection is read only at intervals.
        bench.pass(2 * Wheel::STEP).await;
        assert_eq!(bench.shard.connections.len(), 1, "one has answered");
        bench.pass(by - 2 * Wheel::STEP - MILLISECOND).await;
        assert_eq!(bench.shard.connections.len(), 1, "the deadline has not passed");
        bench.pass(Wheel::STEP + MILLISECOND).await;
        assert!(bench.shard.connections.is_empty(), "the deadline has passed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_after_the_close_is_read_slowly() {
    let mut bench = Bench::with_timeouts(3_600, 30);
    let client = bench.connect(b"");
    bench.settle();
    bench.node.hub("app-id").unwrap().close();
    assert_eq!(bench.receive_close_code(&client), 4003);
    bench.send(&client, &message("1"));
    bench.settle();
    let unread = |bench: &Bench| bench.connection_of(&client).is_unread;
    assert!(!unread(&bench), "it is read once");
    bench.send(&client, &message("2"));
    bench.settle();
    assert!(unread(&bench), "the next read is later");
    bench.pass(Duration::from_millis(49)).await;
    assert!(unread(&bench));
    bench.pass(Wheel::STEP + 2 * MILLISECOND).await;
    assert!(!unread(&bench));
}

#[tokio::test(start_paused = true)]
async fn a_connection_not_authorized_in_time_is_closed() {
    let mut bench = Bench::with_timeouts(3_600, 30);
    let mut app = bench.node.hub("app-id").unwrap().app().config.clone();
    app.authorized_connections_timeout_s = 60;
    bench.node.hub("app-id").unwrap().app_handle().store(Arc::new(crate::app::App::new(app)));
    let client = bench.connect(b"");
    bench.pass(Duration::from_secs(60) - MILLISECOND).await;
    assert!(is_left_alone(&client));
    bench.pass(Wheel::STEP + MILLISECOND).await;
    assert_eq!(bench.receive_close_code(&client), 4009);
}
