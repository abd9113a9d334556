//! Encodes messages to clients.
//!
//! `data` is never missing. It is a string that contains JSON, except in `pusher:error` and
//! `pusher:subscription_error`, where it is an object; clients require both.

use super::{
    ChannelName, CloseCode, ErrorCode, Frame, FrameKind, Member, SocketId,
    json::{self, to_json_string},
};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

/// The data of an event as a JSON token that can be written into a frame as it stands.
///
/// A string keeps the publisher's escapes: it is not parsed and printed again. It contains no lone
/// surrogate, which strict parsers reject.
#[derive(Clone, Debug)]
pub struct EventData<'a> {
    token: Cow<'a, str>,
    len: usize,
}

impl<'a> EventData<'a> {
    /// The data from the JSON value that a publisher or a client sent. A string is taken as it is. Of
    /// any other value, it is a string that contains its compact JSON, which every client accepts.
    ///
    /// `raw` must be valid JSON without lone surrogates; see
    /// [`replace_lone_surrogates`](super::replace_lone_surrogates).
    #[must_use]
    pub fn new(raw: impl Into<Cow<'a, str>>) -> Self {
        let raw = raw.into();
        debug_assert!(
            matches!(json::replace_lone_surrogates(&raw), Cow::Borrowed(_)),
            "a lone surrogate: {raw}"
        );
        if raw.starts_with('"') {
            return Self { len: json::unescaped_len(&raw), token: raw };
        }
        let compacted = json::compact(&raw);
        Self { len: compacted.len(), token: Cow::Owned(to_json_string(&compacted)) }
    }

    /// No data: `null` on the wire, because some clients fail when the member is missing.
    #[must_use]
    pub fn absent() -> Self {
        Self { len: 0, token: Cow::Borrowed("null") }
    }

    /// The size that limits apply to: the UTF-8 length of the unescaped string, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.len
    }

    /// The token, a JSON string or `null`.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl<'a> From<Option<&'a RawValue>> for EventData<'a> {
    fn from(raw: Option<&'a RawValue>) -> Self {
        raw.map_or_else(Self::absent, |raw| Self::new(raw.get()))
    }
}

fn protocol_frame(text: &str) -> Frame {
    Frame::text(FrameKind::Protocol, text)
}

/// An event of the protocol on a channel, whose data is a string that contains `json`.
fn on_channel(event: &str, channel: &ChannelName, json: &str) -> Frame {
    let data = to_json_string(json);
    protocol_frame(&format!(r#"{{"event":"{event}","channel":"{channel}","data":{data}}}"#))
}

/// `pusher:connection_established`, the first frame of every admitted connection.
#[must_use]
pub fn connection_established(socket_id: SocketId, activity_timeout_s: u64) -> Frame {
    protocol_frame(&format!(
        r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"{socket_id}\",\"activity_timeout\":{activity_timeout_s}}}"}}"#
    ))
}

/// `pusher:error` for an error that leaves the connection open. `channel` is the unvalidated
/// name that the client sent for the channel of a rejected client event.
#[must_use]
pub fn error(code: Option<ErrorCode>, channel: Option<&str>, message: &str) -> Frame {
    error_frame(code.map(|code| code as u16), channel, message)
}

/// `pusher:error` before a close frame. Its code is always a number: pusher-js does not handle `null`
/// while it connects.
#[must_use]
pub fn closing(code: &CloseCode) -> Frame {
    error_frame(Some(code.number()), None, &code.to_string())
}

fn error_frame(code: Option<u16>, channel: Option<&str>, message: &str) -> Frame {
    let code = code.map_or_else(|| "null".to_owned(), |code| code.to_string());
    let channel = channel
        .map(|channel| format!(r#""channel":{},"#, to_json_string(channel)))
        .unwrap_or_default();
    let message = to_json_string(message);
    protocol_frame(&format!(
        r#"{{"event":"pusher:error",{channel}"data":{{"code":{code},"message":{message}}}}}"#
    ))
}

/// `pusher:pong`, the reply to `pusher:ping`.
#[must_use]
pub fn pong() -> Frame {
    protocol_frame(r#"{"event":"pusher:pong","data":{}}"#)
}

/// `pusher:ping`, to which the client library replies with `pusher:pong`.
#[must_use]
pub fn ping() -> Frame {
    protocol_frame(r#"{"event":"pusher:ping","data":{}}"#)
}

/// `pusher_internal:subscription_succeeded` for a channel that is not a presence channel.
#[must_use]
pub fn subscription_succeeded(channel: &ChannelName) -> Frame {
    on_channel("pusher_internal:subscription_succeeded", channel, "{}")
}

/// `pusher_internal:subscription_succeeded` for a presence channel, with all members, the new one
/// included.
#[must_use]
pub fn presence_succeeded<'a>(
    channel: &ChannelName,
    members: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)> + Clone,
) -> Frame {
    let count = members.clone().count();
    let mut data = format!(r#"{{"presence":{{"count":{count},"ids":["#);
    for (at, (user_id, _)) in members.clone().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        append(&mut data, format_args!("{comma}{}", to_json_string(user_id)));
    }
    data.push_str(r#"],"hash":{"#);
    for (at, (user_id, user_info)) in members.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        append(&mut data, format_args!("{comma}{}:{user_info}", to_json_string(user_id)));
    }
    data.push_str("}}}");
    on_channel("pusher_internal:subscription_succeeded", channel, &data)
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes all text");
}

/// `pusher_internal:member_added`, for the first connection of a user.
#[must_use]
pub fn member_added(channel: &ChannelName, member: &Member) -> Frame {
    let (id, info) = (to_json_string(&member.user_id), &member.user_info);
    let data = format!(r#"{{"user_id":{id},"user_info":{info}}}"#);
    on_channel("pusher_internal:member_added", channel, &data)
}

/// `pusher_internal:member_removed`, for the last connection of a user.
#[must_use]
pub fn member_removed(channel: &ChannelName, user_id: &str) -> Frame {
    let data = format!(r#"{{"user_id":{}}}"#, to_json_string(user_id));
    on_channel("pusher_internal:member_removed", channel, &data)
}

/// `pusher_internal:subscription_count`, with the number of subscribed connections.
#[must_use]
pub fn subscription_count(channel: &ChannelName, count: usize) -> Frame {
    let data = format!(r#"{{"subscription_count":{count}}}"#);
    on_channel("pusher_internal:subscription_count", channel, &data)
}

/// `pusher:cache_miss`: the cache channel has no cached event.
#[must_use]
pub fn cache_miss(channel: &ChannelName) -> Frame {
    on_channel("pusher:cache_miss", channel, "{}")
}

/// `campanile:gap`: a client that has returned may have missed events of the channel within this time, `None` if the
/// server does not know since when, and is to load its state anew. It is an event of the channel, so that pages can
/// listen to it. Its data names the channel for handlers that are bound on the client: pusher-js calls those of an
/// encrypted channel with nothing that is not encrypted.
#[must_use]
pub fn gap(channel: &ChannelName, since: Option<Duration>) -> Frame {
    let name = to_json_string(channel.as_str());
    let since =
        since.map_or_else(String::new, |since| format!(r#","since_ms":{}"#, since.as_millis()));
    on_channel("campanile:gap", channel, &format!(r#"{{"channel":{name}{since}}}"#))
}

/// `pusher_internal:position`, for a client that counts the events of its channels: what it counts next follows this
/// position in the channel's log.
#[must_use]
pub fn position(channel: &ChannelName, epoch: &str, sequence: u64) -> Frame {
    let epoch = to_json_string(epoch);
    on_channel("pusher_internal:position", channel, &format!("[{epoch},{sequence}]"))
}

/// `pusher:subscription_error`. `channel` is the unvalidated name that the client sent.
#[must_use]
pub fn subscription_error(channel: &str, kind: &str, status: u16, message: &str) -> Frame {
    let (channel, message) = (to_json_string(channel), to_json_string(message));
    protocol_frame(&format!(
        r#"{{"event":"pusher:subscription_error","channel":{channel},"data":{{"type":"{kind}","error":{message},"status":{status}}}}}"#
    ))
}

/// `pusher:signin_success`, with `user_data` as given; see `User::user_data_for_client`.
#[must_use]
pub fn signin_success(user_data: &str) -> Frame {
    let data = to_json_string(&format!(r#"{{"user_data":{}}}"#, to_json_string(user_data)));
    protocol_frame(&format!(r#"{{"event":"pusher:signin_success","data":{data}}}"#))
}

/// `pusher_internal:watchlist_events`: the watched users that are, or have gone, online and offline.
/// At least one list is not empty.
#[must_use]
pub fn watchlist<T: AsRef<str>>(online: &[T], offline: &[T]) -> Frame {
    let entry = |name: &str, ids: &[T]| {
        let ids: Vec<String> = ids.iter().map(|id| to_json_string(id.as_ref())).collect();
        format!(r#"{{"name":"{name}","user_ids":[{}]}}"#, ids.join(","))
    };
    let entries: Vec<String> = [("online", online), ("offline", offline)]
        .into_iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(name, ids)| entry(name, ids))
        .collect();
    let data = to_json_string(&format!(r#"{{"events":[{}]}}"#, entries.join(",")));
    protocol_frame(&format!(r#"{{"event":"pusher_internal:watchlist_events","data":{data}}}"#))
}

/// An event that the application published on `channel`.
#[must_use]
pub fn app_event(
    name: &str,
    channel: &ChannelName,
    data: &EventData<'_>,
    accepted_at: Instant,
) -> Frame {
    event_frame(FrameKind::Event, (name, channel, data, ""), accepted_at)
}

/// A client event for the other subscribers. On presence channels, `user_id` identifies the sender;
/// it is that of the subscription, never from the client's message.
#[must_use]
pub fn client_event(
    name: &str,
    channel: &ChannelName,
    data: &EventData<'_>,
    user_id: Option<&str>,
    accepted_at: Instant,
) -> Frame {
    let sender =
        user_id.map(|id| format!(r#","user_id":{}"#, to_json_string(id))).unwrap_or_default();
    event_frame(FrameKind::ClientEvent, (name, channel, data, &sender), accepted_at)
}

/// Encodes an event from its name, channel, data, and what follows the data.
fn event_frame(
    kind: FrameKind,
    (name, channel, data, tail): (&str, &ChannelName, &EventData<'_>, &str),
    accepted_at: Instant,
) -> Frame {
    let quoted;
    let (name, quote) = if json::needs_escapes(name) {
        quoted = to_json_string(name);
        (&*quoted, "")
    } else {
        (name, "\"")
    };
    let channel = channel.as_str();
    let parts = [
        r#"{"event":"#,
        quote,
        name,
        quote,
        r#","channel":""#,
        channel,
        r#"","data":"#,
        data.token(),
        tail,
        "}",
    ];
    Frame::published_parts(kind, &parts, accepted_at)
}

/// Whether `text` is an event of an application or of a client on `channel`, as encoded here.
#[must_use]
pub fn is_on_channel(text: &str, channel: &ChannelName) -> bool {
    let Some(name) = text.strip_prefix(r#"{"event":""#) else { return false };
    let mut is_escaped = false;
    let end = name.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.and_then(|end| name[end..].strip_prefix(r#"","channel":""#))
        .and_then(|rest| rest.strip_prefix(channel.as_str()))
        .is_some_and(|rest| rest.starts_with('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The frame's JSON, and the parsed content of `data` if that is a string.
    fn read(frame: &Frame) -> (Value, Value) {
        let bytes = frame.bytes();
        let start = bytes.iter().position(|byte| *byte == b'{').unwrap();
        let outer: Value = serde_json::from_slice(&bytes[start..]).unwrap();
        let text = outer["data"].as_str();
        let inner = text.map_or_else(
            || outer["data"].clone(),
            |text| serde_json::from_str(text).unwrap_or(Value::Null),
        );
        (outer, inner)
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, 200).unwrap()
    }

    #[test]
    fn the_first_frame_has_string_data_with_a_number() {
        let id = SocketId::from_random(0x0000_0007_0000_0009);
        let (outer, inner) = read(&connection_established(id, 120));
        assert_eq!(outer["event"], "pusher:connection_established");
        assert!(outer["data"].is_string());
        assert_eq!(inner, json!({"socket_id": "7.9", "activity_timeout": 120}));
    }

    #[test]
    fn errors_carry_an_object() {
        let (outer, _) = read(&error(None, None, "say \"what\""));
        assert_eq!(outer["data"], json!({"code": null, "message": "say \"what\""}));
        assert_eq!(outer.get("channel"), None);
        let (outer, _) = read(&error(Some(ErrorCode::Rate), Some("a\"b"), "slower"));
        assert_eq!(outer["data"]["code"], 4301);
        assert_eq!(outer["channel"], "a\"b");
        let (outer, _) = read(&closing(&CloseCode::AppDisabled));
        assert_eq!(outer["data"]["code"], 4003);
    }

    #[test]
    fn the_first_message_of_a_presence_channel_lists_ids_and_infos() {
        let members: [(Arc<str>, Arc<str>); 2] =
            [("1".into(), r#"{"n":"a"}"#.into()), ("a\"b".into(), "{}".into())];
        let (_, inner) = read(&presence_succeeded(
            &channel("presence-r"),
            members.iter().map(|(id, info)| (id, info)),
        ));
        let hash = json!({"1": {"n": "a"}, "a\"b": {}});
        assert_eq!(inner, json!({"presence": {"count": 2, "ids": ["1", "a\"b"], "hash": hash}}));
    }

    #[test]
    fn published_data_keeps_its_escapes() {
        let data = EventData::new(r#""{\"url\":\"http:\/\/x\",\"e\":\"\u00e9\"}""#);
        let frame = app_event(r"App\Events\X", &channel("c"), &data, Instant::now());
        let text = std::str::from_utf8(&frame.bytes()[2..]).unwrap();
        let expected = r#"{"event":"App\\Events\\X","channel":"c","data":"{\"url\":\"http:\/\/x\",\"e\":\"\u00e9\"}"}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn an_event_is_recognised_on_its_channel() {
        let data = EventData::new(r#""1""#);
        for name in ["e", "", r"App\Events\X", r#"a","channel":"other"#, r"\", r#"q""#] {
            let frame = app_event(name, &channel("c"), &data, Instant::now());
            assert!(is_on_channel(frame.as_text().unwrap(), &channel("c")), "{name}");
            for other in ["cc", "d", "other"] {
                assert!(!is_on_channel(frame.as_text().unwrap(), &channel(other)), "{name}");
            }
        }
        for text in
            ["", "{}", r#"{"event":"e"#, r#"{"event":"e","channel":"c"#, r#"{"channel":"c"}"#]
        {
            assert!(!is_on_channel(text, &channel("c")), "{text}");
        }
    }

    #[test]
    fn other_values_become_strings() {
        let data = EventData::new(r#"{ "a": [1, 2] }"#);
        assert_eq!(data.byte_len(), 11);
        let (outer, _) =
            read(&client_event("client-x", &channel("c"), &data, Some("1"), Instant::now()));
        assert_eq!(outer["data"], r#"{"a":[1,2]}"#);
        assert_eq!(outer["user_id"], "1");
        let (outer, _) = read(&client_event(
            "client-x",
            &channel("c"),
            &EventData::absent(),
            None,
            Instant::now(),
        ));
        assert_eq!(outer["data"], Value::Null);
        assert_eq!(outer.get("user_id"), None);
    }

    #[test]
    fn only_events_of_publishers_and_clients_have_a_time() {
        let (now, channel, data) = (Instant::now(), channel("c"), EventData::absent());
        let event = app_event("e", &channel, &data, now);
        let client_event = client_event("client-e", &channel, &data, None, now);
        for (frame, kind, accepted_at) in [
            (event, FrameKind::Event, Some(now)),
            (client_event, FrameKind::ClientEvent, Some(now)),
            (ping(), FrameKind::Protocol, None),
            (cache_miss(&channel), FrameKind::Protocol, None),
        ] {
            assert_eq!((frame.kind(), frame.accepted_at()), (kind, accepted_at), "{frame:?}");
        }
    }

    #[test]
    fn events_of_the_protocol_have_their_names_and_their_data() {
        let channel = channel("presence-c");
        let member = Member { user_id: "a\"b".into(), user_info: r#"{"n":1}"#.into() };
        let joined = json!({"user_id": "a\"b", "user_info": {"n": 1}});
        for (frame, name, data) in [
            (subscription_succeeded(&channel), "pusher_internal:subscription_succeeded", json!({})),
            (member_added(&channel, &member), "pusher_internal:member_added", joined),
            (
                member_removed(&channel, "a\"b"),
                "pusher_internal:member_removed",
                json!({"user_id": "a\"b"}),
            ),
            (
                subscription_count(&channel, 3),
                "pusher_internal:subscription_count",
                json!({"subscription_count": 3}),
            ),
            (cache_miss(&channel), "pusher:cache_miss", json!({})),
        ] {
            let (outer, inner) = read(&frame);
            assert!(outer["data"].is_string(), "{outer}");
            assert_eq!((&outer["event"], &outer["channel"]), (&json!(name), &json!("presence-c")));
            assert_eq!(inner, data, "{name}");
        }
        let (outer, _) = read(&subscription_error("a\"b", "AuthError", 401, "say \"what\""));
        let data = json!({"type": "AuthError", "error": "say \"what\"", "status": 401});
        let event = "pusher:subscription_error";
        assert_eq!(outer, json!({"event": event, "channel": "a\"b", "data": data}));
        for (frame, event) in [(ping(), "pusher:ping"), (pong(), "pusher:pong")] {
            assert_eq!(read(&frame).0, json!({"event": event, "data": {}}));
        }
    }

    #[test]
    fn a_watchlist_leaves_out_empty_lists() {
        let (outer, inner) = read(&watchlist(&["b"], &[]));
        assert_eq!(outer.get("channel"), None);
        assert_eq!(inner, json!({"events": [{"name": "online", "user_ids": ["b"]}]}));
        let (_, inner) = read(&watchlist(&[], &["a\"", "b"]));
        assert_eq!(inner, json!({"events": [{"name": "offline", "user_ids": ["a\"", "b"]}]}));
    }

    #[test]
    fn a_sign_in_returns_the_data_unchanged() {
        let user_data = r#"{"id":"12345","x":"\u00e9\/"}"#;
        let (_, inner) = read(&signin_success(user_data));
        assert_eq!(inner["user_data"], user_data);
    }
}
