//! The defaults of Reverb and soketi, for an app that their variables configure.
//!
//! A configuration written for one of these servers contains only what differs from that server's
//! defaults. Limits that are not set therefore have that server's defaults.

use super::{draft::Draft, key::Key, origin::Origin, variables::Variables};
use std::fmt;
use toml::Value;

/// The server whose variables configure the first app.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compat {
    /// Laravel Reverb.
    Reverb,
    /// soketi.
    Soketi,
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reverb => "Reverb",
            Self::Soketi => "soketi",
        })
    }
}

/// A default value in the tables below.
#[derive(Clone, Copy, Debug)]
enum Fixed {
    Integer(i64),
    Boolean(bool),
    Text(&'static str),
}

use Fixed::{Boolean, Integer, Text};

impl From<Fixed> for Value {
    fn from(fixed: Fixed) -> Self {
        match fixed {
            Integer(integer) => Self::Integer(integer),
            Boolean(boolean) => Self::Boolean(boolean),
            Text(text) => Self::String(text.to_owned()),
        }
    }
}

/// Reverb limits events by the size of the request, user info by the size of the message, and
/// nothing else in this table. A setting that requires a limit has its maximum.
const REVERB: &[(&str, Fixed)] = &[
    ("apps[0].client_events_per_second", Integer(0)),
    ("apps[0].max_event_channels", Integer(10_000)),
    ("apps[0].max_event_name_length", Integer(1_000)),
    ("apps[0].max_batch_events", Integer(10_000)),
    ("apps[0].max_channel_name_length", Integer(1_000)),
    ("apps[0].max_presence_members", Integer(1_000_000)),
    ("apps[0].max_presence_user_info_bytes", Integer(1_048_576)),
    // Reverb keeps the last event of a cache channel as long as the channel has subscribers.
    ("apps[0].cache_ttl_s", Integer(31_536_000)),
];

/// The request has room for a batch of ten events of 100 KiB in which every byte is escaped, the
/// message for a client event of 100 KiB with its quotes escaped.
const SOKETI: &[(&str, Fixed)] = &[
    ("server.port", Integer(6_001)),
    ("server.max_request_bytes", Integer(8_388_608)),
    ("server.shutdown_grace_s", Integer(3)),
    (MESSAGE, Integer(262_144)),
    ("apps[0].client_events", Text("none")),
    ("apps[0].client_events_per_second", Integer(0)),
    ("apps[0].user_authentication", Boolean(false)),
    ("apps[0].max_presence_user_info_bytes", Integer(2_048)),
    ("apps[0].cache_ttl_s", Integer(3_600)),
    ("webhooks.batch_ms", Integer(0)),
];

const MESSAGE: &str = "connection.max_message_bytes";
const OUTBOX: &str = "connection.max_outbox_bytes";

/// soketi's own id and key. Its secret is public, so the secret has no default.
const SOKETI_APP: [(&str, &str); 2] = [("id", "app-id"), ("key", "app-key")];

impl Compat {
    /// The server whose variables configure the first app, or, without an app, whose variables are
    /// set.
    pub(super) fn of(draft: &Draft, variables: &Variables) -> Option<Self> {
        let first = Key::new("apps").item(0);
        let named =
            ["key", "secret", "id"].iter().find_map(|name| draft.setting(&first.child(name)));
        let has = |family| variables.names(family).any(|name| variables.set(name).is_some());
        let variable = named.map(|setting| setting.origin.variable().unwrap_or_default());
        match variable {
            Some(name) if name.starts_with("REVERB_") => Some(Self::Reverb),
            Some(name) if name.starts_with("SOKETI_") => Some(Self::Soketi),
            Some(name) if !name.starts_with("PUSHER_") => None,
            // The development app, or an app from the variables of hosted Pusher.
            Some(_) | None if has("SOKETI_") => Some(Self::Soketi),
            Some(_) | None if has("REVERB_") => Some(Self::Reverb),
            Some(_) | None => None,
        }
    }

    fn defaults(self) -> &'static [(&'static str, Fixed)] {
        match self {
            Self::Reverb => REVERB,
            Self::Soketi => SOKETI,
        }
    }

    /// Applies this server's defaults to settings that are not set.
    pub(super) fn apply(self, draft: &mut Draft) {
        let outbox = draft.setting(&Key::new(OUTBOX)).and_then(|set| set.value.as_integer());
        for (key, default) in self.defaults() {
            let value = Value::from(*default);
            let fits = *key != MESSAGE || outbox.is_none_or(|max| value.as_integer() <= Some(max));
            if fits {
                self.set_default(draft, Key::new(*key), value);
            }
        }
        let first = Key::new("apps").item(0);
        if self == Self::Soketi && draft.setting(&first.child("secret")).is_some() {
            for (name, value) in SOKETI_APP {
                self.set_default(draft, first.child(name), Value::String(value.to_owned()));
            }
        }
    }

    fn set_default(self, draft: &mut Draft, key: Key, value: Value) {
        if draft.setting(&key).is_none() {
            draft.set(key, value, Origin::Compat(self));
        }
    }

    /// The differences from this server that no setting changes, in one line.
    pub(super) fn differences(self) -> &'static str {
        match self {
            Self::Reverb => {
                "configured by REVERB_* variables: unset settings have Reverb's defaults. Unlike in \
                 Reverb, client events on public channels are refused, refused connections are closed, signed requests \
                 are valid for 600 s, and one connection has at most connection.max_channels subscriptions, \
                 connection.max_messages_per_second messages and connection.max_outbox_bytes waiting for it"
            }
            Self::Soketi => {
                "configured by SOKETI_* variables: unset settings have soketi's defaults. Unlike in \
                 soketi, client events on public channels are refused, signed requests are valid for 600 s, metrics \
                 have Campanile's names, and one connection has at most connection.max_channels subscriptions, \
                 connection.max_messages_per_second messages and connection.max_message_bytes in one message"
            }
        }
    }
}
