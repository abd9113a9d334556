//! A client of the Pusher protocol, for the links that connect.

use crate::{
    cli::target::AppTarget,
    http_client::ByteStream,
    protocol::{SocketId, explain_close, explain_handshake},
    signature::channel_string_to_sign,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, http::Response},
};

/// How long to wait for an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An established connection.
pub(super) struct PusherSocket {
    stream: WebSocketStream<Box<dyn ByteStream>>,
    pub(super) socket_id: String,
}

/// Why a connection was not established, or has ended.
#[derive(Debug)]
pub(super) enum SocketError {
    /// The handshake was answered with another status than 101.
    Handshake(Box<Response<Option<Vec<u8>>>>),
    /// The other side closed the connection with this code and message.
    Closed(u16, String),
    /// No answer came in time.
    Silence,
    /// The connection failed.
    Failed(String),
}

impl From<tungstenite::Error> for SocketError {
    fn from(error: tungstenite::Error) -> Self {
        if let tungstenite::Error::Http(response) = error {
            return Self::Handshake(response);
        }
        Self::Failed(error.to_string())
    }
}

impl SocketError {
    /// What the close code or the status means, and what to do about it.
    pub(super) fn explanation(&self) -> Option<String> {
        let (meaning, remedy) = match self {
            Self::Closed(code, message) => {
                explain_close(*code, message).map(|row| (row.meaning, row.remedy))
            }
            Self::Handshake(response) => {
                explain_handshake(response.status().as_u16()).map(|row| (row.meaning, row.remedy))
            }
            Self::Silence | Self::Failed(_) => None,
        }?;
        Some(format!("{meaning} {remedy}"))
    }
}

impl std::fmt::Display for SocketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Handshake(response) => {
                write!(f, "the handshake was answered with {}", response.status())
            }
            Self::Closed(code, message) => write!(f, "closed with {code} {message}"),
            Self::Silence => write!(f, "no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

impl PusherSocket {
    /// Connects over `stream` to the app at `url`, which is
    /// `ws://HOST[:PORT][/PATH]/app/KEY`, with more `headers`.
    pub(super) async fn open(
        stream: Box<dyn ByteStream>,
        url: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Self, SocketError> {
        let version = env!("CARGO_PKG_VERSION");
        let url = format!("{url}?protocol=7&client=campanile-doctor&version={version}");
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = value.parse().map_err(|_| SocketError::Failed(format!("header {name}")))?;
            request.headers_mut().insert(*name, value);
        }
        let opening = time::timeout(ANSWER_TIMEOUT, client_async(request, stream));
        let (stream, _response) = opening.await.map_err(|_elapsed| SocketError::Silence)??;
        let mut socket = Self { stream, socket_id: String::new() };
        let established =
            socket.event(|event| event["event"] == "pusher:connection_established").await?;
        let id = data_of(&established)["socket_id"].as_str().map(str::to_owned);
        socket.socket_id = id.ok_or_else(|| SocketError::Failed("no socket_id".to_owned()))?;
        Ok(socket)
    }

    /// Connects to the server that `target` is about, at the address that it listens on.
    pub(super) async fn open_direct(target: &AppTarget) -> Result<Self, SocketError> {
        let stream =
            target.connect().await.map_err(|error| SocketError::Failed(error.to_string()))?;
        let url = format!("ws://{}{}/app/{}", target.origin.authority(), target.prefix, target.key);
        Self::open(stream, &url, &[]).await
    }

    /// Subscribes, signed with the secret of `target` if the channel needs that. Returns the answer.
    pub(super) async fn subscribe(
        &mut self,
        target: &AppTarget,
        channel: &str,
        channel_data: Option<&str>,
    ) -> Result<Value, SocketError> {
        let socket_id = SocketId::parse(&self.socket_id).ok().flatten();
        let auth = socket_id.filter(|_| channel.contains('-')).map(|socket_id| {
            let text = channel_string_to_sign(socket_id, channel, channel_data);
            format!("{}:{}", target.key, target.signer.sign(&text))
        });
        let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
        self.send(&json!({"event": "pusher:subscribe", "data": data})).await?;
        self.event(|event| {
            let name = event["event"].as_str().unwrap_or_default();
            let is_answer = name == "pusher_internal:subscription_succeeded"
                || name == "pusher:subscription_error";
            is_answer && event["channel"] == channel
        })
        .await
    }

    /// Closes the connection, so that the server logs no lost client.
    pub(super) async fn close(mut self) {
        let _ = time::timeout(ANSWER_TIMEOUT, self.stream.close(None)).await;
    }

    pub(super) async fn send(&mut self, message: &Value) -> Result<(), SocketError> {
        self.stream.send(Message::text(message.to_string())).await?;
        Ok(())
    }

    /// Waits for the event that is `wanted`, and answers pings meanwhile.
    pub(super) async fn event(
        &mut self,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SocketError> {
        let deadline = time::Instant::now() + ANSWER_TIMEOUT;
        loop {
            let received = time::timeout_at(deadline, self.stream.next());
            let text = match received.await.map_err(|_elapsed| SocketError::Silence)?.transpose()? {
                Some(Message::Text(text)) => text,
                Some(Message::Close(frame)) => {
                    let (code, message) = frame
                        .map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    return Err(SocketError::Closed(code, message));
                }
                None => return Err(SocketError::Closed(1006, String::new())),
                Some(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                ) => continue,
            };
            let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
            if wanted(&event) {
                return Ok(event);
            }
            if event["event"] == "pusher:ping" {
                self.send(&json!({"event": "pusher:pong", "data": {}})).await?;
            }
        }
    }
}

/// The data of an event: usually JSON within a string.
pub(super) fn data_of(event: &Value) -> Value {
    match event["data"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| event["data"].clone()),
        None => event["data"].clone(),
    }
}
