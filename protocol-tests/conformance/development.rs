//! The app with the public secret is not accessible to web pages and hosts of other machines.

use serde_json::json;

use kit::{Call, Client, Http, RawHttp, Server, Settings, quoted};

use crate::Start as _;

const LOOPBACK_ORIGINS: [&str; 7] = [
    "http://localhost:5173",
    "https://LOCALHOST",
    "http://127.0.0.1:8080",
    "http://127.9.9.9",
    "http://[::1]:3000",
    "https://shop.test",
    "http://a.b.localhost.:80",
];
const FOREIGN_ORIGINS: [&str; 9] = [
    "https://evil.example",
    "null",
    "",
    "http://localhost.evil.example",
    "http://localhost@evil.example",
    "http://eviltest",
    "http://192.168.0.7:5173",
    "http://0.0.0.0:8080",
    "file://",
];
const LOOPBACK_HOSTS: [&str; 6] =
    ["localhost:8080", "LocalHost.", "127.0.0.1", "127.0.0.2:80", "[::1]:8080", "shop.test"];
const FOREIGN_HOSTS: [&str; 6] = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "0.0.0.0:8080",
    "192.168.0.7",
    "[::]",
];

fn event(app_id: &str) -> Call {
    let body = json!({ "name": "e", "channel": "a", "data": "1" }).to_string();
    Call::new("POST", &format!("/apps/{app_id}/events"), body).credentials("app-key", "app-secret")
}

/// Sends a request with these header lines to the server's address; returns the status and the body.
async fn ask(server: &Server, request_line: &str, lines: &str) -> (u16, String) {
    let mut http = RawHttp::connect(server.address).await;
    http.write(format!("{request_line} HTTP/1.1\r\n{lines}\r\n")).await;
    let reply = http.reply().await;
    (reply.status, reply.text().to_owned())
}

/// Connects with these header lines; returns none if the connection is established, or the error.
async fn connect(server: &Server, key: &str, lines: &str) -> Option<String> {
    let mut http = RawHttp::connect(server.address).await;
    http.write(format!(
        "GET /app/{key}?protocol=7 HTTP/1.1\r\n{lines}Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ))
    .await;
    let (mut client, _) = Client::upgraded(http).await;
    let first = client.next().await;
    if first["event"] == "pusher:connection_established" {
        return None;
    }
    assert_eq!(first["data"]["code"], 4009, "{first}");
    Some(first["data"]["message"].to_string())
}

#[tokio::test]
async fn pages_of_other_machines_can_not_connect() {
    let server = Settings::without_apps().start().await;
    for origin in LOOPBACK_ORIGINS {
        let lines = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        assert_eq!(connect(&server, "app-key", &lines).await, None, "{origin}");
    }
    for origin in FOREIGN_ORIGINS {
        let lines = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        let response = connect(&server, "app-key", &lines).await.unwrap_or_default();
        assert!(response.contains("configure an app of your own"), "{origin}: {response}");
    }
    // Programs other than browsers send no origin.
    for host in LOOPBACK_HOSTS {
        let lines = format!("Host: {host}\r\n");
        assert_eq!(connect(&server, "app-key", &lines).await, None, "{host}");
    }
    for host in FOREIGN_HOSTS {
        for origin in ["", "Origin: http://localhost\r\n"] {
            let lines = format!("Host: {host}\r\n{origin}");
            let response = connect(&server, "app-key", &lines).await.unwrap_or_default();
            assert!(response.contains("configure an app of your own"), "{host}: {response}");
        }
    }
}

#[tokio::test]
async fn pages_of_other_machines_can_not_use_the_api() {
    let server = Settings::without_apps().start().await;
    let publish = event("app-id").target();
    let published = "content-length: 0\r\n";
    let requests = [
        ("GET", "/up"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/nonsense"),
        ("OPTIONS", "/apps/app-id/events"),
        ("GET", "/apps/app-id/channels"),
        ("GET", "/apps/other/channels"),
        ("POST", publish.as_str()),
    ];
    for (method, target) in requests {
        let line = format!("{method} {target}");
        for origin in FOREIGN_ORIGINS {
            let lines = format!("Host: localhost\r\nOrigin: {origin}\r\n{published}");
            let (status, body) = ask(&server, &line, &lines).await;
            assert_eq!(status, 403, "{line} {origin}: {body}");
            assert!(body.contains("configure an app of your own"), "{body}");
        }
        for host in FOREIGN_HOSTS {
            let (status, body) = ask(&server, &line, &format!("Host: {host}\r\n{published}")).await;
            assert_eq!(status, 403, "{line} {host}: {body}");
            assert!(body.contains("configure an app of your own"), "{body}");
        }
        // One valid line of several is not enough, and neither is a valid Host header with another host in the target.
        let lines =
            "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n";
        assert_eq!(ask(&server, &line, &format!("{lines}{published}")).await.0, 403, "{line}");
        let absolute = format!("{method} http://evil.example{target}");
        let lines = format!("Host: localhost\r\n{published}");
        assert_eq!(ask(&server, &absolute, &lines).await.0, 403, "{absolute}");
        for (host, origin) in LOOPBACK_HOSTS.iter().zip(LOOPBACK_ORIGINS) {
            let lines = format!("Host: {host}\r\nOrigin: {origin}\r\n{published}");
            assert_ne!(ask(&server, &line, &lines).await.0, 403, "{line} {host} {origin}");
        }
    }
}

#[tokio::test]
async fn pages_of_this_machine_and_programs_use_the_api() {
    let server = Settings::without_apps().start().await;
    for origin in LOOPBACK_ORIGINS {
        let mut http = Http::connect(server.address).await;
        let call = event("app-id").header("origin", origin);
        let target = call.target();
        let mut raw = RawHttp::connect(server.address).await;
        let head = call.head(&[("content-length", &call.body().len().to_string())]);
        let head =
            String::from_utf8(head).unwrap().replace("host: campanile.test", "host: localhost");
        raw.write([head.as_bytes(), call.body()].concat()).await;
        let reply = raw.reply().await;
        assert_eq!(reply.status, 200, "{origin}: {reply}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin), "{reply}");
        let reply = call.send_target_on(&mut http, &target).await;
        assert_eq!(reply.status, 200, "*.test is loopback as well: {reply}");
    }
    let (status, body) = ask(&server, "GET /metrics", "Host: 127.0.0.1\r\n").await;
    assert_eq!(status, 200, "{body}");
    let asked =
        "Host: localhost\r\nOrigin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n";
    assert_eq!(ask(&server, "OPTIONS /apps/app-id/events", asked).await.0, 204);
}

#[tokio::test]
async fn among_other_apps_the_rule_concerns_the_one_with_the_well_known_secret() {
    let settings = Settings::without_apps()
        .add_app("4", "key-of-4", "secret-of-4")
        .add_app("5", "key-of-5", "app-secret")
        .section("metrics", "token", quoted("t"));
    let server = settings.start().await;
    let foreign = "Host: ws.example.com\r\nOrigin: https://example.com\r\n";
    assert_eq!(connect(&server, "key-of-4", foreign).await, None);
    assert!(connect(&server, "key-of-5", foreign).await.is_some());
    assert_eq!(ask(&server, "GET /apps/4/channels", foreign).await.0, 401);
    assert_eq!(ask(&server, "GET /apps/5/channels", foreign).await.0, 403);
    assert_eq!(ask(&server, "OPTIONS /apps/5/events", foreign).await.0, 403);
    assert_eq!(ask(&server, "GET /up", foreign).await.0, 200);
    let (status, _) =
        ask(&server, "GET /metrics", &format!("{foreign}Authorization: Bearer t\r\n")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn one_app_with_the_well_known_secret_is_enough_to_keep_pages_from_the_metrics() {
    // No other test listens on this loopback address, so its free port stays free.
    let free = std::net::TcpListener::bind("127.0.0.4:0").unwrap().local_addr().unwrap();
    let mut settings = Settings::without_apps().add_app("4", "key-of-4", "secret-of-4").section(
        "metrics",
        "listen",
        quoted(&free.to_string()),
    );
    for (is_well_known, expected) in [(false, 200), (true, 403)] {
        if is_well_known {
            settings = settings.add_app("5", "key-of-5", "app-secret");
        }
        let _server = settings.start().await;
        for target in ["/metrics", "/"] {
            for (lines, expected) in [
                ("Host: evil.example\r\n", expected),
                ("Host: localhost\r\nOrigin: http://evil.example\r\n", expected),
                ("Host: localhost\r\nOrigin: http://localhost\r\n", 200),
            ] {
                let mut http = RawHttp::connect(free).await;
                http.write(format!("GET {target} HTTP/1.1\r\n{lines}\r\n")).await;
                assert_eq!(http.reply().await.status, expected, "{target} {lines}");
            }
        }
    }
}

#[tokio::test]
async fn another_id_with_the_well_known_secret_is_restricted_too() {
    let settings = Settings::without_apps().add_app("5", "key-of-5", "app-secret");
    let server = settings.start().await;
    let foreign = "Host: localhost\r\nOrigin: https://evil.example\r\n";
    assert!(connect(&server, "key-of-5", foreign).await.is_some());
    for target in ["/", "/up", "/metrics", "/apps/5/channels"] {
        assert_eq!(ask(&server, &format!("GET {target}"), foreign).await.0, 403, "{target}");
    }
}
