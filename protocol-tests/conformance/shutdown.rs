//! Startup and shutdown.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use kit::{
    Call, Client, Directory, Http, KEY, Process, RawHttp, Reply, Server, Settings, eventually,
    upgrade_request, within,
};

use crate::Start as _;

#[tokio::test]
async fn ready_is_503_while_draining() {
    let mut server = with_grace(3).await;
    let mut clients = crowd(&server, 20).await;
    let publish = UnfinishedPublish::begin(&server).await;
    server.signal("TERM");
    eventually("/ready says 503", async || ready(&server).await == Some(503)).await;
    let up = Http::plain(server.address, "GET", "/up", &[]).await;
    assert_eq!(up.status, 200, "it is healthy during the drain");
    for client in &mut clients {
        assert_eq!(client.closed_eventually().await.0, 4100);
    }
    assert_eq!(publish.finish().await.status, 200);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn with_a_successor_clients_are_closed_4200_one_after_the_other_within_the_grace() {
    for signal in ["TERM", "INT"] {
        let settings = Settings::new().server("shutdown_grace_s", 2).server("reuse_port", true);
        let mut server = settings.start().await;
        let clients = crowd(&server, 20).await;
        let _successor = Server::start_on(&settings, server.address.port()).await;
        server.signal(signal);
        let start = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for mut client in clients {
            waiting.spawn(async move {
                let (code, reason) = client.closed_eventually().await;
                (code, reason, Instant::now())
            });
        }
        let closed = waiting.join_all().await;
        assert!(
            closed.iter().all(|(code, reason, _)| *code == 4200 && !reason.is_empty()),
            "{closed:?}"
        );
        let times = || closed.iter().map(|(_, _, at)| at.duration_since(start));
        let (first, last) = (times().min().unwrap(), times().max().unwrap());
        assert!(
            last.saturating_sub(first) > Duration::from_millis(500),
            "not spread: the first after {first:?}, the last {last:?}"
        );
        assert!(last <= Duration::from_secs(3), "the last after {last:?}");
        assert_eq!(server.process.exit_code().await, Some(0), "after SIG{signal}");
    }
}

#[tokio::test]
async fn a_server_without_connections_ends_at_once() {
    let mut server = with_grace(60).await;
    server.signal("TERM");
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_started_answer_is_finished() {
    let mut server = with_grace(3).await;
    let publish = UnfinishedPublish::begin(&server).await;
    let mut waiting = tokio::task::JoinSet::new();
    for mut client in crowd(&server, 20).await {
        waiting.spawn(async move { client.closed_eventually().await.0 });
    }
    server.signal("TERM");
    // The first close frame shows that the drain has begun.
    assert_eq!(waiting.join_next().await.unwrap().unwrap(), 4100);
    let reply = publish.finish().await;
    assert_eq!(reply.status, 200, "{reply}");
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_grace_period_ends_with_any_behaviour_of_clients() {
    let settings = Settings::new().server("shutdown_grace_s", 10).server("request_timeout_s", 60);
    let mut server = settings.connection("max_outbox_bytes", 16_777_216).start().await;
    let mut full = server.client_with_small_buffers().await;
    full.subscribe("a").await;
    let silent = server.client().await;
    let data = "x".repeat(100_000);
    // More than the kernel buffers (3 MB), and less than would close the connection.
    for _ in 0..40 {
        server.publish("a", "e", &data).await;
    }
    let half_open = RawHttp::connect(server.address).await;
    let mut half_a_head = RawHttp::connect(server.address).await;
    half_a_head.write("GET /up HTTP/1.1\r\n").await;
    let mut half_a_body = RawHttp::connect(server.address).await;
    let call = Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" }));
    half_a_body.write(call.head(&[("content-length", "100")])).await;
    half_a_body.write("{").await;
    let mut half_an_upgrade = RawHttp::connect(server.address).await;
    half_an_upgrade.write(&upgrade_request(&format!("/app/{KEY}"), &[])[..50]).await;
    server.signal("TERM");
    // The kit waits for 30 s: without the grace period, incomplete requests would have 60 s. The
    // parts end a twentieth of the grace period before its end, which is half a second here.
    assert_eq!(server.process.exit_code().await, Some(0));
    drop((full, silent, half_open, half_a_head, half_a_body, half_an_upgrade));
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let mut server = with_grace(60).await;
        let _clients = crowd(&server, 3).await;
        let _publish = UnfinishedPublish::begin(&server).await;
        server.signal(first);
        eventually("it says that it drains", async || {
            let log = server.process.stream("err");
            let line = log.lines().find(|line| line.contains("draining")).unwrap_or_default();
            ["connections=3", "code=4100", "over_ms=0", "second signal"]
                .iter()
                .all(|part| line.contains(part))
        })
        .await;
        server.signal(second);
        assert_eq!(server.process.exit_code().await, Some(1));
        let log = server.process.stream("err");
        assert!(log.contains("terminated by a second signal"), "{log}");
    }
}

#[tokio::test]
async fn the_end_of_the_drain_is_one_line_with_what_was_dropped() {
    let mut server = with_grace(10).await;
    let mut clients = crowd(&server, 2).await;
    // This client never answers the close frame.
    let _silent = server.client().await;
    server.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed_eventually().await.0, 4100);
    }
    assert_eq!(server.process.exit_code().await, Some(0));
    let log = server.process.stream("err");
    let drained: Vec<&str> = log.lines().filter(|line| line.contains(" drained")).collect();
    assert_eq!(drained.len(), 1, "{log}");
    for part in ["connections=3", "dropped=", "took_ms="] {
        assert!(drained[0].contains(part), "{log}");
    }
    assert!(!drained[0].contains("dropped=0"), "one client never answered: {log}");
}

#[tokio::test]
async fn a_port_in_use_exits_1_with_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = Directory::new();
    directory.write("config.toml", &Settings::new().toml());
    let mut process =
        Process::spawn(&["start", "--host", "127.0.0.1", "--port", &port], directory.path());
    assert_eq!(process.exit_code().await, Some(1));
    let output = process.stream("err");
    assert!(output.contains(&port) && output.to_lowercase().contains("in use"), "{output:?}");
    assert!(!process.output().contains("panicked"), "{}", process.output());
}

#[tokio::test]
async fn every_server_listens_on_a_port_of_its_own() {
    let (one, two) = (with_grace(1).await, with_grace(1).await);
    assert_ne!(one.address, two.address);
    for server in [&one, &two] {
        assert_eq!(Http::plain(server.address, "GET", "/ready", &[]).await.status, 200);
    }
}

/// A publish with an incomplete body. The server does not exit before it is complete.
pub(crate) struct UnfinishedPublish {
    http: RawHttp,
    rest: Vec<u8>,
}

impl UnfinishedPublish {
    pub(crate) async fn begin(server: &Server) -> Self {
        let call = Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" }));
        let mut http = RawHttp::connect(server.address).await;
        let length = call.body().len().to_string();
        http.write(call.head(&[("content-length", &length), ("expect", "100-continue")])).await;
        // The server is ready to read the body.
        assert_eq!(http.reply_to_head().await.status, 100);
        let (front, rest) = call.body().split_at(10);
        http.write(front).await;
        let rest = rest.to_owned();
        Self { http, rest }
    }

    pub(crate) async fn finish(mut self) -> Reply {
        self.http.write(&self.rest).await;
        self.http.reply().await
    }
}

async fn with_grace(seconds: u32) -> Server {
    Settings::new().server("shutdown_grace_s", seconds).start().await
}

async fn crowd(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.client().await);
    }
    clients
}

/// The status of `/ready`, if the server still answers.
async fn ready(server: &Server) -> Option<u16> {
    let stream = TcpStream::connect(server.address).await.ok()?;
    let mut http = RawHttp::over(stream);
    http.try_write("GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .then_some(())?;
    let (mut stream, mut received) = http.into_parts();
    within("the answer of /ready", stream.read_to_end(&mut received)).await.ok()?;
    std::str::from_utf8(received.get(9..12)?).ok()?.parse().ok()
}
