//! Invalid input from a seed against one running server, which must leave no state.
//!
//! `FUZZ_SEED=n` repeats a run, `FUZZ_INPUTS=n` changes its length.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use kit::{
    Call, Client, Frame, Http, KEY, RawHttp, SECRET, Server, Settings, eventually, frames, sign,
    within,
};

use crate::Start as _;

const INPUTS: usize = 4_000;

/// The length of long invalid values.
const LONG: usize = 20_000;

#[tokio::test]
async fn hostile_messages_leave_no_state() {
    let (mut random, inputs) = seeded();
    let server = Settings::new().start().await;
    let mut bystander = server.client().await;
    bystander.subscribe("bystander").await;
    let mut sent = 0;
    while sent < inputs {
        let mut client = server.client().await;
        for _ in 0..random.random_range(1..40) {
            sent += 1;
            let message = hostile_message(&mut random, &client.socket_id);
            if !client.try_bytes(frames::text(&message)).await
                || !answers(&mut client, &message).await
            {
                break;
            }
        }
        leave(&mut random, client);
    }
    is_as_before(&server, &mut bystander).await;
}

#[tokio::test]
async fn hostile_frames_leave_no_state() {
    let (mut random, inputs) = seeded();
    let server = Settings::new().start().await;
    let mut bystander = server.client().await;
    bystander.subscribe("bystander").await;
    let mut sent = 0;
    while sent < inputs {
        let mut client = server.client().await;
        for _ in 0..random.random_range(1..10) {
            sent += 1;
            let bytes = hostile_frames(&mut random, &client.socket_id);
            if !client.try_bytes(&bytes).await {
                break;
            }
        }
        leave(&mut random, client);
    }
    is_as_before(&server, &mut bystander).await;
}

#[tokio::test]
async fn hostile_requests_are_answered_or_closed_and_leave_no_state() {
    let (mut random, inputs) = seeded();
    let server = Settings::new().start().await;
    let mut bystander = server.client().await;
    bystander.subscribe("bystander").await;
    for _ in 0..inputs / 4 {
        let bytes = hostile_request(&mut random);
        let (mut stream, mut received) = RawHttp::connect(server.address).await.into_parts();
        let exchange = async {
            // The server may close at any point.
            let _sent = stream.write_all(&bytes).await;
            let _closed = stream.shutdown().await;
            let _end = stream.read_to_end(&mut received).await;
        };
        within("the end of a connection that says no more", exchange).await;
        let fine = received.is_empty() || received.starts_with(b"HTTP/1.");
        assert!(
            fine,
            "{:?} after {:?}",
            String::from_utf8_lossy(&received),
            String::from_utf8_lossy(&bytes)
        );
        assert!(!received.starts_with(b"HTTP/1.1 50"), "{:?}", String::from_utf8_lossy(&bytes));
    }
    is_as_before(&server, &mut bystander).await;
}

/// The seed and the length of a run; the seed is printed, and is visible when the test fails.
#[expect(clippy::print_stdout, reason = "a failed run is repeated by its seed")]
fn seeded() -> (StdRng, usize) {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("FUZZ_SEED").unwrap_or_else(rand::random);
    println!("FUZZ_SEED={seed}");
    let inputs = number("FUZZ_INPUTS")
        .map_or(INPUTS, |inputs| usize::try_from(inputs).expect("a small number"));
    (StdRng::seed_from_u64(seed), inputs)
}

/// Whether the connection is still open. A ping must be answered, or the close frame must follow.
async fn answers(client: &mut Client, message: &[u8]) -> bool {
    if !client.try_bytes(frames::masked(frames::FIN | frames::PING, b"there?")).await {
        return false;
    }
    loop {
        match client.frame().await {
            Some(Frame::Pong(payload)) if payload == b"there?" => return true,
            Some(Frame::Close(code, _)) => {
                let allowed = matches!(code, 1002 | 1007 | 1009 | 4100);
                assert!(allowed, "closed with {code} after {:?}", String::from_utf8_lossy(message));
                return false;
            }
            Some(Frame::Text(_) | Frame::Ping(_) | Frame::Pong(_)) => {}
            None => {
                panic!("cut off without a close frame after {:?}", String::from_utf8_lossy(message))
            }
        }
    }
}

/// Disconnects with a close frame, with the end of the stream, or with a reset.
fn leave(random: &mut StdRng, client: Client) {
    let (stream, _) = client.into_parts();
    match random.random_range(0..3) {
        0 => stream.set_zero_linger().expect("TCP has this option"),
        1 => {
            let close = frames::masked(frames::FIN | frames::CLOSE, &frames::close(1000, ""));
            // The buffer may be full or the connection closed.
            let _sent = stream.try_write(&close);
        }
        _ => {}
    }
}

async fn is_as_before(server: &Server, bystander: &mut Client) {
    server.wait_for_connections(1).await;
    let occupied = async || server.get("channels", &[]).await.json();
    eventually("only the bystander's channel is left", async || {
        occupied().await == json!({ "channels": { "bystander": {} } })
    })
    .await;
    server.assert_no_other_events("bystander", &mut [bystander]).await;
    let reply = Http::plain(server.address, "GET", "/up", &[]).await;
    assert_eq!(reply.status, 200, "{reply}");
    let log = server.process.output();
    let panics: Vec<&str> =
        log.lines().filter(|line| line.to_lowercase().contains("panic")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
}

/// The text of a valid or an invalid message.
fn hostile_message(random: &mut StdRng, socket_id: &str) -> Vec<u8> {
    let good = good_message(random, socket_id).to_string();
    match random.random_range(0..8) {
        0 => random_bytes(random, 300),
        1 => good.as_bytes()[..random.random_range(0..good.len())].to_vec(),
        2 => mutated(random, good.as_bytes()),
        3 => raw_json(random).into_bytes(),
        4 => format!(
            r#"{{"event":{},"data":{},"channel":{}}}"#,
            raw_json(random),
            raw_json(random),
            raw_json(random)
        )
        .into_bytes(),
        5 | 6 => with_a_wrong_member(random, good),
        _ => good.into_bytes(),
    }
}

fn good_message(random: &mut StdRng, socket_id: &str) -> Value {
    let channels = [
        "a",
        "private-a",
        "presence-a",
        "cache-a",
        "private-cache-a",
        "presence-cache-a",
        "private-encrypted-a",
    ];
    let channel = *channels.choose(random).expect("there are some");
    let member =
        json!({ "user_id": random.random_range(0..5).to_string(), "user_info": { "n": 1 } })
            .to_string();
    match random.random_range(0..6) {
        0 | 1 => {
            let member = channel.starts_with("presence-").then_some(member.as_str());
            let auth = sign::channel_auth(KEY, SECRET, socket_id, channel, member);
            json!({ "event": "pusher:subscribe", "data": { "channel": channel, "auth": auth, "channel_data": member } })
        }
        2 => json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }),
        3 => {
            let user_data = json!({ "id": "u", "watchlist": ["u", "v"] }).to_string();
            let auth = sign::user_auth(KEY, SECRET, socket_id, &user_data);
            json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user_data } })
        }
        4 => json!({ "event": "client-x", "channel": channel, "data": { "a": 1 } }),
        _ => json!({ "event": "pusher:ping", "data": {} }),
    }
}

/// Replaces the value of one member, at any depth, by any JSON.
fn with_a_wrong_member(random: &mut StdRng, good: String) -> Vec<u8> {
    let members = ["event", "data", "channel", "auth", "channel_data", "user_data"];
    let name = format!(r#""{}":"#, members.choose(random).expect("there are some"));
    let Some(start) = good.find(&name).map(|position| position + name.len()) else {
        return good.into_bytes();
    };
    let mut values = serde_json::Deserializer::from_str(&good[start..]).into_iter::<Value>();
    let read = values.next().is_some_and(|value| value.is_ok());
    let end = if read { start + values.byte_offset() } else { good.len() };
    format!("{}{}{}", &good[..start], raw_json(random), &good[end..]).into_bytes()
}

/// A JSON value that is hard to parse, or invalid.
fn raw_json(random: &mut StdRng) -> String {
    let deep = random.random_range(1..LONG);
    match random.random_range(0..18) {
        0 => "null".to_owned(),
        1 => "true".to_owned(),
        2 => "1e999".to_owned(),
        3 => "-0".to_owned(),
        4 => "9".repeat(random.random_range(1..400)),
        5 => format!("0.{}", "1".repeat(random.random_range(1..400))),
        6 => r#""\ud800""#.to_owned(),
        7 => r#""\udc00\ud800x""#.to_owned(),
        8 => r#""\u0000\u001f""#.to_owned(),
        9 => "[".repeat(deep) + &"]".repeat(deep),
        10 => "[".repeat(deep),
        11 => r#"{"a":"#.repeat(deep.min(5_000)) + "1" + &"}".repeat(deep.min(5_000)),
        12 => format!("\"{}\"", "x".repeat(deep)),
        13 => format!("\"{}\"", "é".repeat(deep.min(10_000))),
        14 => r#"{"channel":null,"auth":null,"user_id":null}"#.to_owned(),
        15 => r#"{"channel":"a","channel":"private-a","auth":[]}"#.to_owned(),
        16 => r#""pusher:subscribe""#.to_owned(),
        _ => "[]".to_owned(),
    }
}

/// Bytes that resemble frames.
fn hostile_frames(random: &mut StdRng, socket_id: &str) -> Vec<u8> {
    let payload = hostile_message(random, socket_id);
    let first = random.random();
    match random.random_range(0..10) {
        0 => random_bytes(random, 200),
        1 => frames::masked(first, &payload),
        2 => frames::unmasked(first, &payload),
        3 => frames::announced(first, random.random_range(0..1 << 40)),
        4 => {
            let whole = frames::text(&payload);
            whole[..random.random_range(0..whole.len())].to_vec()
        }
        5 => frames::masked(frames::FIN | frames::CLOSE, &payload[..payload.len().min(125)]),
        6 => frames::masked(frames::FIN | frames::CLOSE, &frames::close(random.random(), "reason")),
        7 => frames::masked(frames::PING, &payload[..payload.len().min(200)]),
        8 => {
            let (front, back) = payload.split_at(random.random_range(0..=payload.len()));
            let last = frames::FIN
                | *[frames::CONTINUATION, frames::TEXT, frames::BINARY]
                    .choose(random)
                    .expect("some");
            [frames::masked(frames::TEXT, front), frames::masked(last, back)].concat()
        }
        _ => mutated(random, &frames::text(&payload)),
    }
}

fn hostile_request(random: &mut StdRng) -> Vec<u8> {
    let good = match random.random_range(0..4) {
        0 => Call::get("channels").bytes(),
        1 => Call::post(
            "batch_events",
            &json!({ "batch": [{ "name": "e", "channel": "a", "data": "1" }] }),
        )
        .bytes(),
        2 => {
            let body = format!(
                r#"{{"name":{},"channels":{},"data":"1"}}"#,
                raw_json(random),
                raw_json(random)
            );
            return Call::post_text("events", body).bytes();
        }
        _ => Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" })).bytes(),
    };
    if random.random_bool(0.1) { random_bytes(random, 300) } else { mutated(random, &good) }
}

/// Changes, removes or inserts some bytes.
fn mutated(random: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let position = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[position] = random.random(),
            1 => drop(bytes.remove(position)),
            2 => bytes.insert(position, random.random()),
            _ => bytes[position] ^= 1 << random.random_range(0..8),
        }
    }
    bytes
}

fn random_bytes(random: &mut StdRng, most: usize) -> Vec<u8> {
    (0..random.random_range(0..most)).map(|_| random.random()).collect()
}
