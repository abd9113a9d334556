//! The requests of a page.

use serde::Deserialize;
use serde_json::Value;

/// A request with its id, which the answers repeat.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) kind: RequestKind,
}

/// What a page requests.
#[derive(Debug, PartialEq)]
pub(super) enum RequestKind {
    /// To do something once.
    Call(Call),
    /// To be sent something until it is not wanted any more.
    Watch(Watch),
    /// To end the watch with this id.
    Unwatch(u64),
}

#[derive(Debug, PartialEq)]
pub(super) enum Call {
    Publish(PublishParams),
    ResendWebhook(WebhookParams),
    Disconnect(ConnectionParams),
    Configuration,
}

#[derive(Debug, PartialEq)]
pub(super) enum Watch {
    Overview,
    Channels(ChannelsParams),
    Channel(ChannelParams),
    Connections(SearchParams),
    Connection(ConnectionParams),
    Authorizations(AppParams),
    Webhooks(AppParams),
    Log,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct PublishParams {
    pub(super) app: String,
    pub(super) channels: Vec<String>,
    pub(super) event: String,
    pub(super) data: String,
    #[serde(default)]
    pub(super) socket_id: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct ChannelsParams {
    pub(super) app: String,
    #[serde(default)]
    pub(super) search: String,
    #[serde(default)]
    pub(super) order: ChannelOrder,
}

/// The app of a request.
#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct AppParams {
    pub(super) app: String,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct SearchParams {
    pub(super) app: String,
    #[serde(default)]
    pub(super) search: String,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct ConnectionParams {
    pub(super) app: String,
    pub(super) socket_id: String,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct WebhookParams {
    pub(super) app: String,
    pub(super) id: u64,
    /// The node that has made the attempt; the one of the page if it is empty.
    #[serde(default)]
    pub(super) node: String,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct ChannelParams {
    pub(super) app: String,
    pub(super) channel: String,
}

/// By what channels are ordered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChannelOrder {
    #[default]
    Events,
    Subscriptions,
    Messages,
    Name,
}

/// A request as it is sent.
#[derive(Deserialize)]
struct RawRequest {
    id: u64,
    call: Option<String>,
    watch: Option<String>,
    unwatch: Option<u64>,
    #[serde(default)]
    params: Value,
}

impl Request {
    /// Parses a message of a page.
    ///
    /// # Errors
    ///
    /// The id, if there is one, and the error message.
    pub(super) fn parse(text: &str) -> Result<Self, (Option<u64>, String)> {
        let raw: RawRequest =
            serde_json::from_str(text).map_err(|error| (None, error.to_string()))?;
        let id = raw.id;
        let kind = match (raw.call, raw.watch, raw.unwatch) {
            (Some(name), None, None) => Call::parse(&name, raw.params).map(RequestKind::Call),
            (None, Some(name), None) => Watch::parse(&name, raw.params).map(RequestKind::Watch),
            (None, None, Some(watch)) => Ok(RequestKind::Unwatch(watch)),
            _ => Err("a request has one of `call`, `watch` and `unwatch`".to_owned()),
        };
        kind.map(|kind| Self { id, kind }).map_err(|error| (Some(id), error))
    }
}

impl Call {
    fn parse(name: &str, params: Value) -> Result<Self, String> {
        Ok(match name {
            "publish" => Self::Publish(parameters(params)?),
            "resend_webhook" => Self::ResendWebhook(parameters(params)?),
            "disconnect" => Self::Disconnect(parameters(params)?),
            "configuration" => Self::Configuration,
            _ => return Err(format!("there is no call `{}`", shortened(name))),
        })
    }
}

impl Call {
    /// Whether any of the nodes may be the one that can do it.
    pub(super) fn is_of_each_node(&self) -> bool {
        matches!(self, Self::ResendWebhook(_) | Self::Disconnect(_))
    }
}

impl Watch {
    /// Whether each node knows a part of it.
    pub(super) fn is_of_each_node(&self) -> bool {
        match self {
            Self::Overview
            | Self::Connections(_)
            | Self::Connection(_)
            | Self::Authorizations(_)
            | Self::Webhooks(_)
            | Self::Log => true,
            Self::Channels(_) | Self::Channel(_) => false,
        }
    }

    /// The app that it is about.
    pub(super) fn app(&self) -> Option<&str> {
        match self {
            Self::Overview | Self::Log => None,
            Self::Channels(ChannelsParams { app, .. })
            | Self::Channel(ChannelParams { app, .. })
            | Self::Connections(SearchParams { app, .. })
            | Self::Connection(ConnectionParams { app, .. })
            | Self::Authorizations(AppParams { app })
            | Self::Webhooks(AppParams { app }) => Some(app),
        }
    }

    fn parse(name: &str, params: Value) -> Result<Self, String> {
        Ok(match name {
            "overview" => Self::Overview,
            "channels" => Self::Channels(parameters(params)?),
            "channel" => Self::Channel(parameters(params)?),
            "connections" => Self::Connections(parameters(params)?),
            "connection" => Self::Connection(parameters(params)?),
            "authorizations" => Self::Authorizations(parameters(params)?),
            "webhooks" => Self::Webhooks(parameters(params)?),
            "log" => Self::Log,
            _ => return Err(format!("there is no watch `{}`", shortened(name))),
        })
    }
}

fn parameters<T: for<'de> Deserialize<'de>>(params: Value) -> Result<T, String> {
    serde_json::from_value(params).map_err(|error| format!("params: {error}"))
}

/// The first 100 bytes of a text that a page sent.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_of_call_watch_and_unwatch() {
        let watch = Request::parse(r#"{"id":1,"watch":"overview","params":{}}"#).unwrap();
        assert_eq!(watch, Request { id: 1, kind: RequestKind::Watch(Watch::Overview) });
        let unwatch = Request::parse(r#"{"id":2,"unwatch":1}"#).unwrap();
        assert_eq!(unwatch, Request { id: 2, kind: RequestKind::Unwatch(1) });
        for (text, id) in [
            ("", None),
            ("[]", None),
            (r#"{"watch":"overview"}"#, None),
            (r#"{"id":-1,"watch":"overview"}"#, None),
            (r#"{"id":3}"#, Some(3)),
            (r#"{"id":4,"watch":"overview","unwatch":1}"#, Some(4)),
            (r#"{"id":5,"watch":"nothing"}"#, Some(5)),
            (r#"{"id":6,"call":"nothing"}"#, Some(6)),
            (r#"{"id":7,"watch":"channels"}"#, Some(7)),
            (r#"{"id":8,"watch":"channels","params":{"app":"a","order":"x"}}"#, Some(8)),
        ] {
            assert_eq!(Request::parse(text).unwrap_err().0, id, "{text}");
        }
    }

    #[test]
    fn parameters_have_defaults() {
        let text = r#"{"id":1,"watch":"channels","params":{"app":"a"}}"#;
        let RequestKind::Watch(Watch::Channels(params)) = Request::parse(text).unwrap().kind else {
            panic!("another kind")
        };
        assert_eq!((params.app.as_str(), params.search.as_str()), ("a", ""));
        assert_eq!(params.order, ChannelOrder::Events);
    }
}
