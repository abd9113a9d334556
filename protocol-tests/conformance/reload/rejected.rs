//! An invalid configuration changes nothing.

use kit::tls::{Certificate, connector, tls, tunnel, with_tls};

use crate::Start as _;
use kit::{Directory, Process, Settings};

use super::{OTHER, client_of_other, with_other};

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_its_line_is_logged() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("c").await;
    for (good, bad, rule) in [
        ("subscription_count = true", "subscription_count = 1", "must be true or false"),
        ("subscription_count = true", "subscription_cuont = true", "unknown key"),
        ("level = \"debug\"", "level = \"loud\"", "log.level"),
        ("[[apps]]", "[[apps", "config.toml:"),
    ] {
        let text = with_other().toml();
        let line = 1 + text.lines().position(|line| line == good).expect("the line is there");
        let report = server.reload_text(&text.replacen(good, bad, 1)).await;
        assert!(report.contains(" ERROR ") && report.contains(rule), "{report}");
        assert!(report.contains(&format!("config.toml:{line}")), "{line}: {report}");
        server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
        server.publish("c", "e", "1").await;
        client.expect_event("c", "e", "1").await;
    }
    // The corrected file is accepted.
    let report = server.reload(&with_other()).await;
    assert!(report.contains(" INFO "), "{report}");
    client_of_other(&server).await;
}

#[tokio::test]
async fn the_error_is_that_of_a_start() {
    let server = Settings::new().start().await;
    let text = with_other().app("max_event_channels", 0).toml();
    let report = server.reload_text(&text).await;
    let directory = Directory::new();
    directory.write("config.toml", &text);
    let mut check = Process::spawn(&["check"], directory.path());
    assert_eq!(check.exit_code().await, Some(2));
    let error = check.stream("err").replace("campanile: config.toml:", "");
    assert!(!error.trim().is_empty() && report.contains(error.trim()), "{error:?} in {report:?}");
}

#[tokio::test]
async fn a_bad_certificate_beside_good_apps_changes_nothing() {
    let (directory, certificate) = (Directory::new(), Certificate::new());
    certificate.write(&directory);
    let mut server = with_tls(Settings::new(), &directory).start().await;
    let connector = connector(&[&certificate]);
    let address = server.address;
    server.address = tunnel(address, connector.clone()).await;
    let mut client = server.client().await;
    directory.write("cert.pem", "nothing");
    let report = server.reload(&with_tls(with_other(), &directory)).await;
    assert!(
        report.contains(" ERROR ") && report.contains("cert.pem: must contain a certificate"),
        "{report}"
    );
    server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
    let shown = tls(address, &connector).await;
    let chain = shown.get_ref().1.peer_certificates().expect("a server shows its certificate");
    assert_eq!(chain[0], certificate.der);
    client.ping_barrier().await;
    // The same apps, with the valid certificate.
    certificate.write(&directory);
    let report = server.reload(&with_tls(with_other(), &directory)).await;
    assert!(report.contains("apps_added=\"4\"") && !report.contains("certificate"), "{report}");
    client_of_other(&server).await;
}

#[tokio::test]
async fn a_bad_webhook_beside_good_apps_changes_nothing() {
    let server = Settings::new().start().await;
    let webhooks = r#"[{ url = "https://-", events = ["channel_occupied"] }]"#;
    let report = server.reload(&with_other().app("webhooks", webhooks)).await;
    assert!(
        report.contains(" ERROR ") && report.contains("a URL whose host is no name"),
        "{report}"
    );
    server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
}
