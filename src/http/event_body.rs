//! The events in the bodies of publish requests.

use super::{idempotency, info::RequestedInfo, response::ApiError};
use crate::{
    broker::AppEvent,
    config::AppConfig,
    protocol::{ChannelName, EventData, SocketId, replace_lone_surrogates},
};
use serde::{
    Deserialize, Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashSet, fmt};

/// An event as received. Errors name the attribute.
#[derive(Deserialize)]
struct EventBody<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    idempotency_key: Option<&'a RawValue>,
}

/// A string, borrowed from the body if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct BatchBody<'a> {
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
}

/// A valid event, and the attributes that the publisher requested.
pub(super) struct ParsedEvent<'a> {
    pub(super) event: AppEvent<'a>,
    pub(super) info: Option<RequestedInfo>,
}

/// Whether an event is part of a batch, and has exactly one channel, or has a list of channels.
#[derive(Clone, Copy)]
enum EventKind {
    Batch,
    Single,
}

/// Decodes a body, with lone surrogates replaced.
pub(super) fn text(body: &[u8]) -> Result<Cow<'_, str>, ApiError> {
    let text = std::str::from_utf8(body);
    text.map(replace_lone_surrogates)
        .map_err(|_| ApiError::bad_request("a JSON object is required: it is not UTF-8"))
}

fn read_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::bad_request("a JSON object is required"));
    }
    serde_json::from_str(text).map_err(|error| {
        let message = "a JSON object is required";
        // The library's message may quote the request.
        let logged = format!("{message}: line {} column {}", error.line(), error.column());
        ApiError::bad_request(format!("{message}: {error}")).logged_as(logged)
    })
}

/// Parses the body of one event.
pub(super) fn parse_single<'a>(
    body: &'a str,
    config: &AppConfig,
) -> Result<ParsedEvent<'a>, ApiError> {
    parse_event(&read_object(body)?, config, EventKind::Single)
}

/// Parses the body of a batch. The errors name the position of the event.
pub(super) fn parse_batch<'a>(
    body: &'a str,
    config: &AppConfig,
) -> Result<Vec<ParsedEvent<'a>>, ApiError> {
    let BatchBody { batch } = read_object(body)?;
    let message = "batch is required: an array of events";
    let batch: Option<Vec<&RawValue>> = read_attribute(batch, message)?;
    let batch = batch.ok_or_else(|| ApiError::bad_request(message))?;
    let max = config.max_batch_events;
    if max < batch.len() {
        return Err(ApiError::bad_request(format!(
            "Batch too large: {} events, at most {max} are allowed",
            batch.len()
        )));
    }
    batch
        .into_iter()
        .enumerate()
        .map(|(at, raw)| {
            read_object(raw.get())
                .and_then(|body| parse_event(&body, config, EventKind::Batch))
                .map_err(|error| error.within(&format!("batch[{at}]")))
        })
        .collect()
}

fn parse_event<'a>(
    body: &EventBody<'a>,
    config: &AppConfig,
    kind: EventKind,
) -> Result<ParsedEvent<'a>, ApiError> {
    let event = AppEvent {
        name: parse_name(body.name, config.max_event_name_length)?,
        data: parse_data(body.data, config.max_event_bytes)?,
        channels: parse_channels(body, config, kind)?,
        except: parse_socket_id(body.socket_id)?,
        idempotency_key: idempotency::from_field(body.idempotency_key)?,
    };
    let info = read_text(body.info, "info must be a string: a list of attributes")?;
    // Unknown attributes are ignored, as are those that the channel does not have.
    Ok(ParsedEvent { event, info: info.map(|list| RequestedInfo::parse(&list).0) })
}

/// Reads an attribute; `message` is the error for another type.
fn read_attribute<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    message: &str,
) -> Result<Option<T>, ApiError> {
    raw.map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
        .map_err(|_| ApiError::bad_request(message))
}

/// Reads a string; `message` is the error for another type. Most have no escapes, and are not parsed a second time.
fn read_text<'a>(
    raw: Option<&'a RawValue>,
    message: &str,
) -> Result<Option<Cow<'a, str>>, ApiError> {
    let plain = raw.and_then(|raw| raw.get().strip_prefix('"')?.strip_suffix('"'));
    if let Some(plain) = plain.filter(|text| !text.as_bytes().contains(&b'\\')) {
        return Ok(Some(plain.into()));
    }
    let text: Option<Text<'_>> = read_attribute(raw, message)?;
    Ok(text.map(|Text(text)| text))
}

/// Reads an array of strings. Values beyond the first `max` are counted and not allocated, so a
/// body full of them costs little more than its bytes.
fn strings(
    raw: Option<&RawValue>,
    max: usize,
    message: impl Fn() -> String,
) -> Result<Option<Vec<Text<'_>>>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    let mut json = serde_json::Deserializer::from_str(raw.get());
    match json.deserialize_any(StringList { max }) {
        Ok((_, count)) if max < count => {
            Err(ApiError::bad_request(format!("{}: there are {count}", message())))
        }
        Ok((texts, _)) => Ok(Some(texts)),
        Err(_) => Err(ApiError::bad_request(message())),
    }
}

/// Reads the first strings of an array, and the number of its values.
struct StringList {
    max: usize,
}

impl<'de> Visitor<'de> for StringList {
    type Value = (Vec<Text<'de>>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while texts.len() < self.max {
            match values.next_element()? {
                Some(text) => texts.push(text),
                None => break,
            }
        }
        let mut count = texts.len();
        while values.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((texts, count))
    }
}

fn parse_name(raw: Option<&RawValue>, max: usize) -> Result<Cow<'_, str>, ApiError> {
    let invalid =
        || ApiError::bad_request(format!("name is required: a string of 1 to {max} characters"));
    match read_text(raw, "").map_err(|_| invalid())? {
        Some(name) if (1..=max).contains(&name.chars().count()) => Ok(name),
        Some(_) | None => Err(invalid()),
    }
}

fn parse_data(raw: Option<&RawValue>, max: usize) -> Result<EventData<'_>, ApiError> {
    let raw = raw.filter(|raw| raw.get() != "null");
    let raw = raw.ok_or_else(|| ApiError::bad_request("data is required: a string"))?;
    let data = EventData::new(raw.get());
    if max < data.byte_len() {
        return Err(ApiError::too_large(format!(
            "The data content of this event exceeds the allowed maximum ({max} bytes, \
             max_event_bytes of the app): it has {} bytes",
            data.byte_len()
        )));
    }
    Ok(data)
}

fn parse_channels(
    body: &EventBody<'_>,
    config: &AppConfig,
    kind: EventKind,
) -> Result<Vec<ChannelName>, ApiError> {
    let max = config.max_event_channels;
    let many = match kind {
        EventKind::Batch if body.channels.is_some() => {
            return Err(ApiError::bad_request("An event of a batch names one channel, in channel"));
        }
        EventKind::Batch => None,
        EventKind::Single => strings(body.channels, max, || {
            format!("channels must be an array of 1 to {max} channel names")
        })?,
    };
    let no_channel = || {
        Err(ApiError::bad_request(match kind {
            EventKind::Batch => "channel is required: a channel name",
            EventKind::Single => {
                "channel or channels is required: a channel name, or an array of them"
            }
        }))
    };
    let Some(names) = many else {
        return match read_text(body.channel, "channel must be a string")? {
            Some(name) => Ok(vec![parse_channel(&name, config)?]),
            None => no_channel(),
        };
    };
    match &names[..] {
        [] => no_channel(),
        [Text(single)] => Ok(vec![parse_channel(single, config)?]),
        several => {
            let mut seen = HashSet::with_capacity(several.len());
            let parsed = several.iter().map(|Text(name)| parse_channel(name, config));
            // A channel that is named several times receives the event once.
            parsed
                .filter(|name| name.as_ref().map_or(true, |name| seen.insert(name.clone())))
                .collect()
        }
    }
}

pub(super) fn parse_channel(name: &str, config: &AppConfig) -> Result<ChannelName, ApiError> {
    ChannelName::parse(name, config.max_channel_name_length).map_err(|message| {
        let name = &name[..name.floor_char_boundary(100)];
        ApiError::bad_request(format!("Invalid channel name {name:?}: {message}"))
    })
}

fn parse_socket_id(raw: Option<&RawValue>) -> Result<Option<SocketId>, ApiError> {
    let message = "socket_id must be a string such as 123.456";
    match read_text(raw, message)?.map(|id| SocketId::parse(&id)) {
        None => Ok(None),
        Some(Ok(socket_id)) => Ok(socket_id),
        Some(Err(_)) => Err(ApiError::bad_request(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ParsedEvent<'_>, String> {
        let mut config = AppConfig::development();
        config.max_event_bytes = 10;
        config.max_event_channels = 3;
        config.max_event_name_length = 5;
        parse_single(text, &config).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn an_event_is_parsed_unchanged() {
        let text = r#"{"name":"e\\x","channels":["a","b","a"],"data":"\u00e9","socket_id":"1.2","info":"user_count"}"#;
        let publish = parse(text).unwrap();
        assert_eq!(publish.event.name, r"e\x");
        assert_eq!(publish.event.data.token(), r#""\u00e9""#);
        assert_eq!(publish.event.channels.len(), 2);
        assert_eq!(publish.event.except.map(|id| id.to_string()), Some("1.2".into()));
        assert!(publish.info.unwrap().user_count);
    }

    #[test]
    fn values_other_than_strings_are_serialized() {
        let publish = parse(r#"{"name":"e","channel":"a","data":{"a": 1}}"#).unwrap();
        assert_eq!(publish.event.data.token(), r#""{\"a\":1}""#);
        assert_eq!(
            parse(r#"{"name":"e","channel":"a","data":""}"#).unwrap().event.data.byte_len(),
            0
        );
    }

    #[test]
    fn errors_name_the_invalid_attribute() {
        for (text, word) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            (r#"{"name":"e","channel":"a","data":"1""#, "JSON object"),
            (r#"{"channel":"a","data":"1"}"#, "name"),
            (r#"{"name":"","channel":"a","data":"1"}"#, "name"),
            (r#"{"name":"123456","channel":"a","data":"1"}"#, "name"),
            (r#"{"name":5,"channel":"a","data":"1"}"#, "name"),
            (r#"{"name":"e","channel":"a"}"#, "data"),
            (r#"{"name":"e","channel":"a","data":null}"#, "data"),
            (r#"{"name":"e","channel":"a","data":"12345678901"}"#, "max_event_bytes"),
            (r#"{"name":"e","data":"1"}"#, "channel"),
            (r#"{"name":"e","channel":5,"data":"1"}"#, "channel"),
            (r#"{"name":"e","channels":[],"data":"1"}"#, "channel"),
            (r#"{"name":"e","channels":"a","data":"1"}"#, "channels"),
            (r#"{"name":"e","channels":["a","b","c","d"],"data":"1"}"#, "channels"),
            (r#"{"name":"e","channels":["a","b","c",4,5],"data":"1"}"#, "there are 5"),
            (r#"{"name":"e","channels":["a",4],"data":"1"}"#, "channels"),
            (r#"{"name":"e","channels":["a","b c"],"data":"1"}"#, "channel"),
            (r#"{"name":"e","channel":"a","data":"1","socket_id":"x"}"#, "socket_id"),
            (r#"{"name":"e","channel":"a","data":"1","socket_id":5}"#, "socket_id"),
            (r#"{"name":"e","channel":"a","data":"1","info":5}"#, "info"),
        ] {
            let flaw = parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(flaw.contains(word), "{text}: {flaw}");
        }
    }

    #[test]
    fn limits_of_events_are_inclusive() {
        let raw = RawValue::from_string(r#""four""#.to_owned()).unwrap();
        assert!(parse_data(Some(&raw), 4).is_ok());
        assert!(parse_data(Some(&raw), 3).is_err());
        let mut config = AppConfig::development();
        config.max_batch_events = 2;
        let batch = |count: usize| {
            let events = vec![r#"{"name":"e","channel":"c","data":"1"}"#; count].join(",");
            parse_batch(&format!(r#"{{"batch":[{events}]}}"#), &config)
                .map(|batch| batch.len())
                .ok()
        };
        assert_eq!([1, 2, 3].map(batch), [Some(1), Some(2), None]);
    }
}
