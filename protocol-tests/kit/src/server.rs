//! A server under test.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::{
    APP_ID, Call, Client, Directory, Http, KEY, Process, Reply, Settings, eventually, within,
};

/// A resource that must outlive the server: the Redis of its cluster.
pub type KeptAlive = Option<Box<dyn Debug + Send + Sync>>;

/// The real server, listening on a free port. If the test target runs a cluster, `others` are the other nodes, and
/// connections and requests are distributed over all nodes in turn.
#[derive(Debug)]
pub struct Server {
    /// The address on which the server listens.
    pub address: SocketAddr,
    /// The process of the server.
    pub process: Process,
    others: Vec<Server>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// The directory with the configuration file, in which the process runs.
    pub directory: Directory,
    _kept_alive: KeptAlive,
}

impl Server {
    /// Starts `campanile start` with a configuration file, and waits until it logs that it listens.
    pub async fn start(settings: &Settings, others: Vec<Server>, kept_alive: KeptAlive) -> Self {
        Self { others, _kept_alive: kept_alive, ..Self::start_on(settings, 0).await }
    }

    /// Starts a server on a port, and waits until it logs that it listens.
    pub async fn start_on(settings: &Settings, port: u16) -> Self {
        let directory = Directory::new();
        let file = directory.write("config.toml", &settings.toml());
        let file = file.to_str().expect("the folder for temporary files has a name in UTF-8");
        let arguments =
            ["start", "--config", file, "--host", "127.0.0.1", "--port", &port.to_string()];
        let process = Process::spawn_program(settings.program(), &arguments, directory.path());
        Self::from_process(process, directory).await
    }

    /// Wraps a spawned server: waits until it logs that it listens.
    pub async fn from_process(mut process: Process, directory: Directory) -> Self {
        let line =
            process.line("the line with the address", |line| logged_port(line).is_some()).await;
        let port = logged_port(&line).expect("the line was chosen for its port");
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            process,
            others: Vec::new(),
            connections: AtomicUsize::new(0),
            // Makes the first client and the first request use different nodes.
            requests: AtomicUsize::new(1),
            directory,
            _kept_alive: None,
        }
    }

    /// The node for the next connection.
    fn next_for_a_connection(&self) -> SocketAddr {
        self.node(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// The node for the next request.
    pub fn next_for_a_request(&self) -> SocketAddr {
        self.node(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    fn node(&self, turn: usize) -> SocketAddr {
        match turn % (1 + self.others.len()) {
            0 => self.address,
            other => self.others[other - 1].address,
        }
    }

    /// The URL of the HTTP API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An established connection.
    pub async fn client(&self) -> Client {
        self.client_with(&[]).await
    }

    /// An established connection whose upgrade request has these headers.
    pub async fn client_with(&self, headers: &[(&str, &str)]) -> Client {
        let mut client = self
            .open_with(&format!("/app/{KEY}?protocol=7&client=js&version=8.6.0"), headers)
            .await;
        client.established().await;
        client
    }

    /// An established connection of a client with a token.
    pub async fn client_with_token(&self, token: &str) -> Client {
        let mut client = self.open(&format!("/app/resume-{token}/app/{KEY}?protocol=7")).await;
        client.established().await;
        client
    }

    /// An established connection with a minimal receive buffer.
    pub async fn client_with_small_buffers(&self) -> Client {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(4_096).expect("TCP has this option");
        let mut client = self.open_on(socket).await;
        client.established().await;
        client
    }

    /// An upgraded connection over a socket of the test.
    pub async fn open_on(&self, socket: TcpSocket) -> Client {
        let stream = within("a TCP connection", socket.connect(self.next_for_a_connection()))
            .await
            .expect("the server listens");
        Client::upgrade(stream, &format!("/app/{KEY}?protocol=7"), &[]).await.0
    }

    /// An upgraded connection, before its first message is read.
    pub async fn open(&self, target: &str) -> Client {
        self.open_with(target, &[]).await
    }

    /// Like [`Server::open`], with headers.
    pub async fn open_with(&self, target: &str, headers: &[(&str, &str)]) -> Client {
        Client::open(self.next_for_a_connection(), target, headers).await.0
    }

    /// Publishes to one channel and asserts that it was accepted.
    pub async fn publish(&self, channel: &str, name: &str, data: &str) {
        self.publish_event(json!({ "name": name, "channel": channel, "data": data })).await;
    }

    /// Publishes an event in the format of the HTTP API and asserts that it was accepted.
    pub async fn publish_event(&self, event: Value) -> Value {
        let reply = self.post("events", &event).await;
        assert_eq!(reply.status, 200, "publish {event}: {reply}");
        reply.json()
    }

    /// A signed `GET` of a path under the app.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        query
            .iter()
            .fold(Call::get(path), |call, (name, value)| call.query(name, value))
            .send(self)
            .await
    }

    /// A signed `POST` to a path under the app.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        Call::post(path, body).send(self).await
    }

    /// The body of `GET channels/{channel}`, whose status must be 200.
    pub async fn channel(&self, channel: &str, info: &str) -> Value {
        let query = [("info", info)];
        let reply = self
            .get(&format!("channels/{channel}"), if info.is_empty() { &[] } else { &query })
            .await;
        assert_eq!(reply.status, 200, "{reply}");
        reply.json()
    }

    /// The number of connections of the app.
    pub async fn connections(&self) -> u64 {
        let reply = self.get("connections", &[]).await;
        assert_eq!(reply.status, 200, "{reply}");
        reply.json()["connections"].as_u64().expect("connections is a number")
    }

    /// The metrics page; requires that `metrics.token` is `t`.
    pub async fn metrics_page(&self) -> String {
        let bearer = [("authorization", "Bearer t")];
        let reply = Http::plain(self.address, "GET", "/metrics", &bearer).await;
        assert_eq!(reply.status, 200, "{reply}");
        reply.text().to_owned()
    }

    /// Waits until the app has `count` connections.
    pub async fn wait_for_connections(&self, count: u64) {
        eventually(&format!("app {APP_ID} has {count} connections"), async || {
            self.connections().await == count
        })
        .await;
    }

    /// Asserts that a client does not receive the events of a channel: of an event there and a later one on a channel
    /// of the client, only the second arrives.
    pub async fn assert_not_received(&self, channel: &str, client: &mut Client) {
        let marker = format!("marker-{}", channel.trim_start_matches('#'));
        client.subscribe(&marker).await;
        self.publish(channel, "unheard", "1").await;
        self.publish(&marker, "marker", "1").await;
        client.expect_event(&marker, "marker", "1").await;
        client.ping_barrier().await;
    }

    /// Asserts that the subscribers of a channel have received nothing so far: a marker is their next event.
    pub async fn assert_no_other_events(&self, channel: &str, clients: &mut [&mut Client]) {
        self.publish(channel, "marker", "1").await;
        for client in clients {
            client.expect_event(channel, "marker", "1").await;
        }
    }

    /// Reloads the server with new settings, and returns the line of the log with the result.
    pub async fn reload(&self, settings: &Settings) -> String {
        // Some tests remove the end of the file, which is rejected unless a comment replaces it.
        self.reload_text(&format!("{}# the end\n", settings.toml())).await
    }

    /// Like [`Server::reload`], with the complete text of the file.
    pub async fn reload_text(&self, text: &str) -> String {
        self.directory.write("config.toml", text);
        self.reload_unchanged().await
    }

    /// Like [`Server::reload`], with unchanged files.
    pub async fn reload_unchanged(&self) -> String {
        let outcomes = || -> Vec<String> {
            let log = self.process.stream("err");
            let is_outcome =
                |line: &&str| line.contains(" reloaded") || line.contains("reload rejected");
            log.lines().filter(is_outcome).map(str::to_owned).collect()
        };
        let before = outcomes().len();
        self.signal("HUP");
        eventually("the log says what came of it", async || before < outcomes().len()).await;
        outcomes().swap_remove(before)
    }

    /// Sends a signal to the process by its short name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }
}

/// The port in `… listens on http://127.0.0.1:PORT …`, or `https`.
fn logged_port(line: &str) -> Option<u16> {
    let (_, after) = line.split_once("listens on http")?;
    let (_, after) = after.split_once("://127.0.0.1:")?;
    let digits = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}
