//! The parsers of single values, compared with a general JSON parser.

use std::time::Instant;

use campanile::protocol::{
    ChannelName, ClientMessage, EventData, Frame, Member, MemberLimits, Resume, SocketId, User,
    Version, event, parse_id, replace_lone_surrogates,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

const NAME_MAX: usize = 200;
const INFO_MAX: usize = 1_024;

/// Parses the input as a message of a client.
pub(crate) fn client_message(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(message) = ClientMessage::parse(text) else { return };
    assert!(text.trim_start().starts_with('{'), "a message is an object");
    // The general parser rejects some texts that Campanile does not parse completely, and rounds numbers.
    let Some(value) = value_of(&replace_lone_surrogates(text)) else { return };
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
        ClientMessage::Resume(Resume { channels }) => {
            assert_eq!(name, "campanile:resume");
            let told = &object_in(&value["data"])["channels"];
            // A name that is told twice counts once.
            assert!(channels.len() <= told.as_object().map_or(0, Map::len));
            for (channel, (epoch, sequence)) in &channels {
                assert_eq!(told[channel], serde_json::json!([epoch, sequence]));
            }
        }
        ClientMessage::ClientEvent(event) => {
            assert!(name.starts_with("client-"));
            assert_eq!(name, event.name);
            assert_eq!(value["channel"].as_str(), event.channel.as_deref());
            event_data(event.data.as_deref().unwrap_or("null").as_bytes());
        }
        ClientMessage::UnknownProtocolEvent => assert!(name.starts_with("pusher:")),
        ClientMessage::Unknown { .. } => {
            assert!(!name.starts_with("client-") && !name.starts_with("pusher:"));
        }
    }
}

/// `data` as an object, or as a string that contains one.
fn object_in(data: &Value) -> Value {
    data.as_str().map_or_else(
        || data.clone(),
        |text| serde_json::from_str(&replace_lone_surrogates(text)).expect("it was read before"),
    )
}

/// Parses JSON that was accepted before. None if it is nested beyond 128 levels, or has a number beyond a double.
fn value_of(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let error = error.to_string();
            let is_a_limit = ["recursion limit", "number out of range"];
            assert!(is_a_limit.iter().any(|limit| error.contains(limit)), "{error} in {text}");
            None
        }
    }
}

/// Parses channel names, socket ids and versions.
pub(crate) fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(name) = ChannelName::parse(text, NAME_MAX) {
        assert_eq!(name.as_str(), text);
        assert!((1..=NAME_MAX).contains(&text.len()));
        assert_eq!(format!("{text:?}"), format!("\"{text}\""), "it can be written as it stands");
        assert!(!name.is_presence() || name.needs_auth());
        assert!(!text.starts_with('#') || name.server_to_user().is_some());
        if let Some(user_id) = name.server_to_user() {
            assert_eq!(ChannelName::of_user(user_id, NAME_MAX), Ok(name.clone()));
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

/// Parses the `channel_data` of a presence channel.
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
    if let Some(value) = value_of(&replace_lone_surrogates(text)) {
        let info: Value = serde_json::from_str(&member.user_info).expect("every parser reads it");
        assert!(info.is_object());
        let is_none = value["user_info"].is_null() || value["user_info"] == Value::Array(vec![]);
        assert!(if is_none {
            info == Value::Object(Map::new())
        } else {
            info == value["user_info"]
        });
        is_id(&value["user_id"], &member.user_id);
    }
}

/// Parses the `user_data` of a sign-in.
pub(crate) fn user(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(user) = User::parse(text, NAME_MAX) else { return };
    assert!(ChannelName::of_user(&user.id, NAME_MAX).is_ok());
    assert!(user.watchlist.len() <= User::WATCHLIST_MAX);
    assert!(user.watchlist.is_sorted());
    // The user's own `user_data`, which is signed by its application and sent back to it.
    let read_back = user.user_data_for_client(text.to_owned());
    reads_back_as_text(&event::signin_success(&read_back));
    if !user.watchlist.is_empty() {
        reads_back(&event::watchlist(&user.watchlist, &[]));
    }
    if let Some(value) = value_of(&replace_lone_surrogates(text)) {
        is_id(&value["id"], &user.id);
        let mut read_back =
            value_of(&replace_lone_surrogates(&read_back)).expect("it is unchanged");
        assert_eq!(read_back["id"], *user.id);
        read_back["id"] = value["id"].clone();
        assert_eq!(read_back, value);
    }
}

/// Checks that an id is that of the value. The normalised form of an id is the id itself.
fn is_id(value: &Value, read: &str) {
    match value {
        Value::String(text) => assert_eq!(text, read),
        Value::Number(number) => {
            assert_eq!(parse_id(read).as_deref(), Some(read), "of {number}");
            // The general parser is inexact in the last digit.
            let (own, theirs) = (read.parse::<f64>().expect("a number"), number.as_f64());
            let theirs = theirs.expect("a number");
            assert!((own - theirs).abs() <= theirs.abs() * 1e-15, "{read} for {number}");
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            panic!("{value} is no id")
        }
    }
}

/// Parses the data of an event: any JSON.
pub(crate) fn event_data(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
    let raw = replace_lone_surrogates(raw.get());
    let data = EventData::new(&*raw);
    let inner: String = serde_json::from_str(data.token()).expect("data is a text");
    assert_eq!(inner.len(), data.byte_len());
    if let (false, Some(value)) = (raw.starts_with('"'), value_of(&raw)) {
        assert_eq!(value_of(&inner), Some(value));
    }
    let channel = ChannelName::parse("c", NAME_MAX).expect("it is legal");
    reads_back_as_text(&event::app_event("e", &channel, &data, Instant::now()));
}

/// Checks that a frame is JSON for every parser, and that its `data` is such JSON too.
fn reads_back(frame: &Frame) {
    let message = reads_back_as_text(frame);
    let text = message["data"].as_str().expect("data is a text");
    let data: serde_json::Result<Value> = serde_json::from_str(text);
    data.unwrap_or_else(|error| panic!("{error} in {text}"));
}

/// Checks that a frame is JSON for every parser. The content of its `data` is not checked.
fn reads_back_as_text(frame: &Frame) -> Value {
    let text = frame.as_text().expect("a frame with text");
    let message: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"));
    assert!(message["event"].is_string());
    message
}
