//! Settings of the server.

use kit::{Directory, Http, KEY, Process, Settings, eventually, quoted};

use crate::Start as _;

use super::event;

#[tokio::test]
pub(super) async fn max_message_bytes_applies_at_once_and_session_limits_to_new_connections() {
    let server = Settings::new().start().await;
    let mut before = server.client().await;
    let settings = Settings::new()
        .connection("max_channels", 1)
        .connection("max_message_bytes", 2_048)
        .connection("activity_timeout_s", 60)
        .connection("strict_protocol", true);
    let report = server.reload(&settings).await;
    for key in ["max_channels", "max_message_bytes", "activity_timeout_s", "strict_protocol"] {
        assert!(report.contains(&format!("connection.{key}")), "{report}");
    }
    // A session keeps the settings with which it began.
    before.subscribe("a").await;
    before.subscribe("b").await;
    server.open(&format!("/app/{KEY}")).await.rejected(4008).await;
    let mut after = server.open(&format!("/app/{KEY}?protocol=7")).await;
    assert_eq!(after.established().await["activity_timeout"], 60);
    after.subscribe("a").await;
    after.send_subscribe("b").await;
    after.rejection("b").await;
    // The size of messages is checked by the shard, for all of its connections.
    for client in [&mut before, &mut after] {
        client.text(format!(r#"{{"event":"x","data":"{}"}}"#, "y".repeat(2_048))).await;
        assert_eq!(client.closed_eventually().await.0, 1009);
    }
}

#[tokio::test]
pub(super) async fn connection_limits_of_the_node_apply_to_new_connections() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    server.reload(&Settings::new().server("max_connections", 1)).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4100).await;
    server.reload(&Settings::new().connection("max_connections_per_ip", 1)).await;
    // Connections from the time without this limit are not counted.
    let mut second = server.client().await;
    server.open(&format!("/app/{KEY}")).await.rejected(4100).await;
    server.reload(&Settings::new()).await;
    server.client().await;
    client.ping_barrier().await;
    second.ping_barrier().await;
}

#[tokio::test]
pub(super) async fn request_limits_metrics_token_and_path_apply_to_keep_alive_connections() {
    let server = Settings::new().start().await;
    let mut http = Http::connect(server.address).await;
    let large = kit::Call::post("events", &event("c", &"x".repeat(50_000)));
    assert_eq!(large.send_on(&mut http).await.status, 200);
    let settings = Settings::new()
        .server("max_request_bytes", 20_000)
        .app("max_event_bytes", 10_000)
        .section("metrics", "token", quoted("t"));
    let report = server.reload(&settings).await;
    assert!(report.contains("server.max_request_bytes, metrics.token"), "{report}");
    assert_eq!(large.send_on(&mut http).await.status, 413);
    let bearer = [("authorization", "Bearer t")];
    assert_eq!(Http::plain(server.address, "GET", "/metrics", &bearer).await.status, 200);
    server.reload(&Settings::new().server("path", quoted("/ws"))).await;
    assert_eq!(Http::plain(server.address, "GET", "/metrics", &bearer).await.status, 404);
    server.open(&format!("/ws/app/{KEY}")).await.established().await;
}

#[tokio::test]
pub(super) async fn the_file_of_the_metrics_token_is_read_again() {
    let server = Settings::new().start().await;
    let path = server.directory.path().join("token");
    let settings =
        Settings::new().section("metrics", "token_file", quoted(&path.display().to_string()));
    let status = async |token: &str| {
        let header = format!("Bearer {token}");
        let bearer = [("authorization", header.as_str())];
        Http::plain(server.address, "GET", "/metrics", &bearer).await.status
    };
    for (token, other) in [("first", "second"), ("second", "first")] {
        server.directory.write("token", &format!("{token}\n"));
        let report = server.reload(&settings).await;
        assert!(report.contains("metrics.token") && !report.contains(token), "{report}");
        assert_eq!((status(token).await, status(other).await), (200, 401), "{token}");
    }
}

#[tokio::test]
pub(super) async fn the_log_level_applies_at_once() {
    let level = |level| Settings::new().section("log", "level", quoted(level));
    let server = level("info").start().await;
    let log = || server.process.stream("err");
    server.publish("c", "e", "1").await;
    assert!(!log().contains("request answered"));
    let report = server.reload(&level("debug")).await;
    assert!(report.contains(r#"settings="log.level""#), "{report}");
    server.publish("c", "e", "1").await;
    eventually("steps are logged", async || log().contains("request answered")).await;
    // A changed level is logged even if the new level would hide the message.
    server.reload(&level("error")).await;
    let lines = log().lines().count();
    drop(server.client().await);
    server.wait_for_connections(0).await;
    assert_eq!(log().lines().count(), lines, "{}", log());
    server.reload(&level("info")).await;
    server.client().await;
    eventually("connections are logged", async || log().contains("connection opened")).await;
}

#[tokio::test]
pub(super) async fn settings_that_need_a_restart_are_warned_about_and_unchanged() {
    let server = Settings::new().start().await;
    let settings = Settings::new()
        .server("shards", 3)
        .section("metrics", "listen", quoted("127.0.0.1:1"))
        .section("redis", "url", quoted("redis://:hunter2@127.0.0.1:1"))
        .section("log", "format", quoted("json"));
    server.reload(&settings).await;
    let keys = ["server.shards", "metrics.listen", "redis.url", "log.format"];
    eventually("each is named", async || {
        let log = server.process.stream("err");
        keys.iter().all(|key| {
            log.lines().any(|line| line.contains(" WARN ") && line.contains(&quoted(key)))
        })
    })
    .await;
    assert!(!server.process.stream("err").contains("hunter2"));
    let mut client = server.client().await;
    client.subscribe("c").await;
    server.assert_no_other_events("c", &mut [&mut client]).await;
}

#[tokio::test]
pub(super) async fn another_port_takes_a_restart() {
    let directory = Directory::new();
    let settings = |port| Settings::new().server("host", quoted("127.0.0.1")).server("port", port);
    let file = directory.write("config.toml", &settings(0).toml());
    let arguments = ["start", "--config", file.to_str().expect("a name in UTF-8")];
    let mut process = Process::spawn(&arguments, directory.path());
    process.line("the line with the address", |line| line.contains("listens on")).await;
    directory.write("config.toml", &settings(1).toml());
    process.signal("HUP");
    let warned = r#"setting changed; restart required key="server.port""#;
    eventually("the log warns", async || process.stream("err").contains(warned)).await;
}

#[tokio::test]
pub(super) async fn trusted_proxies_apply_at_once() {
    let server = Settings::new().connection("max_connections_per_ip", 1).start().await;
    let (one, other) = ([("x-forwarded-for", "192.0.2.1")], [("x-forwarded-for", "192.0.2.2")]);
    let _first = server.client_with(&one).await;
    server.open_with(&format!("/app/{KEY}"), &other).await.rejected(4100).await;
    let trusting = Settings::new()
        .connection("max_connections_per_ip", 1)
        .server("trusted_proxies", r#"["127.0.0.1"]"#);
    server.reload(&trusting).await;
    let mut second = server.client_with(&other).await;
    second.ping_barrier().await;
}
