//! Text that one peer sends and another receives: frames to another client, and bodies of webhooks. For every input,
//! all output is JSON for a strict parser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use campanile::config::{Config, WebhookConfig, WebhookEvent};
use campanile::server::Server;
use campanile::signature::{Signer, body_md5};
use serde_json::{Value, json};

use super::server::{frame, signed};

const DEADLINE: Duration = Duration::from_secs(10);
/// The number of inputs per client: it is closed after a dozen malformed ones.
const INPUTS_OF_A_CLIENT: u64 = 5;

const CHANNELS: [&str; 2] = ["private-foobar", "presence-x"];

static STAGE: LazyLock<Mutex<Stage>> = LazyLock::new(|| Mutex::new(Stage::new()));

/// Sends a message from a client that is subscribed to [`CHANNELS`], or, after a `P`, publishes with this body.
pub(crate) fn passed_on(input: &[u8]) {
    STAGE.lock().unwrap_or_else(PoisonError::into_inner).pass(input);
}

/// A sending client, a receiving client, and an application with a webhook endpoint.
struct Stage {
    sender: Client,
    listener: Client,
    bodies: mpsc::Receiver<String>,
    inputs: u64,
}

impl Stage {
    fn new() -> Self {
        let (url, bodies) = application();
        let (address, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("there is a poller").block_on(async {
                let mut config = Config::default();
                "127.0.0.1".clone_into(&mut config.server.host);
                config.server.port = 0;
                config.server.shards = 1;
                config.connection.max_messages_per_second = 0;
                config.webhooks.batch_ms = 0;
                let app = &mut config.apps[0];
                app.client_events_per_second = 0;
                let events = WebhookEvent::ALL.to_vec();
                app.webhooks = vec![WebhookConfig { url, events, ..WebhookConfig::default() }];
                let server = Server::build(&config).await.expect("a free port");
                address.send(server.address()).expect("the receiver waits");
                let _ends_with_the_process = server.run(std::future::pending()).await;
            });
        });
        let address = ready.recv().expect("the server starts");
        Self { sender: Client::new(address), listener: Client::new(address), bodies, inputs: 0 }
    }

    fn pass(&mut self, input: &[u8]) {
        if self.inputs.is_multiple_of(INPUTS_OF_A_CLIENT) {
            self.sender = Client::new(self.sender.address());
        }
        match input.split_first() {
            Some((b'P', body)) => self.sender.publish(body),
            // Messages that are not UTF-8 would close the connection, which other targets test.
            _ if std::str::from_utf8(input).is_ok() => self.sender.send(input),
            _ => return,
        }
        // All results of the input arrive before this marker.
        self.inputs += 1;
        let marker = format!("client-marker-{}", self.inputs);
        let last = json!({ "event": marker, "channel": CHANNELS[0], "data": marker });
        self.sender.send(last.to_string().as_bytes());
        while self.listener.message()["event"] != marker {}
        loop {
            let body = self.bodies.recv_timeout(DEADLINE).expect("a webhook request");
            let body = strict(&body);
            let events = body["events"].as_array().expect("a list of events");
            for event in events {
                let members = ["name", "channel", "event", "data", "socket_id", "user_id"];
                for text in members.iter().filter_map(|member| event.get(*member)) {
                    assert!(text.is_string(), "{event}");
                }
            }
            if events.iter().any(|event| event["event"] == marker) {
                return;
            }
        }
    }
}

/// Parses a text like any JSON parser: serde rejects lone surrogates, nesting beyond 128 levels, and numbers beyond a
/// double.
fn strict(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// A connection that is subscribed to the channels, signed with the secret of `app-key`.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("TCP has this option");
        stream.set_nodelay(true).expect("TCP has this option");
        let mut client = Self { stream, received: Vec::new() };
        let upgrade =
            b"GET /app/app-key?protocol=7 HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
                        upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.stream.write_all(upgrade).expect("the server listens");
        while !client.received.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).expect("an answer");
            client.received.extend_from_slice(&byte);
        }
        client.received.clear();
        let established = client.message();
        let data = strict(established["data"].as_str().expect("a text"));
        let socket_id = data["socket_id"].as_str().expect("a text").to_owned();
        for channel in CHANNELS {
            let member = r#"{"user_id":"\ud800","user_info":{"\udc00":"\ud83d\/"}}"#;
            let member = channel.starts_with("presence-").then_some(member);
            let signed = match member {
                Some(member) => format!("{socket_id}:{channel}:{member}"),
                None => format!("{socket_id}:{channel}"),
            };
            let auth = format!("app-key:{}", Signer::new("app-secret").sign(&signed));
            let data = json!({ "channel": channel, "auth": auth, "channel_data": member });
            client
                .send(json!({ "event": "pusher:subscribe", "data": data }).to_string().as_bytes());
            while client.message()["event"] != "pusher_internal:subscription_succeeded" {}
        }
        client
    }

    fn address(&self) -> SocketAddr {
        self.stream.peer_addr().expect("it is connected")
    }

    /// Sends a text message, with a mask of zero.
    fn send(&mut self, text: &[u8]) {
        let len = u16::try_from(text.len()).expect("inputs are small").to_be_bytes();
        let head = [&[0x81, 0xfe][..], &len, &[0; 4]].concat();
        self.stream.write_all(&[&head, text].concat()).expect("the connection is open");
    }

    /// The next message. Each message is JSON, and so is the data of protocol events.
    fn message(&mut self) -> Value {
        loop {
            if let Some((first, payload, rest)) = frame(&self.received) {
                let (payload, rest) = (payload.to_vec(), rest.to_vec());
                self.received = rest;
                assert_eq!(first, 0x81, "{}", String::from_utf8_lossy(&payload));
                let message = strict(std::str::from_utf8(&payload).expect("text is UTF-8"));
                let name = message["event"].as_str().expect("a name");
                if name.starts_with("pusher") {
                    message["data"].as_str().map(strict);
                }
                return message;
            }
            let mut buffer = vec![0; 65_536];
            let read = self.stream.read(&mut buffer).expect("a message");
            assert!(0 < read, "the connection has ended");
            self.received.extend_from_slice(&buffer[..read]);
        }
    }

    /// Publishes over a separate connection.
    fn publish(&self, body: &[u8]) {
        let path = "/apps/app-id/events";
        let more = vec![("body_md5".to_owned(), body_md5(body))];
        let target = format!("{path}?{}", signed("POST", path, more, ""));
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address()).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("TCP has this option");
        stream.write_all(&[head.as_bytes(), body].concat()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        strict(body);
    }
}

/// Starts an endpoint for webhooks: returns its URL, and the bodies that it receives.
fn application() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A broken connection is opened again.
            let _end = take_webhooks(stream.expect("a connection"), &sender);
        }
    });
    (url, bodies)
}

fn take_webhooks(stream: TcpStream, bodies: &mpsc::Sender<String>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut len) = (String::new(), 0);
    while 0 < reader.read_line(&mut line)? {
        let field = line.trim().to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length: ") {
            len = value.parse().expect("a length");
        }
        if field.is_empty() {
            let mut body = vec![0; len];
            reader.read_exact(&mut body)?;
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            if bodies.send(String::from_utf8(body).expect("a body is UTF-8")).is_err() {
                return Ok(());
            }
        }
        line.clear();
    }
    Ok(())
}
