//! The content of the log and the metrics.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use kit::{
    Call, Client, Directory, Http, KEY, Process, RawHttp, SECRET, Server, Settings, eventually,
    program, quoted,
};

use crate::Start as _;

fn json_log() -> Settings {
    Settings::new().section("log", "format", quoted("json")).section(
        "log",
        "level",
        quoted("debug"),
    )
}

fn lines(server: &Server) -> Vec<Value> {
    let log = server.process.stream("err");
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits for a line with this message, and returns the first one.
async fn line(server: &Server, message: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let find = || {
        let wanted = |line: &Value| line["message"] == message && is_wanted(line);
        lines(server).into_iter().find(wanted)
    };
    eventually(message, async || find().is_some()).await;
    find().expect("it was there a moment ago")
}

#[tokio::test]
async fn a_rejected_request_is_logged_with_its_error() {
    let server = json_log().start().await;
    let call = Call::get("channels").header("x-request-id", "id-of-a-request");
    let reply =
        call.query("filter_by_prefix", "words-of-a-query").signature("00").send(&server).await;
    assert_eq!(reply.status, 401);
    let logged = line(&server, "request rejected", |line| line["status"] == 401).await;
    for (name, value) in [
        ("request_id", json!("id-of-a-request")),
        ("method", json!("GET")),
        ("route", json!("channels")),
        ("app", json!(kit::APP_ID)),
        ("address", json!("127.0.0.1")),
        ("error", json!("Invalid signature")),
    ] {
        assert_eq!(logged[name], value, "{name} in {logged}");
    }
    let reply = Http::plain(server.address, "POST", "/apps/nobody/events", &[]).await;
    let sentence = reply.error(404);
    let logged = line(&server, "request rejected", |line| line["status"] == 404).await;
    assert_eq!((&logged["error"], &logged["app"]), (&json!(sentence), &json!("nobody")));
    let mut raw = RawHttp::connect(server.address).await;
    raw.write("nonsense\r\n\r\n").await;
    assert_eq!(raw.reply().await.status, 400);
    line(&server, "request rejected", |line| line["status"] == 400).await;
    assert!(!server.process.output().contains("words-of-a-query"));
}

#[tokio::test]
async fn connections_are_logged_with_their_address() {
    let server = json_log().start().await;
    let mut client = server.client_with(&[("Origin", "https://example.com")]).await;
    client.sign_in(r#"{"id":"id-of-a-user"}"#).await;
    drop(client);
    let opened = line(&server, "connection opened", |_| true).await;
    let ended = line(&server, "connection closed", |_| true).await;
    for logged in [&opened, &ended] {
        assert_eq!(logged["app"], kit::APP_ID, "{logged}");
        assert_eq!(logged["address"], "127.0.0.1", "{logged}");
        assert_eq!(logged["origin"], "https://example.com", "{logged}");
        assert_eq!(logged["socket_id"], opened["socket_id"], "{logged}");
    }
    assert_eq!(
        (&ended["user"], &ended["reason"]),
        (&json!("id-of-a-user"), &json!("disconnected"))
    );
    assert!(ended["duration_s"].is_number(), "{ended}");
    assert!(ended.get("code").is_none(), "there was no close frame: {ended}");

    let target = "/app/no-such-key?protocol=7";
    let mut rejected = server.open_with(target, &[("Origin", "https://example.org")]).await;
    rejected.rejected(4001).await;
    let logged = line(&server, "connection rejected", |_| true).await;
    for (name, value) in [
        ("key", json!("no-such-key")),
        ("address", json!("127.0.0.1")),
        ("origin", json!("https://example.org")),
        ("reason", json!("app_not_found")),
        ("code", json!(4001)),
    ] {
        assert_eq!(logged[name], value, "{name} in {logged}");
    }
    assert!(logged.get("app").is_none(), "{logged}");
}

#[tokio::test]
async fn failed_subscriptions_and_sign_ins_are_logged_and_counted_by_reason() {
    let settings = json_log().section("metrics", "token", quoted("t"));
    let server = settings.start().await;
    let mut client = server.client().await;
    let auth = format!("{KEY}:{}", "0".repeat(64));
    let data = json!({"channel": "private-a", "auth": auth});
    client.command("pusher:subscribe", data).await;
    client.rejection("private-a").await;
    let data = json!({"auth": auth, "user_data": r#"{"id":"words-of-a-user"}"#});
    client.command("pusher:signin", data).await;
    client.error().await;
    for (kind, channel) in [("subscribe", json!("private-a")), ("signin", Value::Null)] {
        let logged = line(&server, "message rejected", |line| line["kind"] == kind).await;
        assert_eq!(logged["level"], "DEBUG");
        assert_eq!(logged["reason"], "auth_signature", "{logged}");
        assert_eq!(logged["error"], "Invalid signature", "{logged}");
        assert_eq!(logged["channel"], channel, "{logged}");
    }
    assert!(!server.process.output().contains("words-of-a-user"));
    let page = metrics(&server).await;
    for kind in ["subscribe", "signin"] {
        let line = format!(
            "campanile_messages_rejected_total{{kind=\"{kind}\",reason=\"auth_signature\"}} 1"
        );
        assert!(page.contains(&line), "{line} in {page}");
    }
}

async fn metrics(server: &Server) -> String {
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer t\r\n\r\n";
    let mut raw = RawHttp::connect(server.address).await;
    raw.write(request).await;
    let reply = raw.reply().await;
    assert_eq!(reply.status, 200, "{reply}");
    reply.text().to_owned()
}

#[tokio::test]
async fn the_metrics_show_process_build_limits_and_reloads() {
    let settings = Settings::new().section("metrics", "token", quoted("t"));
    let server = settings.start().await;
    Http::plain(server.address, "POST", "/apps/nobody/events", &[]).await.error(404);
    let log = server.reload(&settings).await;
    assert!(log.contains("reloaded"), "{log}");
    let log = server.reload_text("nonsense").await;
    assert!(log.contains("rejected"), "{log}");
    let page = metrics(&server).await;
    let value = |name: &str| -> f64 {
        let prefix = format!("{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("{name} in {page}")).parse().expect("a number")
    };
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 10.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_start_time_seconds") > 1.7e9);
    assert!(value("campanile_config_last_load_timestamp_seconds") > 1.7e9);
    assert!(value("campanile_max_connections") > 48.0);
    assert!(value("campanile_max_http_connections") > 0.0);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("campanile_build_info{{version=\"{version}\"}} 1");
    for line in [
        build.as_str(),
        r#"campanile_config_reloads_total{result="success"} 1"#,
        r#"campanile_config_reloads_total{result="rejected"} 1"#,
        r#"campanile_publishes_total{status="404"} 1"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
}

#[tokio::test]
async fn a_publish_whose_head_is_rejected_is_counted_and_logged_with_its_route() {
    let settings = json_log().section("metrics", "token", quoted("t"));
    let server = settings.add_app("5", "key-of-5", "app-secret").start().await;
    let publish = |app: &str, path: &str, line: &str| {
        format!("POST /apps/{app}/{path} HTTP/1.1\r\nhost: a.test\r\n{line}\r\n\r\n")
    };
    for (request, status, route) in [
        (publish("3", "events", "content-encoding: gzip"), 415, "publish"),
        (publish("3", "batch_events", "expect: 200-ok"), 417, "publish_batch"),
        (publish("3", "events", "transfer-encoding: gzip, chunked"), 400, "publish"),
        (publish("5", "events", "origin: http://evil.example"), 403, "publish"),
    ] {
        let mut raw = RawHttp::connect(server.address).await;
        raw.write(request).await;
        assert_eq!(raw.reply().await.status, status);
        let logged = line(&server, "request rejected", |line| line["status"] == status).await;
        assert_eq!(logged["route"], route, "{logged}");
        let counted = format!("campanile_publishes_total{{status=\"{status}\"}} 1");
        let page = metrics(&server).await;
        assert!(page.lines().any(|found| found == counted), "{counted} in {page}");
    }
}

/// If all apps have the well-known secret, requests are rejected before the lookup of their app.
#[tokio::test]
async fn a_publish_to_the_development_app_from_another_host_is_counted() {
    let settings = Settings::without_apps().section("log", "format", quoted("json"));
    let server = settings.section("metrics", "token", quoted("t")).start().await;
    let mut raw = RawHttp::connect(server.address).await;
    raw.write("POST /apps/app-id/events HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    assert_eq!(raw.reply().await.status, 403);
    let logged = line(&server, "request rejected", |line| line["status"] == 403).await;
    assert_eq!(logged["route"], "publish", "{logged}");
    let page = metrics(&server).await;
    assert!(page.contains("campanile_publishes_total{status=\"403\"} 1"), "{page}");
}

#[tokio::test]
async fn a_server_that_drains_answers_and_logs_that_it_is_not_ready() {
    let mut server = Settings::new().server("shutdown_grace_s", 60).start().await;
    let call = Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" }));
    let length = call.body().len().to_string();
    let mut unfinished = RawHttp::connect(server.address).await;
    unfinished.write(call.head(&[("content-length", &length), ("expect", "100-continue")])).await;
    assert_eq!(unfinished.reply_to_head().await.status, 100);
    let ready = async || Http::plain(server.address, "GET", "/ready", &[]).await;
    assert_eq!(ready().await.json(), json!({ "ready": true }));
    server.signal("TERM");
    eventually("/ready says 503", async || ready().await.status == 503).await;
    assert_eq!(ready().await.json(), json!({ "ready": false, "reasons": ["draining"] }));
    let why = r#"error="not ready: draining""#;
    eventually(why, async || server.process.stream("err").contains(why)).await;
    let later = Call::get("channels").send(&server).await;
    assert_eq!((later.status, later.header("retry-after")), (503, Some("1")), "{later}");
    unfinished.write(call.body()).await;
    assert_eq!(unfinished.reply().await.status, 200, "it began before the drain");
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_log_in_json_holds_values() {
    let server = json_log().start().await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    client.text("no JSON").await;
    client.error().await;
    client.whisper("client-x", "private-a", json!({"a": 1})).await;
    client.sign_in(r#"{"id":"id-of-a-user"}"#).await;
    server.publish("private-a", "e", "x").await;
    client.expect_event("private-a", "e", "x").await;
    server.open("/app/no-such-key?protocol=7").await.rejected(4001).await;
    server.open(&format!("/app/{KEY}?protocol=3")).await.rejected(4007).await;
    Http::plain(server.address, "GET", "/nothing", &[]).await.error(404);
    drop(client);
    line(&server, "connection closed", |_| true).await;
    server.signal("HUP");
    line(&server, "reloaded", |_| true).await;
    for line in lines(&server) {
        for (name, value) in line.as_object().expect("an object") {
            assert!(!value.is_null(), "{name} in {line}");
            let Some(text) = value.as_str() else { continue };
            let is_debug = text == "None" || text.starts_with("Some(") || text.starts_with('"');
            assert!(!is_debug, "{name} looks like Debug in {line}");
            let is_number =
                text.parse::<f64>().is_ok() && !["app", "socket_id"].contains(&name.as_str());
            assert!(!is_number, "{name} is a number in a text in {line}");
        }
    }
    assert!(!server.process.output().contains(SECRET));
}

#[tokio::test]
async fn log_lines_of_one_address_are_limited() {
    let settings = Settings::new().connection("new_connections_per_second_per_ip", 0).section(
        "log",
        "level",
        quoted("info"),
    );
    let server = settings.start().await;
    let origin = format!("https://{}\u{9b}31m", "x".repeat(8_000));
    let began = Instant::now();
    for _ in 0..200 {
        let headers = [("Origin", origin.as_str())];
        Client::open(server.address, "/app/no-such-key?protocol=7", &headers)
            .await
            .0
            .rejected(4001)
            .await;
        let path = format!("/{}", "y".repeat(8_000));
        Http::plain(server.address, "GET", &path, &[]).await.error(404);
    }
    // On a slow machine, the rejections are spread over several periods of ten seconds.
    let rejected = |log: &str| {
        log.matches("connection rejected").count() + log.matches("request rejected").count()
    };
    let left_out = |log: &str| -> Vec<usize> {
        let lines = log.lines().filter(|line| line.contains("more rejections were not logged"));
        let count = |line: &str| line.split_once("count=")?.1.split(' ').next()?.parse().ok();
        lines.map(|line| count(line).expect("a count")).collect()
    };
    let is_complete = || {
        let log = server.process.stream("err");
        rejected(&log) + left_out(&log).iter().sum::<usize>() == 400
    };
    eventually("every rejection is logged or counted", async || is_complete()).await;
    let log = server.process.stream("err");
    let periods = left_out(&log).len();
    assert!((1..=1 + began.elapsed().as_secs() / 10).contains(&(periods as u64)), "{log}");
    // The last period may contain only lines within the limit.
    assert!((5 * periods..=5 * (periods + 1)).contains(&rejected(&log)), "{log}");
    assert!(log.len() < 20_000 * periods, "{} bytes: {log}", log.len());
    assert!(log.lines().all(|line| line.len() < 1_200), "{log}");
    assert!(!log.contains('\u{9b}'));
}

#[tokio::test]
async fn the_start_is_one_line_with_capacity_and_its_limit() {
    let settings = json_log().server("max_connections", 5_000).server("shards", 2);
    let server = settings.start().await;
    let logged = line(&server, "listening", |_| true).await;
    for (name, value) in [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("address", json!(server.address.to_string())),
        ("shards", json!(2)),
        ("max_connections", json!(5_000)),
        ("limited_by", json!("server.max_connections")),
        ("apps", json!(1)),
    ] {
        assert_eq!(logged[name], value, "{name} in {logged}");
    }
}

/// `campanile start` with a hard limit of open files.
fn limited(files: u64, directory: &Directory) -> Command {
    let mut command = Command::new("bash");
    let program = program().display();
    command.args(["-c", &format!("ulimit -n {files} && exec {program} start --port 0")]);
    command.current_dir(directory.path()).stdin(Stdio::null());
    command
}

#[tokio::test]
async fn with_too_few_file_descriptors_the_server_does_not_start() {
    let directory = Directory::new();
    let settings = Settings::new().server("shards", 2).server("host", quoted("127.0.0.1"));
    directory.write("config.toml", &settings.toml());
    let output = limited(64, &directory).output().expect("there is a shell");
    assert_eq!(output.status.code(), Some(1));
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.contains("RLIMIT_NOFILE allows 64 open files"), "{output}");
    assert!(output.contains("needs 116 at least"), "{output}");
}

#[tokio::test]
async fn with_just_enough_file_descriptors_every_place_can_be_taken() {
    let directory = Directory::new();
    let settings = json_log().server("shards", 2).server("host", quoted("127.0.0.1"));
    directory.write("config.toml", &settings.toml());
    let mut process = Process::from_command(&mut limited(116, &directory));
    let line = process.line("the address", |line| line.contains("listens on")).await;
    let address = line.rsplit("http://").next().expect("a URL").trim().parse().expect("an address");
    eventually("a low connection limit is warned about", async || {
        process.stream("err").contains("low connection limit: raise RLIMIT_NOFILE")
    })
    .await;
    assert!(process.stream("err").contains(r#""max_connections":48,"limited_by":"RLIMIT_NOFILE""#));
    let target = format!("/app/{KEY}?protocol=7");
    let mut clients = Vec::new();
    for _ in 0..48 {
        let (mut client, _) = Client::open(address, &target, &[]).await;
        client.established().await;
        clients.push(client);
    }
    Client::open(address, &target, &[]).await.0.rejected(4100).await;
    assert_eq!(Http::plain(address, "GET", "/up", &[]).await.status, 200);
    clients[0].ping_barrier().await;
}
