//! Unusable or expired TLS files: each error names the file, and the line that configures it.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use kit::tls::{Certificate, connector, tunnel, with_tls};

use crate::Start as _;
use kit::{Directory, Http, Process, Settings, eventually, quoted};

/// Writes `cert.pem` and `key.pem` of a certificate that was valid in the first days of 2020.
fn write_expired(directory: &Directory) -> Certificate {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 9);
    let key = KeyPair::generate().expect("there are random numbers");
    let cert = params.self_signed(&key).expect("the key is there");
    let certificate =
        Certificate { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().clone() };
    certificate.write(directory);
    certificate
}

#[tokio::test]
async fn an_expired_certificate_is_warned_about_and_measured() {
    let directory = Directory::new();
    let expired = write_expired(&directory);
    let settings = with_tls(Settings::new().section("metrics", "token", quoted("t")), &directory);
    let file = directory.write("config.toml", &settings.toml());
    let mut check = Process::spawn(&["check"], directory.path());
    assert_eq!(check.exit_code().await, Some(0), "{}", check.output());
    let text = std::fs::read_to_string(file).unwrap();
    let line = 1 + text.lines().position(|line| line.starts_with("cert = ")).unwrap();
    let output = check.stream("err");
    for part in [
        format!("config.toml:{line}: server.tls.cert: "),
        "cert.pem: contains a certificate that expired on 2020-01-09T00:00:00Z".to_owned(),
    ] {
        assert!(output.contains(&part), "{part} in {output}");
    }
    let mut server = settings.start().await;
    eventually("the log warns", async || {
        server.process.stream("err").contains("expired on 2020-01-09")
    })
    .await;
    let (plain, bearer) = (server.address, [("authorization", "Bearer t")]);
    let name = "campanile_tls_certificate_expiry_timestamp_seconds";
    server.address = tunnel(plain, connector(&[&expired])).await;
    // Clients reject an expired certificate, so the metrics are read with a renewed one.
    let renewed = Certificate::new();
    renewed.write(&directory);
    let reloaded = server.reload(&settings).await;
    assert!(reloaded.contains("certificate"), "{reloaded}");
    server.address = tunnel(plain, connector(&[&renewed])).await;
    let page = Http::plain(server.address, "GET", "/metrics", &bearer).await.text().to_owned();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    assert!(value.is_some_and(|value| value > 4_000_000_000), "{page}");
}

#[tokio::test]
async fn every_file_is_named_with_its_line_and_key_at_check_and_at_the_start() {
    let directory = Directory::new();
    let certificate = Certificate::new();
    directory.write("cert.pem", &certificate.key);
    directory.write("key.pem", &certificate.cert);
    let settings = with_tls(Settings::new(), &directory)
        .section("redis", "url", quoted("rediss://127.0.0.1:1"))
        .section("redis", "ca", quoted("no/such/ca.pem"));
    let text = settings.toml();
    directory.write("config.toml", &text);
    for command in ["check", "start"] {
        let mut process = Process::spawn(&[command], directory.path());
        assert_eq!(process.exit_code().await, Some(2), "{}", process.output());
        let output = process.stream("err");
        for (begin, key, rule) in [
            (
                "cert = ",
                "server.tls.cert",
                "cert.pem: must contain a certificate in PEM, and holds a private key",
            ),
            (
                "key = \"/",
                "server.tls.key",
                "key.pem: must hold a private key in PEM, and holds a certificate",
            ),
            ("ca = ", "redis.ca", "no/such/ca.pem: cannot be read: No such file"),
        ] {
            let line = 1 + text.lines().position(|line| line.starts_with(begin)).unwrap();
            let place = format!("config.toml:{line}: {key}: ");
            let named = output.lines().any(|line| line.contains(&place) && line.contains(rule));
            assert!(named, "{place} in {output}");
        }
        assert_eq!(output.lines().count(), 3, "{output}");
    }
}
