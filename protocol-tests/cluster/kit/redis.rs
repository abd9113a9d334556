//! A `redis-server` of a test's own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Directory};

use super::{RedisClient, Resp};

/// Ports that the kernel does not give to outgoing connections. Whoever looks for a Redis that is gone cannot be
/// connected to itself there, and nobody takes the port of a Redis that is about to come back.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 22_000;

/// A running or stopped `redis-server`, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    arguments: Vec<String>,
    /// Whether `redis.conf` is in the directory.
    is_configured: bool,
    child: Option<Child>,
    directory: Directory,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts one that writes everything down before it answers.
    pub(crate) async fn start_with_a_memory() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await
    }

    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        Self::start_new(arguments, None).await
    }

    /// Starts one with a file that it may write to.
    pub(crate) async fn start_configured(arguments: &[&str], configuration: &str) -> Self {
        Self::start_new(arguments, Some(configuration)).await
    }

    async fn start_new(arguments: &[&str], configuration: Option<&str>) -> Self {
        let mut redis = Self::new(0, arguments);
        if let Some(configuration) = configuration {
            redis.directory.write("redis.conf", configuration);
            redis.is_configured = true;
        }
        // Another process may take the port between our looking and Redis's taking.
        for _ in 0..10 {
            redis.port = free_port();
            if redis.try_start().await {
                return redis;
            }
        }
        panic!("no redis-server could be started: {}", redis.log());
    }

    fn new(port: u16, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { port, arguments, is_configured: false, child: None, directory: Directory::new() }
    }

    /// Starts one on a port that was free a moment ago.
    pub(crate) async fn start_at(port: u16) -> Self {
        let mut redis = Self::new(port, &["--save", "", "--appendonly", "no"]);
        redis.start_again().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A connection of the test's to it.
    pub(crate) async fn client(&self) -> RedisClient {
        RedisClient::connect(self.address()).await.expect("the redis-server runs")
    }

    /// Holds it still: its connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Ends it at once, without giving it time to write or to say anything.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Starts it again on its port, with what it wrote to disk.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        let start = Instant::now();
        while !self.try_start().await {
            assert!(
                start.elapsed() < DEADLINE,
                "redis-server does not start again: {}",
                self.log()
            );
        }
    }

    async fn try_start(&mut self) -> bool {
        let mut child = Command::new("redis-server")
            .args(self.is_configured.then_some("redis.conf"))
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--logfile", "redis.log", "--daemonize", "no"])
            .args(&self.arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let start = Instant::now();
        loop {
            if child.try_wait().expect("the child is ours").is_some() {
                return false;
            }
            if let Some(mut client) = RedisClient::connect(self.address()).await
                && client.try_command(&["PING"]).await.is_some_and(|answer| is_awake(&answer))
            {
                self.child = Some(child);
                return true;
            }
            assert!(start.elapsed() < DEADLINE, "redis-server does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let kill = format!("kill -{name} {}", child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("redis.log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether what was said to a `PING` comes from a server that has loaded its data. One that wants a password has.
fn is_awake(answer: &Resp) -> bool {
    match answer {
        Resp::Text(text) => text == "PONG",
        Resp::Error(error) => error.starts_with("NOAUTH"),
        Resp::Number(_) | Resp::Nothing | Resp::List(_) => false,
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin in different places.
    let first = u16::try_from(id() * 97 % u32::from(PORTS)).expect("it is less than PORTS");
    loop {
        let port = FIRST_PORT + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
