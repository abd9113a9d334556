//! A server is replaced by a new one while clients connect and disconnect.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use kit::tls::{Certificate, connector, tunnel, with_tls};

use crate::Start as _;
use crate::shutdown::UnfinishedPublish;
use kit::{
    Call, Client, Directory, Http, KEY, Process, RawHttp, Server, Settings, eventually, within,
};

const TARGET: &str = "/app/278d425bdf160c739803?protocol=7";

#[tokio::test]
async fn new_connections_to_a_draining_server_get_4100_and_publishers_503() {
    let mut server = Settings::new().start().await;
    let mut client = server.client().await;
    let publish = UnfinishedPublish::begin(&server).await;
    server.signal("TERM");
    assert_eq!(client.closed_eventually().await.0, 4100);
    for _ in 0..3 {
        // An error message and a close frame, both with the code.
        server.open(TARGET).await.rejected(4100).await;
    }
    let rejected = Call::post("events", &serde_json::json!({})).send(&server).await;
    assert_eq!(rejected.status, 503, "{rejected}");
    assert_eq!(publish.finish().await.status, 200);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_next_process_takes_over_the_port_while_the_last_one_drains() {
    let settings = Settings::new();
    let mut old = settings.start().await;
    let mut client = old.client().await;
    let publish = UnfinishedPublish::begin(&old).await;
    old.signal("TERM");
    assert_eq!(client.closed_eventually().await.0, 4100);
    let new = Server::start_on(&settings, old.address.port()).await;
    wait_for_log(&new, "taking over the port").await;
    wait_for_log(&old, "another process took over the port").await;
    wait_for_log(&old, "listening socket closed").await;
    for _ in 0..20 {
        new.client().await;
    }
    assert_eq!(publish.finish().await.status, 200, "the old one finishes open requests");
    assert_eq!(old.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_next_process_is_started_before_the_signal_has_arrived() {
    let settings = Settings::new();
    let mut old = settings.start().await;
    let port = old.address.port();
    let starting = tokio::spawn(async move { Server::start_on(&Settings::new(), port).await });
    old.signal("TERM");
    let new = starting.await.expect("it gets the port");
    assert_eq!(old.process.exit_code().await, Some(0));
    new.client().await;
}

#[tokio::test]
async fn a_port_of_a_serving_campanile_is_not_shared_by_default() {
    for settings in [Settings::new(), Settings::new().server("reuse_port", true)] {
        let server = settings.start().await;
        let directory = Directory::new();
        directory.write("config.toml", &Settings::new().toml());
        let port = server.address.port().to_string();
        let arguments = ["start", "--host", "127.0.0.1", "--port", &port];
        let mut second = Process::spawn(&arguments, directory.path());
        assert_eq!(second.exit_code().await, Some(1));
        assert!(second.stream("err").contains("in use"), "{}", second.output());
        server.client().await;
    }
}

#[tokio::test]
async fn with_reuse_port_clients_reconnect_to_the_new_server_at_once() {
    let settings = Settings::new().server("reuse_port", true).server("shutdown_grace_s", 2);
    let mut old = settings.start().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(old.client().await);
    }
    let new = Server::start_on(&settings, old.address.port()).await;
    old.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed_eventually().await.0, 4200);
        let mut again = new.open(TARGET).await;
        again.established().await;
        again.ping_barrier().await;
    }
    assert_eq!(old.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn two_draining_servers_on_a_port_do_not_rely_on_one_another() {
    let settings = Settings::new().server("reuse_port", true);
    let mut first = settings.start().await;
    let mut clients = [first.client().await, first.client().await];
    let publish = UnfinishedPublish::begin(&first).await;
    first.signal("TERM");
    assert_eq!(clients[0].closed_eventually().await.0, 4100);
    assert_eq!(clients[1].closed_eventually().await.0, 4100);
    // While the first drains, another server starts and stops as well.
    let mut second = Server::start_on(&settings, first.address.port()).await;
    wait_for_log(&first, "listening socket closed").await;
    let mut client = second.client().await;
    second.signal("TERM");
    assert_eq!(client.closed_eventually().await.0, 4100);
    assert_eq!(publish.finish().await.status, 200);
    assert_eq!(first.process.exit_code().await, Some(0));
    assert_eq!(second.process.exit_code().await, Some(0));
}

/// Two thousand connections, opened as fast as possible while the server is replaced.
#[tokio::test]
async fn no_connection_is_rejected_or_reset_across_a_hand_over() {
    let settings = Settings::new().server("reuse_port", true);
    let mut old = settings.start().await;
    let address = old.address;
    let signalled = Arc::new(AtomicBool::new(false));
    let new = Server::start_on(&settings, address.port()).await;
    let mut coming = JoinSet::new();
    for _ in 0..20 {
        let signalled = Arc::clone(&signalled);
        coming.spawn(async move {
            let mut outcomes = (0, 0);
            for count in 0..100 {
                match come(address).await {
                    Outcome::Established => outcomes.0 += 1,
                    Outcome::Rejected => outcomes.1 += 1,
                }
                if count == 20 {
                    signalled.store(true, Ordering::Relaxed);
                }
            }
            outcomes
        });
    }
    eventually("connections come", async || signalled.load(Ordering::Relaxed)).await;
    old.signal("TERM");
    assert_eq!(old.process.exit_code().await, Some(0));
    let outcomes = coming.join_all().await;
    let sum = outcomes.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(sum.0 + sum.1, 2_000, "{sum:?}");
    new.client().await;
}

#[tokio::test]
async fn metrics_on_a_port_of_their_own_move_as_well() {
    for reuse_port in [false, true] {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = Settings::new().server("reuse_port", reuse_port);
        let settings = settings.section("metrics", "listen", format!("{:?}", free.to_string()));
        let mut old = settings.start().await;
        let publish = UnfinishedPublish::begin(&old).await;
        old.signal("TERM");
        wait_for_log(&old, "draining").await;
        let new = Server::start_on(&settings, old.address.port()).await;
        wait_for_log(&old, "another process took over the port").await;
        assert_eq!(publish.finish().await.status, 200);
        assert_eq!(old.process.exit_code().await, Some(0));
        assert_eq!(Http::plain(free, "GET", "/metrics", &[]).await.status, 200);
        drop(new);
    }
}

#[tokio::test]
async fn with_tls_the_port_is_taken_over_as_well() {
    let (directory, certificate) = (Directory::new(), Certificate::new());
    certificate.write(&directory);
    let settings = with_tls(Settings::new(), &directory);
    let mut old = settings.start().await;
    let address = old.address;
    old.address = tunnel(address, connector(&[&certificate])).await;
    let publish = UnfinishedPublish::begin(&old).await;
    // The server does not wait for an incomplete handshake.
    let _silent = TcpStream::connect(address).await.unwrap();
    old.signal("TERM");
    wait_for_log(&old, "draining").await;
    let new = Server::start_on(&settings, address.port()).await;
    wait_for_log(&new, "taking over the port").await;
    wait_for_log(&old, "listening socket closed").await;
    assert_eq!(publish.finish().await.status, 200);
    assert_eq!(old.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn idle_and_new_connections_do_not_delay_the_end() {
    let mut server = Settings::new().server("shutdown_grace_s", 60).start().await;
    let _nothing_sent = RawHttp::connect(server.address).await;
    let mut half_a_head = RawHttp::connect(server.address).await;
    half_a_head.write("GET /up HTTP/1.1\r\n").await;
    // Clients that never answer the close frame do not delay the exit either.
    let _silent = [server.client().await, server.client().await];
    let address = server.address;
    let mut coming = JoinSet::new();
    for _ in 0..4 {
        coming.spawn(async move { while TcpStream::connect(address).await.is_ok() {} });
    }
    server.signal("TERM");
    assert_eq!(server.process.exit_code().await, Some(0), "long before the grace period ends");
    coming.abort_all();
}

#[tokio::test]
async fn the_next_process_serves_the_queue_of_an_inherited_socket() {
    let (listener, settings) = (TcpListener::bind("127.0.0.1:0").unwrap(), Settings::new());
    let port = listener.local_addr().unwrap().port();
    let mut old = inheriting(&listener, &settings, "web").await;
    assert_eq!(old.address.port(), port);
    wait_for_log(&old, "using an inherited socket").await;
    let mut clients = [old.client().await, old.client().await];
    let publish = UnfinishedPublish::begin(&old).await;
    old.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed_eventually().await.0, 4200);
    }
    // The connection is queued in the kernel, and the draining server does not accept it.
    let waiting = tokio::spawn(async move {
        let mut client = Client::open(([127, 0, 0, 1], port).into(), TARGET, &[]).await.0;
        client.established().await;
        client
    });
    assert_eq!(publish.finish().await.status, 200);
    assert_eq!(old.process.exit_code().await, Some(0));
    let new = inheriting(&listener, &settings, "web").await;
    within("the client from the queue", waiting).await.unwrap().ping_barrier().await;
    new.client().await;
}

#[tokio::test]
async fn a_difference_to_the_inherited_socket_is_logged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = inheriting(&listener, &Settings::new().server("port", 9), "").await;
    wait_for_log(&server, "inherited socket differs from server.host and server.port").await;
    wait_for_log(&server, "port=9").await;
    server.client().await;
}

#[tokio::test]
async fn an_inherited_socket_may_be_for_the_metrics() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = inheriting(&listener, &Settings::new().server("port", 0), "metrics").await;
    assert_ne!(server.address, address);
    assert_eq!(Http::plain(address, "GET", "/metrics", &[]).await.status, 200);
    server.client().await;
}

#[tokio::test]
async fn guessable_secrets_are_rejected_on_a_public_inherited_socket() {
    let guessed = Settings::without_apps().add_app("5", "key-of-5", "changeme");
    for (bound, text, code) in [
        ("0.0.0.0:0", String::new(), Some(2)),
        ("[::]:0", String::new(), Some(2)),
        ("0.0.0.0:0", guessed.toml(), Some(2)),
        ("127.0.0.1:0", String::new(), None),
    ] {
        let listener = TcpListener::bind(bound).unwrap();
        let directory = Directory::new();
        directory.write("config.toml", &text);
        let environment = [("CAMPANILE_SERVER__HOST", "127.0.0.1")];
        let mut process =
            Process::spawn_listening(&["start"], directory.path(), &listener, &environment);
        if code.is_none() {
            Server::from_process(process, directory).await;
            continue;
        }
        assert_eq!(process.exit_code().await, code, "{bound}: {}", process.output());
        let output = process.stream("err");
        let address = listener.local_addr().unwrap();
        let reason = format!("cannot listen on {address}, which is reachable from the network");
        assert!(output.contains(&reason), "{output}");
        assert!(output.contains("apps[0].secret"), "{output}");
    }
}

#[tokio::test]
async fn a_reload_checks_the_address_of_the_inherited_socket() {
    let (listener, directory) = (TcpListener::bind("0.0.0.0:0").unwrap(), Directory::new());
    directory.write("config.toml", &Settings::new().toml());
    let environment = [("CAMPANILE_SERVER__HOST", "127.0.0.1")];
    let mut process =
        Process::spawn_listening(&["start"], directory.path(), &listener, &environment);
    process.line("the line with the address", |line| line.contains("listens on")).await;
    let guessed = Settings::new().add_app("5", "key-of-5", "changeme");
    directory.write("config.toml", &guessed.toml());
    process.signal("HUP");
    let outcome = |line: &str| line.contains(" reloaded") || line.contains("reload rejected");
    eventually("the log wait_for_log what came of it", async || {
        process.stream("err").lines().any(outcome)
    })
    .await;
    let output = process.stream("err");
    assert!(output.contains("reload rejected"), "{output}");
    assert!(output.contains("apps[1].secret: is a published placeholder"), "{output}");
}

/// A server that inherits `listener` under a name.
async fn inheriting(listener: &TcpListener, settings: &Settings, name: &str) -> Server {
    let directory = Directory::new();
    directory.write("config.toml", &settings.toml());
    let names = [("LISTEN_FDNAMES", name), ("CAMPANILE_SERVER__HOST", "127.0.0.1")];
    let process = Process::spawn_listening(&["start"], directory.path(), listener, &names);
    Server::from_process(process, directory).await
}

async fn wait_for_log(server: &Server, part: &str) {
    eventually(part, async || server.process.stream("err").contains(part)).await;
}

enum Outcome {
    Established,
    /// Closed with 4100.
    Rejected,
}

/// Connects and reads the first message. A connection that the kernel rejects or resets is a failure.
async fn come(address: std::net::SocketAddr) -> Outcome {
    let mut client = Client::open(address, &format!("/app/{KEY}?protocol=7"), &[]).await.0;
    let first = client.next().await;
    match first["event"].as_str() {
        Some("pusher:connection_established") => Outcome::Established,
        Some("pusher:error") if first["data"]["code"] == 4100 => Outcome::Rejected,
        _ => panic!("neither served nor closed with 4100: {first}"),
    }
}
