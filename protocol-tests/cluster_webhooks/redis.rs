//! A `redis-server` of one test.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{DEADLINE, Directory, eventually};

/// A running `redis-server` without persistence, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    child: Child,
    _directory: Directory,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(arguments: &[&str]) -> Self {
        // Another process may take the port before Redis does.
        for _ in 0..10 {
            if let Some(redis) = Self::try_start(free_port(), arguments).await {
                return redis;
            }
        }
        panic!("no redis-server could be started");
    }

    async fn try_start(port: u16, arguments: &[&str]) -> Option<Self> {
        let directory = Directory::new();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--daemonize", "no", "--logfile", "redis.log"])
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let mut redis = Self { port, child, _directory: directory };
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if redis.child.try_wait().expect("the child is ours").is_some() {
                return None;
            }
            if redis.try_command("PING").await.is_some_and(|answer| answer == "+PONG") {
                return Some(redis);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The reply of Redis to a command, which is written on one line.
    pub(crate) async fn command(&self, command: &str) -> String {
        self.try_command(command).await.expect("redis-server runs")
    }

    async fn try_command(&self, command: &str) -> Option<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text.trim_end().trim_end_matches("+OK").trim_end().to_owned())
    }

    /// The number of script calls by nodes. Idle nodes send no other commands.
    pub(crate) async fn scripts_called(&self) -> u32 {
        let text = self.command("INFO commandstats").await;
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = line.and_then(|line| line.split(',').next()?.parse().ok());
        calls.unwrap_or_else(|| panic!("no scripts in {text}"))
    }

    /// Stops the process with SIGSTOP: its connections remain open, and no command is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}: {status}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The process may have ended already.
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Three servers of a Redis Cluster, without replicas.
pub(crate) async fn start_cluster() -> Vec<Redis> {
    const SLOTS: usize = 16_384;
    let mut servers = Vec::new();
    let mut buses = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        servers.push(Redis::start_with(&arguments).await);
        buses.push(bus);
    }
    for (at, server) in servers.iter().enumerate() {
        let (from, to) = (SLOTS * at / 3, SLOTS * (at + 1) / 3 - 1);
        assert_eq!(server.command(&format!("CLUSTER ADDSLOTSRANGE {from} {to}")).await, "+OK");
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", servers[0].port, buses[0]);
        assert_eq!(server.command(&meet).await, "+OK");
    }
    for server in &servers {
        eventually("the cluster is whole", async || {
            let info = server.command("CLUSTER INFO").await;
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    servers
}

/// A port that is free at the time of the call.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}
