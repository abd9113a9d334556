//! Slow, incomplete and endless request bodies.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::handshakes::{PATIENCE_S, connect, in_time, to_the_end};
use crate::setup::{ATTACK_DURATION, AttackSetup, affordable};
use kit::{Call, Server, Settings, within};

#[tokio::test]
async fn slow_bodies_are_answered_408_in_time() {
    let settings = Settings::new().server("request_timeout_s", PATIENCE_S);
    let setup = AttackSetup::open(settings).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for _ in 0..affordable(300) {
            attackers.spawn(drip_a_body(connect(server).await));
        }
        let lived = attackers.join_all().await;
        format!("{} with 408", in_time("slow bodies", &lived))
    };
    setup.attacked_by("slow bodies", attack).await;
}

/// Sends a signed head, and then the body in packets of one byte; returns how long the server kept the connection open.
async fn drip_a_body(mut stream: TcpStream) -> Duration {
    let head = Call::post_text("events", "x").head(&[("content-length", "100000")]);
    stream.set_nodelay(true).expect("TCP has this option");
    let began = Instant::now();
    stream.write_all(&head).await.expect("the head is taken");
    let (mut from_server, mut to_server) = stream.split();
    let drip = async {
        while to_server.write_all(b"{").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut received = [0; 12];
    let answer = within("the answer to a slow body", from_server.read_exact(&mut received));
    tokio::select! {
        answer = answer => drop(answer.expect("an answer is sent before the close")),
        () = drip => panic!("closed without an answer"),
    }
    assert_eq!(&received, b"HTTP/1.1 408");
    began.elapsed()
}

#[tokio::test]
async fn bodies_that_are_only_announced_take_no_memory() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let lengths = ["1048577", "68719476736", "9223372036854775807", "18446744073709551615"];
        let beyond = ["18446744073709551616", "99999999999999999999999999", "-1", "1e9"];
        let (began, mut rejected) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            for length in lengths.iter().chain(&beyond) {
                let signed = Call::post_text("events", "x");
                let reply = answer_to(server, &signed.head(&[("content-length", length)])).await;
                let status = reply.get(9..12).unwrap_or_default();
                let expected = if lengths.contains(length) { ["413", "431"] } else { ["400"; 2] };
                assert!(expected.contains(&status), "{length}: {reply}");
                let stranger = Call::post_text("events", "x").signature("00");
                let reply = answer_to(server, &stranger.head(&[("content-length", length)])).await;
                let status = reply.get(9..12).unwrap_or_default();
                assert!(["401", "400", "431"].contains(&status), "{length}: {reply}");
                rejected += 2;
            }
        }
        format!("{rejected} rejected with 413, 431, 401 or 400 before any body came")
    };
    setup.attacked_by("huge declared bodies", attack).await;
}

/// The complete answer to a head that no body follows.
async fn answer_to(server: &Server, head: &[u8]) -> String {
    let mut stream = connect(server).await;
    stream.write_all(head).await.expect("the head is taken");
    stream.shutdown().await.expect("the connection is open");
    to_the_end(&mut stream).await
}

#[tokio::test]
async fn endless_bodies_are_closed() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for at in 0..16 {
            let signed = Call::post_text("events", "x");
            let call = if at % 2 == 0 { signed } else { signed.signature("00") };
            attackers.spawn(pour(connect(server).await, call));
        }
        let poured = attackers.join_all().await;
        let most = poured.iter().max().expect("there were some") / 1_024;
        format!("{} rejected with 413 or 401 and cut off, the last after {most} KiB", poured.len())
    };
    setup.attacked_by("endless bodies", attack).await;
}

/// Sends chunks until the server closes; returns the number of bytes it accepted. The server must answer before.
async fn pour(mut stream: TcpStream, call: Call) -> usize {
    stream
        .write_all(&call.head(&[("transfer-encoding", "chunked")]))
        .await
        .expect("the head is taken");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let (mut from_server, mut to_server) = stream.split();
    let mut poured = 0;
    let pouring = async {
        while to_server.write_all(chunk.as_bytes()).await.is_ok() {
            poured += chunk.len();
        }
    };
    let mut received = Vec::new();
    let listening = async {
        let mut piece = [0; 512];
        while let Ok(len @ 1..) = from_server.read(&mut piece).await {
            received.extend_from_slice(&piece[..len]);
        }
    };
    // The server reads from a client that is still sending for two more seconds, so that the answer arrives.
    within("the server to have had enough", async { tokio::join!(pouring, listening) }).await;
    let received = String::from_utf8_lossy(&received);
    let is_rejected = ["413", "401"].contains(&received.get(9..12).unwrap_or_default());
    assert!(is_rejected, "{received}");
    assert_eq!(received.matches("HTTP/1.1 ").count(), 1, "{received}");
    poured
}

#[tokio::test]
async fn unread_answers_time_out() {
    let settings = Settings::new().server("request_timeout_s", PATIENCE_S);
    let setup = AttackSetup::open(settings).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        // Only a few, since each is answered until the kernel's buffers are full.
        for _ in 0..4 {
            let socket = TcpSocket::new_v4().expect("there are sockets");
            // A small buffer: answers that the kernel accepts do not delay the server.
            socket.set_recv_buffer_size(4_096).expect("TCP has this option");
            let stream = socket.connect(server.address).await.expect("the server listens");
            attackers.spawn(ask_and_never_read(stream));
        }
        let asked = attackers.join_all().await;
        let most = asked.iter().max().expect("there were some") / 1_024;
        format!("{} cut off, the last after {most} KiB of requests", asked.len())
    };
    setup.attacked_by("unread answers", attack).await;
}

/// Sends requests continuously; returns the number of bytes accepted before the server closed.
async fn ask_and_never_read(mut stream: TcpStream) -> usize {
    let requests = "GET /up HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let mut taken = 0;
    let asking = async {
        while stream.write_all(requests.as_bytes()).await.is_ok() {
            taken += requests.len();
        }
    };
    within("the server to have had enough", asking).await;
    taken
}
