//! `campanile top`: lines, JSON, and the live view in a pseudoterminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use kit::{
    Client, DEADLINE, Directory, Process, Server, Settings, eventually, free_port, program, quoted,
};

async fn server_with_traffic() -> (Server, Client, Directory, String) {
    let server = Settings::new().section("metrics", "token", quoted("t")).start_node().await;
    let mut client = server.client().await;
    client.subscribe("news").await;
    let directory = Directory::new();
    let config = Settings::new().section("metrics", "token", quoted("t")).toml();
    directory.write("config.toml", &config);
    let port = server.address.port().to_string();
    (server, client, directory, port)
}

#[tokio::test]
async fn each_interval_is_a_line_with_rates() {
    let (server, _client, directory, port) = server_with_traffic().await;
    let top = ["top", "--host", "127.0.0.1", "--port", &port, "--interval", "0.5"];
    let mut process = Process::spawn(&[&top[..], &["--json"]].concat(), directory.path());
    // Until an interval has some of these.
    let mut report = Value::Null;
    for _ in 0..60 {
        for _ in 0..5 {
            server.publish("news", "e", "1").await;
        }
        let line = process.line("a report", |_| true).await;
        report = serde_json::from_str(&line).expect("a line is JSON");
        if report["busiest_channels"][0]["events_per_s"].as_f64() > Some(0.0) {
            break;
        }
    }
    assert_eq!(report["busiest_channels"][0]["channel"], "news", "{report}");
    assert_eq!(report["connections"], 1);
    assert!(Some(0.0) < report["publishes_per_s"].as_f64(), "{report}");
    assert!(Some(0.0) < report["latency_p50_s"].as_f64(), "{report}");
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));

    let mut process = Process::spawn(&[&top[..], &["--count", "2"]].concat(), directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    let lines = process.stream("out");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().all(|line| line.contains(" connections=1 channels=1 ")), "{lines}");
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_that_says_so() {
    let (server, _client, directory, port) = server_with_traffic().await;
    let url = server.url();
    for (arguments, error) in [
        (&["--url", &url][..], "Metrics need `Authorization: Bearer` with metrics.token"),
        (&["--port", &port, "--metrics-token", "wrong"], "metrics.token"),
        (&["--metrics-url", "http://127.0.0.1:1"], "cannot reach http://127.0.0.1:1"),
        (&["--port", &port, "--metrics-url", &format!("{url}/up")], "not that of a Campanile"),
    ] {
        let arguments = [&["top", "--count", "1", "--interval", "0.2"], arguments].concat();
        let mut process = Process::spawn(&arguments, directory.path());
        assert_eq!(process.exit_code().await, Some(1), "{arguments:?}");
        assert!(process.output().contains(error), "{arguments:?}: {}", process.output());
    }
    let arguments = ["top", "--url", &url, "--metrics-token", "t", "--count", "1"];
    let mut process = Process::spawn(&arguments, directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
}

#[tokio::test]
async fn metrics_are_read_from_the_listener_of_the_configuration() {
    let listen = quoted(&format!("127.0.0.1:{}", free_port()));
    let server = Settings::new().section("metrics", "listen", &listen).start_node().await;
    let directory = Directory::new();
    let config = Settings::new().server("port", server.address.port());
    let config = config.section("metrics", "listen", &listen);
    directory.write("config.toml", &config.toml());
    let mut process = Process::spawn(&["top", "--count", "1"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
}

/// `campanile top` in a pseudoterminal, which `script` makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
}

/// Ends `script`, which closes the terminal, so that `top` ends as well.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Terminal {
    fn open(directory: &Directory, port: &str) -> Self {
        let top = format!(
            "echo pid=$$; stty rows 24 cols 80; exec '{}' top --port {port} --interval 0.3",
            program().display()
        );
        let mut command = Command::new("script");
        if cfg!(target_os = "macos") {
            command.args(["-q", "/dev/null", "sh", "-c", &top]);
        } else {
            command.args(["-qefc", &top, "/dev/null"]);
        }
        command
            .current_dir(directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("there is `script`, of util-linux");
        let keys = child.stdin.take().expect("stdin is piped");
        let mut output = child.stdout.take().expect("stdout is piped");
        let shown = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]);
                collected.lock().expect("no panic").push_str(&text);
            }
        });
        Self { child, keys, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no panic").clone()
    }

    async fn shows(&self, text: &str, times: usize) {
        eventually(&format!("{text} is shown"), async || {
            times <= self.shown().matches(text).count()
        })
        .await;
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).expect("the terminal is open");
    }

    /// Waits for the end, after which the terminal must be as it was.
    async fn ends(mut self) {
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            assert!(start.elapsed() < DEADLINE, "it does not end: {}", self.shown());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        assert!(status.success(), "{status}: {}", self.shown());
        self.shows(LEAVE, 1).await;
        let shown = self.shown();
        assert!(shown.find(ENTER) < shown.find(LEAVE), "{shown}");
        assert!(shown.rfind(HIDE) < shown.rfind(SHOW), "the cursor is shown: {shown}");
    }
}

/// The terminal's sequences for its alternate screen, and for the cursor.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";
const HIDE: &str = "\u{1b}[?25l";
const SHOW: &str = "\u{1b}[?25h";

#[tokio::test]
async fn the_live_view_sorts_quits_and_restores_the_terminal() {
    let (_server, _client, directory, port) = server_with_traffic().await;
    let mut terminal = Terminal::open(&directory, &port);
    terminal.shows("busiest", 1).await;
    terminal.shows("news", 1).await;
    terminal.shows("connections", 1).await;
    terminal.shows("▼", 1).await;
    terminal.press("s");
    terminal.shows("▼", 2).await;
    terminal.press("q");
    terminal.ends().await;
}

#[tokio::test]
async fn a_signal_ends_the_live_view_and_restores_the_terminal() {
    let (_server, _client, directory, port) = server_with_traffic().await;
    let terminal = Terminal::open(&directory, &port);
    terminal.shows("busiest", 1).await;
    let shown = terminal.shown();
    let pid = shown.split("pid=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let kill = format!("kill -TERM {}", pid.expect("the shell prints it"));
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    terminal.ends().await;
}
