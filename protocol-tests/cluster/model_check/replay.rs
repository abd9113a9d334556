//! Replays the commands of real nodes to a real Redis and to the model.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{Api, C, Monitor, Outcome, R, member};
use kit::{Redis, Server, cluster_settings, eventually, free_port, node};

use super::{ModelAndRedis, Words, now_us};

/// Commands that nodes send about their connections rather than data.
const OTHERS: [&str; 10] = [
    "AUTH",
    "CLIENT",
    "ECHO",
    "HELLO",
    "INFO",
    "MONITOR",
    "ROLE",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
];

/// A command of a node.
struct SentCommand {
    at_us: u64,
    words: Words,
}

/// Runs nodes and returns the commands that they sent.
async fn record() -> Vec<SentCommand> {
    let redis = Redis::start().await;
    let mut monitor = Monitor::start(&redis).await;
    let webhook = |port: u16| {
        let events = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed"]"#;
        format!(r#"{{ url = "http://127.0.0.1:{port}/", events = {events} }}"#)
    };
    let webhooks =
        [webhook(receiver(200).await), webhook(receiver(400).await), webhook(free_port())];
    let settings = cluster_settings()
        .section("redis", "node_timeout_ms", 3_000)
        .app("webhooks", format!("[{}]", webhooks.join(", ")));
    let mut nodes: Vec<Server> = Vec::new();
    for _ in 0..2 {
        nodes.push(node(&settings, &redis.url()).await);
    }
    let mut members = Vec::new();
    for number in 0..8 {
        members.push(member(&nodes[number % 2], &(number / 2).to_string()).await);
        let mut api = Api::new(nodes[number % 2].address);
        for channel in [C, R, "cache-c"] {
            assert_eq!(api.publish(channel, "e", &number.to_string()).await, Outcome::Accepted);
        }
    }
    members.truncate(5);
    nodes.remove(1).signal("KILL");
    // The other node declares the killed one dead and cleans up after it.
    let node = &nodes[0];
    let connections = async || node.connections().await;
    let alive = members.iter().step_by(2).count() as u64;
    eventually("the killed node is cleaned up after", async || connections().await == alive).await;
    drop(members);
    eventually("all members have left", async || connections().await == 0).await;
    monitor.since_last().await.iter().filter_map(|line| read(line)).collect()
}

/// Starts a server that answers every request with this status, as long as the test runs.
async fn receiver(status: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer =
                format!("HTTP/1.1 {status} .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let mut request = vec![0; 65_536];
            // A request is small and written at once.
            if stream.read(&mut request).await.is_ok() {
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    port
}

/// Parses a line of `MONITOR`. Returns `None` unless it is a data command of a node.
fn read(line: &str) -> Option<SentCommand> {
    let (head, rest) = line.split_once("] ")?;
    let (seconds, micros) = head.split_once(' ')?.0.split_once('.')?;
    let at_us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let words = unquote(rest);
    let name = String::from_utf8_lossy(words.first()?).to_ascii_uppercase();
    let is_of_node = !head.ends_with(" lua") && !OTHERS.contains(&name.as_str());
    is_of_node.then_some(SentCommand { at_us, words })
}

/// Parses quoted words.
fn unquote(text: &str) -> Words {
    let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (&mut word, byte) {
            (None, b'"') => word = Some(Vec::new()),
            (None, _) => {}
            (Some(_), b'"') => words.extend(word.take()),
            (Some(word), b'\\') => {
                word.push(match bytes.next().expect("a character follows the backslash") {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                        let digits = String::from_utf8(digits).expect("two digits");
                        u8::from_str_radix(&digits, 16).expect("two digits")
                    }
                    other => other,
                });
            }
            (Some(word), byte) => word.push(byte),
        }
    }
    words
}

/// Shifts the times in a command so that they are as far from now as they were when it was sent.
fn now(sent: &SentCommand) -> Words {
    let later_ms = (now_us() - sent.at_us) / 1_000;
    let shift = |word: &Vec<u8>| {
        let time =
            str::from_utf8(word).ok().filter(|text| text.len() == 13)?.parse::<u64>().ok()?;
        Some((time + later_ms).to_string().into_bytes())
    };
    sent.words.iter().map(|word| shift(word).unwrap_or_else(|| word.clone())).collect()
}

#[tokio::test]
async fn what_nodes_send_has_the_replies_of_a_real_redis() {
    let sent = record().await;
    let is_call = |sent: &&SentCommand| sent.words[0].eq_ignore_ascii_case(b"EVALSHA");
    let calls = sent.iter().filter(is_call).count();
    assert!(50 < calls, "only {calls} script calls were recorded");
    let mut pair = ModelAndRedis::start().await;
    // In the original order and at the original speed.
    let (start, first) = (now_us(), sent[0].at_us);
    for sent in &sent {
        let wait = (sent.at_us - first).saturating_sub(now_us() - start);
        tokio::time::sleep(Duration::from_micros(wait)).await;
        pair.send(&now(sent));
    }
    // With commands lost, repeated and delayed.
    for seed in 0..20 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        pair.send_words(&["FLUSHALL"]);
        let mut late: Vec<&SentCommand> = Vec::new();
        for sent in &sent {
            let is_load = sent.words[0].eq_ignore_ascii_case(b"SCRIPT");
            match random.random_range(0..10) {
                0 if !is_load => late.push(sent),
                1 if !is_load => {}
                2 => {
                    pair.send(&now(sent));
                    pair.send(&now(sent));
                }
                3 if !late.is_empty() => {
                    let at = random.random_range(0..late.len());
                    pair.send(&now(late.swap_remove(at)));
                    pair.send(&now(sent));
                }
                _ => pair.send(&now(sent)),
            }
        }
    }
}

#[test]
fn lines_of_a_monitor_are_read() {
    let line = r#"1700000000.000123 [0 127.0.0.1:5000] "set" "a\"b\\" "\xc3\xbc\n" """#;
    let sent = read(line).expect("a command");
    assert_eq!(sent.at_us, 1_700_000_000_000_123);
    assert_eq!(sent.words, [&b"set"[..], b"a\"b\\", "ü\n".as_bytes(), b""]);
    assert!(read(r#"1700000000.000123 [0 lua] "set" "a" "b""#).is_none());
    assert!(read(r#"1700000000.000123 [0 127.0.0.1:5000] "hello" "3""#).is_none());
}
