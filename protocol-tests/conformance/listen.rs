//! `campanile listen` and `campanile publish` with servers that stop and closed pipes.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use kit::{
    APP_ID, Directory, KEY, Process, Proxy, SECRET, Server, Settings, eventually, program, quoted,
};

use crate::Start as _;

fn arguments<'a>(first: &[&'a str], url: &'a str) -> Vec<&'a str> {
    let flags = ["--url", url, "--app-id", APP_ID, "--key", KEY, "--secret", SECRET];
    [first, &flags].concat()
}

async fn has_subscribed(server: &Server, channel: &str) {
    let occupied = async || server.channel(channel, "").await["occupied"] == json!(true);
    eventually("the listener has subscribed", occupied).await;
}

#[tokio::test]
async fn listen_reconnects_with_a_new_signature() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let directory = Directory::new();
    let settings = Settings::new().server("host", quoted("127.0.0.1")).server("port", port);
    directory.write("config.toml", &settings.toml());
    let mut server = Process::spawn(&["start"], directory.path());
    server.line("the address", |line| line.contains("listens on")).await;
    let mut listener = Process::spawn(&["listen", "presence-a"], directory.path());
    let subscribed = |line: &str| line.contains("subscription_succeeded");
    listener.line("the subscription", subscribed).await;
    server.signal("KILL");
    drop(server);
    eventually("it says so", async || listener.stream("err").contains("connecting again in")).await;
    let mut server = Process::spawn(&["start"], directory.path());
    server.line("the address", |line| line.contains("listens on")).await;
    listener.line("the second subscription", subscribed).await;
}

#[tokio::test]
async fn listen_stops_if_a_reconnect_would_fail_too() {
    let server = Settings::new().start().await;
    let directory = Directory::new();
    let url = server.url();
    let flags = ["--url", &url, "--app-id", "x", "--key", "no-such-key", "--secret", "x"];
    let mut listener = Process::spawn(&[&["listen", "a"][..], &flags].concat(), directory.path());
    assert_eq!(listener.exit_code().await, Some(1));
    let output = listener.stream("err");
    assert!(output.contains("4001 App key no-such-key does not exist"), "{output}");
}

#[tokio::test]
async fn listen_ends_when_its_output_is_closed() {
    let server = Settings::new().start().await;
    let directory = Directory::new();
    let url = server.url();
    let mut child = Command::new(program())
        .args(arguments(&["listen", "a"], &url))
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    has_subscribed(&server, "a").await;
    drop(child.stdout.take());
    let mut status = None;
    eventually("it ends, though nothing comes", async || {
        status = child.try_wait().expect("the child is ours");
        status.is_some()
    })
    .await;
    let output = child.wait_with_output().expect("it has ended");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn listen_misses_nothing_if_it_resumes() {
    let server = Settings::new().start().await;
    let directory = Directory::new();
    let proxy = Proxy::in_front_of(server.address).await;
    let url = format!("http://{}", proxy.address());
    let first = ["listen", "private-a", "--resume"];
    let mut listener = Process::spawn(&arguments(&first, &url), directory.path());
    listener.line("the subscription", |line| line.contains("succeeded")).await;
    proxy.cut(Duration::ZERO);
    server.wait_for_connections(0).await;
    server.publish("private-a", "meanwhile", "1").await;
    listener.line("the event", |line| line.contains("meanwhile")).await;
}

#[tokio::test]
async fn listen_escapes_terminal_sequences() {
    let server = Settings::new().start().await;
    let directory = Directory::new();
    let url = server.url();
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{7f}\u{202e}\r\ny";
    for json in [false, true] {
        let first: &[&str] = if json { &["listen", "a", "--json"] } else { &["listen", "a"] };
        let mut listener = Process::spawn(&arguments(first, &url), directory.path());
        listener.line("the subscription", |line| line.contains("succeeded")).await;
        server.publish("a", hostile, hostile).await;
        let line = listener.line("the event", |line| line.contains("owned")).await;
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        if json {
            let event: Value = serde_json::from_str(&line).expect("a line of JSON");
            assert_eq!((&event["event"], &event["data"]), (&json!(hostile), &json!(hostile)));
        } else {
            assert!(line.contains(r"x\u{1b}]0;owned\u{7}\u{9b}2J\u{7f}\u{202e}\r\ny"), "{line}");
        }
        drop(listener);
        server.wait_for_connections(0).await;
    }
}

#[tokio::test]
async fn publish_reads_its_data_from_standard_input() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let url = server.url();
    let directory = Directory::new();
    let publish = |input: &[u8]| {
        let mut child = Command::new(program())
            .args(arguments(&["publish", "a", "e", "-"], &url))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        child.stdin.take().expect("it is piped").write_all(input).expect("it is read");
        child.wait_with_output().expect("it ends")
    };
    assert_eq!(publish(b"{\"x\":\n1}\n").status.code(), Some(0));
    client.expect_event("a", "e", "{\"x\":\n1}").await;
    let rejected = publish(b"\xff");
    assert_eq!(rejected.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&rejected.stderr).contains("not UTF-8"));
}
