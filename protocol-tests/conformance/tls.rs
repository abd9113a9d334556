//! TLS in the server: the protocol over TLS, the end of a connection, timeouts, and changed certificates.

use std::io::ErrorKind;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use kit::tls::{Certificate, connector, connector_of, tls, try_tls, tunnel, with_tls};

use crate::Start as _;
use kit::{
    Directory, Frame, Http, KEY, Process, RawHttp, SECRET, Server, Settings, eventually, frames,
    head_end, upgrade_request, within,
};

/// A server with TLS, and its certificate.
struct TlsServer {
    server: Server,
    directory: Directory,
    certificate: Certificate,
}

impl TlsServer {
    async fn start(settings: Settings) -> Self {
        let (directory, certificate) = (Directory::new(), Certificate::new());
        certificate.write(&directory);
        let server = with_tls(settings, &directory).start().await;
        Self { server, directory, certificate }
    }

    fn connector(&self) -> TlsConnector {
        connector(&[&self.certificate])
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        tls(self.server.address, &self.connector()).await
    }

    /// The same server behind a tunnel, for clients without TLS.
    async fn tunneled(mut self, connector: TlsConnector) -> (Server, Directory) {
        self.server.address = tunnel(self.server.address, connector).await;
        (self.server, self.directory)
    }

    /// An upgraded connection, before its first message is read.
    async fn upgraded(&self) -> TlsConnection {
        let mut wire = TlsConnection { stream: self.connect().await, received: Vec::new() };
        wire.write(upgrade_request(&target(), &[])).await;
        wire.head().await;
        wire
    }
}

fn target() -> String {
    format!("/app/{KEY}?protocol=7")
}

/// A TLS connection, read frame by frame.
struct TlsConnection {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl TlsConnection {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let write = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        within("the server to read", write).await.expect("the connection is open");
    }

    async fn receive(&mut self) -> std::io::Result<usize> {
        within("bytes from the server", self.stream.read_buf(&mut self.received)).await
    }

    async fn head(&mut self) {
        loop {
            if let Some(end) = head_end(&self.received) {
                let head: Vec<u8> = self.received.drain(..end).collect();
                return assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
            }
            assert!(self.receive().await.is_ok_and(|count| count > 0));
        }
    }

    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frames::take(&mut self.received) {
                return Some(frame);
            }
            if !self.receive().await.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }

    async fn text(&mut self) -> String {
        match self.frame().await {
            Some(Frame::Text(text)) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_protocol_is_the_same_with_tls() {
    for version in [&TLS12, &TLS13] {
        let secure = TlsServer::start(Settings::new()).await;
        let connector = connector_of(&[&secure.certificate], &[version], &["http/1.1"]);
        let (server, _directory) = secure.tunneled(connector).await;
        let (mut a, mut b) = (server.client().await, server.client().await);
        a.join("presence-r", "1").await;
        b.join("presence-r", "2").await;
        a.expect_member_added("presence-r", "2", json!({ "n": "2" })).await;
        a.whisper("client-x", "presence-r", json!("hello")).await;
        let whisper = b.next().await;
        assert_eq!((&whisper["event"], &whisper["user_id"]), (&json!("client-x"), &json!("1")));
        for size in [1, 1_000, 16_383, 16_384, 16_385, 100_000] {
            server.publish("presence-r", "e", &"x".repeat(size)).await;
            b.expect_event("presence-r", "e", &"x".repeat(size)).await;
        }
        let padding = "y".repeat(60_000);
        b.text(format!(r#"{{"event":"pusher:ping","data":"{padding}"}}"#)).await;
        b.expect(json!({ "event": "pusher:pong", "data": {} })).await;
        server.open("/app/nope").await.rejected(4001).await;
        drop(a);
        b.expect_member_removed("presence-r", "1").await;
    }
}

#[tokio::test]
async fn frames_sent_with_the_request_or_byte_by_byte_are_read() {
    let secure = TlsServer::start(Settings::new()).await;
    let ping = frames::text(r#"{"event":"pusher:ping","data":{}}"#);
    let mut wire = TlsConnection { stream: secure.connect().await, received: Vec::new() };
    let request = [upgrade_request(&target(), &[]).as_bytes(), &ping, &ping].concat();
    wire.write(&request).await;
    wire.head().await;
    assert!(wire.text().await.contains("connection_established"));
    for _ in 0..2 {
        assert!(wire.text().await.contains("pusher:pong"));
    }
    for byte in ping {
        wire.write([byte]).await;
    }
    assert!(wire.text().await.contains("pusher:pong"));
}

#[tokio::test]
async fn a_client_that_reads_late_receives_everything_in_order() {
    const EVENTS: usize = 300;
    let settings = Settings::new().connection("max_outbox_bytes", 100_000_000);
    let secure = TlsServer::start(settings).await;
    let mut wire = secure.upgraded().await;
    wire.text().await;
    wire.write(frames::text(r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#)).await;
    assert!(wire.text().await.contains("subscription_succeeded"));
    let publisher = secure.connector();
    let (server, _directory) = secure.tunneled(publisher).await;
    // More than the kernel buffers, so that records are queued in TLS.
    for number in 0..EVENTS {
        server.publish("a", "e", &format!("{number}:{}", "x".repeat(60_000))).await;
    }
    for number in 0..EVENTS {
        let mut text = wire.text().await;
        while text.contains("subscription_count") {
            text = wire.text().await;
        }
        assert!(text.contains(&format!(r#""{number}:xxx"#)), "{number}: {}", &text[..60]);
    }
    wire.write(frames::text(r#"{"event":"pusher:ping","data":{}}"#)).await;
    assert!(wire.text().await.contains("pusher:pong"));
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_without_effect_on_others() {
    let secure = TlsServer::start(Settings::new()).await;
    let mut sleeper = secure.upgraded().await;
    sleeper.write(frames::text(r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#)).await;
    let connector = secure.connector();
    let (server, _directory) = secure.tunneled(connector).await;
    let mut reader = server.client().await;
    reader.subscribe("a").await;
    let data = "x".repeat(100_000);
    let mut published = 0;
    eventually("the sleeper is closed", async || {
        server.publish("a", "e", &data).await;
        published += 1;
        reader.expect_event("a", "e", &data).await;
        server.connections().await == 1
    })
    .await;
    let mut events = 0;
    loop {
        match sleeper.frame().await {
            Some(Frame::Text(text)) if text.contains("4100") => break,
            Some(Frame::Text(text)) => events += usize::from(text.contains(&data)),
            other => panic!("{other:?} after {events} of {published} events"),
        }
    }
    assert!(matches!(sleeper.frame().await, Some(Frame::Close(4100, _))));
    assert!(events < published);
}

#[tokio::test]
async fn a_clean_end_is_distinguishable_from_a_truncation() {
    let secure = TlsServer::start(Settings::new()).await;
    // Closed by the client, closed by the server, and after a plain request.
    let mut wire = secure.upgraded().await;
    wire.text().await;
    wire.write(frames::masked(frames::FIN | frames::CLOSE, &1000_u16.to_be_bytes())).await;
    assert!(matches!(wire.frame().await, Some(Frame::Close(1000, _))));
    assert_eq!(wire.receive().await.unwrap(), 0, "close_notify");
    let mut wire = TlsConnection { stream: secure.connect().await, received: Vec::new() };
    wire.write(upgrade_request("/app/nope", &[])).await;
    wire.head().await;
    wire.text().await;
    assert!(matches!(wire.frame().await, Some(Frame::Close(4001, _))));
    wire.write(frames::masked(frames::FIN | frames::CLOSE, &4001_u16.to_be_bytes())).await;
    assert_eq!(wire.receive().await.unwrap(), 0, "close_notify");
    let mut wire = TlsConnection { stream: secure.connect().await, received: Vec::new() };
    wire.write("GET /up HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    while wire.receive().await.unwrap() != 0 {}
    assert!(wire.received.ends_with(br#"{"health":"OK"}"#));
}

#[tokio::test]
async fn a_disconnected_client_is_removed() {
    let secure = TlsServer::start(Settings::new()).await;
    let mut polite = secure.upgraded().await;
    polite.text().await;
    let mut cut = secure.upgraded().await;
    cut.text().await;
    let connector = secure.connector();
    let (server, _directory) = secure.tunneled(connector).await;
    server.wait_for_connections(2).await;
    polite.stream.shutdown().await.unwrap();
    server.wait_for_connections(1).await;
    drop(cut.stream.into_inner().0);
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn tls_only_accepts_only_tls_clients() {
    let secure = TlsServer::start(Settings::new().app("tls_only", true)).await;
    let connector = secure.connector();
    let (server, _directory) = secure.tunneled(connector).await;
    server.client().await.ping_barrier().await;
    // The header of a trusted proxy takes precedence over the server's own connection.
    let proxied =
        Settings::new().app("tls_only", true).server("trusted_proxies", r#"["127.0.0.1"]"#);
    let secure = TlsServer::start(proxied).await;
    let connector = secure.connector();
    let (server, _directory) = secure.tunneled(connector).await;
    server.client().await.ping_barrier().await;
    let headers = [("X-Forwarded-Proto", "http")];
    server.open_with(&target(), &headers).await.rejected(4000).await;
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_answered_with_advice() {
    let secure = TlsServer::start(Settings::new()).await;
    let mut http = RawHttp::connect(secure.server.address).await;
    http.write(upgrade_request(&target(), &[])).await;
    let sentence = http.reply().await.error(400);
    assert!(sentence.contains("https://") && sentence.contains("wss://"), "{sentence}");
    http.ended().await;
}

#[tokio::test]
async fn no_other_protocol_is_negotiated() {
    let secure = TlsServer::start(Settings::new()).await;
    let offers =
        |protocols: &[&str]| connector_of(&[&secure.certificate], rustls::ALL_VERSIONS, protocols);
    let stream = tls(secure.server.address, &offers(&["h2", "http/1.1"])).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert!(try_tls(secure.server.address, &offers(&["h2"])).await.is_err());
}

#[tokio::test]
async fn a_handshake_has_a_deadline_without_effect_on_others() {
    let secure = TlsServer::start(Settings::new().server("request_timeout_s", 1)).await;
    let mut beginnings = vec![vec![], vec![22], vec![22, 3, 1, 2, 0, 1]];
    // An invalid handshake record is rejected at once.
    beginnings.push([&[22, 3, 1, 0, 4][..], b"nope"].concat());
    let mut stuck = Vec::new();
    for beginning in &beginnings {
        let mut stream = TcpStream::connect(secure.server.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        stuck.push(stream);
    }
    let mut settled = secure.upgraded().await;
    settled.text().await;
    for mut stream in stuck {
        let mut received = Vec::new();
        let end = within("the server to have had enough", stream.read_to_end(&mut received)).await;
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        assert!(!received.starts_with(b"HTTP"), "{received:?}");
    }
    settled.write(frames::text(r#"{"event":"pusher:ping","data":{}}"#)).await;
    assert!(settled.text().await.contains("pusher:pong"));
}

#[tokio::test]
async fn new_connections_use_a_renewed_certificate_and_not_an_invalid_one() {
    let secure = TlsServer::start(Settings::new()).await;
    let (old, new) = (&secure.certificate, Certificate::new());
    let both = connector(&[old, &new]);
    let address = secure.server.address;
    let shown = async || {
        let stream = tls(address, &both).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let mut settled = secure.upgraded().await;
    settled.text().await;
    assert_eq!(shown().await, old.der);

    new.write(&secure.directory);
    assert_eq!(shown().await, old.der, "nothing changes without a reload");
    secure.server.signal("HUP");
    eventually("newcomers see the new certificate", async || shown().await == new.der).await;

    // A key that does not match, then an invalid certificate: each error names the file, and nothing changes.
    for (file, text, rule) in [
        ("key.pem", old.key.as_str(), "cert.pem: must hold the certificate of the key in"),
        ("cert.pem", "nothing", "cert.pem: must contain a certificate in PEM"),
    ] {
        secure.directory.write(file, text);
        secure.server.signal("HUP");
        eventually("the log says why", async || secure.server.process.stream("err").contains(rule))
            .await;
        assert_eq!(shown().await, new.der);
    }
    settled.write(frames::text(r#"{"event":"pusher:ping","data":{}}"#)).await;
    assert!(settled.text().await.contains("pusher:pong"), "the connection stays open");
}

#[tokio::test]
async fn sighup_does_not_end_a_server_without_tls() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    server.signal("HUP");
    eventually("the log knows of it", async || server.process.stream("err").contains("reloaded"))
        .await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn a_file_that_can_not_be_used_is_exit_code_2() {
    let directory = Directory::new();
    Certificate::new().write(&directory);
    directory.write("key.pem", "nothing");
    let settings = with_tls(Settings::new(), &directory).toml();
    let file = directory.write("config.toml", &settings);
    let file = file.to_str().unwrap();
    for command in [&["start", "--port", "0"][..], &["check"]] {
        let arguments = [command, &["--config", file]].concat();
        let mut process = Process::spawn(&arguments, directory.path());
        assert_eq!(process.exit_code().await, Some(2), "{command:?}");
        let output = process.stream("err");
        assert!(output.contains("key.pem: must hold a private key in PEM"), "{output}");
    }
}

#[tokio::test]
async fn the_commands_support_tls() {
    let secure = TlsServer::start(Settings::new()).await;
    let directory = &secure.directory;
    let address = secure.server.address;
    // The configuration provides the address and the trusted certificate.
    let settings = with_tls(Settings::new(), directory)
        .server("host", r#""127.0.0.1""#)
        .server("port", address.port());
    let file = directory.write("client.toml", &settings.toml());
    let own = ["--config", file.to_str().unwrap()].map(str::to_owned);
    let ca = directory.path().join("cert.pem").to_str().unwrap().to_owned();
    let url = format!("https://localhost:{}", address.port());
    let credentials = ["--app-id", "3", "--key", KEY, "--secret", SECRET].map(str::to_owned);
    let remote = [&["--url".into(), url.clone(), "--ca".into(), ca][..], &credentials].concat();
    for how in [own.to_vec(), remote] {
        let run = |command: &[&str]| {
            let command = command.iter().map(|&word| word.to_owned());
            let arguments: Vec<String> = command.chain(how.iter().cloned()).collect();
            Process::spawn(&arguments, directory.path())
        };
        assert_eq!(run(&["health"]).exit_code().await, Some(0));
        let mut listener = run(&["listen", "private-a"]);
        listener.line("the subscription", |line| line.contains("subscription_succeeded")).await;
        assert_eq!(run(&["publish", "private-a", "e", "hello"]).exit_code().await, Some(0));
        listener.line("the event", |line| line == "private-a e hello").await;
    }
    // The certificate is trusted neither by the machine nor through another server's certificate.
    let stranger = [&["health".into(), "--url".into(), url][..], &credentials].concat();
    assert_ne!(Process::spawn(&stranger, directory.path()).exit_code().await, Some(0));
    Certificate::new().write(directory);
    let mut pinned = Process::spawn(&["health", &own[0], &own[1]], directory.path());
    assert_eq!(pinned.exit_code().await, Some(1));
}

#[tokio::test]
async fn a_stopping_tls_server_closes_its_connections() {
    let secure = TlsServer::start(Settings::new()).await;
    let mut wire = secure.upgraded().await;
    wire.text().await;
    let idle = secure.connect().await;
    let mut server = secure.server;
    server.signal("TERM");
    assert!(wire.text().await.contains("4100"));
    assert!(matches!(wire.frame().await, Some(Frame::Close(4100, _))));
    wire.write(frames::masked(frames::FIN | frames::CLOSE, &4100_u16.to_be_bytes())).await;
    assert_eq!(wire.receive().await.unwrap(), 0);
    drop(idle);
    assert_eq!(server.process.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_banner_shows_https() {
    let mut secure = TlsServer::start(Settings::new()).await;
    let plain = secure.server.url();
    let connector = secure.connector();
    secure.server.address = tunnel(secure.server.address, connector).await;
    let reply = Http::plain(secure.server.address, "GET", "/up", &[]).await;
    assert_eq!(reply.status, 200);
    assert!(secure.server.process.output().contains(&plain.replace("http:", "https:")));
}

#[tokio::test]
async fn handshakes_have_their_timeout_without_a_grace_period() {
    let secure = TlsServer::start(Settings::new().server("shutdown_grace_s", 0)).await;
    let connector = secure.connector();
    let (server, _directory) = secure.tunneled(connector).await;
    server.client().await.ping_barrier().await;
}

/// The handshake and the head of the request each have the whole timeout: here each takes 2.2 s of 4 s, more than one
/// timeout in total.
#[tokio::test]
async fn the_head_of_a_request_has_a_separate_timeout_after_the_handshake() {
    let secure = TlsServer::start(Settings::new().server("request_timeout_s", 4)).await;
    let part = Duration::from_millis(2_200);
    let stream = TcpStream::connect(secure.server.address).await.expect("the server listens");
    tokio::time::sleep(part).await;
    let name = ServerName::try_from("localhost").expect("it is a name");
    let mut tls = within("a handshake", secure.connector().connect(name, stream)).await.unwrap();
    tokio::time::sleep(part).await;
    tls.write_all(b"GET /up HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("the server reads");
    let mut answer = [0; 15];
    within("an answer", tls.read_exact(&mut answer)).await.expect("the server answers");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
