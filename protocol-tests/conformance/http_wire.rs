//! HTTP itself: connections, bodies, routes, headers, and CORS.

use serde_json::{Value, json};

use kit::{
    Call, Directory, Http, KEY, Process, RawHttp, Settings, quoted, unix_now, upgrade_request,
};

use crate::Start as _;

#[tokio::test]
async fn h33_a_connection_is_kept_alive() {
    let server = Settings::new().start().await;
    let mut http = Http::connect(server.address).await;
    for _ in 0..3 {
        let reply = event("1").send_on(&mut http).await;
        assert_eq!(reply.status, 200, "{reply}");
        event("1").signature("00").send_on(&mut http).await.error(401);
        Call::get("nonsense").send_on(&mut http).await.error(404);
    }
}

#[tokio::test]
async fn three_requests_in_one_segment_are_answered_in_order() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut http = RawHttp::connect(server.address).await;
    let query = Call::get("channels").query("filter_by_prefix", "a");
    http.write([event("1").bytes(), query.bytes(), event("2").bytes()].concat()).await;
    assert_eq!(http.reply().await.text(), "{}");
    assert_eq!(http.reply().await.text(), r#"{"channels":{"a":{}}}"#);
    assert_eq!(http.reply().await.text(), "{}");
    client.expect_event("a", "e", "1").await;
    client.expect_event("a", "e", "2").await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let server = Settings::new().start().await;
    let mut http = RawHttp::connect(server.address).await;
    for byte in event("1").bytes() {
        http.write([byte]).await;
    }
    assert_eq!(http.reply().await.status, 200);
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut http = RawHttp::connect(server.address).await;
    let call = event("1");
    http.write(call.head(&[("transfer-encoding", "chunked")])).await;
    for chunk in call.body().chunks(7) {
        http.write(format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
            .await;
    }
    http.write("0\r\n\r\n").await;
    let reply = http.reply().await;
    assert_eq!(reply.status, 200, "{reply}");
    client.expect_event("a", "e", "1").await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let server = Settings::new().start().await;
    let mut http = RawHttp::connect(server.address).await;
    let call = event("1");
    http.write(
        call.head(&[
            ("content-length", &call.body().len().to_string()),
            ("expect", "100-continue"),
        ]),
    )
    .await;
    assert_eq!(http.reply().await.status, 100);
    http.write(call.body()).await;
    assert_eq!(http.reply().await.status, 200);
}

#[tokio::test]
async fn an_unauthenticated_request_is_rejected_before_its_body_is_read() {
    let server = Settings::new().start().await;
    let length = [("content-length", "1000000")];
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    for call in [
        event("1").signature("00"),
        event("1").without("auth_key"),
        event("1").query("auth_timestamp", &(unix_now() - 700).to_string()),
        event("1").query("body_md5", md5).signature(&"0".repeat(64)),
    ] {
        let mut http = RawHttp::connect(server.address).await;
        http.write(call.head(&length)).await;
        http.reply().await.error(401);
    }
    let mut http = RawHttp::connect(server.address).await;
    http.write(event("1").head(&[("content-length", "1000000000000")])).await;
    http.reply().await.error(413);
}

#[tokio::test]
async fn invalid_http_is_400_and_closes_the_connection() {
    let server = Settings::new().start().await;
    for nonsense in [
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET /up HTTP/9.9\r\n\r\n",
        "GET /up HTTP/1.1\r\nno colon\r\n\r\n",
        "POST /apps/3/events HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        "POST /apps/3/events HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n",
    ] {
        let mut http = RawHttp::connect(server.address).await;
        http.write(nonsense).await;
        let status = http.reply().await.status;
        assert!(matches!(status, 400 | 505), "{nonsense:?}: {status}");
        http.ended().await;
    }
    assert_eq!(Http::plain(server.address, "GET", "/up", &[]).await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_rejected() {
    let server = Settings::new().start().await;
    let mut http = RawHttp::connect(server.address).await;
    // The server may reject the head before all of it is sent.
    http.try_write(format!("GET /up?{} HTTP/1.1\r\n", "x".repeat(1_000_000))).await;
    http.try_write("host: x\r\n\r\n").await;
    let status = http.reply().await.status;
    assert!(matches!(status, 400 | 414 | 431), "{status}");
}

#[tokio::test]
async fn up_and_ready_need_no_authentication() {
    let server = Settings::new().start().await;
    for path in ["/up", "/ready"] {
        let reply = Http::plain(server.address, "GET", path, &[]).await;
        assert_eq!(reply.status, 200, "{path}: {reply}");
        let mut http = RawHttp::connect(server.address).await;
        http.write(format!(
            "HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\nGET {path} HTTP/1.1\r\nhost: x\r\n\r\n"
        ))
        .await;
        let head = http.reply_to_head().await;
        let get = http.reply().await;
        assert_eq!((head.status, get.status), (200, 200), "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
    }
    assert_eq!(
        Http::plain(server.address, "GET", "/up", &[]).await.json(),
        json!({ "health": "OK" })
    );
    assert_eq!(Http::plain(server.address, "GET", "/up?x=1", &[]).await.status, 200);
}

#[tokio::test]
async fn an_unknown_route_is_404() {
    let server = Settings::new().start().await;
    for path in [
        "/",
        "/nonsense",
        "/apps",
        "/up/x",
        "/UP",
        "/app",
        "/pusher/app/x/1/abcdefgh/xhr_streaming",
        "//up",
        "/../up",
    ] {
        let mut http = RawHttp::connect(server.address).await;
        http.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        http.reply().await.error(404);
    }
    for path in [
        "nonsense",
        "events/x",
        "channels/a/users/x",
        "channels/a/nonsense",
        "users/1/nonsense",
        "users/1",
    ] {
        Call::get(path).send(&server).await.error(404);
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_the_allowed_ones() {
    let server = Settings::new().start().await;
    for (method, path, allowed) in [
        ("GET", "events", "POST"),
        ("PUT", "events", "POST"),
        ("GET", "batch_events", "POST"),
        ("POST", "channels", "GET"),
        ("DELETE", "channels/a", "GET"),
        ("POST", "channels/presence-a/users", "GET"),
        ("POST", "channels/a/history", "GET"),
        ("POST", "connections", "GET"),
        ("GET", "users/1/terminate_connections", "POST"),
        ("GET", "users/1/force_reconnect", "POST"),
    ] {
        let reply = Call::new(method, &format!("/apps/3/{path}"), "").send(&server).await;
        reply.error(405);
        let allow = reply.header("allow").unwrap_or_default();
        assert!(
            allow.split(", ").any(|method| method == allowed),
            "{method} {path}: allow {allow:?}"
        );
        assert!(
            !allow.split(", ").any(|other| other == method),
            "{method} {path}: allow {allow:?}"
        );
    }
    for path in ["/up", "/ready"] {
        let reply = Http::plain(server.address, "DELETE", path, &[]).await;
        reply.error(405);
        assert!(reply.header("allow").unwrap_or_default().contains("GET"), "{reply}");
    }
}

#[tokio::test]
async fn a_websocket_route_without_an_upgrade_is_426() {
    let server = Settings::new().start().await;
    let reply = Http::plain(server.address, "GET", &format!("/app/{KEY}?protocol=7"), &[]).await;
    assert_eq!(reply.status, 426, "{reply}");
    let upgrade = reply.header("upgrade").unwrap_or_default().to_lowercase();
    assert_eq!(upgrade, "websocket", "{reply}");
}

#[tokio::test]
async fn a_broken_handshake_is_rejected() {
    let server = Settings::new().start().await;
    let right = upgrade_request(&format!("/app/{KEY}"), &[]);
    for (part, other) in [
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("Upgrade: websocket", "Upgrade: h2c"),
    ] {
        assert!(right.contains(part));
        let mut http = RawHttp::connect(server.address).await;
        http.write(right.replace(part, other)).await;
        let status = http.reply().await.status;
        assert!(matches!(status, 400 | 426), "without {part:?}: {status}");
    }
    let mut http = RawHttp::connect(server.address).await;
    http.write(right.replace("GET ", "POST ").replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n"))
        .await;
    let status = http.reply().await.status;
    assert!(matches!(status, 400 | 404 | 405 | 426), "POST: {status}");
}

#[tokio::test]
async fn a_handshake_has_one_key_one_version_one_origin_and_no_body() {
    let server = Settings::new().start().await;
    let right = upgrade_request(&format!("/app/{KEY}"), &[]);
    let (key, version) =
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n");
    let status = async |part: &str, other: &str| {
        assert!(right.contains(part));
        let mut http = RawHttp::connect(server.address).await;
        http.write(right.replace(part, other)).await;
        http.reply().await
    };
    let other_key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let twice = format!("{version}Sec-WebSocket-Version: 8\r\n");
    for (part, other) in [
        (key, [key, key].concat()),
        (key, [key, other_key].concat()),
        (key, [other_key, key].concat()),
        (key, key.replace("==", "==, AAAAAAAAAAAAAAAAAAAAAA==")),
        (key, key.replace("ZQ==", "")),
        (key, key.replace("ZQ==", "ZQAA")),
        (key, key.replace("==", "=")),
        (key, key.replace("dGhl", "dG*l")),
        (key, "Sec-WebSocket-Key: \r\n".to_owned()),
        (version, [version, version].concat()),
        (version, twice),
        (key, format!("{key}Origin: http://a.test\r\nOrigin: http://b.test\r\n")),
        (key, format!("{key}Content-Length: 5\r\n")),
        (key, format!("{key}Transfer-Encoding: chunked\r\n")),
    ] {
        status(part, &other).await.error(400);
    }
    for other in ["8", "13, 8", "013", "13.0"] {
        let reply = status(version, &version.replace("13", other)).await;
        reply.error(426);
        assert_eq!(reply.header("sec-websocket-version"), Some("13"), "{reply}");
    }
    // A list may be split into several lines.
    for other in [
        "upgrade: h2c\r\nUpgrade: websocket\r\n",
        "upgrade: WebSocket\r\nConnection: keep-alive\r\n",
    ] {
        assert_eq!(status("Upgrade: websocket\r\n", other).await.status, 101, "{other:?}");
    }
}

#[tokio::test]
async fn a_request_id_is_kept_or_generated() {
    let server = Settings::new().start().await;
    let reply = event("1").header("x-request-id", "abc-123").send(&server).await;
    assert_eq!(reply.header("x-request-id"), Some("abc-123"));
    let rejected = event("1").signature("00").header("x-request-id", "abc-124").send(&server).await;
    assert_eq!((rejected.status, rejected.header("x-request-id")), (401, Some("abc-124")));
    let made =
        [event("1").send(&server).await, Http::plain(server.address, "GET", "/up", &[]).await];
    let ids: Vec<&str> = made.iter().map(|reply| reply.header("x-request-id").unwrap()).collect();
    assert!(ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1], "{ids:?}");
    let longest = "x".repeat(128);
    for (id, is_kept) in
        [(&*longest, true), (&*"x".repeat(129), false), ("a b", false), ("", false), ("é", false)]
    {
        let reply = event("1").header("x-request-id", id).send(&server).await;
        let answered = reply.headers.get("x-request-id").expect("each answer has one");
        assert_eq!(answered.as_bytes() == id.as_bytes(), is_kept, "{id:?}: {answered:?}");
        assert!(is_kept || answered.len() == 16, "a new one: {answered:?}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_use_the_api() {
    let server = Settings::new().app("allowed_origins", r#"["example.com"]"#).start().await;
    let reply = event("1").header("origin", "https://example.com").send(&server).await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (200, Some("https://example.com"))
    );
    let rejected =
        event("1").signature("00").header("origin", "https://example.com").send(&server).await;
    assert_eq!(
        (rejected.status, rejected.header("access-control-allow-origin")),
        (401, Some("https://example.com"))
    );
    let foreign = event("1").header("origin", "https://evil.test").send(&server).await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    let none = event("1").send(&server).await;
    assert_eq!((none.status, none.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn a_preflight_is_answered_with_what_is_allowed() {
    let server = Settings::new().app("allowed_origins", r#"["example.com"]"#).start().await;
    let asked = [
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let headers = [&asked[..], &[("origin", "https://example.com")]].concat();
    let reply = Http::plain(server.address, "OPTIONS", "/apps/3/events", &headers).await;
    assert!(matches!(reply.status, 200 | 204), "{reply}");
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://example.com"));
    assert!(reply.header("access-control-allow-methods").unwrap().contains("POST"), "{reply}");
    let allowed = reply.header("access-control-allow-headers").unwrap().to_lowercase();
    assert!(allowed.contains("content-type") || allowed == "*", "{reply}");
    let headers = [&asked[..], &[("origin", "https://evil.test")]].concat();
    let reply = Http::plain(server.address, "OPTIONS", "/apps/3/events", &headers).await;
    assert_eq!(reply.header("access-control-allow-origin"), None, "{reply}");
}

#[tokio::test]
async fn metrics_need_the_token() {
    let server = Settings::new().section("metrics", "token", quoted("let-me-in")).start().await;
    let _client = server.client().await;
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer ")],
        &[("authorization", "let-me-in")],
    ] {
        Http::plain(server.address, "GET", "/metrics", headers).await.error(401);
    }
    let reply =
        Http::plain(server.address, "GET", "/metrics", &[("authorization", "Bearer let-me-in")])
            .await;
    assert_eq!(reply.status, 200, "{reply}");
    assert_prometheus(reply.text());
}

#[tokio::test]
async fn metrics_without_a_configured_token_are_404() {
    let server = Settings::new().start().await;
    for headers in [&[][..], &[("authorization", "Bearer ")]] {
        let reply = Http::plain(server.address, "GET", "/metrics", headers).await;
        assert!(matches!(reply.status, 401 | 404), "{reply}");
    }
}

#[tokio::test]
async fn metrics_can_have_a_separate_listener() {
    // No other test listens on this loopback address, so its free port stays free.
    let free = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let server =
        Settings::new().section("metrics", "listen", quoted(&free.to_string())).start().await;
    let reply = Http::plain(free, "GET", "/metrics", &[]).await;
    assert_eq!(reply.status, 200, "{reply}");
    assert_prometheus(reply.text());
    let main = Http::plain(server.address, "GET", "/metrics", &[]).await;
    assert!(matches!(main.status, 401 | 404), "{main}");
    let elsewhere = Http::plain(free, "GET", "/apps/3/channels", &[]).await;
    assert_eq!(elsewhere.status, 404, "{elsewhere}");
}

#[tokio::test]
async fn metrics_listen_has_a_limit_of_connections_and_a_deadline() {
    let free = std::net::TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
    let settings = Settings::new().section("metrics", "listen", quoted(&free.to_string()));
    let server = settings.server("request_timeout_s", 60).start().await;
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut http = RawHttp::connect(free).await;
        http.write(["", "GET /metr", "GET"][number % 3]).await;
        idle.push(http);
    }
    // The oldest connections are closed to admit the newest.
    assert_eq!(Http::plain(free, "GET", "/metrics", &[]).await.status, 200);
    for http in &mut idle[..60] {
        http.ended().await;
    }
    // A kept-alive connection can scrape again.
    let mut kept = RawHttp::connect(free).await;
    for _ in 0..3 {
        kept.write("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut reply = kept.reply().await;
        assert_eq!(reply.status, 200);
        kept.write("HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        reply = kept.reply_to_head().await;
        assert_eq!(reply.status, 200);
    }
    kept.write("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    kept.reply().await.error(405);
    kept.write("GET /metrics HTTP/1.1\r\n\r\n").await;
    kept.reply().await.error(400);
    drop((idle, server));
    let server = Settings::new()
        .section("metrics", "listen", quoted(&free.to_string()))
        .server("request_timeout_s", 1)
        .start()
        .await;
    let mut slow = RawHttp::connect(free).await;
    slow.write("GET /metr").await;
    slow.ended().await;
    assert_eq!(Http::plain(server.address, "GET", "/up", &[]).await.status, 200);
}

#[tokio::test]
async fn a_metrics_address_in_use_stops_the_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = Directory::new();
    let settings = Settings::new().section("metrics", "listen", quoted(&address)).toml();
    directory.write("config.toml", &settings);
    let mut process =
        Process::spawn(&["start", "--host", "127.0.0.1", "--port", "0"], directory.path());
    assert_eq!(process.exit_code().await, Some(1));
    assert!(process.stream("err").contains(&address), "the address is logged");
}

/// Asserts that Prometheus can parse the page: comments, and samples of Campanile that end in a number.
fn assert_prometheus(text: &str) {
    let samples: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(samples.iter().any(|line| line.starts_with("campanile_")), "{text}");
    for sample in samples {
        let value = sample.rsplit(' ').next().expect("a line has an end");
        assert!(value.parse::<f64>().is_ok(), "{sample}");
    }
    assert!(text.contains("# TYPE "), "{text}");
}

fn event(data: &str) -> Call {
    Call::post("events", &Value::from_iter([("name", "e"), ("channel", "a"), ("data", data)]))
}
