//! Valid operations, repeated as fast as possible.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::setup::{ATTACK_DURATION, AttackSetup};
use kit::{Call, Client, Frame, Http, Server, Settings, eventually, frames, within};

/// The number of connections in a flood.
const ATTACKERS: usize = 12;

/// Sends `batch` repeatedly for [`ATTACK_DURATION`] or until closed, and reads the answers if `reads`; returns the numbers of
/// bytes sent and received.
pub(crate) async fn pour(client: Client, batch: Vec<u8>, reads: bool) -> (usize, usize) {
    let (stream, received) = client.into_parts();
    let (mut from_server, mut to_server) = TcpStream::into_split(stream);
    let end = tokio::time::Instant::now() + ATTACK_DURATION;
    let (mut sent, mut answered) = (0, received.len());
    let pouring = async {
        while let Ok(Ok(())) = timeout_at(end, to_server.write_all(&batch)).await {
            sent += batch.len();
        }
    };
    let reading = async {
        let mut piece = vec![0; 64 * 1_024];
        while reads && let Ok(Ok(len @ 1..)) = timeout_at(end, from_server.read(&mut piece)).await {
            answered += len;
        }
    };
    tokio::join!(pouring, reading);
    (sent, answered)
}

#[tokio::test]
async fn endless_pings_are_answered_at_the_senders_cost() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let of_websocket = frames::masked(frames::FIN | frames::PING, &[b'p'; 125]).repeat(100);
        let of_pusher = frames::text(r#"{"event":"pusher:ping","data":{}}"#).repeat(100);
        let mut attackers = JoinSet::new();
        for at in 0..ATTACKERS {
            let batch = if at % 2 == 0 { of_websocket.clone() } else { of_pusher.clone() };
            attackers.spawn(pour(server.client().await, batch, at % 4 < 2));
        }
        let (sent, answered) = sum(&attackers.join_all().await);
        assert!(0 < answered, "pings are answered");
        // Data that a flood sends after the close remains in the kernel's buffers.
        assert!(sent < ATTACKERS * 32 * 1_024, "{sent} KiB were read");
        format!("{ATTACKERS} sent {sent} KiB of pings, half of them read {answered} KiB of answers")
    };
    setup.attacked_by("ping floods", attack).await;
}

/// Input without a complete message: all of it counts as messages.
#[tokio::test]
async fn floods_of_control_frames_and_fragments_are_closed() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let control = |opcode: u8, payload: &[u8]| frames::masked(frames::FIN | opcode, payload);
        let fragment = frames::masked(frames::CONTINUATION, b"");
        let floods = [
            ("empty pings", control(frames::PING, b"")),
            ("pings of 125 bytes", control(frames::PING, &[b'p'; 125])),
            ("empty pongs", control(frames::PONG, b"")),
            ("pings of Pusher", frames::text(r#"{"event":"pusher:ping"}"#)),
            ("empty fragments", fragment.clone()),
            ("fragments and pings", [fragment, control(frames::PING, b"")].concat()),
        ];
        let mut attackers = JoinSet::new();
        for (what, batch) in floods {
            let mut client = server.client().await;
            if what.contains("fragments") {
                client.bytes(frames::masked(frames::TEXT, b"{")).await;
            }
            attackers.spawn(pour_until_closed(client, batch.repeat(100), what));
        }
        let sent: usize = attackers.join_all().await.into_iter().sum();
        format!("6 floods closed with 4100 after {} KiB", sent / 1_024)
    };
    setup.attacked_by("floods of control frames", attack).await;
}

/// Each segment may cost a separate read. Clients above the message limit are closed; for slower readers, the server
/// reads several segments at once.
#[tokio::test]
async fn floods_of_one_byte_segments_are_closed() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for _ in 0..4 {
            attackers.spawn(drip(server.client().await));
        }
        let all = attackers.join_all().await;
        let sent: usize = all.iter().map(|(sent, _)| sent).sum();
        let closed = all.iter().filter(|(_, code)| *code == Some(4100)).count();
        assert!(all.iter().all(|(_, code)| matches!(code, None | Some(4100))), "{all:?}");
        format!("4 sent {sent} segments, {closed} of them were closed with 4100")
    };
    setup.attacked_by("segments of one byte", attack).await;
}

/// Sends one byte at a time for [`ATTACK_DURATION`]; returns how many, and the code if the server closed.
async fn drip(client: Client) -> (usize, Option<u16>) {
    let (stream, received) = client.into_parts();
    stream.set_nodelay(true).expect("a socket takes that");
    let (reader, mut writer) = stream.into_split();
    let closed = tokio::spawn(close_of(reader, received));
    let message = frames::text(format!("{:60000}", r#"{"event":"pusher:ping"}"#));
    let (began, mut sent) = (Instant::now(), 0);
    for byte in message.iter().cycle() {
        let is_over = ATTACK_DURATION < began.elapsed() || closed.is_finished();
        if is_over || writer.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
        tokio::task::yield_now().await;
    }
    drop(writer);
    (sent, closed.await.expect("it reads").map(|(code, _)| code))
}

/// Sends `batch` repeatedly until the server closes, which must be with 4100; returns the number of bytes sent.
async fn pour_until_closed(client: Client, batch: Vec<u8>, what: &str) -> usize {
    let (stream, received) = client.into_parts();
    let (reader, mut writer) = stream.into_split();
    let closed = tokio::spawn(close_of(reader, received));
    let mut sent = 0;
    while !closed.is_finished() && writer.write_all(&batch).await.is_ok() {
        sent += batch.len();
    }
    let closed = closed.await.expect("it reads");
    assert_eq!(closed, Some((4100, "Too many messages".to_owned())), "{what}");
    sent
}

/// Reads until the close frame, and returns its code and reason.
async fn close_of(mut reader: OwnedReadHalf, received: Vec<u8>) -> Option<(u16, String)> {
    let mut received = received;
    let reading = async {
        loop {
            match frames::take(&mut received) {
                Some(Frame::Close(code, reason)) => return Some((code, reason)),
                Some(_) => continue,
                None => {}
            }
            if !reader.read_buf(&mut received).await.is_ok_and(|len| 0 < len) {
                return None;
            }
        }
    };
    within("the close frame", reading).await
}

#[tokio::test]
async fn endless_subscribing_and_unsubscribing_leaves_no_state() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for at in 0..ATTACKERS {
            let client = server.client().await;
            let channel = format!("private-flood-{}", at % 3);
            let subscribe = json!({ "event": "pusher:subscribe",
                "data": { "channel": channel, "auth": client.auth(&channel, None) } });
            let unsubscribe =
                json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } });
            let pair = [subscribe, unsubscribe].map(|message| frames::text(message.to_string()));
            attackers.spawn(pour(client, pair.concat().repeat(50), at % 4 != 0));
        }
        let (sent, answered) = sum(&attackers.join_all().await);
        only_the_bystander_is_left(server).await;
        format!("{ATTACKERS} sent {sent} KiB, and read {answered} KiB of acknowledgements")
    };
    setup.attacked_by("subscribe floods", attack).await;
}

#[tokio::test]
async fn the_memory_of_twenty_thousand_channels_is_released() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for at in 0..20 {
            attackers.spawn(occupy(server.client().await, at));
        }
        let clients = attackers.join_all().await;
        let channels = server.get("channels", &[]).await.json();
        let occupied = channels["channels"].as_object().expect("an object").len();
        assert_eq!(occupied, 20_001, "a thousand per attacker, and the bystander's");
        drop(clients);
        only_the_bystander_is_left(server).await;
        "20,000 channels of 200 bytes occupied by 20 connections, one more rejected to each"
            .to_owned()
    };
    setup.attacked_by("channel-name floods", attack).await;
}

/// Subscribes to the maximum number of channels of one connection, and to one more.
async fn occupy(mut client: Client, at: usize) -> Client {
    for number in 0..1_001 {
        let name = format!("{at:03}-{number:04}-{}", "x".repeat(200 - 9));
        client.command("pusher:subscribe", json!({ "channel": name })).await;
        if number < 1_000 {
            client.subscribed(&name).await;
        } else {
            let rejection = client.rejection(&name).await;
            assert!(rejection.message.contains("1000"), "{rejection:?}");
        }
    }
    client
}

#[tokio::test]
async fn publishing_without_subscribers_leaves_no_state() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut http = Http::connect(server.address).await;
        let (began, mut published) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            let name = |at: usize| format!("nobody-{published}-{at}-{}", "x".repeat(150));
            let channels: Vec<String> = (0..100).map(name).collect();
            let event = json!({ "name": "e", "channels": channels, "data": "x".repeat(1_000) });
            let reply = Call::post("events", &event).send_on(&mut http).await;
            assert_eq!(reply.status, 200, "{reply}");
            published += 100;
        }
        only_the_bystander_is_left(server).await;
        format!("{published} channels published to, none kept")
    };
    setup.attacked_by("publishes to channels without subscribers", attack).await;
}

#[tokio::test]
async fn unauthenticated_requests_cost_little() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for _ in 0..4 {
            let mut http = Http::connect(server.address).await;
            attackers.spawn(async move {
                let call = Call::post("events", &json!({ "name": "e" })).signature(&"0".repeat(64));
                let (began, mut rejected) = (Instant::now(), 0);
                while began.elapsed() < ATTACK_DURATION {
                    call.send_on(&mut http).await.error(401);
                    rejected += 1;
                }
                rejected
            });
        }
        let rejected: usize = attackers.join_all().await.into_iter().sum();
        format!("{rejected} rejected with 401")
    };
    setup.attacked_by("requests with a wrong signature", attack).await;
}

/// The signature is verified over the whole query, so the longest queries cost most.
#[tokio::test]
async fn long_unauthenticated_queries_cost_little() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut http = Http::connect(server.address).await;
        let shapes = ["k[]=a&", "k%5B0%5D=%61&", "K=&", "&", "%"]
            .map(|pair| pair.repeat(15_000 / pair.len()));
        let (began, mut rejected, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        while began.elapsed() < ATTACK_DURATION {
            for shape in &shapes {
                let call = Call::get("channels").signature(&"0".repeat(64));
                let target = format!("{}&{shape}", call.target());
                let asked = Instant::now();
                call.send_target_on(&mut http, &target).await.error(401);
                slowest = slowest.max(asked.elapsed());
                rejected += 1;
            }
        }
        format!(
            "{rejected} rejected with 401, the slowest after {:.1} ms",
            slowest.as_secs_f64() * 1e3
        )
    };
    setup.attacked_by("long queries with a wrong signature", attack).await;
}

#[tokio::test]
async fn endless_errors_close_the_connection() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let (began, mut closed) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            let mut client = server.client().await;
            client.try_bytes(frames::text("this is no message").repeat(50)).await;
            let code = loop {
                match client.frame().await {
                    Some(Frame::Close(code, _)) => break code,
                    Some(_) => {}
                    None => panic!("cut off without a close frame"),
                }
            };
            assert_eq!(code, 4100);
            closed += 1;
        }
        format!("{closed} connections closed with 4100 after ten errors each")
    };
    setup.attacked_by("messages that are none", attack).await;
}

/// The totals of bytes sent and received, in KiB.
pub(crate) fn sum(all: &[(usize, usize)]) -> (usize, usize) {
    let (sent, answered) =
        all.iter().fold((0, 0), |(sent, answered), one| (sent + one.0, answered + one.1));
    (sent / 1_024, answered / 1_024)
}

pub(crate) async fn only_the_bystander_is_left(server: &Server) {
    eventually("all channels but the bystander's are gone", async || {
        let reply = server.get("channels", &[]).await.json();
        reply == json!({ "channels": { (crate::bystander::CHANNEL): {} } })
    })
    .await;
}
