//! A client of the protocol, without a WebSocket library.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::call::header_lines;
use crate::{Frame, KEY, RawHttp, Reply, SECRET, frames, sign, within};

/// The key in the example of RFC 6455, and the corresponding answer.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The name of the event with the number of subscriptions of a channel.
pub const COUNT: &str = "pusher_internal:subscription_count";

/// A WebSocket connection to the server.
///
/// The test app has subscription counts enabled. A client skips these events unless [`Client::with_counts`] is used, so
/// that tests read only what they test.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    sees_counts: bool,
    /// The socket id, empty before [`Client::established`].
    pub socket_id: String,
}

/// The error messages of a rejected subscription.
#[derive(Debug)]
pub struct Rejection {
    /// `data` of `pusher:subscription_error`, null if there was no such message.
    pub details: Value,
    pub code: Value,
    pub message: String,
}

impl Client {
    /// Connects and upgrades, without reading messages.
    pub async fn open(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> (Self, Reply) {
        let stream = within("a TCP connection", TcpStream::connect(address))
            .await
            .expect("the server listens");
        Self::upgrade(stream, target, headers).await
    }

    /// Upgrades an open connection, without reading messages.
    pub async fn upgrade(
        stream: TcpStream,
        target: &str,
        headers: &[(&str, &str)],
    ) -> (Self, Reply) {
        let mut http = RawHttp::over(stream);
        http.write(upgrade_request(target, headers)).await;
        Self::upgraded(http).await
    }

    /// Reads the answer to an upgrade request that was sent before.
    pub async fn upgraded(mut http: RawHttp) -> (Self, Reply) {
        let reply = http.reply().await;
        assert_eq!(reply.status, 101, "{reply}");
        assert_eq!(reply.header("sec-websocket-accept"), Some(WEBSOCKET_ACCEPT));
        (Self::over(http), reply)
    }

    /// An upgraded connection.
    pub fn over(http: RawHttp) -> Self {
        let (stream, received) = http.into_parts();
        Self { stream, received, sees_counts: false, socket_id: String::new() }
    }

    /// Reads `pusher:connection_established` and stores the socket id. Returns the parsed `data`.
    pub async fn established(&mut self) -> Value {
        let first = self.next().await;
        assert_eq!(first["event"], "pusher:connection_established", "{first}");
        let data = inner(&first);
        data["socket_id"].as_str().expect("socket_id is a string").clone_into(&mut self.socket_id);
        data
    }

    /// Returns `pusher_internal:subscription_count` messages from now on, instead of skipping them.
    pub fn with_counts(mut self) -> Self {
        self.sees_counts = true;
        self
    }

    /// The socket, and the bytes that were received and not read.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.received)
    }

    // Sending

    /// Sends bytes without a frame around them.
    pub async fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        within("the server to read", self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the connection is open");
    }

    /// Like [`Client::bytes`], but the server may have closed the connection. Returns whether the write succeeded.
    pub async fn try_bytes(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("the server to read", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Sends a text frame.
    pub async fn text(&mut self, text: impl AsRef<[u8]>) {
        self.bytes(frames::text(text)).await;
    }

    /// Sends a message as JSON in a text frame.
    pub async fn send(&mut self, message: Value) {
        self.text(message.to_string()).await;
    }

    /// Sends a `pusher:` command with its `data`.
    pub async fn command(&mut self, event: &str, data: Value) {
        self.send(json!({ "event": event, "data": data })).await;
    }

    /// Unsubscribes from a channel, which the server does not acknowledge.
    pub async fn unsubscribe(&mut self, channel: &str) {
        self.command("pusher:unsubscribe", json!({ "channel": channel })).await;
    }

    /// Sends a client event with this `data`.
    pub async fn whisper(&mut self, event: &str, channel: &str, data: Value) {
        self.send(json!({ "event": event, "channel": channel, "data": data })).await;
    }

    // Receiving

    /// The next frame, or `None` when the connection has ended.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frames::take(&mut self.received) {
                return Some(frame);
            }
            let read =
                within("a frame from the server", self.stream.read_buf(&mut self.received)).await;
            if !read.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }

    /// The next message, parsed. Pings of the server are answered.
    pub async fn next(&mut self) -> Value {
        let text = self.next_text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// The next message, unparsed.
    pub async fn next_text(&mut self) -> String {
        loop {
            match self.frame().await {
                Some(Frame::Ping(payload)) => {
                    self.bytes(frames::masked(frames::FIN | frames::PONG, &payload)).await;
                }
                Some(Frame::Text(text)) if is_event(&text, "pusher:ping") => {
                    self.text(r#"{"event":"pusher:pong","data":{}}"#).await;
                }
                Some(Frame::Text(text)) if self.sees_counts || !is_event(&text, COUNT) => {
                    return text;
                }
                Some(Frame::Text(_)) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// Reads messages up to the next `pusher:ping`, answers it, and waits until the server has the answer. Returns the
    /// messages.
    pub async fn acknowledge(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let Some(frame) = self.frame().await else { panic!("the connection has ended") };
            let Frame::Text(text) = frame else { continue };
            if is_event(&text, "pusher:ping") {
                break;
            }
            messages.push(serde_json::from_str(&text).expect("messages are JSON"));
        }
        self.text(r#"{"event":"pusher:pong","data":{}}"#).await;
        self.ping_barrier().await;
        messages
    }

    /// Expects exactly this message next.
    pub async fn expect(&mut self, message: Value) {
        assert_eq!(self.next().await, message);
    }

    /// Expects an application event.
    pub async fn expect_event(&mut self, channel: &str, name: &str, data: &str) {
        self.expect(json!({ "event": name, "channel": channel, "data": data })).await;
    }

    /// Asserts that nothing more was sent: the next message is the answer to a ping.
    pub async fn ping_barrier(&mut self) {
        self.command("pusher:ping", json!({})).await;
        self.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    }

    /// Expects `pusher:error`, whose data is an object of exactly a code and a message; returns both.
    pub async fn error(&mut self) -> (Value, String) {
        let (channel, code, sentence) = self.event_error().await;
        assert_eq!(channel, Value::Null, "pusher:error has a channel: {sentence}");
        (code, sentence)
    }

    /// Expects `pusher:error` for a client event; returns its channel, code and message.
    pub async fn event_error(&mut self) -> (Value, Value, String) {
        let message = self.next().await;
        assert_eq!(message["event"], "pusher:error", "{message}");
        let (code, sentence) = error_parts(&message);
        (message["channel"].clone(), code, sentence)
    }

    /// Expects the close frame and then the end of the connection. Returns the code and the reason.
    pub async fn closed(&mut self) -> (u16, String) {
        match self.frame().await {
            Some(Frame::Close(code, reason)) => {
                self.finish_close(code).await;
                (code, reason)
            }
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// Like [`Client::closed`], but skips everything before the close frame.
    pub async fn closed_eventually(&mut self) -> (u16, String) {
        loop {
            match self.frame().await {
                Some(Frame::Close(code, reason)) => {
                    self.finish_close(code).await;
                    return (code, reason);
                }
                Some(Frame::Text(_) | Frame::Ping(_) | Frame::Pong(_)) => {}
                None => panic!("the connection ended without a close frame"),
            }
        }
    }

    /// Expects a rejected or closed connection: `pusher:error`, then a close frame with the same code.
    pub async fn rejected(&mut self, code: u16) -> String {
        let (received_code, sentence) = self.error().await;
        assert_eq!(received_code, code, "code of pusher:error: {sentence}");
        let (closed, _) = self.closed().await;
        assert_eq!(closed, code, "code of the close frame: {sentence}");
        sentence
    }

    async fn finish_close(&mut self, code: u16) {
        self.try_bytes(frames::masked(frames::FIN | frames::CLOSE, &code.to_be_bytes())).await;
        assert_eq!(self.frame().await, None, "nothing may follow the close frame");
    }

    // Subscribing

    /// The signature of this connection's subscription to a channel.
    pub fn auth(&self, channel: &str, channel_data: Option<&str>) -> String {
        sign::channel_auth(KEY, SECRET, &self.socket_id, channel, channel_data)
    }

    /// Subscribes to a channel other than a presence channel, signed if it is private, and reads the acknowledgement.
    pub async fn subscribe(&mut self, channel: &str) {
        self.send_subscribe(channel).await;
        self.subscribed(channel).await;
    }

    /// Sends the subscription to a channel other than a presence channel, signed if it is private.
    pub async fn send_subscribe(&mut self, channel: &str) {
        let auth =
            if channel.starts_with("private-") { self.auth(channel, None) } else { String::new() };
        self.command("pusher:subscribe", json!({ "auth": auth, "channel": channel })).await;
    }

    /// Sends a subscription that is signed with its `channel_data`.
    pub async fn send_subscribe_with(&mut self, channel: &str, channel_data: &str) {
        let auth = self.auth(channel, Some(channel_data));
        let data = json!({ "auth": auth, "channel_data": channel_data, "channel": channel });
        self.command("pusher:subscribe", data).await;
    }

    /// Expects the acknowledgement of a channel other than a presence channel.
    pub async fn subscribed(&mut self, channel: &str) {
        self.expect_event(channel, "pusher_internal:subscription_succeeded", "{}").await;
    }

    /// Joins a presence channel as a user with the user info `{"n": id}`; returns the roster.
    pub async fn join(&mut self, channel: &str, user_id: &str) -> Value {
        let member = json!({ "user_id": user_id, "user_info": { "n": user_id } });
        self.join_with(channel, &member.to_string()).await
    }

    /// Joins a presence channel with this `channel_data`; returns the roster.
    pub async fn join_with(&mut self, channel: &str, channel_data: &str) -> Value {
        self.send_subscribe_with(channel, channel_data).await;
        self.joined(channel).await
    }

    /// Expects the acknowledgement of a presence channel; returns the roster.
    pub async fn joined(&mut self, channel: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["event"], "pusher_internal:subscription_succeeded", "{message}");
        assert_eq!(message["channel"], channel, "{message}");
        let mut data = inner(&message);
        assert_eq!(data.as_object().map(serde_json::Map::len), Some(1), "{data}");
        data["presence"].take()
    }

    /// Expects that a member was added.
    pub async fn expect_member_added(&mut self, channel: &str, user_id: &str, user_info: Value) {
        let data = json!({ "user_id": user_id, "user_info": user_info });
        self.expect_internal(channel, "member_added", data).await;
    }

    /// Expects that a member was removed.
    pub async fn expect_member_removed(&mut self, channel: &str, user_id: &str) {
        self.expect_internal(channel, "member_removed", json!({ "user_id": user_id })).await;
    }

    /// Expects a message with the number of subscriptions of a channel.
    pub async fn expect_count(&mut self, channel: &str, count: u64) {
        self.expect_internal(channel, "subscription_count", json!({ "subscription_count": count }))
            .await;
    }

    async fn expect_internal(&mut self, channel: &str, name: &str, data: Value) {
        let mut message = self.next().await;
        message["data"] = inner(&message);
        assert_eq!(
            message,
            json!({ "event": format!("pusher_internal:{name}"), "channel": channel, "data": data })
        );
    }

    /// Expects that a subscription is rejected and the connection stays open.
    pub async fn rejection(&mut self, channel: &str) -> Rejection {
        let mut message = self.next().await;
        let mut details = Value::Null;
        if message["event"] == "pusher:subscription_error" {
            assert_eq!(message["channel"], channel, "{message}");
            details = message["data"].take();
            assert!(details["error"].is_string() && details["status"].is_u64(), "{details}");
            message = self.next().await;
        }
        assert_eq!(message["event"], "pusher:error", "{message}");
        assert_eq!(message.get("channel"), None, "{message}");
        let (code, message) = error_parts(&message);
        Rejection { details, code, message }
    }

    // Users

    /// Signs in with a correct signature and reads the success.
    pub async fn sign_in(&mut self, user_data: &str) {
        self.send_sign_in(user_data).await;
        self.signed_in(user_data).await;
    }

    /// Signs in with a correct signature, without reading the answer.
    pub async fn send_sign_in(&mut self, user_data: &str) {
        let auth = sign::user_auth(KEY, SECRET, &self.socket_id, user_data);
        self.command("pusher:signin", json!({ "auth": auth, "user_data": user_data })).await;
    }

    /// Expects the success, with `user_data` unchanged byte for byte.
    pub async fn signed_in(&mut self, user_data: &str) {
        let message = self.next().await;
        assert_eq!(message["event"], "pusher:signin_success", "{message}");
        assert_eq!(inner(&message), json!({ "user_data": user_data }));
    }
}

/// The parsed content of the string in `data`.
pub fn inner(message: &Value) -> Value {
    let text = message["data"].as_str().unwrap_or_else(|| panic!("data is no string in {message}"));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in data of {message}"))
}

/// The bytes of an upgrade request.
pub fn upgrade_request(target: &str, headers: &[(&str, &str)]) -> String {
    let headers = header_lines(headers.iter().copied());
    format!(
        "GET {target} HTTP/1.1\r\nHost: campanile.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n{headers}\r\n"
    )
}

/// Whether the message has this event name.
pub fn is_event(text: &str, name: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|message| message["event"] == name)
}

fn error_parts(message: &Value) -> (Value, String) {
    let object = message.as_object().expect("a message is an object");
    let data = object["data"]
        .as_object()
        .unwrap_or_else(|| panic!("data of pusher:error is an object: {message}"));
    let code = data.get("code").cloned().unwrap_or_default();
    assert!(code.is_null() || code.is_u64(), "a code is a number or null: {message}");
    let sentence = data
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no sentence: {message}"));
    assert!(!sentence.is_empty(), "an empty sentence: {message}");
    (code, sentence.to_owned())
}
