//! The command `campanile webhooks test`.

use std::fmt::Write;

use kit::tls::{Certificate, with_tls};

use crate::Start as _;
use campanile::{config::WebhookEvent as Kind, signature::Signer};
use kit::webhook_receiver::WebhookReceiver;
use kit::{APP_ID, Directory, Process, SECRET, Settings};

/// A directory with a configuration that has these webhooks.
fn configured(webhooks: &[(&str, &[Kind])]) -> Directory {
    let mut text = Settings::new().toml();
    for (url, events) in webhooks {
        let events: Vec<_> = events.iter().map(|event| event.as_str()).collect();
        writeln!(text, "[[apps.webhooks]]\nurl = {url:?}\nevents = {events:?}")
            .expect("a String takes everything");
        text.push_str("headers = { Authorization = \"hunter2\" }\n");
    }
    let directory = Directory::new();
    directory.write("config.toml", &text);
    directory
}

#[tokio::test]
async fn each_configured_event_is_sent_to_each_webhook_and_the_answer_is_printed() {
    let (mut first, mut second) = (WebhookReceiver::new().await, WebhookReceiver::new().await);
    let directory = configured(&[(&first.url(), &Kind::ALL), (&second.url(), &[Kind::CacheMiss])]);
    let mut process = Process::spawn(&["webhooks", "test"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    let printed = process.stream("out");
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), Kind::ALL.len() + 1, "{printed}");
    for (kind, line) in Kind::ALL.iter().zip(&lines) {
        let request = first.next().await;
        assert_eq!(request.events()[0]["name"], kind.as_str());
        assert_eq!(request.header("x-pusher-signature"), [Signer::new(SECRET).sign(&request.body)]);
        assert_eq!(request.header("authorization"), ["hunter2"]);
        let begin = format!("app {APP_ID}, webhook {} at ", first.authority());
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.contains(&format!(", {}: ok, 200 in ", kind.as_str())), "{line}");
        assert!(line.ends_with(": ok"), "the body of the answer: {line}");
    }
    assert_eq!(second.next().await.events()[0]["name"], "cache_miss");
    assert!(!process.output().contains("hunter2") && !process.output().contains("/hooks"));
}

#[tokio::test]
async fn a_failed_webhook_fails_the_command_after_all_were_tried() {
    let rejecting = WebhookReceiver::answering(|_| Some(500)).await;
    let healthy = WebhookReceiver::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.2:0").expect("there are free ports");
    let gone = format!("http://{}/hooks", nobody.local_addr().expect("it is bound"));
    drop(nobody);
    let kinds: &[Kind] = &[Kind::ChannelOccupied];
    let urls = [rejecting.url(), gone, healthy.url()];
    let directory = configured(&urls.each_ref().map(|url| (url.as_str(), kinds)));
    let mut process = Process::spawn(&["webhooks", "test"], directory.path());
    assert_eq!(process.exit_code().await, Some(1), "{}", process.output());
    let printed = process.stream("out");
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].contains("FAILED, 500"), "{printed}");
    assert!(lines[1].contains("FAILED, cannot connect"), "{printed}");
    assert!(lines[2].contains("ok, 200"), "{printed}");
    assert!(process.stream("err").contains("2 of 3 samples failed"), "{}", process.output());
}

#[tokio::test]
async fn without_webhooks_there_is_nothing_to_test() {
    let directory = configured(&[]);
    let mut process = Process::spawn(&["webhooks", "test"], directory.path());
    assert_eq!(process.exit_code().await, Some(2), "{}", process.output());
    assert!(process.stream("err").contains("no app has webhooks"), "{}", process.output());
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_be_for_the_host() {
    let (ours, other) = (Certificate::new(), Certificate::new());
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere.test".to_owned()]);
    let made = made.expect("the name is a name");
    let elsewhere = Certificate {
        cert: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        der: made.cert.der().clone(),
    };
    for (served, trusted, host, expected) in [
        (&ours, &ours, "localhost", "FAILED, 404"),
        (&ours, &ours, "127.0.0.1", "FAILED, 404"),
        (&ours, &other, "localhost", "FAILED, TLS handshake failed"),
        (&elsewhere, &elsewhere, "localhost", "FAILED, TLS handshake failed"),
    ] {
        let files = Directory::new();
        served.write(&files);
        // Any server with TLS can be the endpoint, even if it answers with 404.
        let server = with_tls(Settings::new(), &files).start().await;
        let url = format!("HTTPS://{host}:{}/x?token=hunter2", server.address.port());
        let directory = configured(&[(&url, &[Kind::ChannelOccupied])]);
        let roots = directory.write("roots.pem", &trusted.cert);
        let roots = roots.to_str().expect("a name in UTF-8");
        let environment = [("SSL_CERT_FILE", roots)];
        let mut process =
            Process::spawn_with(&["webhooks", "test"], directory.path(), &environment);
        assert_eq!(process.exit_code().await, Some(1), "{}", process.output());
        let printed = process.output();
        assert!(printed.contains(expected) && !printed.contains("hunter2"), "{host}: {printed}");
    }
}
