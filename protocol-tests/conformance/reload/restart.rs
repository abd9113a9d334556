//! Settings that only a restart changes: a reload names each in the log, and the server keeps the old value.

use tokio::net::{TcpSocket, TcpStream};

use kit::tls::Certificate;
use kit::{Directory, Process, Server, Settings, eventually, quoted};

/// Each setting that requires a restart, with a value other than its default.
pub(super) const KEYS: [(&str, &str, &str); 22] = [
    ("server", "host", r#""127.0.0.2""#),
    ("server", "port", "1"),
    ("server", "reuse_port", "true"),
    ("server", "shards", "3"),
    ("connection", "resume_s", "3"),
    ("connection", "resume_max_events", "3"),
    ("connection", "resume_ack", r#""websocket""#),
    ("connection", "presence_grace_s", "3"),
    ("metrics", "listen", r#""127.0.0.1:1""#),
    ("log", "format", r#""json""#),
    ("apps_from", "url", ""),
    ("apps_from", "url_file", r#""apps-url""#),
    ("apps_from", "table", r#""tenants""#),
    ("apps_from", "cache_ttl_s", "1"),
    ("apps_from", "pool_size", "1"),
    ("apps_from", "timeout_ms", "100"),
    ("redis", "url", ""),
    ("redis", "url_file", r#""redis-url""#),
    ("redis", "ca", r#""cert.pem""#),
    ("redis", "prefix", r#""another""#),
    ("redis", "broker_wait_ms", "100"),
    ("redis", "node_timeout_ms", "3000"),
];

/// The content of `apps_from.url_file`.
const APPS_URL: &str = "postgres://u:hunter2@127.0.0.1:1/d";
/// The content of `redis.url_file`.
const REDIS_URL: &str = "rediss://:hunter2@127.0.0.1:1";

/// Settings of a server that is started without flags.
fn settings() -> Settings {
    Settings::new()
        .server("host", quoted("127.0.0.1"))
        .server("port", 0)
        .server("shards", 2)
        .section("metrics", "token", quoted("t"))
}

#[tokio::test]
async fn each_setting_that_needs_a_restart_is_logged_and_keeps_its_value() {
    let directory = Directory::new();
    Certificate::new().write(&directory);
    directory.write("config.toml", &settings().toml());
    directory.write("redis-url", REDIS_URL);
    directory.write("apps-url", APPS_URL);
    let process = Process::spawn(&["start"], directory.path());
    let server = Server::from_process(process, directory).await;
    let mut client = server.client().await;
    client.subscribe("c").await;
    // The files set the URLs, so the URLs are not written.
    let changed = KEYS
        .iter()
        .filter(|(_, key, _)| *key != "url")
        .fold(settings(), |settings, (section, key, value)| settings.section(section, key, value));
    let shards =
        async || server.metrics_page().await.matches("campanile_shard_connections{").count();
    assert_eq!(shards().await, 2);
    // The warning is repeated: the comparison is with the running configuration, not with the last file.
    for round in 1..=2 {
        let report = server.reload(&changed).await;
        assert!(report.contains(" INFO ") && !report.contains("settings="), "{report}");
        for (section, key, _) in KEYS {
            let warned = format!(r#"setting changed; restart required key="{section}.{key}""#);
            eventually(&warned, async || {
                let log = server.process.stream("err");
                let is_warning = |line: &&str| line.contains(" WARN ") && line.contains(&warned);
                log.lines().filter(is_warning).count() == round
            })
            .await;
        }
        server.assert_no_other_events("c", &mut [&mut client]).await;
    }
    let log = server.process.stream("err");
    assert!(!log.contains("hunter2") && !log.contains('{'), "the log is text: {log}");
    assert_eq!(shards().await, 2);
    assert!(!server.metrics_page().await.contains("campanile_broker_"), "it is not in a cluster");
    let port = server.address.port();
    for other in [format!("127.0.0.2:{port}"), "127.0.0.1:1".to_owned()] {
        assert!(TcpStream::connect(&other).await.is_err(), "{other} is not listened on");
    }
    let second = TcpSocket::new_v4().expect("there are sockets");
    second.set_reuseport(true).expect("TCP has this option");
    assert!(second.bind(server.address).is_err(), "the port is not shared");
}
