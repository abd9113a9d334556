//! Certificates: a reload changes them for new handshakes, and session tickets of earlier ones stay valid.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use kit::tls::{Certificate, connector, connector_of, tls, try_tls, tunnel, with_tls};

use crate::Start as _;
use kit::{Directory, Http, Server, Settings, eventually};

/// Sends one request on a new connection, so that the client has received a ticket at the end.
async fn handshake(server: &Server, connector: &TlsConnector) -> HandshakeKind {
    let mut stream = tls(server.address, connector).await;
    let request = b"GET /up HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the server ends in order");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    stream.get_ref().1.handshake_kind().expect("the handshake is done")
}

#[tokio::test]
async fn tickets_stay_valid_across_reloads_and_other_certificates() {
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let (directory, old, new) = (Directory::new(), Certificate::new(), Certificate::new());
        old.write(&directory);
        let settings = || with_tls(Settings::new(), &directory);
        let server = settings().start().await;
        let client = || connector_of(&[&old, &new], versions, &[]);
        let returning = client();
        assert_eq!(handshake(&server, &returning).await, HandshakeKind::Full);
        assert_eq!(handshake(&server, &returning).await, HandshakeKind::Resumed);
        let report = server.reload_unchanged().await;
        assert!(report.contains(" reloaded") && !report.contains("certificate="), "{report}");
        assert_eq!(handshake(&server, &returning).await, HandshakeKind::Resumed);
        new.write(&directory);
        let report = server.reload_unchanged().await;
        assert!(report.contains(r#"certificate="new""#), "{report}");
        assert_eq!(handshake(&server, &returning).await, HandshakeKind::Resumed);
        assert_eq!(handshake(&server, &client()).await, HandshakeKind::Full);
        // A rejected reload does not invalidate tickets either.
        directory.write("key.pem", &old.key);
        assert!(server.reload_unchanged().await.contains("reload rejected"));
        assert_eq!(handshake(&server, &returning).await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
pub(super) async fn changed_certificate_files_are_used_for_new_handshakes() {
    let (first, second) = (Directory::new(), Directory::new());
    let (old, new) = (Certificate::new(), Certificate::new());
    old.write(&first);
    new.write(&second);
    let mut server = with_tls(Settings::new(), &first).start().await;
    let address = server.address;
    let shown = async || {
        // A client without a ticket: the server sends its certificate.
        let stream = tls(address, &connector(&[&old, &new])).await;
        stream.get_ref().1.peer_certificates().expect("it is shown")[0].clone()
    };
    assert_eq!(shown().await, old.der);
    let mut kept = tls(address, &connector(&[&old])).await;
    let report = server.reload(&with_tls(Settings::new(), &second)).await;
    assert!(report.contains("server.tls.cert, server.tls.key"), "{report}");
    assert!(report.contains(r#"certificate="new""#), "{report}");
    assert_eq!(shown().await, new.der);
    // Only one of the two files: the pair does not match, and the certificate in use stays.
    let mixed = with_tls(Settings::new(), &first).section(
        "server.tls",
        "key",
        format!("{:?}", second.path().join("key.pem")),
    );
    let report = server.reload(&mixed).await;
    assert!(report.contains("must hold the certificate of the key in"), "{report}");
    assert_eq!(shown().await, new.der);
    kept.write_all(b"GET /up HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it stays open");
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.expect("it is served");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // Removed and configured again: the port serves plain HTTP, then TLS.
    let report = server.reload(&Settings::new()).await;
    assert!(report.contains(r#"certificate="new""#), "{report}");
    assert_eq!(Http::plain(address, "GET", "/up", &[]).await.status, 200);
    assert!(try_tls(address, &connector(&[&new])).await.is_err());
    server.reload(&with_tls(Settings::new(), &first)).await;
    assert_eq!(shown().await, old.der);
    let plain = Http::plain(address, "GET", "/up", &[]).await;
    assert_eq!(plain.status, 400, "{plain}");
    server.address = tunnel(address, connector(&[&old])).await;
    server.client().await.ping_barrier().await;
}

#[tokio::test]
async fn the_expiry_metric_follows_the_certificate() {
    const METRIC: &str = "campanile_tls_certificate_expiry_timestamp_seconds";
    let (directory, later) = (Directory::new(), Certificate::new());
    let settings = || Settings::new().section("metrics", "token", r#""t""#);
    let mut server = settings().start().await;
    let plain = server.address;
    assert!(!server.metrics_page().await.contains(METRIC));
    // The certificate expires on 2030-01-01; the default of the library is far later.
    let sooner = Certificate::until(2030);
    sooner.write(&directory);
    server.reload(&with_tls(settings(), &directory)).await;
    server.address = tunnel(plain, connector(&[&sooner, &later])).await;
    let line = format!("{METRIC} 1893456000");
    assert!(server.metrics_page().await.lines().any(|found| found == line));
    later.write(&directory);
    server.reload_unchanged().await;
    let page = server.metrics_page().await;
    assert!(page.contains(METRIC) && !page.contains(&line), "{page}");
    server.reload(&settings()).await;
    server.address = plain;
    eventually("there is no certificate", async || !server.metrics_page().await.contains(METRIC))
        .await;
}
