//! A complete server in this process: its HTTP API, and its WebSocket connections after the handshake.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, SystemTime};

use campanile::config::Config;
use campanile::server::Server;
use campanile::signature::{Signer, body_md5, request_string_to_sign};
use kit::head_end;

/// The maximum time of an answer: beyond it, something hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// The number of panics on the server's threads. The server recovers from them, but the test must fail.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The name of the thread that runs everything but the shards.
const SERVER_THREAD: &str = "server";

static SERVER: LazyLock<SocketAddr> = LazyLock::new(start);

fn start() -> SocketAddr {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_of_the_server = |name: &str| name == SERVER_THREAD || name.starts_with("shard-");
        if std::thread::current().name().is_some_and(is_of_the_server) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    let (sender, address) = mpsc::channel();
    let server = std::thread::Builder::new().name(SERVER_THREAD.to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("there is a poller").block_on(async {
            let mut config = Config::default();
            "127.0.0.1".clone_into(&mut config.server.host);
            config.server.port = 0;
            config.server.shards = 1;
            config.apps[0].client_events_per_second = 0;
            let server = Server::build(&config).await.expect("a free port");
            sender.send(server.address()).expect("the receiver waits");
            let _ends_with_the_process = server.run(std::future::pending()).await;
        });
    });
    server.expect("there are threads");
    address.recv().expect("the server starts")
}

/// Sends bytes on a separate connection, and returns everything that is received until the server closes.
fn exchange(bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(*SERVER).expect("the server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("TCP has this option");
    let mut received = Vec::new();
    // The server may close before everything is sent.
    if stream.write_all(bytes).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
        match stream.read_to_end(&mut received) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("waited {DEADLINE:?} for the end of a half-closed connection")
            }
            // A reset counts as the end.
            Ok(_) | Err(_) => {}
        }
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "the server panicked");
    received
}

/// The status of the first answer, if there is one.
fn status(received: &[u8]) -> Option<u16> {
    if received.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(received);
    let rest = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3)?.parse().ok());
    assert!(status.is_some_and(|status| (100..500).contains(&status)), "{text}");
    status
}

/// Sends the input as a request, byte for byte.
pub(crate) fn http_request(input: &[u8]) {
    status(&exchange(input));
}

/// Sends the input as the body of a signed publish. The first byte selects one event or a batch.
pub(crate) fn http_body(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let path = if first % 2 == 0 { "/apps/app-id/events" } else { "/apps/app-id/batch_events" };
    let md5 = body_md5(body);
    let more = if body.is_empty() { Vec::new() } else { vec![("body_md5".to_owned(), md5)] };
    let target = format!("{path}?{}", signed("POST", path, more, ""));
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let received = exchange(&[head.as_bytes(), body].concat());
    let status = status(&received).expect("a signed request is answered");
    assert!([200, 400, 413].contains(&status), "{}", String::from_utf8_lossy(&received));
    let is_object =
        serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body.is_object());
    assert!(is_object || status != 200 || is_beyond_a_reader(body), "published a non-object");
}

/// Whether serde may reject a body although it is JSON: for its nesting, numbers, or lone surrogates.
fn is_beyond_a_reader(body: &[u8]) -> bool {
    let error = serde_json::from_slice::<serde_json::Value>(body).err();
    let text = error.map(|error| error.to_string()).unwrap_or_default();
    ["recursion limit", "number out of range", "hex escape", "surrogate"]
        .iter()
        .any(|limit| text.contains(limit))
}

/// Sends a signed request whose path and query are the two lines of the input: its signature is always valid.
pub(crate) fn http_query(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let path = escaped(lines.next().unwrap_or_default(), b"?#");
    let query = escaped(lines.next().unwrap_or_default(), b"#");
    let path = format!("/apps/app-id/{path}");
    let target = format!("{path}?{}", signed("GET", &path, Vec::new(), &query));
    let received = exchange(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
    let status = status(&received).expect("a whole request is answered");
    let text = String::from_utf8_lossy(&received);
    // The MD5 of the missing body can be wrong, but the signature is valid.
    let is_expected =
        [200, 400, 404, 405, 414, 431].contains(&status) || text.contains("body_md5:");
    assert!(is_expected, "{target}: {text}");
}

/// Bytes in the form that is allowed in a request target.
fn escaped(bytes: &[u8], reserved: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_graphic() && !reserved.contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").expect("a String takes all text");
        }
        text
    })
}

/// A query with its signature. `more` is appended unchanged.
pub(super) fn signed(method: &str, path: &str, extra: Vec<(String, String)>, more: &str) -> String {
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let mut parameters = vec![
        ("auth_key".to_owned(), "app-key".to_owned()),
        ("auth_timestamp".to_owned(), now.to_string()),
        ("auth_version".to_owned(), "1.0".to_owned()),
    ];
    parameters.extend(extra);
    let own: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let others = form_urlencoded::parse(more.as_bytes());
    let others = others.filter(|(key, _)| key != "auth_signature");
    parameters.extend(others.map(|(key, value)| (key.to_ascii_lowercase(), value.into_owned())));
    parameters.sort_by(|one, other| one.0.cmp(&other.0));
    let signature =
        Signer::new("app-secret").sign(&request_string_to_sign(method, path, &parameters));
    format!("auth_signature={signature}&{}&{more}", own.join("&"))
}

/// Sends the input after a WebSocket handshake, byte for byte.
pub(crate) fn frames(input: &[u8]) {
    let upgrade = "GET /app/app-key?protocol=7 HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let received = exchange(&[upgrade.as_bytes(), input].concat());
    if received.is_empty() {
        // Reset while the answer was in transit.
        return;
    }
    assert_eq!(status(&received), Some(101));
    let end = head_end(&received).expect("a whole head");
    let mut rest = &received[end..];
    let mut is_closed = false;
    while let Some((first, payload, after)) = frame(rest) {
        assert!(!is_closed, "received data after the close frame");
        match first {
            0x81 => {
                let text = std::str::from_utf8(payload).expect("text is UTF-8");
                let message: serde_json::Value =
                    serde_json::from_str(text).expect("messages are JSON");
                assert!(message["event"].is_string(), "{text}");
            }
            0x88 => is_closed = true,
            0x89 | 0x8a => assert!(payload.len() <= 125),
            other => panic!("a frame that begins with {other:#x}"),
        }
        rest = after;
    }
}

/// The first byte and the payload of the first frame if it is complete, and the bytes after it.
pub(super) fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(2)?;
    let (len, rest) = match head[1] {
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*len)).ok()?, rest)
        }
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        len => (usize::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    Some((head[0], payload, rest))
}
