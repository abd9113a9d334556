//! The defaults of Reverb and soketi, for apps that their variables or soketi's file configure.
//!
//! A configuration written for one of these servers contains only what differs from that server's
//! defaults. Limits that are not set therefore have that server's defaults.

use super::{
    app::DEVELOPMENT,
    declare::{Setting, parse_toml},
    key::KeyPath,
    raw_config::RawConfig,
    schema,
    value_source::{CompatServer, ValueSource},
    variables::Variables,
};
use toml::Value;

const MESSAGE: &str = "connection.max_message_bytes";
const OUTBOX: &str = "connection.max_outbox_bytes";

/// The id and key of soketi's default app, which the development app shares. Its secret is public, so it
/// has no default.
const SOKETI_APP: [(&str, &str); 2] = [DEVELOPMENT[0], DEVELOPMENT[1]];

impl CompatServer {
    /// The server whose file is read, or whose variables configure the first app, or, without an
    /// app, whose variables are set.
    pub(super) fn detect(raw: &RawConfig, variables: &Variables, is_file: bool) -> Option<Self> {
        if is_file {
            return Some(Self::Soketi);
        }
        let first = KeyPath::new("apps").index(0);
        let named = ["key", "secret", "id"].iter().find_map(|name| raw.get(&first.child(name)));
        let has = |family| variables.names(family).any(|name| variables.non_empty(name).is_some());
        let variable = named.map(|setting| setting.source.variable().unwrap_or_default());
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

    fn default(self, setting: &Setting) -> Option<Value> {
        match self {
            Self::Reverb => setting.reverb.map(parse_toml),
            Self::Soketi => setting.soketi.map(parse_toml),
        }
    }

    /// Applies this server's defaults to settings of the server and of `apps` that are not set.
    pub(super) fn apply(self, raw: &mut RawConfig, apps: &[usize]) {
        let outbox = raw.get(&KeyPath::new(OUTBOX)).and_then(|set| set.value.as_integer());
        for setting in schema::settings() {
            let Some(value) = self.default(setting) else { continue };
            let fits =
                setting.key != MESSAGE || outbox.is_none_or(|max| value.as_integer() <= Some(max));
            let of_app = setting.key.strip_prefix("apps[].");
            match of_app {
                Some(name) => {
                    for app in apps {
                        let key = KeyPath::new("apps").index(*app).child(name);
                        self.set_default(raw, key, value.clone());
                    }
                }
                None if fits => self.set_default(raw, KeyPath::new(setting.key), value),
                None => {}
            }
        }
        let first = KeyPath::new("apps").index(0);
        // A list of apps in a file replaces soketi's own app.
        let is_own = raw.section_source(&first).is_none();
        if self == Self::Soketi && is_own && raw.get(&first.child("secret")).is_some() {
            for (name, value) in SOKETI_APP {
                self.set_default(raw, first.child(name), Value::String(value.to_owned()));
            }
        }
    }

    fn set_default(self, raw: &mut RawConfig, key: KeyPath, value: Value) {
        if raw.get(&key).is_none() {
            raw.set(key, value, ValueSource::Compat(self));
        }
    }

    /// The differences from this server that no setting changes, in one line.
    pub(super) fn differences(self) -> &'static str {
        match self {
            Self::Reverb => {
                "configured by REVERB_* variables: unset settings have Reverb's defaults. Unlike in \
                 Reverb, client events on public channels are rejected, rejected connections are closed, signed requests \
                 are valid for 600 s, and one connection has at most connection.max_channels subscriptions, \
                 connection.max_messages_per_second messages and connection.max_outbox_bytes waiting for it"
            }
            Self::Soketi => {
                "configured by SOKETI_* variables or soketi's file: unset settings have soketi's defaults. Unlike in \
                 soketi, client events on public channels are rejected, signed requests are valid for 600 s, metrics \
                 have Campanile's names, and one connection has at most connection.max_channels subscriptions, \
                 connection.max_messages_per_second messages and connection.max_message_bytes in one message"
            }
        }
    }
}
