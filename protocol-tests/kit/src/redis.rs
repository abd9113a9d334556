//! A `redis-server` of one test.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::{DEADLINE, Directory, RedisClient, Resp};

/// The first port of a range that the kernel does not assign to outgoing connections. A client that reconnects to a
/// stopped Redis can't connect to itself there, and no other process takes the port of a stopped Redis.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 22_000;
/// The source of a library that shifts the clock of a process.
const CLOCK_SOURCE: &str = include_str!("clock.c");
/// A user whose rights do not change when a test changes the default user's.
const ADMIN: [&str; 7] = ["--user", "admin", "on", "nopass", "~*", "&*", "+@all"];

/// A running or stopped `redis-server`, killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    /// The port on 127.0.0.1.
    pub port: u16,
    arguments: Vec<String>,
    /// Whether `redis.conf` is in the directory.
    is_configured: bool,
    /// Whether the test sets the clock of this server.
    has_own_clock: bool,
    child: Option<Child>,
    directory: Directory,
}

impl Redis {
    /// Starts a server without persistence.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts a server that writes every change to disk before it answers.
    pub async fn start_persistent() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts a server with arguments of the command line.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::new(0, arguments).start_anywhere().await
    }

    /// Starts a server with a configuration file that it can rewrite.
    pub async fn start_configured(arguments: &[&str], configuration: &str) -> Self {
        let mut redis = Self::new(0, arguments);
        redis.directory.write("redis.conf", configuration);
        redis.is_configured = true;
        redis.start_anywhere().await
    }

    /// Starts a server without persistence that a test can reconfigure: see [`Redis::admin`] and [`Redis::set_clock`].
    pub async fn start_adjustable(arguments: &[&str]) -> Self {
        let mut all = vec!["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
        all.extend(arguments);
        if has_protected_settings() {
            all.extend(["--enable-protected-configs", "yes", "--enable-debug-command", "yes"]);
        }
        all.extend(ADMIN);
        let mut redis = Self::new(0, &all);
        redis.has_own_clock = true;
        redis.set_clock(0);
        redis.start_anywhere().await
    }

    async fn start_anywhere(self) -> Self {
        let mut redis = self;
        // Another process may take the port before Redis does.
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
        Self {
            port,
            arguments,
            is_configured: false,
            has_own_clock: false,
            child: None,
            directory: Directory::new(),
        }
    }

    /// Starts a server on a port that was free a moment ago.
    pub async fn start_at(port: u16) -> Self {
        let mut redis = Self::new(port, &["--save", "", "--appendonly", "no"]);
        redis.start_again().await;
        redis
    }

    /// The URL of the server for the configuration of a node.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Connects to the server.
    pub async fn client(&self) -> RedisClient {
        RedisClient::connect(self.address()).await.expect("the redis-server runs")
    }

    /// The reply to a command, which must not be an error.
    pub async fn command(&self, words: &[&str]) -> Resp {
        self.client().await.command(words).await
    }

    /// Connects to an adjustable server as a user with all rights.
    pub async fn admin(&self) -> RedisClient {
        let mut client = self.client().await;
        client.command(&["AUTH", "admin", "any"]).await;
        client
    }

    /// The directory of the server's files.
    pub fn directory(&self) -> String {
        self.directory.path().to_string_lossy().into_owned()
    }

    /// Sets the server's clock this many seconds ahead, or back if negative.
    pub fn set_clock(&self, seconds: i64) {
        self.write_clock(0, 1_000 * seconds);
    }

    /// Stops the server's clock at a time in µs since 1970.
    pub fn stop_clock(&self, at_us: i64) {
        self.write_clock(8, at_us);
    }

    fn write_clock(&self, position: u64, value: i64) {
        let path = self.directory.path().join("clock");
        // Not truncated: the process has mapped it.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let written = file.and_then(|file| file.write_all_at(&value.to_ne_bytes(), position));
        written.expect("the directory of the test is writable");
    }

    /// Pauses the server: its connections remain open, and no command is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes a paused server.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills the server, so that it can neither write its data nor close connections.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The server may have exited already.
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Deletes the snapshot on disk. A replica writes one when it receives the data of its master.
    pub fn delete_snapshot(&self) {
        if let Err(error) = std::fs::remove_file(self.directory.path().join("dump.rdb")) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }

    /// Starts the server again on its port, with its data on disk.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
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
        let mut command = Command::new(server_program());
        if self.has_own_clock {
            command
                .env("LD_PRELOAD", clock_library())
                .env("CLOCK_FILE", self.directory.path().join("clock"));
        }
        let mut child = command
            .args(self.is_configured.then_some("redis.conf"))
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--logfile", "redis.log", "--daemonize", "no"])
            .args(&self.arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} is not installed: {error}", server_program()));
        let start = Instant::now();
        loop {
            if child.try_wait().expect("the child is ours").is_some() {
                return false;
            }
            if let Some(mut client) = RedisClient::connect(self.address()).await
                && client.try_command(&["PING"]).await.is_some_and(|answer| has_loaded(&answer))
            {
                self.child = Some(child);
                return true;
            }
            assert!(start.elapsed() < DEADLINE, "redis-server does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Makes a subdirectory in the directory of the server's files.
    pub fn make_directory(&self, name: &str) {
        std::fs::create_dir(self.directory.path().join(name)).expect("there is none yet");
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

/// The server program under test: `CAMPANILE_REDIS_SERVER`, or the first of `redis-server` and `valkey-server` that is
/// installed.
fn server_program() -> String {
    if let Ok(program) = std::env::var("CAMPANILE_REDIS_SERVER") {
        return program;
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let is_installed =
        |name: &&str| std::env::split_paths(&folders).any(|folder| folder.join(name).exists());
    ["redis-server", "valkey-server"]
        .into_iter()
        .find(is_installed)
        .unwrap_or("redis-server")
        .into()
}

/// Whether the server protects some settings from `CONFIG SET`, as Redis 7 and Valkey do.
fn has_protected_settings() -> bool {
    let output = Command::new(server_program()).arg("--version").output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("v=").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    version.is_some_and(|major: u32| 7 <= major)
}

/// Compiles a library for a process to preload. The C compiler is present, since Rust needs one to link these tests.
pub(crate) fn compile_library(name: &str, source: &str) -> (Directory, PathBuf) {
    let directory = Directory::new();
    let source = directory.write(&format!("{name}.c"), source);
    let library = directory.path().join(format!("{name}.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
    let status = compiler.status().expect("cc is installed");
    assert!(status.success(), "{compiler:?}: {status}");
    (directory, library)
}

/// The library that shifts the clock of a process, compiled once.
pub fn clock_library() -> &'static Path {
    static LIBRARY: OnceLock<(Directory, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| compile_library("clock", CLOCK_SOURCE));
    path
}

/// Whether a reply to `PING` is that of a server that has loaded its data. An error that asks for a password is, too.
fn has_loaded(answer: &Resp) -> bool {
    match answer {
        Resp::Text(text) => text == "PONG",
        Resp::Error(error) => error.starts_with("NOAUTH"),
        Resp::Number(_) | Resp::Null | Resp::List(_) => false,
    }
}

/// A port without a listener.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent test processes begin at different ports.
    let first = u16::try_from(id() * 97 % u32::from(PORTS)).expect("it is less than PORTS");
    loop {
        let port = FIRST_PORT + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
