//! The declarations of the settings of an app: its credentials, its limits, its webhooks.

use super::{
    Secret,
    declare::{
        AppliesTo::NewConnections,
        Rule::{Any, OneOf, Parse, Range, Table},
        SectionInfo, Setting, SettingType, SettingsSection, section, setting_types, string_enum,
    },
    values, webhook_rules,
};
use serde::Serializer;
use std::{collections::BTreeMap, fmt};

/// Id, key and secret of the development app, in this order.
pub(super) const DEVELOPMENT: [(&str, &str); 3] =
    [("id", "app-id"), ("key", "app-key"), ("secret", "app-secret")];

setting_types! {
    String: ClientEvents, HistoryReplay;
    List: Vec<WebhookEvent>;
}

section! {
    /// One app. Repeat the section for each. Without one, the development app (`app-id`, `app-key`,
    /// `app-secret`) is served, on loopback only, and only to pages and hosts on loopback: `localhost`,
    /// `*.localhost`, `*.test`, `127.0.0.1`, `[::1]`.
    #[derive(Debug)]
    AppConfig at "apps[]" {
        /// Id of the app in the HTTP API.
        id: String = String::new() => {
            rule: Parse(values::path_segment, "unique; no `/ : ? #` or white space"),
            is_required: true,
        },
        /// Key of the app for clients. Public.
        key: String = String::new() => {
            rule: Parse(values::path_segment, "unique; no `/ : ? #` or white space"),
            is_required: true,
        },
        /// Secret that signs requests and subscriptions. Use at least 20 random characters. Except on
        /// loopback, fewer than 16 cause a warning, and guessable ones are rejected, such as `changeme` or
        /// the app's key.
        secret: Secret = Secret::default() => {
            rule: Parse(values::not_empty, "not empty"), is_secret: true, is_required: true,
        },
        /// File that contains the secret, instead of `secret`: for secrets of Docker, Kubernetes and
        /// systemd. A line break at its end is ignored. A reload reads it again.
        secret_file: String = String::new() => { rule: Any("path of a file") },
        /// Whether the app is served. `false`: requests get 403, connections are closed with 4003.
        enabled: bool = true => {},
        /// Origins whose pages may connect, such as `example.com`, `*.example.com` or
        /// `https://example.com:8443`. Beyond them: close code 4009.
        allowed_origins: Vec<String> = vec!["*".to_owned()] => {
            rule: Parse(values::origin_pattern, "hosts, with `*` as wildcard, optional scheme and port"),
            reload: NewConnections,
        },
        /// Reject connections without TLS with close code 4000. Needs `server.tls` or
        /// `server.trusted_proxies`.
        tls_only: bool = false => { reload: NewConnections },
        /// Maximum connections of the app across all nodes. 0: no limit.
        max_connections: usize = 0 => { rule: Range(0, 10_000_000), reload: NewConnections },
        /// Connections that may send client events: `members` are the subscribers of the private or presence channel.
        client_events: ClientEvents = ClientEvents::Members => {
            rule: OneOf(ClientEvents::NAMES), soketi: Some("'none'"),
        },
        /// Maximum client events per second and connection. 0: no limit.
        client_events_per_second: u32 = 10 => {
            rule: Range(0, 1_000_000), reverb: Some("0"), soketi: Some("0"),
        },
        /// Maximum messages per connection and window, without pings (Reverb's `rate_limiting`). 0: no limit.
        max_messages: u32 = 0 => { rule: Range(0, 1_000_000) },
        /// Length of the window of `max_messages`.
        max_messages_window_s: u64 = 60 => { rule: Range(1, 86_400) },
        /// Beyond `max_messages`: `true` closes the connection with 4100; `false` drops the message with
        /// error 4301.
        max_messages_closes: bool = false => {},
        /// Whether clients may sign in (`pusher:signin`).
        user_authentication: bool = true => { soketi: Some("false") },
        /// Close connections with 4009 that have not been authorized in this time. 0: never.
        authorized_connections_timeout_s: u64 = 0 => { rule: Range(0, 86_400), reload: NewConnections },
        /// Send the subscription count to subscribers and webhooks. The HTTP API returns it in any case.
        subscription_count: bool = false => {},
        /// Maximum size of the data of one event, after JSON decoding: docs/data.md. At most
        /// `connection.max_outbox_bytes`; that of a client event is also limited by
        /// `connection.max_message_bytes`.
        max_event_bytes: usize = 102_400 => { rule: Range(1, 67_108_864) },
        /// Maximum channels per published event.
        max_event_channels: usize = 100 => { rule: Range(1, 10_000), reverb: Some("10_000") },
        /// Maximum length of an event name.
        max_event_name_length: usize = 200 => {
            rule: Range(1, 1_000), unit: Some("characters"), reverb: Some("1_000"),
        },
        /// Maximum events per batch.
        max_batch_events: usize = 10 => { rule: Range(1, 10_000), reverb: Some("10_000") },
        /// Maximum length of a channel name.
        max_channel_name_length: usize = 200 => {
            rule: Range(1, 1_000), unit: Some("bytes"), reverb: Some("1_000"),
        },
        /// Maximum members of a presence channel.
        max_presence_members: usize = 100 => { rule: Range(1, 1_000_000), reverb: Some("1_000_000") },
        /// Maximum size of the `user_info` of a member, as compact JSON in UTF-8. Escapes do not count.
        max_presence_user_info_bytes: usize = 1_024 => {
            rule: Range(1, 1_048_576),
            reverb: Some("1_048_576"),
            soketi: Some("2_048"),
        },
        /// How long a cache channel keeps its last event.
        cache_ttl_s: u64 = 1_800 => {
            rule: Range(1, 31_536_000),
            reverb: Some("31_536_000"),
            soketi: Some("3_600"),
        },
        /// Maximum total size of the last events of cache channels. Beyond it, the least recently published
        /// are evicted:
        /// docs/cluster.md#last-events-of-cache-channels.
        max_cache_bytes: usize = 67_108_864 => { rule: Range(1_024, 1_099_511_627_776) },
        /// Maximum API requests per second and node. 0: no limit. Beyond it: 429.
        requests_per_second: u32 = 0 => { rule: Range(0, 1_000_000) },
        /// Password of the console for this app only, as `console.password`: without other apps, the log
        /// and the configuration. Empty: none.
        console_password: Secret = Secret::default() => {
            rule: Parse(values::console_password, "`$argon2…`, or at least 8 characters"),
            is_secret: true,
        },
        /// Whether the console shows the data of events and members, and the bodies of webhooks. Always
        /// with the development app.
        console_payloads: bool = false => {},
        sections {
            /// The webhooks of this app.
            webhooks: Vec<WebhookConfig> = Vec::new(),
            /// The channels of this app whose events are kept.
            history: Vec<HistoryConfig> = Vec::new(),
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

string_enum! {
    /// Which connections may send client events.
    ClientEvents {
        /// No connection.
        None = "none",
        /// Subscribers of the private or presence channel on which the event is sent.
        Members = "members",
    }
}

string_enum! {
    /// Which subscribers receive the events that were kept.
    HistoryReplay {
        /// Each new subscription, before later events.
        First = "first",
        /// None: the events can be read with the HTTP API only.
        Never = "never",
    }
}

section! {
    /// Channels of an app whose events are kept. Repeat the section for each prefix: docs/history.md.
    #[derive(Debug)]
    HistoryConfig at "apps[].history[]" {
        /// Keep the events of channels whose name begins with this. Of several prefixes that match, the longest applies.
        prefix: String = String::new() => {
            rule: Parse(values::not_empty, "not empty"),
            is_required: true,
            example: Some(r#""private-ai.""#),
        },
        /// How long an event is kept.
        seconds: u64 = 60 => { rule: Range(1, 86_400), unit: Some("seconds") },
        /// Maximum events of a channel, and 1 MiB. Beyond it, the oldest are dropped.
        events: usize = 100 => { rule: Range(1, 10_000), unit: Some("events") },
        /// `first`: a client that subscribes receives the kept events after the acknowledgement, the latest 256 KiB of them, again with
        /// each subscription. `never`: they can be read with the HTTP API only.
        replay: HistoryReplay = HistoryReplay::Never => { rule: OneOf(HistoryReplay::NAMES) },
    }
}

section! {
    /// One webhook of an app. Repeat the section for each: docs/webhooks.md.
    WebhookConfig at "apps[].webhooks[]" {
        /// Name in metrics and logs. Empty: the host of the URL.
        name: String = String::new() => { rule: Parse(webhook_rules::name, "at most 64 characters, no white space") },
        /// URL of the endpoint. Path and query are treated as secrets, because they can contain a token.
        #[serde(serialize_with = "serialize_masked")]
        url: String = String::new() => {
            rule: Parse(webhook_rules::url, "`http://` or `https://`"),
            is_secret: true,
            is_required: true,
            example: Some(r#""https://app.example.com/hooks""#),
        },
        /// Events to send; at least one.
        events: Vec<WebhookEvent> = Vec::new() => {
            rule: OneOf(WebhookEvent::NAMES),
            is_required: true,
            example: Some(r#"["channel_occupied", "channel_vacated"]"#),
        },
        /// Send only events of channels whose name begins with this. User events have no channel and are
        /// always sent. Empty: all.
        channel_prefix: String = String::new() => {},
        /// Send only events of channels whose name ends with this. Empty: all.
        channel_suffix: String = String::new() => {},
        /// Headers to add to each request. The values are treated as secrets.
        headers: BTreeMap<String, Secret> = BTreeMap::new() => {
            rule: Table(webhook_rules::headers, "header names and values"),
            is_secret: true,
            example: Some(r#"{ Authorization = "Bearer token" }"#),
        },
    }
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

string_enum! {
    /// An event that a webhook can report. The names are Pusher's, except for the last two.
    WebhookEvent {
        /// A channel has its first subscriber.
        ChannelOccupied = "channel_occupied",
        /// A channel has lost its last subscriber, and got none since.
        ChannelVacated = "channel_vacated",
        /// A user has joined a presence channel.
        MemberAdded = "member_added",
        /// A user has left a presence channel, and has not returned.
        MemberRemoved = "member_removed",
        /// A client has sent an event.
        ClientEvent = "client_event",
        /// A client has subscribed to a cache channel without a cached event.
        CacheMiss = "cache_miss",
        /// The number of subscribers of a channel has changed.
        SubscriptionCount = "subscription_count",
        /// A user has signed in with the first of its connections.
        UserOnline = "user_online",
        /// A user has closed its last connection, and has not returned.
        UserOffline = "user_offline",
    }
}

impl WebhookEvent {
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
