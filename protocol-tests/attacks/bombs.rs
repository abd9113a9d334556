//! JSON that is small to send and expensive to parse: nesting, numbers, keys and escapes, in every place that accepts
//! JSON.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::setup::{ATTACK_DURATION, AttackSetup};
use kit::{Call, Client, Frame, Http, Server, Settings, frames};

/// JSON of about `bytes` bytes. Some of it is invalid.
fn bombs(bytes: usize) -> Vec<(&'static str, String)> {
    let times = |text: &str| text.repeat(bytes / text.len());
    let half = |open: &str, close: &str| {
        let deep = bytes / (open.len() + close.len());
        open.repeat(deep) + "1" + &close.repeat(deep)
    };
    let keys = |name: fn(usize) -> String| {
        let each = name(0).len() + 5;
        let keys: Vec<String> =
            (0..bytes / each).map(|at| format!(r#""{}":0"#, name(at))).collect();
        format!("{{{}}}", keys.join(","))
    };
    vec![
        ("deep arrays", half("[", "]")),
        ("deep objects", half(r#"{"a":"#, "}")),
        ("arrays without end", times("[")),
        ("objects without end", times(r#"{"a":"#)),
        ("a long number", times("9")),
        ("a long exponent", format!("1e{}", times("9"))),
        ("a long negative exponent", format!("1e-{}", times("9"))),
        ("a long fraction", format!("0.{}1", times("0"))),
        ("many keys", keys(|at| format!("k{at:06}"))),
        ("one key many times", keys(|_| "k".to_owned())),
        ("many empty strings", format!("[{}\"\"]", times("\"\","))),
        ("control escapes", format!("\"{}\"", times("\\u0000"))),
        ("lone surrogates", format!("\"{}\"", times("\\ud800"))),
        ("escaped quotes", format!("\"{}\"", times("\\\""))),
        ("escaped letters", format!("\"{}\"", times("\\u00e9"))),
        ("white space", format!("{}1", times(" \t\n"))),
    ]
}

/// The maximum time until one piece of JSON is answered. Parsing in more than linear time exceeds it.
const ANSWER_MAX: Duration = Duration::from_secs(2);

#[tokio::test]
async fn json_bombs_in_messages_are_read_or_rejected() {
    let setup = AttackSetup::open(Settings::new().app("client_events_per_second", 0)).await;
    let attack = async |server: &Server| {
        let (began, mut sent, mut slowest) = (Instant::now(), 0, ("", Duration::ZERO));
        while began.elapsed() < ATTACK_DURATION {
            for (name, bomb) in bombs(60_000) {
                let mut client = server.client().await;
                let messages = [
                    bomb.clone(),
                    format!(r#"{{"event":{bomb}}}"#),
                    format!(r#"{{"event":"pusher:subscribe","data":{bomb}}}"#),
                    format!(r#"{{"event":"pusher:subscribe","data":{{"channel":{bomb}}}}}"#),
                    format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":{bomb}}}}}"#),
                    format!(
                        r#"{{"event":"pusher:signin","data":{{"user_data":{bomb},"auth":"a:b"}}}}"#
                    ),
                    format!(r#"{{"event":"client-x","channel":{bomb},"data":1}}"#),
                    format!(r#"{{"event":"pusher:ping","data":{bomb}}}"#),
                    format!(r#"{{"event":"unknown","x":{bomb}}}"#),
                ];
                for message in messages {
                    let asked = Instant::now();
                    client.bytes(frames::text(message)).await;
                    is_answered(&mut client, name).await;
                    slowest = slowest.max_by_time((name, asked.elapsed()));
                    sent += 1;
                }
            }
        }
        summary(sent, slowest)
    };
    setup.attacked_by("JSON bombs in messages", attack).await;
}

#[tokio::test]
async fn json_bombs_in_signed_data_are_read_or_rejected() {
    const ROOM: &str = "presence-room";
    let settings = Settings::new().app("client_events_per_second", 0);
    let setup = AttackSetup::open(settings.app("max_presence_user_info_bytes", 65_536)).await;
    let attack = async |server: &Server| {
        let (began, mut sent, mut slowest) = (Instant::now(), 0, ("", Duration::ZERO));
        while began.elapsed() < ATTACK_DURATION {
            for (name, bomb) in bombs(10_000) {
                let mut client = server.client().await;
                client.subscribe("private-x").await;
                let asked = Instant::now();
                for channel_data in [
                    bomb.clone(),
                    format!(r#"{{"user_id":{bomb}}}"#),
                    format!(r#"{{"user_id":"1","user_info":{bomb}}}"#),
                    format!(r#"{{"user_id":"1","x":{bomb}}}"#),
                ] {
                    client.send_subscribe_with(ROOM, &channel_data).await;
                    is_answered(&mut client, name).await;
                    client.unsubscribe(ROOM).await;
                }
                for user_data in [
                    bomb.clone(),
                    format!(r#"{{"id":{bomb}}}"#),
                    format!(r#"{{"id":"1","user_info":{bomb}}}"#),
                    format!(r#"{{"id":"1","watchlist":{bomb}}}"#),
                ] {
                    client.send_sign_in(&user_data).await;
                    is_answered(&mut client, name).await;
                }
                client
                    .text(format!(r#"{{"event":"client-x","channel":"private-x","data":{bomb}}}"#))
                    .await;
                is_answered(&mut client, name).await;
                slowest = slowest.max_by_time((name, asked.elapsed()));
                sent += 9;
            }
        }
        summary(sent, slowest)
    };
    setup.attacked_by("JSON bombs in channel_data, user_data and client events", attack).await;
}

#[tokio::test]
async fn json_bombs_in_requests_are_read_or_rejected() {
    let setup = AttackSetup::open(Settings::new().app("max_event_bytes", 1_048_576)).await;
    let attack = async |server: &Server| {
        let mut http = Http::connect(server.address).await;
        let (began, mut sent, mut slowest) = (Instant::now(), 0, ("", Duration::ZERO));
        while began.elapsed() < ATTACK_DURATION {
            for (name, bomb) in bombs(1_000_000) {
                let event = |rest: &str| format!(r#"{{"name":"e","channel":"nobody",{rest}}}"#);
                let calls = [
                    ("events", bomb.clone()),
                    ("events", event(&format!(r#""data":{bomb}"#))),
                    ("events", event(&format!(r#""data":"1","socket_id":{bomb}"#))),
                    ("events", event(&format!(r#""data":"1","info":{bomb}"#))),
                    ("events", format!(r#"{{"name":{bomb},"channel":"a","data":"1"}}"#)),
                    ("events", format!(r#"{{"name":"e","channels":{bomb},"data":"1"}}"#)),
                    ("batch_events", format!(r#"{{"batch":{bomb}}}"#)),
                ];
                for (path, body) in calls {
                    let asked = Instant::now();
                    let reply = Call::post_text(path, body).send_on(&mut http).await;
                    assert!([200, 400, 413].contains(&reply.status), "{name}: {reply}");
                    slowest = slowest.max_by_time((name, asked.elapsed()));
                    sent += 1;
                }
            }
        }
        summary(sent, slowest)
    };
    setup.attacked_by("JSON bombs in requests", attack).await;
}

/// Waits for the answer to a ping.
async fn is_answered(client: &mut Client, name: &str) {
    client.try_bytes(frames::masked(frames::FIN | frames::PING, b"there?")).await;
    loop {
        match client.frame().await {
            Some(Frame::Pong(payload)) if payload == b"there?" => return,
            Some(Frame::Close(code, reason)) => panic!("{name}: closed with {code} {reason}"),
            Some(Frame::Text(text)) => {
                let message: Value = serde_json::from_str(&text).expect("messages are JSON");
                assert!(message["event"].is_string(), "{name}: {message}");
            }
            Some(_) => {}
            None => panic!("{name}: cut off without a close frame"),
        }
    }
}

fn summary(sent: usize, slowest: (&str, Duration)) -> String {
    let (name, time) = slowest;
    assert!(time < ANSWER_MAX, "{name} took {time:?}");
    format!("{sent} answered, the slowest in {:.0} ms ({name})", time.as_secs_f64() * 1e3)
}

trait Slowest {
    fn max_by_time(self, other: Self) -> Self;
}

impl Slowest for (&'static str, Duration) {
    fn max_by_time(self, other: Self) -> Self {
        if self.1 < other.1 { other } else { self }
    }
}

/// The bombs have about the requested size.
#[test]
fn bombs_have_their_size() {
    for (name, bomb) in bombs(60_000) {
        assert!((50_000..62_000).contains(&bomb.len()), "{name} has {} bytes", bomb.len());
    }
    let deepest = bombs(60_000).remove(0).1;
    assert!(deepest.starts_with("[[[[") && deepest.ends_with("]]]]"));
    assert!(serde_json::from_str::<Value>(&deepest).is_err(), "too deep for `Value`");
}
