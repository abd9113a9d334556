//! The parsers of single values, against what a general reader of JSON makes of the same text.

use std::time::Instant;

use campanile::protocol::{
    ChannelName, ClientMessage, EventData, Frame, Member, MemberLimits, SocketId, User, Version,
    event,
};
use serde_json::Value;
use serde_json::value::RawValue;

const NAME_MAX: usize = 200;
const INFO_MAX: usize = 1_024;

/// One message of a client.
pub(crate) fn client_message(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(message) = ClientMessage::parse(text) else { return };
    assert!(text.trim_start().starts_with('{'), "a message is an object");
    // A reader of values gives up where we need not read, and takes numbers for what they are not.
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let name = value["event"].as_str().expect("a message has a name");
    match message {
        ClientMessage::Ping => assert_eq!(name, "pusher:ping"),
        ClientMessage::Pong => assert_eq!(name, "pusher:pong"),
        ClientMessage::Subscribe(subscribe) => {
            assert_eq!(name, "pusher:subscribe");
            let data = object_in(&value["data"]);
            assert_eq!(data["channel"], subscribe.channel);
            assert_eq!(data["auth"].as_str(), subscribe.auth.as_deref());
            assert_eq!(data["channel_data"].as_str(), subscribe.channel_data.as_deref());
        }
        ClientMessage::Unsubscribe(channel) => {
            assert_eq!(name, "pusher:unsubscribe");
            assert_eq!(object_in(&value["data"])["channel"], channel);
        }
        ClientMessage::SignIn(request) => {
            assert_eq!(name, "pusher:signin");
            assert_eq!(object_in(&value["data"])["user_data"], request.user_data);
        }
        ClientMessage::ClientEvent(event) => {
            assert!(name.starts_with("client-"));
            assert_eq!(name, event.name);
            assert_eq!(value["channel"].as_str(), event.channel.as_deref());
            event_data(event.data.unwrap_or("null").as_bytes());
        }
        ClientMessage::Unknown => assert!(!name.starts_with("client-")),
    }
}

/// `data` as an object, or as a text that holds one.
fn object_in(data: &Value) -> Value {
    data.as_str().map_or_else(
        || data.clone(),
        |text| serde_json::from_str(text).expect("it was read before"),
    )
}

/// Channel names, socket ids and versions.
pub(crate) fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(name) = ChannelName::parse(text, NAME_MAX) {
        assert_eq!(name.as_str(), text);
        assert!((1..=NAME_MAX).contains(&text.len()));
        assert_eq!(format!("{text:?}"), format!("\"{text}\""), "it can be written as it stands");
        assert!(!name.is_presence() || name.needs_auth());
        assert!(!text.starts_with('#') || name.server_to_user().is_some());
        if let Some(user_id) = name.server_to_user() {
            assert_eq!(ChannelName::of_user(user_id, NAME_MAX), Some(name.clone()));
        }
    }
    if let Ok(Some(id)) = SocketId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    for strict in [false, true] {
        if let Ok(version) = Version::negotiate(Some(text), strict) {
            assert!((4..=7).contains(&version.number()));
        }
    }
}

/// `channel_data` of a presence channel.
pub(crate) fn member(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let limits = MemberLimits { max_user_info_bytes: INFO_MAX };
    let Ok(member) = Member::parse(text, limits) else { return };
    assert!((1..=Member::USER_ID_LEN_MAX).contains(&member.user_id.chars().count()));
    assert!(member.user_info.len() <= INFO_MAX);
    let channel = ChannelName::parse("presence-x", NAME_MAX).expect("it is legal");
    reads_back(&event::member_added(&channel, &member));
    let members = [(member.user_id.clone(), member.user_info.clone())];
    reads_back(&event::presence_succeeded(&channel, members.iter().map(|(id, info)| (id, info))));
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let info = serde_json::from_str::<Value>(&member.user_info).expect("it was valid before");
        assert!(info.is_object());
        assert!(info == value["user_info"] || value["user_info"].is_null());
        assert!(value["user_id"].as_str().is_none_or(|id| id == &*member.user_id));
    }
}

/// `user_data` of a sign-in.
pub(crate) fn user(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(user) = User::parse(text, NAME_MAX) else { return };
    assert!(ChannelName::of_user(&user.id, NAME_MAX).is_some());
    assert!(user.watchlist.len() <= User::WATCHLIST_MAX);
    assert!(user.watchlist.is_sorted());
    reads_back(&event::signin_success(text));
    if !user.watchlist.is_empty() {
        reads_back(&event::watchlist(&user.watchlist, &[]));
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        assert_eq!(value["id"], *user.id);
    }
}

/// The data of an event: any JSON.
pub(crate) fn event_data(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
    let data = EventData::new(raw.get());
    assert!(data.token().starts_with('"') && data.token().ends_with('"'));
    // A lone surrogate can be passed on, but is no text for Rust.
    if let Ok(inner) = serde_json::from_str::<String>(data.token()) {
        assert_eq!(inner.len(), data.byte_len());
        if let (false, Ok(value)) = (text.contains('"'), serde_json::from_str::<Value>(text)) {
            assert_eq!(serde_json::from_str::<Value>(&inner).ok(), Some(value));
        }
        let channel = ChannelName::parse("c", NAME_MAX).expect("it is legal");
        reads_back(&event::published("e", &channel, &data, Instant::now()));
    }
}

/// A frame holds JSON whose `data`, where it is text of the protocol's, holds JSON too.
fn reads_back(frame: &Frame) {
    let bytes = frame.bytes();
    let start = match bytes[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let outer: serde_json::Result<Value> = serde_json::from_slice(&bytes[start..]);
    match outer {
        Ok(outer) => assert!(outer["event"].is_string()),
        // What clients nest too deep, or count too high, is theirs to read.
        Err(error) => assert!(is_a_limit(&error), "{error}"),
    }
}

fn is_a_limit(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.contains("recursion limit") || text.contains("number out of range")
}
