//! The messages of a Pusher client, and the parts of the server's messages that it parses.

use crate::{number::narrow, target::Target};
use campanile::signature::Signer;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The channels of a fleet of connections.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Plan {
    /// The kind of the channels.
    pub(crate) kind: Kind,
    /// The beginning of each channel's name, after the prefix of its kind.
    pub(crate) name: String,
    /// The number of channels; connection `i` subscribes to number `i % channels`.
    pub(crate) channels: u32,
    /// The size of each socket's receive buffer in bytes; `None` for the system's default.
    pub(crate) receive_buffer: Option<u32>,
}

/// The kinds of channels, by what a subscription requires.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Connect, and subscribe to nothing
    None,
    /// Anybody may subscribe
    Public,
    /// A signature is needed
    Private,
    /// A signature and a name
    Presence,
}

impl Plan {
    /// A plan for `channels` channels whose names begin with `name`.
    pub(crate) fn new(kind: Kind, name: &str, channels: u32) -> Self {
        Self { kind, name: name.to_owned(), channels: channels.max(1), receive_buffer: None }
    }

    /// The name of channel `number`. All names of a plan have the same length.
    pub(crate) fn channel(&self, number: u32) -> String {
        let prefix = match self.kind {
            Kind::None | Kind::Public => "",
            Kind::Private => "private-",
            Kind::Presence => "presence-",
        };
        format!("{prefix}{}-{number:05}", self.name)
    }

    /// The channel of connection `id`.
    pub(crate) fn channel_of(&self, id: u32) -> String {
        self.channel(id % self.channels)
    }
}

/// The request that opens a WebSocket, with `token` in its path if connections resume. All use the same key, since the accept header is not
/// checked.
pub(crate) fn upgrade(target: &Target, url_index: usize, token: &str) -> String {
    let url = target.url(url_index);
    let token = if target.resume { format!("/app/resume-{token}") } else { String::new() };
    format!(
        "GET {}{token}/app/{}?protocol=7&client=load&version=1.0&flash=false HTTP/1.1\r\n\
         Host: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: bG9hZC1sb2FkLWxvYWQtbA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        url.prefix, target.key, url.host
    )
}

/// The message that subscribes connection `id`, which has the socket id `socket_id`.
pub(crate) fn subscribe(
    plan: &Plan,
    id: u32,
    socket_id: &str,
    key: &str,
    signer: &Signer,
) -> String {
    let channel = plan.channel_of(id);
    let data = match plan.kind {
        Kind::None | Kind::Public => json!({ "auth": "", "channel": channel }),
        Kind::Private => {
            let auth = signer.sign(&format!("{socket_id}:{channel}"));
            json!({ "auth": format!("{key}:{auth}"), "channel": channel })
        }
        Kind::Presence => {
            let member =
                json!({ "user_id": format!("u{id}"), "user_info": { "name": format!("User {id}") } })
                    .to_string();
            let auth = signer.sign(&format!("{socket_id}:{channel}:{member}"));
            json!({ "auth": format!("{key}:{auth}"), "channel": channel, "channel_data": member })
        }
    };
    json!({ "event": "pusher:subscribe", "data": data }).to_string()
}

/// The message that ends the subscription of connection `id`.
pub(crate) fn unsubscribe(plan: &Plan, id: u32) -> String {
    let channel = plan.channel_of(id);
    json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }).to_string()
}

/// The answer to `pusher:ping`.
pub(crate) const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;

/// The name of a message's event, or nothing if it has none.
pub(crate) fn event_name(message: &[u8]) -> &[u8] {
    let Some(at) = position(message, br#""event""#) else { return b"" };
    let rest = &message[at + br#""event""#.len()..];
    let open = rest.iter().position(|byte| !matches!(byte, b':' | b' '));
    match open.map(|open| &rest[open..]) {
        Some([b'"', name @ ..]) => {
            let end = name.iter().position(|byte| *byte == b'"').unwrap_or(name.len());
            &name[..end]
        }
        _ => b"",
    }
}

/// The socket id in `pusher:connection_established`.
pub(crate) fn socket_id(message: &[u8]) -> Option<&str> {
    let at = position(message, b"socket_id")?;
    let rest = &message[at..];
    let start = rest.iter().position(u8::is_ascii_digit)?;
    let id = &rest[start..];
    let end = id.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    std::str::from_utf8(&id[..end]).ok()
}

/// The position of `wanted` in `bytes`.
pub(crate) fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A mask for the next frame of a client: different each time, as the protocol requires.
pub(crate) fn mask(seed: &mut u64) -> [u8; 4] {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    narrow(*seed >> 32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_recognised_in_any_json_spelling() {
        let text = br#"{ "event" : "pusher:connection_established","data":"{\"socket_id\":\"12.34\",\"activity_timeout\":120}"}"#;
        assert_eq!(event_name(text), b"pusher:connection_established");
        assert_eq!(socket_id(text), Some("12.34"));
        assert_eq!(event_name(br#"{"data":{}}"#), b"");
        assert_eq!(event_name(br#"{"event":7}"#), b"");
    }

    #[test]
    fn channels_are_dealt_in_turn() {
        let plan = Plan::new(Kind::Private, "load", 3);
        assert_eq!(plan.channel_of(4), "private-load-00001");
        assert_eq!(plan.channel_of(3), plan.channel(0));
    }
}
