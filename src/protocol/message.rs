//! Parses messages from clients.

use super::json::replace_lone_surrogates;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashMap, fmt};

/// One message of a client, parsed and not yet validated.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    /// `pusher:ping`.
    Ping,
    /// `pusher:pong`.
    Pong,
    /// `pusher:subscribe`.
    Subscribe(Subscribe),
    /// `pusher:unsubscribe`, with the unvalidated name of the channel.
    Unsubscribe(String),
    /// `pusher:signin`.
    SignIn(SignIn),
    /// `campanile:resume`: the positions of a page that counts its events.
    Resume(Resume),
    /// An event whose name begins with `client-`.
    ClientEvent(ClientEventMessage<'a>),
    /// An unknown `pusher:` event. It is ignored: newer clients may send events of a newer protocol.
    UnknownProtocolEvent,
    /// An event that is neither a protocol event nor a client event. It is rejected.
    Unknown {
        /// The event's name, of any length.
        name: Cow<'a, str>,
        /// The unvalidated `channel`, if it is a string.
        channel: Option<String>,
    },
}

/// The data of `pusher:subscribe`. Strings are kept as they were sent, since their bytes are signed.
#[derive(Debug, Deserialize)]
pub struct Subscribe {
    /// The unvalidated name of the channel.
    pub channel: String,
    /// `key:signature`; some clients send an empty string where none is needed.
    pub auth: Option<String>,
    /// JSON that the application has signed together with the channel.
    pub channel_data: Option<String>,
}

/// The data of `pusher:signin`.
#[derive(Debug, Deserialize)]
pub struct SignIn {
    /// `key:signature`.
    pub auth: Option<String>,
    /// JSON that the application has signed.
    pub user_data: String,
}

/// The data of `campanile:resume`.
#[derive(Debug, Deserialize)]
pub struct Resume {
    /// The epoch and the sequence in the log of each channel, by its unvalidated name.
    pub channels: HashMap<String, (String, u64)>,
}

/// A client event, which is sent to the other subscribers of a channel.
#[derive(Debug)]
pub struct ClientEventMessage<'a> {
    /// The event's name, which begins with `client-`.
    pub name: Cow<'a, str>,
    /// The unvalidated name of the channel; `None` in invalid messages.
    pub channel: Option<String>,
    /// The data as JSON; `None` if the page passed none.
    pub data: Option<Cow<'a, str>>,
}

/// Why a text frame is not a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Not a JSON object with a string `event`.
    Event,
    /// `data` lacks a field that the event needs, or has it in another type. Contains the rule.
    Data(&'static str),
    /// A binary message that is not UTF-8.
    Binary,
}

/// The outer object of every message. Other fields are ignored.
#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Unsubscribe {
    channel: String,
}

impl<'a> ClientMessage<'a> {
    /// Parses one text message. Lone surrogates become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when `text` is not an event, or lacks a field that its event needs.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match replace_lone_surrogates(text) {
            Cow::Borrowed(text) => Self::parse_valid(text),
            Cow::Owned(text) => ClientMessage::parse_valid(&text).map(ClientMessage::into_owned),
        }
    }

    fn into_owned(self) -> ClientMessage<'static> {
        match self {
            Self::ClientEvent(ClientEventMessage { name, channel, data }) => {
                ClientMessage::ClientEvent(ClientEventMessage {
                    name: name.into_owned().into(),
                    channel,
                    data: data.map(|data| data.into_owned().into()),
                })
            }
            Self::Ping => ClientMessage::Ping,
            Self::Pong => ClientMessage::Pong,
            Self::Subscribe(subscribe) => ClientMessage::Subscribe(subscribe),
            Self::Unsubscribe(channel) => ClientMessage::Unsubscribe(channel),
            Self::SignIn(sign_in) => ClientMessage::SignIn(sign_in),
            Self::Resume(resume) => ClientMessage::Resume(resume),
            Self::UnknownProtocolEvent => ClientMessage::UnknownProtocolEvent,
            Self::Unknown { name, channel } => {
                ClientMessage::Unknown { name: name.into_owned().into(), channel }
            }
        }
    }

    fn parse_valid(text: &'a str) -> Result<Self, Malformed> {
        let message: RawMessage<'a> = parse_object(text).map_err(|_| Malformed::Event)?;
        match message.event.as_ref() {
            "pusher:ping" => Ok(Self::Ping),
            "pusher:pong" => Ok(Self::Pong),
            "pusher:subscribe" => Ok(Self::Subscribe(parse_data(
                message.data,
                "pusher:subscribe needs data with a string `channel` \
                 and, if given, strings `auth` and `channel_data`",
            )?)),
            "pusher:unsubscribe" => {
                let needs = "pusher:unsubscribe needs data with a string `channel`";
                parse_data(message.data, needs)
                    .map(|data: Unsubscribe| Self::Unsubscribe(data.channel))
            }
            "pusher:signin" => Ok(Self::SignIn(parse_data(
                message.data,
                "pusher:signin needs data with strings `auth` and `user_data`",
            )?)),
            "campanile:resume" => Ok(Self::Resume(parse_data(
                message.data,
                "campanile:resume needs data with an object `channels` of pairs: epoch and sequence",
            )?)),
            name if name.starts_with("client-") => Ok(Self::ClientEvent(ClientEventMessage {
                channel: string_of(message.channel),
                data: message.data.map(|raw| raw.get().into()),
                name: message.event,
            })),
            name if name.starts_with("pusher:") => Ok(Self::UnknownProtocolEvent),
            _ => Ok(Self::Unknown { channel: string_of(message.channel), name: message.event }),
        }
    }
}

impl ClientMessage<'_> {
    /// The channel of a client event or of an unknown event.
    #[must_use]
    pub fn into_event_channel(self) -> Option<String> {
        match self {
            Self::ClientEvent(ClientEventMessage { channel, .. })
            | Self::Unknown { channel, .. } => channel,
            Self::Ping
            | Self::Pong
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::SignIn(_)
            | Self::Resume(_)
            | Self::UnknownProtocolEvent => None,
        }
    }
}

/// The string in a JSON value, if it is one.
fn string_of(value: Option<&RawValue>) -> Option<String> {
    value.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// Parses `data`: a JSON object, or a string that contains one.
fn parse_data<T: DeserializeOwned>(
    data: Option<&RawValue>,
    needs: &'static str,
) -> Result<T, Malformed> {
    let raw = data.ok_or(Malformed::Data(needs))?.get();
    let parsed = if raw.starts_with('"') {
        serde_json::from_str::<String>(raw)
            .and_then(|inner| parse_object(&replace_lone_surrogates(&inner)))
    } else {
        parse_object(raw)
    };
    parsed.map_err(|_| Malformed::Data(needs))
}

/// Parses a JSON object. serde would accept an array too.
fn parse_object<'a, T: Deserialize<'a>>(raw: &'a str) -> serde_json::Result<T> {
    if !raw.trim_start().starts_with('{') {
        return Err(serde::de::Error::custom("not an object"));
    }
    serde_json::from_str(raw)
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event => {
                "Invalid message: expected a JSON object with a string `event`, \
                 and optionally `channel` and `data`"
            }
            Self::Data(needs) => return write!(f, "Invalid message: {needs}"),
            Self::Binary => "Invalid message: expected a text message",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(text: &str) -> Subscribe {
        let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(text) else {
            panic!("{text} is no subscribe")
        };
        subscribe
    }

    #[test]
    fn data_is_an_object_or_a_string_that_contains_one() {
        for text in [
            r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"c"}}"#,
            r#"{"data":{"channel":"c","auth":""},"event":"pusher:subscribe","extra":[1]}"#,
            r#"{"event":"pusher:subscribe","data":"{\"auth\":\"\",\"channel\":\"c\"}"}"#,
        ] {
            let subscribe = subscribe(text);
            assert_eq!((subscribe.channel.as_str(), subscribe.auth.as_deref()), ("c", Some("")));
        }
    }

    #[test]
    fn null_fields_are_absent() {
        let text = r#"{"event":"pusher:subscribe","data":{"auth":null,"channel_data":null,"channel":"c"}}"#;
        let subscribe = subscribe(text);
        assert_eq!((subscribe.auth, subscribe.channel_data), (None, None));
    }

    #[test]
    fn invalid_messages_are_malformed() {
        for text in
            ["", "not json", "[]", "5", "null", "{}", r#"{"event":5}"#, r#"["e",null,null]"#]
        {
            let parsed = ClientMessage::parse(text);
            assert!(matches!(parsed, Err(Malformed::Event)), "{text}: {parsed:?}");
        }
        for data in ["null", "{}", "[]", "5", r#"["c"]"#, r#"{"channel":5}"#, r#""c""#, r#""[]""#] {
            let text = format!(r#"{{"event":"pusher:subscribe","data":{data}}}"#);
            let parsed = ClientMessage::parse(&text);
            assert!(matches!(parsed, Err(Malformed::Data(_))), "{text}: {parsed:?}");
        }
    }

    #[test]
    fn the_error_says_what_is_malformed() {
        for (malformed, words) in [
            (Malformed::Event, "a string `event`"),
            (Malformed::Data("what is needed"), "what is needed"),
            (Malformed::Binary, "expected a text message"),
        ] {
            let text = malformed.to_string();
            assert!(text.starts_with("Invalid message: ") && text.contains(words), "{text}");
        }
    }

    /// Cases: the event, valid data, and data that lacks a member or has it in another type.
    #[test]
    fn each_event_needs_its_fields() {
        let parse = |event: &str, data: &str| {
            let text = format!(r#"{{"event":"pusher:{event}","data":{data}}}"#);
            ClientMessage::parse(&text).map(|message| format!("{message:?}"))
        };
        for (event, data, bad) in [
            ("subscribe", r#"{"channel":"c"}"#, r#"{"auth":"a"}"#),
            ("subscribe", r#"{"channel":"c","auth":"a"}"#, r#"{"channel":"c","auth":1}"#),
            ("subscribe", r#"{"channel":"c"}"#, r#"{"channel":"c","channel_data":{}}"#),
            ("unsubscribe", r#"{"channel":"c"}"#, "{}"),
            ("unsubscribe", r#"{"channel":"c"}"#, r#"["c"]"#),
            ("signin", r#"{"user_data":"{}"}"#, r#"{"auth":"a"}"#),
            ("signin", r#"{"auth":"a","user_data":"{}"}"#, r#"{"auth":1,"user_data":"{}"}"#),
            ("signin", r#"{"user_data":"{}"}"#, r#"{"user_data":{}}"#),
        ] {
            assert!(parse(event, data).is_ok(), "{event} {data}");
            let Err(Malformed::Data(needs)) = parse(event, bad) else { panic!("{event} {bad}") };
            assert!(needs.starts_with(&format!("pusher:{event} needs data")), "{needs}");
        }
    }

    #[test]
    fn only_names_that_begin_with_client_are_client_events() {
        let is_client_event = |name: &str| {
            let text = format!(r#"{{"event":"{name}","channel":"private-c"}}"#);
            matches!(ClientMessage::parse(&text), Ok(ClientMessage::ClientEvent(_)))
        };
        assert!(is_client_event("client-x"));
        for name in ["foo", "pusher:x", "pusher_internal:member_added", "xclient-y", "client"] {
            assert!(!is_client_event(name), "{name}");
        }
    }

    #[test]
    fn unknown_protocol_events_differ_from_unknown_events() {
        let parse = |name: &str| {
            let text = format!(r#"{{"event":"{name}","channel":"c"}}"#);
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::UnknownProtocolEvent) => None,
                Ok(ClientMessage::Unknown { name, channel }) => Some((name.into_owned(), channel)),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parse("pusher:resume"), None);
        for name in ["my-event", "client_x", "pusher", "pusher_internal:member_added", ""] {
            assert_eq!(parse(name), Some((name.to_owned(), Some("c".to_owned()))));
        }
    }

    #[test]
    fn a_message_with_a_lone_surrogate_keeps_its_kind_and_its_parts() {
        for (event, kind) in [
            ("pusher:ping", "Ping"),
            ("pusher:pong", "Pong"),
            ("pusher:subscribe", "Subscribe"),
            ("pusher:unsubscribe", "Unsubscribe"),
            ("pusher:signin", "SignIn"),
            ("pusher:other", "UnknownProtocolEvent"),
            ("client-x", "ClientEvent"),
            ("other", "Unknown"),
        ] {
            let data = r#"{"channel":"c","user_data":"{}","x":"\ud800"}"#;
            let text = format!(r#"{{"event":"{event}","channel":"c","data":{data}}}"#);
            let message = ClientMessage::parse(&text).unwrap();
            assert!(format!("{message:?}").starts_with(kind), "{message:?}");
            if let ClientMessage::ClientEvent(event) = &message {
                let replaced = data.replace("d800", "fffd");
                assert_eq!((&*event.name, event.data.as_deref()), ("client-x", Some(&*replaced)));
            }
            if let ClientMessage::Unsubscribe(channel) = &message {
                assert_eq!(channel, "c");
            }
            let of_an_event = ["ClientEvent", "Unknown"].contains(&kind).then_some("c");
            assert_eq!(message.into_event_channel().as_deref(), of_an_event, "{event}");
        }
    }
}
