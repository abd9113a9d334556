//! The call `publish`: an event of the form in the page.

use super::{context::SeenApp, request::PublishParams};
use crate::{
    broker::AppEvent,
    config::AppConfig,
    node::Node,
    protocol::{ChannelName, EventData, SocketId},
};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::HashSet, time::Instant};

/// Publishes an event, as a request to the HTTP API does. Returns the number of subscriptions that it was
/// published to.
pub(super) async fn publish(
    node: &Node,
    app: &SeenApp,
    params: &PublishParams,
) -> Result<Value, String> {
    let config = app.hub.app();
    let config = &config.config;
    if !config.enabled {
        return Err("the app is disabled".to_owned());
    }
    if node.is_draining() {
        return Err("the server is shutting down".to_owned());
    }
    if app.hub.admit_request(Instant::now()).is_err() {
        return Err("requests_per_second of the app is exceeded".to_owned());
    }
    let token = json!(params.data).to_string();
    let events = [AppEvent {
        name: name(params, config)?,
        data: data(&token, config)?,
        channels: channels(params, config)?,
        except: except(params)?,
        idempotency_key: None,
    }];
    let published = node.broker().publish(&app.hub, &events).await;
    let (counts, shards) = published.map_err(|_| "the cluster did not accept the event")?;
    node.wait_for_backpressure(shards).await;
    let subscribers: usize = counts.iter().map(|counts| counts.subscriptions).sum();
    Ok(json!({"subscribers": subscribers}))
}

fn name<'a>(params: &'a PublishParams, config: &AppConfig) -> Result<Cow<'a, str>, String> {
    let max = config.max_event_name_length;
    if (1..=max).contains(&params.event.chars().count()) {
        return Ok(params.event.as_str().into());
    }
    Err(format!("the name of the event must have 1 to {max} characters"))
}

fn data<'a>(token: &'a str, config: &AppConfig) -> Result<EventData<'a>, String> {
    let (data, max) = (EventData::new(token), config.max_event_bytes);
    if max < data.byte_len() {
        return Err(format!(
            "the data has {} bytes, and at most {max} are allowed",
            data.byte_len()
        ));
    }
    Ok(data)
}

fn channels(params: &PublishParams, config: &AppConfig) -> Result<Vec<ChannelName>, String> {
    let max = config.max_event_channels;
    if !(1..=max).contains(&params.channels.len()) {
        return Err(format!("1 to {max} channels are needed"));
    }
    let mut seen = HashSet::new();
    let parsed = params.channels.iter().map(|name| channel(name, config));
    parsed.filter(|name| name.as_ref().map_or(true, |name| seen.insert(name.clone()))).collect()
}

/// The channel with a name that a page sent.
pub(super) fn channel(name: &str, config: &AppConfig) -> Result<ChannelName, String> {
    ChannelName::parse(name, config.max_channel_name_length).map_err(|message| {
        let name = &name[..name.floor_char_boundary(100)];
        format!("invalid channel name {name:?}: {message}")
    })
}

fn except(params: &PublishParams) -> Result<Option<SocketId>, String> {
    let text = params.socket_id.as_deref().filter(|text| !text.is_empty());
    let parsed = text.map(SocketId::parse).transpose();
    parsed.map(Option::flatten).map_err(|_| "the socket id must be one such as 123.456".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_checked_by_the_limits_of_its_app() {
        let config =
            AppConfig { max_event_bytes: 3, max_event_channels: 2, ..AppConfig::default() };
        let with = |channels: &[&str], event: &str, data: &str, socket_id: &str| {
            let params = PublishParams {
                app: "1".into(),
                channels: channels.iter().map(|&name| name.into()).collect(),
                event: event.into(),
                data: data.into(),
                socket_id: Some(socket_id.into()),
            };
            let token = json!(params.data).to_string();
            name(&params, &config)?;
            super::data(&token, &config)?;
            except(&params)?;
            super::channels(&params, &config).map(|channels| channels.len())
        };
        assert_eq!(with(&["a", "b"], "e", "abc", ""), Ok(2));
        assert_eq!(with(&["a", "a"], "e", "", "1.2"), Ok(1));
        for (channels, event, data, socket_id) in [
            (&[][..], "e", "", ""),
            (&["a", "b", "c"], "e", "", ""),
            (&["a b"], "e", "", ""),
            (&["a"], "", "", ""),
            (&["a"], &"e".repeat(201), "", ""),
            (&["a"], "e", "abcd", ""),
            (&["a"], "e", "", "x"),
        ] {
            assert!(with(channels, event, data, socket_id).is_err(), "{channels:?} {event} {data}");
        }
    }
}
