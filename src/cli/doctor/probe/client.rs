//! A client of the protocol, of which every step is seen: the answer to its handshake with all
//! headers, the first message, each message, and how it ended.

use super::{Answer, NoAnswer, Peer, STEP_TIMEOUT, http};
use crate::{
    config::AppConfig,
    protocol::SocketId,
    signature::{Signer, channel_string_to_sign},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, StatusCode,
    header::{
        CONNECTION, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{fmt, time::Duration};
use tokio::time;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

/// How often a connection is tried again, and after which time.
const RETRIES: usize = 4;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What came of opening a connection.
#[derive(Debug)]
pub(in crate::cli::doctor) enum Opening {
    /// The connection is established.
    Established(Box<OpenClient>),
    /// The server upgraded the connection, and closed it with this code and message.
    Rejected { code: u16, message: String, headers: HeaderMap },
    /// The handshake was answered with something else than 101.
    Answered(Answer),
    /// The answer is 101, but this header of it is wrong.
    BadUpgrade(&'static str),
    /// The connection ended, or nothing came in time, after 101.
    Silent(ClientEnd),
    /// There was no answer.
    NoAnswer(NoAnswer),
}

/// An established client.
#[derive(Debug)]
pub(in crate::cli::doctor) struct OpenClient {
    pub(in crate::cli::doctor) socket_id: String,
    /// The headers of the answer with 101.
    pub(in crate::cli::doctor) headers: HeaderMap,
    /// The silence after which the server pings.
    pub(in crate::cli::doctor) activity_timeout: Duration,
    pub(in crate::cli::doctor) socket: SocketClient,
}

/// The messages of a connection.
#[derive(Debug)]
pub(in crate::cli::doctor) struct SocketClient(WebSocketStream<TokioIo<Upgraded>>);

/// What a client received.
#[derive(Debug)]
pub(in crate::cli::doctor) enum ClientMessage {
    Event {
        name: String,
        data: Value,
    },
    /// A ping of the WebSocket layer, which was answered.
    Ping,
    /// A pong of the WebSocket layer.
    Pong,
}

/// Why a channel is not subscribed to.
#[derive(Debug)]
pub(in crate::cli::doctor) enum NotSubscribed {
    /// The server answered with this event.
    Rejected { name: String, data: Value },
    /// The connection ended, or nothing came in time.
    Ended(ClientEnd),
}

/// How a connection ended, or that nothing was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli::doctor) enum ClientEnd {
    /// With a close frame.
    Closed { code: Option<u16>, reason: String },
    /// Without a close frame; browsers call it 1006.
    Ended,
    /// Nothing was received in time.
    Timeout,
}

/// Opens a connection of the app with this key, as a page of `origin` does. If the rate of new
/// connections is exceeded, it tries again: the doctor opens many in a short time.
pub(in crate::cli::doctor) async fn open_client(
    peer: &Peer,
    key: &str,
    origin: Option<&str>,
) -> Opening {
    let mut opening = open_once(peer, key, origin).await;
    for _ in 0..RETRIES {
        let Opening::Rejected { code: 4100, message, .. } = &opening else { break };
        if !message.starts_with("Too many new connections") {
            break;
        }
        time::sleep(RETRY_AFTER).await;
        opening = open_once(peer, key, origin).await;
    }
    opening
}

async fn open_once(peer: &Peer, key: &str, origin: Option<&str>) -> Opening {
    let sec_key = generate_key();
    let version = env!("CARGO_PKG_VERSION");
    let path =
        format!("{}/app/{key}?protocol=7&client=campanile-doctor&version={version}", peer.prefix);
    let mut request = Request::get(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &sec_key);
    if let Some(origin) = origin {
        request = request.header(ORIGIN, origin);
    }
    let Ok(request) = request.body(Full::<Bytes>::default()) else {
        return Opening::BadUpgrade("Origin");
    };
    match time::timeout(STEP_TIMEOUT, handshake(peer, request, &sec_key)).await {
        Ok(Ok((socket, headers))) => establish(socket, headers).await,
        Ok(Err(opening)) => opening,
        Err(_elapsed) => Opening::NoAnswer(NoAnswer::Timeout),
    }
}

async fn handshake(
    peer: &Peer,
    request: Request<Full<Bytes>>,
    sec_key: &str,
) -> Result<(SocketClient, HeaderMap), Opening> {
    let (_sender, mut response) = http::exchange(peer, request).await.map_err(Opening::NoAnswer)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(http::read(response).await.map_or_else(Opening::NoAnswer, Opening::Answered));
    }
    if let Some(wrong) = wrong_header(response.headers(), sec_key) {
        return Err(Opening::BadUpgrade(wrong));
    }
    let upgraded = hyper::upgrade::on(&mut response).await;
    let upgraded = upgraded.map_err(|error| Opening::NoAnswer(NoAnswer::Http(error)))?;
    let io = TokioIo::new(upgraded);
    let socket = SocketClient(WebSocketStream::from_raw_socket(io, Role::Client, None).await);
    Ok((socket, response.headers().clone()))
}

/// The header of an answer with 101 that RFC 6455, 4.1 requires to be otherwise.
fn wrong_header(headers: &HeaderMap, sec_key: &str) -> Option<&'static str> {
    let is = |name, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    let accept = derive_accept_key(sec_key.as_bytes());
    if !is(UPGRADE, "websocket") {
        return Some("Upgrade");
    }
    if !is(CONNECTION, "upgrade") {
        return Some("Connection");
    }
    let sent = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    (sent != Some(accept.as_bytes())).then_some("Sec-WebSocket-Accept")
}

/// Reads the first message of the protocol: the connection is established, or rejected. Other messages
/// do not extend the deadline: another kind of server may send some again and again.
async fn establish(mut socket: SocketClient, headers: HeaderMap) -> Opening {
    let is_first = |name: &str| ["pusher:connection_established", "pusher:error"].contains(&name);
    match socket.next_event(is_first, STEP_TIMEOUT).await {
        Ok((name, data)) if name == "pusher:error" => {
            let code = data["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            let message = data["message"].as_str().unwrap_or_default().to_owned();
            Opening::Rejected { code: code.unwrap_or_default(), message, headers }
        }
        Ok((_established, data)) => {
            let socket_id = data["socket_id"].as_str().unwrap_or_default().to_owned();
            let seconds = data["activity_timeout"].as_u64().unwrap_or(120);
            let activity_timeout = Duration::from_secs(seconds);
            Opening::Established(Box::new(OpenClient {
                socket_id,
                headers,
                activity_timeout,
                socket,
            }))
        }
        Err(ClientEnd::Closed { code: Some(code), reason }) => {
            Opening::Rejected { code, message: reason, headers }
        }
        Err(end) => Opening::Silent(end),
    }
}

impl OpenClient {
    /// Subscribes, signed with the secret of the app.
    pub(in crate::cli::doctor) async fn subscribe(
        &mut self,
        app: &AppConfig,
        channel: &str,
        channel_data: Option<&str>,
    ) -> Result<(), NotSubscribed> {
        let socket_id = SocketId::parse(&self.socket_id).ok().flatten();
        let auth = socket_id.map(|socket_id| {
            let text = channel_string_to_sign(socket_id, channel, channel_data);
            format!("{}:{}", app.key, Signer::new(app.secret.expose()).sign(&text))
        });
        let message = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
        self.subscribe_with(message).await
    }

    /// Sends a subscription, and waits for its answer.
    pub(in crate::cli::doctor) async fn subscribe_with(
        &mut self,
        message: Value,
    ) -> Result<(), NotSubscribed> {
        self.socket.send("pusher:subscribe", message).await;
        let is_answer = |name: &str| {
            ["pusher_internal:subscription_succeeded", "pusher:subscription_error", "pusher:error"]
                .contains(&name)
        };
        match self.socket.next_event(is_answer, STEP_TIMEOUT).await {
            Ok((name, _)) if name == "pusher_internal:subscription_succeeded" => Ok(()),
            Ok((name, data)) => Err(NotSubscribed::Rejected { name, data }),
            Err(end) => Err(NotSubscribed::Ended(end)),
        }
    }
}

impl SocketClient {
    /// The next message, within `timeout` in all.
    pub(in crate::cli::doctor) async fn next(
        &mut self,
        timeout: Duration,
    ) -> Result<ClientMessage, ClientEnd> {
        let deadline = time::Instant::now() + timeout;
        loop {
            let received = time::timeout_at(deadline, self.0.next()).await;
            return match received.map_err(|_elapsed| ClientEnd::Timeout)? {
                Some(Ok(Message::Text(text))) => Ok(event(&text)),
                Some(Ok(Message::Ping(_))) => {
                    // The answer is queued, and written by a flush.
                    let _ = self.0.flush().await;
                    Ok(ClientMessage::Ping)
                }
                Some(Ok(Message::Pong(_))) => Ok(ClientMessage::Pong),
                Some(Ok(Message::Close(Some(frame)))) => Err(ClientEnd::Closed {
                    code: Some(frame.code.into()),
                    reason: frame.reason.to_string(),
                }),
                Some(Ok(Message::Close(None))) => {
                    Err(ClientEnd::Closed { code: None, reason: String::new() })
                }
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => continue,
                Some(Err(_)) | None => Err(ClientEnd::Ended),
            };
        }
    }

    /// The next event with this name, within `timeout` in all.
    pub(in crate::cli::doctor) async fn next_event(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<(String, Value), ClientEnd> {
        let search = async {
            loop {
                match self.next(timeout).await? {
                    ClientMessage::Event { name, data, .. } if wanted(&name) => {
                        return Ok((name, data));
                    }
                    ClientMessage::Event { name, .. } if name == "pusher:ping" => {
                        self.send("pusher:pong", json!({})).await;
                    }
                    ClientMessage::Event { .. } | ClientMessage::Ping | ClientMessage::Pong => {}
                }
            }
        };
        time::timeout(timeout, search).await.unwrap_or(Err(ClientEnd::Timeout))
    }

    /// Sends an event. That the connection has ended is seen when it is read.
    pub(in crate::cli::doctor) async fn send(&mut self, name: &str, data: Value) {
        let text = json!({"event": name, "data": data}).to_string();
        let _ = self.0.send(Message::text(text)).await;
    }

    /// Sends a ping of the WebSocket layer.
    pub(in crate::cli::doctor) async fn ping(&mut self) {
        let _ = self.0.send(Message::Ping(Bytes::from_static(b"campanile-doctor"))).await;
    }

    /// Closes the connection.
    pub(in crate::cli::doctor) async fn close(mut self) {
        let _ = time::timeout(Duration::from_secs(1), self.0.close(None)).await;
    }
}

/// Parses an event, whose data is JSON, or JSON in a string.
fn event(text: &str) -> ClientMessage {
    let mut message: Value = serde_json::from_str(text).unwrap_or_default();
    let mut data = message["data"].take();
    if let Some(inner) = data.as_str().and_then(|text| serde_json::from_str(text).ok()) {
        data = inner;
    }
    let name = message["event"].as_str().unwrap_or_default().to_owned();
    ClientMessage::Event { name, data }
}

impl fmt::Display for NotSubscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { name, data } => write!(f, "answered with {name} {data}"),
            Self::Ended(end) => write!(f, "not answered: {end}"),
        }
    }
}

impl fmt::Display for ClientEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code: Some(code), reason } if reason.is_empty() => {
                write!(f, "closed with {code}")
            }
            Self::Closed { code: Some(code), reason } => write!(f, "closed with {code}: {reason}"),
            Self::Closed { code: None, .. } => f.write_str("closed without a code"),
            Self::Ended => f.write_str("ended without a close frame, which browsers call 1006"),
            Self::Timeout => f.write_str("nothing was received"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::trust::Trust;
    use tokio::net::TcpListener;

    /// A WebSocket server that is not of the protocol, and always has something to say.
    #[tokio::test]
    async fn messages_of_another_protocol_do_not_extend_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            loop {
                for message in
                    [Message::text("{}"), Message::binary("x"), Message::Ping("x".into())]
                {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                    time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
        let peer = Peer::new(false, "127.0.0.1", port, "", &Trust::SystemRoots).unwrap();
        let limit = 3 * STEP_TIMEOUT;
        let opening = time::timeout(limit, open_client(&peer, "key", None)).await;
        let opening = opening.expect("it ends");
        assert!(matches!(opening, Opening::Silent(ClientEnd::Timeout)), "{opening:?}");
    }
}
