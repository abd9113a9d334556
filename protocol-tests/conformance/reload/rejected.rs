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
        let said = server.reload_text(&text.replacen(good, bad, 1)).await;
        assert!(said.contains(" ERROR ") && said.contains(rule), "{said}");
        assert!(said.contains(&format!("config.toml:{line}")), "{line}: {said}");
        server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
        server.publish("c", "e", "1").await;
        client.expect_event("c", "e", "1").await;
    }
    // The corrected file is accepted.
    let said = server.reload(&with_other()).await;
    assert!(said.contains(" INFO "), "{said}");
    client_of_other(&server).await;
}

#[tokio::test]
async fn the_error_is_that_of_a_start() {
    let server = Settings::new().start().await;
    let text = with_other().app("max_event_channels", 0).toml();
    let said = server.reload_text(&text).await;
    let directory = Directory::new();
    directory.write("config.toml", &text);
    let mut check = Process::spawn(&["check"], directory.path());
    assert_eq!(check.exit_code().await, Some(2));
    let error = check.stream("err").replace("campanile: config.toml:", "");
    assert!(!error.trim().is_empty() && said.contains(error.trim()), "{error:?} in {said:?}");
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
    let said = server.reload(&with_tls(with_other(), &directory)).await;
    assert!(
        said.contains(" ERROR ") && said.contains("cert.pem: must hold a certificate"),
        "{said}"
    );
    server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
    let shown = tls(address, &connector).await;
    let chain = shown.get_ref().1.peer_certificates().expect("a server shows its certificate");
    assert_eq!(chain[0], certificate.der);
    client.ping_barrier().await;
    // The same apps, with the valid certificate.
    certificate.write(&directory);
    let said = server.reload(&with_tls(with_other(), &directory)).await;
    assert!(said.contains("apps_added=\"4\"") && !said.contains("certificate"), "{said}");
    client_of_other(&server).await;
}

#[tokio::test]
async fn a_bad_webhook_beside_good_apps_changes_nothing() {
    let server = Settings::new().start().await;
    let webhooks = r#"[{ url = "https://-", events = ["channel_occupied"] }]"#;
    let said = server.reload(&with_other().app("webhooks", webhooks)).await;
    assert!(said.contains(" ERROR ") && said.contains("a URL whose host is no name"), "{said}");
    server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
}
