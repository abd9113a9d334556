//! Secrets in the path, the query or the password of a webhook's URL are printed nowhere.

use kit::{Directory, Http, Process, Settings, eventually, quoted};

use crate::Start as _;
use kit::webhook_receiver::WebhookReceiver;

const SECRET: &str = "hunter2";

/// Webhooks with secrets in their URLs, all at `authorities`.
fn settings(authorities: &[String]) -> Settings {
    let one = |authority: &String| {
        format!(
            r#"{{ url = "http://{authority}/{SECRET}?token={SECRET}", events = ["channel_occupied"], headers = {{ X-A = "{SECRET}" }} }}"#
        )
    };
    let webhooks = authorities.iter().map(one).collect::<Vec<_>>().join(", ");
    Settings::new()
        .app("webhooks", format!("[{webhooks}]"))
        .section("webhooks", "batch_ms", 0)
        .section("metrics", "token", quoted("t"))
        .section("log", "level", quoted("trace"))
}

/// A port on which nothing listens while the value exists.
fn closed() -> tokio::net::TcpSocket {
    let socket = tokio::net::TcpSocket::new_v4().expect("there are sockets");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("there are free ports");
    socket
}

#[tokio::test]
async fn the_log_of_webhooks_that_fail_holds_no_secret_of_their_urls() {
    let location = || format!("http://127.0.0.1:9/{SECRET}?token={SECRET}");
    let rejecting = WebhookReceiver::answering_with(move |_| (400, location())).await;
    let redirecting = WebhookReceiver::answering_with(move |_| (302, location())).await;
    let failing = WebhookReceiver::answering(|_| Some(500)).await;
    let receivers = [&rejecting, &redirecting, &failing].map(WebhookReceiver::authority);
    let closed = closed();
    let rejected = closed.local_addr().expect("it is bound").to_string();
    let authorities = [&receivers[..], &[rejected, "unknown.invalid".to_owned()]].concat();
    let mut server = settings(&authorities).start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    for expected in [
        "status 400",
        "webhook event moved to the dead letters",
        "status 302",
        "status 500",
        "cannot connect",
        "cannot resolve the host",
    ] {
        eventually(expected, async || server.process.stream("err").contains(expected)).await;
    }
    let bearer = [("authorization", "Bearer t")];
    let mut shown = String::new();
    for path in ["/metrics", "/ready"] {
        shown += Http::plain(server.address, "GET", path, &bearer).await.text();
    }
    assert!(shown.contains("campanile_webhook_requests_failed_total{"), "{shown}");
    // Pending events of removed webhooks are dropped.
    server.reload(&settings(&authorities[..1])).await;
    eventually("the log says what was given up", async || {
        server.process.stream("err").contains(r#"reason="removed""#)
    })
    .await;
    let rejected = server.reload(&settings(&[format!("user:{SECRET}@a.test")])).await;
    assert!(rejected.contains("webhooks[0].url"), "{rejected}");
    client.subscribe("b").await;
    server.signal("TERM");
    client.rejected(4100).await;
    assert_eq!(server.process.exit_code().await, Some(0));
    shown += &server.process.output();
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn a_configuration_is_shown_without_the_path_of_a_webhook() {
    let directory = Directory::new();
    for (authority, code, expected) in [
        ("a.test:8443", 0, r#"url = "http://a.test:8443/***""#),
        ("user:hunter2@a.test", 2, "must not hold a name and password"),
        ("a.test:0", 2, "must be http:// or https:// with a host"),
    ] {
        directory.write("config.toml", &settings(&[authority.to_owned()]).toml());
        let mut check = Process::spawn(&["check"], directory.path());
        assert_eq!(check.exit_code().await, Some(code), "{}", check.output());
        let output = check.output();
        assert!(output.contains(expected) && !output.contains(SECRET), "{output}");
    }
}
