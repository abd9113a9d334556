//! Request bodies, as the server SDKs verify and read them. The SDKs of PHP, Go and Node are the
//! strictest in one point each.

use crate::hub::HubEvent;
use crate::signature::Signer;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{to_string, value::RawValue};
use std::{
    fmt::Write,
    time::{Instant, SystemTime},
};

/// One request to an endpoint. It is repeated byte for byte: the signature and the time are those
/// of its creation.
#[derive(Clone, Debug)]
pub(super) struct WebhookRequest {
    /// The JSON body.
    pub(super) body: Bytes,
    /// The body's signature in lower-case hex.
    pub(super) signature: String,
    /// The number of events in the body.
    pub(super) events: usize,
    /// When it was created.
    pub(super) created_at: Instant,
}

impl WebhookRequest {
    /// A request with the events of `events`, JSON objects separated by commas, and their `count`.
    /// `time_ms` is in milliseconds since 1970.
    pub(super) fn new(
        signer: &Signer,
        (events, count): (&str, usize),
        time_ms: u128,
        created_at: Instant,
    ) -> Self {
        Self::with_body(signer, body(events, time_ms), count, created_at)
    }

    /// The request with an existing body.
    pub(super) fn with_body(
        signer: &Signer,
        body: String,
        events: usize,
        created_at: Instant,
    ) -> Self {
        let signature = signer.sign(&body);
        // It may be queued for minutes, so its spare capacity is released.
        let body = body.into_boxed_str().into_boxed_bytes().into();
        Self { body, signature, events, created_at }
    }
}

/// The parts of a body that are needed to split it.
#[derive(Deserialize)]
struct BodyParts<'a> {
    time_ms: u64,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// The members of an event that are logged.
#[derive(Deserialize)]
struct Label {
    name: String,
    #[serde(default)]
    channel: String,
}

impl WebhookRequest {
    /// Splits the events into two requests with the time of this one; `None` if there is only one
    /// event.
    pub(super) fn halves(&self, signer: &Signer) -> Option<[Self; 2]> {
        let BodyParts { time_ms, events } = serde_json::from_slice(&self.body).ok()?;
        let (first, second) = events.split_at(events.len() / 2);
        if first.is_empty() {
            return None;
        }
        Some([first, second].map(|events| {
            let texts: Vec<&str> = events.iter().map(|event| event.get()).collect();
            let text = texts.join(",");
            Self::new(signer, (&text, events.len()), time_ms.into(), self.created_at)
        }))
    }

    /// A request without events, which tests whether the endpoint accepts any.
    pub(super) fn probe(signer: &Signer, time_ms: u128, now: Instant) -> Self {
        Self::new(signer, ("", 0), time_ms, now)
    }

    /// A request with a body that was sent before, signed anew.
    pub(super) fn again(signer: &Signer, body: Bytes, created_at: Instant) -> Self {
        let signature = signer.sign(std::str::from_utf8(&body).unwrap_or_default());
        Self { body, signature, events: 0, created_at }
    }

    /// The name and the channel of its first event.
    pub(super) fn label(&self) -> (String, String) {
        let first = || {
            let BodyParts { events, .. } = serde_json::from_slice(&self.body).ok()?;
            let label: Label = serde_json::from_str(events.first()?.get()).ok()?;
            Some((label.name, label.channel))
        };
        first().unwrap_or_default()
    }
}

/// Milliseconds since 1970.
pub(super) fn time_ms() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// A request body with `events`, which are JSON objects with commas between them.
pub(super) fn body(events: &str, time_ms: u128) -> String {
    format!(r#"{{"time_ms":{time_ms},"events":[{events}]}}"#)
}

/// An event as the application reads it. Each has `name` and `channel`, because PHP's SDK reads
/// both; an event of a user has the user's server-to-user channel.
pub(super) fn event(hub_event: &HubEvent) -> String {
    let mut text = format!(r#"{{"name":"{}""#, hub_event.kind().as_str());
    match (hub_event.channel(), hub_event.user_id()) {
        // A channel's name has no character that JSON escapes.
        (Some(channel), _) => member(&mut text, "channel", &format!("\"{channel}\"")),
        (None, Some(user_id)) => {
            member(&mut text, "channel", &quoted(&format!("#server-to-user-{user_id}")));
        }
        (None, None) => {}
    }
    if let HubEvent::ClientEvent { name, data, socket_id, .. } = hub_event {
        member(&mut text, "event", &quoted(name));
        // Go's SDK rejects a body in which this is not a string.
        member(&mut text, "data", if data.starts_with('"') { data } else { "\"\"" });
        member(&mut text, "socket_id", &format!("\"{socket_id}\""));
    }
    if let HubEvent::SubscriptionCount { count, .. } = hub_event {
        member(&mut text, "subscription_count", &count.to_string());
    }
    let has_no_members = hub_event.channel().is_some_and(|channel| !channel.is_presence());
    if let Some(user_id) = hub_event.user_id().filter(|_| !has_no_members) {
        member(&mut text, "user_id", &quoted(user_id));
    }
    text.push('}');
    text
}

fn member(text: &mut String, name: &str, value: &str) {
    write!(text, r#","{name}":{value}"#).expect("a String takes all text");
}

fn quoted(text: &str) -> String {
    to_string(text).expect("text can always be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::{channel, one_of_each};

    #[test]
    fn each_kind_has_its_members_and_the_strings_that_sdks_need() {
        let expected = [
            r#"{"name":"channel_occupied","channel":"t"}"#,
            r#"{"name":"channel_vacated","channel":"t"}"#,
            r#"{"name":"member_added","channel":"presence-room","user_id":"ann \"the\" 1st"}"#,
            r#"{"name":"member_removed","channel":"presence-room","user_id":"ann \"the\" 1st"}"#,
            r#"{"name":"client_event","channel":"presence-room","event":"client-\"x\"","data":"{\"a\":1}","socket_id":"123.456","user_id":"ann \"the\" 1st"}"#,
            r#"{"name":"cache_miss","channel":"cache-x"}"#,
            r#"{"name":"subscription_count","channel":"t","subscription_count":13}"#,
            r##"{"name":"user_online","channel":"#server-to-user-ann \"the\" 1st","user_id":"ann \"the\" 1st"}"##,
            r##"{"name":"user_offline","channel":"#server-to-user-ann \"the\" 1st","user_id":"ann \"the\" 1st"}"##,
        ];
        for (hub_event, expected) in one_of_each().iter().zip(expected) {
            assert_eq!(event(hub_event), expected);
        }
    }

    #[test]
    fn a_client_event_has_a_user_on_presence_channels_only_and_data_always() {
        let [_, _, _, _, client_event, ..] = one_of_each();
        let HubEvent::ClientEvent { name, socket_id, user_id, .. } = client_event else { panic!() };
        let data = "null".to_owned();
        let channel = channel("private-x");
        let text = event(&HubEvent::ClientEvent { channel, name, data, socket_id, user_id });
        let expected = r#"{"name":"client_event","channel":"private-x","event":"client-\"x\"","data":"","socket_id":"123.456"}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_request_is_split_down_to_single_events_with_the_same_time() {
        let signer = Signer::new("s");
        let now = Instant::now();
        let whole = WebhookRequest::new(
            &signer,
            (r#"{"name":"a","channel":"c"},{"x":[1,2]},3"#, 3),
            7,
            now,
        );
        let [first, second] = whole.halves(&signer).unwrap();
        assert_eq!(first.body, r#"{"time_ms":7,"events":[{"name":"a","channel":"c"}]}"#);
        assert_eq!(
            first.signature,
            signer.sign(r#"{"time_ms":7,"events":[{"name":"a","channel":"c"}]}"#)
        );
        assert_eq!(second.body, r#"{"time_ms":7,"events":[{"x":[1,2]},3]}"#);
        assert_eq!((first.events, second.events, second.created_at), (1, 2, now));
        assert!(first.halves(&signer).is_none());
        assert!(WebhookRequest::probe(&signer, 7, now).halves(&signer).is_none());
        assert_eq!(whole.label(), ("a".to_owned(), "c".to_owned()));
        assert_eq!(second.label(), (String::new(), String::new()));
    }

    /// The webhook of `docs/protocol.md#signature-vectors`.
    #[test]
    fn the_signature_covers_the_exact_bytes() {
        let signer = Signer::new("7ad3773142a6692b25b8");
        let occupied = HubEvent::Occupied { channel: channel("test_channel") };
        let request =
            WebhookRequest::new(&signer, (&event(&occupied), 1), 1_327_078_148_132, Instant::now());
        let body = r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"test_channel"}]}"#;
        assert_eq!(request.body, body);
        let signature = "709fdb84c03664445f7698120b0edf0acc1ab1c8c6e93a0368c61841d6b998aa";
        assert_eq!(request.signature, signature);
    }
}
