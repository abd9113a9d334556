//! The settings of an app: its credentials, its limits, its webhooks.

use super::Secret;
use serde::{Deserialize, Serialize, Serializer};
use std::{collections::BTreeMap, fmt};

/// Id, key and secret of the development app, in this order.
pub(super) const DEVELOPMENT: [(&str, &str); 3] =
    [("id", "app-id"), ("key", "app-key"), ("secret", "app-secret")];

/// The settings of one app.
///
/// The default has no credentials; [`AppConfig::development`] has published ones.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, as it stands in the file"
)]
pub struct AppConfig {
    /// Identifies the app in the HTTP API. Not empty, unique, without `/`, `:`, `?`, `#` and white
    /// space.
    pub id: String,
    /// Identifies the app to clients. Same rules as for `id`, and also unique.
    pub key: String,
    /// Key of the signatures of requests and subscriptions. Not empty.
    pub secret: Secret,
    /// False rejects every connection and request of this app. Default true.
    pub enabled: bool,
    /// Patterns of the hosts whose pages may connect: `example.com`, `*.example.com`, with scheme
    /// or port if those matter, or `*`, the default.
    pub allowed_origins: Vec<String>,
    /// Reject connections without TLS. Default false.
    pub tls_only: bool,
    /// Connections of this app, at most 10,000,000. 0, the default, means no limit.
    pub max_connections: usize,
    /// Which connections may send client events. Default `members`.
    pub client_events: ClientEvents,
    /// Client events per second of one connection, at most 1,000,000. 0 means no limit. Default 10.
    pub client_events_per_second: u32,
    /// Messages of one connection in each window of `max_messages_window_s`, at most 1,000,000.
    /// Messages beyond it are dropped, and the client is notified. Signs of life do not count. 0,
    /// the default, means no limit.
    pub max_messages: u32,
    /// Length of the window, in seconds, 1 to 86,400. Default 60.
    pub max_messages_window_s: u64,
    /// Close the connection at the first message beyond the limit. Default false.
    pub max_messages_closes: bool,
    /// Let users sign in. Default true.
    pub user_authentication: bool,
    /// Time within which a connection must be authorized, in seconds, up to 86,400. 0, the default,
    /// means no limit.
    pub authorized_connections_timeout_s: u64,
    /// Send subscribers the channel's subscription count. The HTTP API returns it in any case.
    /// Default false.
    pub subscription_count: bool,
    /// Maximum size of an event's data after decoding, published or from a client, in bytes, up to
    /// 64 MiB. Default 100 KiB.
    pub max_event_bytes: usize,
    /// Maximum number of channels of one event, 1 to 10,000. Default 100.
    pub max_event_channels: usize,
    /// Maximum length of an event's name, in characters, 1 to 1,000. Default 200.
    pub max_event_name_length: usize,
    /// Maximum number of events in one batch, 1 to 10,000. Default 10.
    pub max_batch_events: usize,
    /// Maximum length of a channel's name, in bytes, 1 to 1,000. Default 200.
    pub max_channel_name_length: usize,
    /// Maximum number of members of one presence channel, 1 to 1,000,000. Default 100.
    pub max_presence_members: usize,
    /// Maximum size of a member's `user_info`, in bytes of compact JSON in UTF-8, up to 1 MiB.
    /// Default 1 KiB.
    pub max_presence_user_info_bytes: usize,
    /// How long a cache channel keeps its last event, in seconds, 1 to 31,536,000 (a year). Default
    /// 1,800.
    pub cache_ttl_s: u64,
    /// Maximum size of the last events of all cache channels, in bytes, 1 KiB to 1 TiB. Beyond it,
    /// the least recently published are evicted.
    pub max_cache_bytes: usize,
    /// HTTP API requests per second, at most 1,000,000. 0, the default, means no limit.
    pub requests_per_second: u32,
    /// The webhooks of this app. Default none.
    pub webhooks: Vec<WebhookConfig>,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            key: String::new(),
            secret: Secret::default(),
            enabled: true,
            allowed_origins: vec!["*".to_owned()],
            tls_only: false,
            max_connections: 0,
            client_events: ClientEvents::Members,
            client_events_per_second: 10,
            max_messages: 0,
            max_messages_window_s: 60,
            max_messages_closes: false,
            user_authentication: true,
            authorized_connections_timeout_s: 0,
            subscription_count: false,
            max_event_bytes: 102_400,
            max_event_channels: 100,
            max_event_name_length: 200,
            max_batch_events: 10,
            max_channel_name_length: 200,
            max_presence_members: 100,
            max_presence_user_info_bytes: 1_024,
            cache_ttl_s: 1_800,
            max_cache_bytes: 67_108_864,
            requests_per_second: 0,
            webhooks: Vec::new(),
        }
    }
}

impl AppConfig {
    /// The app of a server without configuration. Its secret is public, so it is served on loopback
    /// only.
    #[must_use]
    pub fn development() -> Self {
        let [(_, id), (_, key), (_, secret)] = DEVELOPMENT;
        Self {
            id: id.to_owned(),
            key: key.to_owned(),
            secret: Secret::new(secret),
            ..Self::default()
        }
    }

    /// Whether the secret is the public one of the development app.
    #[must_use]
    pub fn has_well_known_secret(&self) -> bool {
        let [_, _, (_, secret)] = DEVELOPMENT;
        self.secret.expose() == secret
    }

    /// True if id, key and secret are those of the development app, with any limits.
    #[must_use]
    pub fn is_development(&self) -> bool {
        [self.id.as_str(), &self.key, self.secret.expose()] == DEVELOPMENT.map(|(_, value)| value)
    }
}

/// Which connections may send client events.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientEvents {
    /// No connection.
    None,
    /// Subscribers of the private or presence channel on which the event is sent.
    #[default]
    Members,
}

/// One webhook of an app.
#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Name of the webhook in metrics and logs, at most 64 characters without white space. Default
    /// empty: the URL's host, made unique.
    pub name: String,
    /// The endpoint's URL: `http` or `https`, without credentials. Required. Path and query are
    /// secret because they can contain a token: neither `Debug` nor `Serialize` shows them.
    #[serde(serialize_with = "serialize_masked")]
    pub url: String,
    /// The events to send. At least one.
    pub events: Vec<WebhookEvent>,
    /// Send only events of channels with this prefix. Default empty: all.
    pub channel_prefix: String,
    /// Send only events of channels with this suffix. Default empty: all.
    pub channel_suffix: String,
    /// Additional headers, other than those that the protocol sets. Default none. Their values are
    /// secret because they can contain a token.
    pub headers: BTreeMap<String, Secret>,
}

/// The URL with `***` for parts that can contain a token: scheme, host and port remain.
fn masked(url: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find(['/', '?']) {
        Some(end) if url[authority + end..].len() > 1 => format!("{}/***", &url[..authority + end]),
        _ => url.to_owned(),
    }
}

fn serialize_masked<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&masked(url))
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("name", &self.name)
            .field("url", &masked(&self.url))
            .field("events", &self.events)
            .field("channel_prefix", &self.channel_prefix)
            .field("channel_suffix", &self.channel_suffix)
            .field("headers", &self.headers)
            .finish()
    }
}

/// An event that a webhook can report. The names are Pusher's, except for the last two.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookEvent {
    /// A channel has its first subscriber.
    ChannelOccupied,
    /// A channel has lost its last subscriber, and got none since.
    ChannelVacated,
    /// A user has joined a presence channel.
    MemberAdded,
    /// A user has left a presence channel, and has not returned.
    MemberRemoved,
    /// A client has sent an event.
    ClientEvent,
    /// A client has subscribed to a cache channel without a kept event.
    CacheMiss,
    /// The number of subscribers of a channel has changed.
    SubscriptionCount,
    /// A user has signed in with the first of its connections.
    UserOnline,
    /// A user has closed its last connection, and has not returned.
    UserOffline,
}

impl WebhookEvent {
    /// All events.
    pub const ALL: [Self; 9] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::ClientEvent,
        Self::CacheMiss,
        Self::SubscriptionCount,
        Self::UserOnline,
        Self::UserOffline,
    ];

    /// The name, in the configuration and in webhook bodies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::ClientEvent => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
            Self::UserOnline => "user_online",
            Self::UserOffline => "user_offline",
        }
    }

    /// The event with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_of_a_url_are_shown() {
        for (url, shown) in [
            ("http://a.test", "http://a.test"),
            ("https://a.test:8443/", "https://a.test:8443/"),
            ("https://a.test/hunter2", "https://a.test/***"),
            ("https://a.test:8443/a/hunter2?b=hunter2", "https://a.test:8443/***"),
            ("https://[::1]:3000?hunter2", "https://[::1]:3000/***"),
            ("", ""),
        ] {
            let webhook = WebhookConfig { url: url.into(), ..WebhookConfig::default() };
            let json = serde_json::to_value(&webhook).unwrap();
            assert_eq!(json["url"], shown);
            let debug = format!("{webhook:?}");
            assert!(
                debug.contains(&format!("url: {shown:?}")) && !debug.contains("hunter2"),
                "{debug}"
            );
        }
    }

    #[test]
    fn an_event_of_a_webhook_has_one_name_everywhere() {
        for event in WebhookEvent::ALL {
            let written = serde_json::to_string(&event).unwrap();
            assert_eq!(written, format!("\"{}\"", event.as_str()));
            assert_eq!(WebhookEvent::from_name(event.as_str()), Some(event));
        }
    }
}
