//! `GET /apps/{id}/diagnostics` and the header `X-Campanile-Node`.

use kit::{Call, Http, KEY, Settings, quoted, unix_now};
use serde_json::{Value, json};

#[tokio::test]
async fn a_node_describes_itself_and_the_request() {
    let settings = Settings::new()
        .app("allowed_origins", r#"["example.com"]"#)
        .server("trusted_proxies", r#"["127.0.0.1"]"#)
        .server("path", quoted("/ws"));
    let server = settings.start_node().await;
    let call = Call::get("diagnostics")
        .header("X-Forwarded-For", "192.0.2.7")
        .header("X-Forwarded-Proto", "https")
        .header("X-Secret", "hunter2");
    let reply = call.send_to(&server, &format!("/ws{}", call.target())).await;
    assert_eq!(reply.status, 200, "{reply}");
    let found = reply.json();
    let request = json!({
        "peer": "127.0.0.1", "is_tls": false, "client": "192.0.2.7", "client_is_tls": true, "http": "1.1",
        "path": "/ws/apps/3/diagnostics", "host": "campanile.test",
        "forwarded": {"x-forwarded-for": ["192.0.2.7"], "x-forwarded-proto": ["https"]},
    });
    assert_eq!(found["request"], request);
    assert_eq!(found["allowed_origins"], json!(["example.com"]));
    assert_eq!((&found["cluster"], &found["not_ready"]), (&Value::Null, &json!([])));
    assert_eq!(found["limits"]["max_event_bytes"], 102_400);
    assert!(found["time"].as_u64().is_some_and(|time| time.abs_diff(unix_now()) < 60), "{found}");
    let text = reply.text();
    assert!(!text.contains(KEY) && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn only_signed_requests_are_told_the_node() {
    let server = Settings::new().start_node().await;
    let mut http = Http::connect(server.address).await;
    let mut names = Vec::new();
    for path in ["channels", "diagnostics", "channels/a/users"] {
        let reply = Call::get(path).send_on(&mut http).await;
        names.push(reply.header("X-Campanile-Node").expect("a name").to_owned());
    }
    let body = Call::get("diagnostics").send_on(&mut http).await.json();
    names.push(body["node"].as_str().expect("a name").to_owned());
    assert_eq!(names[0].len(), 6);
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    for reply in [
        Call::get("diagnostics").signature("00").send_on(&mut http).await,
        Http::plain(server.address, "GET", "/up", &[]).await,
    ] {
        assert_eq!(reply.header("X-Campanile-Node"), None, "{reply}");
    }
    let other = Settings::new().start_node().await;
    let reply = Call::get("channels").send(&other).await;
    assert_ne!(reply.header("X-Campanile-Node").expect("a name"), names[0]);
}
