//! Messages of the protocol, as the page shows them.

use crate::protocol::{Frame, FrameKind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Maximum size of the data of a message that is shown, in bytes. Longer data is cut.
const DATA_MAX: usize = 32 * 1_024;

/// Maximum length of a name that is shown, in bytes.
const NAME_MAX: usize = 512;

/// The members of a message that are shown.
#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(default)]
    data: Value,
    #[serde(borrow, default)]
    user_id: Option<Cow<'a, str>>,
}

/// A message: the name of its event, its channel, its data if `shows_data`, its size.
pub(super) fn describe(text: &str, shows_data: bool) -> Value {
    let message: Message<'_> = serde_json::from_str(text).unwrap_or_default();
    let data = match message.data {
        Value::String(text) => text,
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    let shown = &data[..data.floor_char_boundary(DATA_MAX)];
    json!({
        "event": shortened(&message.event),
        "channel": message.channel.as_deref().map(shortened),
        "data": shows_data.then_some(shown),
        "is_cut": shows_data && shown.len() < data.len(),
        "bytes": data.len(),
        "user_id": message.user_id.as_deref().map(shortened),
    })
}

/// The beginning of a name, which a client may have chosen.
fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_MAX)]
}

/// Who has sent an event.
pub(super) fn origin(frame: &Frame) -> Option<&'static str> {
    match frame.kind() {
        FrameKind::Event => Some("server"),
        FrameKind::ClientEvent => Some("client"),
        FrameKind::Protocol | FrameKind::Control => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shown_where_it_is_allowed_and_never_all_of_a_large_one() {
        let text = r#"{"event":"e","channel":"c","data":"{\"a\":1}","user_id":"7"}"#;
        let shown = describe(text, true);
        assert_eq!((&shown["event"], &shown["channel"]), (&json!("e"), &json!("c")));
        assert_eq!((&shown["data"], &shown["bytes"]), (&json!("{\"a\":1}"), &json!(7)));
        let hidden = describe(text, false);
        assert_eq!((&hidden["data"], &hidden["bytes"]), (&json!(null), &json!(7)));
        assert!(!hidden.to_string().contains("\"a\""), "{hidden}");
        let large = format!(r#"{{"event":"e","data":"{}"}}"#, "é".repeat(DATA_MAX));
        let cut = describe(&large, true);
        assert_eq!((&cut["is_cut"], &cut["bytes"]), (&json!(true), &json!(2 * DATA_MAX)));
        assert_eq!(cut["data"].as_str().unwrap().len(), DATA_MAX);
        assert_eq!(describe("not json", true)["event"], "");
        let named = describe(&format!(r#"{{"event":"{}"}}"#, "e".repeat(NAME_MAX + 1)), false);
        assert_eq!(named["event"].as_str().unwrap().len(), NAME_MAX);
        assert_eq!(describe(r#"{"data":{"a":1}}"#, true)["data"], "{\"a\":1}");
    }
}
