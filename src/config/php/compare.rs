//! Compares Reverb's configuration with the effective one.

use super::{
    NAME,
    parse::{PhpNode, PhpValue, strings},
};
use crate::config::{
    Config,
    compat_variable::key_of,
    key::{KeyPath, PREFIX},
    raw_config::RawConfig,
    reverb::COMPAT_VARIABLES,
    schema::flatten,
    value_source::ValueSource,
};
use crate::escape::Escaped;

/// A setting of Reverb.
struct SettingRow {
    /// Path in Reverb's configuration.
    path: &'static [&'static str],
    /// Value in Reverb's stock configuration file.
    default: &'static str,
    /// Variable that sets the equivalent setting of Campanile, for the first app.
    variable: &'static str,
}

const fn row(
    path: &'static [&'static str],
    default: &'static str,
    variable: &'static str,
) -> SettingRow {
    SettingRow { path, default, variable }
}

impl SettingRow {
    /// Campanile's key; for an app, relative to its section.
    fn key(&self) -> &'static str {
        let key = key_of(COMPAT_VARIABLES, self.variable).unwrap_or_default();
        key.strip_prefix("apps[0].").unwrap_or(key)
    }
}

const SERVER: [SettingRow; 4] = [
    row(&["host"], "0.0.0.0", "REVERB_SERVER_HOST"),
    row(&["port"], "8080", "REVERB_SERVER_PORT"),
    row(&["path"], "", "REVERB_SERVER_PATH"),
    row(&["max_request_size"], "10000", "REVERB_MAX_REQUEST_SIZE"),
];

/// Settings per app in Reverb that are global in Campanile.
const CONNECTION: [SettingRow; 2] = [
    row(&["activity_timeout"], "30", "REVERB_APP_ACTIVITY_TIMEOUT"),
    row(&["max_message_size"], "10000", "REVERB_APP_MAX_MESSAGE_SIZE"),
];

const APP: [SettingRow; 2] = [
    row(&["max_connections"], "", "REVERB_APP_MAX_CONNECTIONS"),
    row(&["accept_client_events_from"], "members", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM"),
];

/// Settings that take effect if `rate_limiting.enabled` is true.
const RATE_LIMIT: [SettingRow; 3] = [
    row(&["rate_limiting", "max_attempts"], "60", "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS"),
    row(&["rate_limiting", "decay_seconds"], "60", "REVERB_APP_RATE_LIMIT_DECAY_SECONDS"),
    row(&["rate_limiting", "terminate_on_limit"], "false", "REVERB_APP_RATE_LIMIT_TERMINATE"),
];

/// Where the origins of further apps are set.
const IN_THE_FILE: &str = "allowed_origins in its [[apps]] in config.toml";

const COMPUTED: &str = "computes its apps, so they cannot be evaluated: set each as [[apps]] in config.toml, \
     with its allowed_origins";

/// The differences of `root`, the configuration of Reverb, from `config`, one line each.
pub(super) fn differences(root: &PhpNode, config: &Config, raw: &RawConfig) -> Vec<String> {
    let values = flatten(config).into_iter();
    let values = values.map(|(key, value)| (key, unquoted(&value))).collect();
    let mut comparison = ReverbComparison { config, raw, values, lines: Vec::new() };
    comparison.server(root);
    comparison.apps(root);
    comparison.lines
}

struct ReverbComparison<'a> {
    config: &'a Config,
    raw: &'a RawConfig,
    /// All effective settings.
    values: Vec<(KeyPath, String)>,
    lines: Vec<String>,
}

impl ReverbComparison<'_> {
    fn report(&mut self, line: usize, text: impl std::fmt::Display) {
        // Values of the file are part of the line, and must not break it.
        let text = text.to_string();
        self.lines.push(format!("{NAME}:{line}: {}", Escaped(&text)));
    }

    fn server(&mut self, root: &PhpNode) {
        let name = root
            .get("default")
            .map_or_else(|| "reverb".to_owned(), |node| text(&node.value).unwrap_or_default());
        let Some(server) = find(root, &["servers", &name]) else { return };
        if server.value == PhpValue::Dynamic {
            return self.report(
                server.line,
                "computes servers, which cannot be evaluated: if it sets options.tls, set \
                 CAMPANILE_SERVER__TLS__CERT and CAMPANILE_SERVER__TLS__KEY; for its host and port, set \
                 REVERB_SERVER_HOST and REVERB_SERVER_PORT",
            );
        }
        for row in &SERVER {
            self.row(row, &server, &KeyPath::new(row.key()), true);
        }
        self.tls(&server);
        let scaling = find(&server, &["scaling", "enabled"]);
        if let Some(PhpNode { value: PhpValue::Boolean(true), line }) = scaling
            && self.config.redis.target().is_none()
        {
            let message = "sets scaling.enabled; Campanile has no Redis configured: set REVERB_SCALING_ENABLED=true";
            self.report(line, message);
        }
    }

    fn tls(&mut self, server: &PhpNode) {
        let Some(tls) = find(server, &["options", "tls"]) else { return };
        let file = |name: &str| tls.get(name).filter(|node| node.value != PhpValue::Null);
        let (cert, key) = (file("local_cert"), file("local_pk"));
        let Some(first) = cert.clone().or(key.clone()) else { return };
        if !self.config.server.tls.cert.is_empty() || text(&first.value).as_deref() == Some("") {
            return;
        }
        let path = |node: Option<PhpNode>, instead: &str| match node.map(|node| node.value) {
            Some(PhpValue::String(path)) if !path.is_empty() => path,
            _unknown => instead.to_owned(),
        };
        let cert = path(cert, "FILE");
        let key = path(key, &cert);
        self.report(
            first.line,
            format_args!(
                "sets options.tls; Campanile listens without TLS: set \
                 CAMPANILE_SERVER__TLS__CERT={cert} and CAMPANILE_SERVER__TLS__KEY={key}"
            ),
        );
        if let Some(phrase) = file("passphrase") {
            self.report(
                phrase.line,
                "options.tls has a passphrase: keys with a passphrase are not supported",
            );
        }
    }

    fn apps(&mut self, root: &PhpNode) {
        let provider = find(root, &["apps", "provider"]);
        if let Some(PhpNode { value: PhpValue::String(provider), line }) = provider
            && provider != "config"
        {
            let message = format!(
                "gets its apps from the provider {provider}: set each as [[apps]] in config.toml"
            );
            return self.report(line, message);
        }
        let Some(apps) = find(root, &["apps", "apps"]) else { return };
        let PhpValue::Array(entries) = &apps.value else {
            return self.report(apps.line, COMPUTED);
        };
        for (index, entry) in entries.iter().enumerate() {
            if entry.node.value == PhpValue::Dynamic {
                self.report(entry.node.line, COMPUTED);
            } else {
                self.app(index, &entry.node);
            }
        }
    }

    fn app(&mut self, index: usize, app: &PhpNode) {
        let key = app.get("key").map(|node| node.value);
        let name = app.get("app_id").and_then(|node| text(&node.value)).filter(|id| !id.is_empty());
        let name = name.map_or_else(|| format!("app {}", index + 1), |id| format!("the app {id}"));
        let served = match key.as_ref().and_then(text) {
            Some(key) if key.is_empty() => return,
            Some(key) => self.config.apps.iter().position(|app| app.key == key),
            // The key is computed in PHP: most likely both first apps are the same.
            None => (index == 0).then_some(0),
        };
        match served {
            Some(served) => self.settings(index == 0, served, app),
            None if index == 0 => self.report(
                app.line,
                format_args!(
                    "{name} is not served: set its id, key and secret as REVERB_APP_ID, REVERB_APP_KEY and \
                     REVERB_APP_SECRET, and its allowed_origins as REVERB_ALLOWED_ORIGINS"
                ),
            ),
            None => self.report(
                app.line,
                format_args!(
                    "{name} is not served: set it as [[apps]] in config.toml, with its id, key, secret and \
                     allowed_origins"
                ),
            ),
        }
    }

    /// Compares the settings of `app` with those of the app at index `served`.
    fn settings(&mut self, is_first: bool, served: usize, app: &PhpNode) {
        let section = KeyPath::new("apps").index(served);
        if let Some(PhpValue::String(secret)) = app.get("secret").map(|node| node.value)
            && secret != self.config.apps[served].secret.expose()
        {
            self.report(app.line, format_args!("its secret differs from that of {section}"));
        }
        self.origins(is_first, served, app);
        for row in &CONNECTION {
            self.row(row, app, &KeyPath::new(row.key()), true);
        }
        for row in &APP {
            self.row(row, app, &section.child(row.key()), is_first);
        }
        let is_limited = find(app, &["rate_limiting", "enabled"]);
        if let Some(PhpNode { value: PhpValue::Boolean(true), line }) = is_limited {
            if self.config.apps[served].max_messages == 0 {
                self.report(
                    line,
                    format_args!(
                        "enables rate_limiting; {section} has no limit of messages: set \
                         REVERB_APP_RATE_LIMITING_ENABLED=true"
                    ),
                );
            } else {
                for row in &RATE_LIMIT {
                    self.row(row, app, &section.child(row.key()), is_first);
                }
            }
        }
    }

    /// Reports pages that may connect to Campanile and not to Reverb.
    fn origins(&mut self, is_first: bool, served: usize, app: &PhpNode) {
        let Some(node) = app.get("allowed_origins") else { return };
        let key = KeyPath::new("apps").index(served).child("allowed_origins");
        let here = &self.config.apps[served].allowed_origins;
        let effective = match &here[..] {
            all if all.iter().any(|origin| origin == "*") => "every origin".to_owned(),
            [] => "no origin".to_owned(),
            some => some.join(", "),
        };
        let Some(reverb_value) = strings(&node.value) else {
            if !is_chosen(&self.raw.source(&key)) {
                let how = if is_first { "REVERB_ALLOWED_ORIGINS" } else { IN_THE_FILE };
                let message = format!(
                    "computes allowed_origins, which cannot be evaluated. SECURITY: Campanile allows \
                     {effective} ({key}); if Reverb restricts it, set its hosts as {how}"
                );
                self.report(node.line, message);
            }
            return;
        };
        let reverb_value: Vec<_> = reverb_value.iter().map(|origin| origin.trim()).collect();
        let is_wider = here.iter().any(|origin| !reverb_value.contains(&origin.as_str()));
        if is_wider && !reverb_value.contains(&"*") {
            let how = if is_first {
                format!("REVERB_ALLOWED_ORIGINS={}", reverb_value.join(","))
            } else {
                format!("{IN_THE_FILE}, as {reverb_value:?}")
            };
            let are =
                if reverb_value.is_empty() { "empty".to_owned() } else { reverb_value.join(", ") };
            let message = format!(
                "sets allowed_origins to {are}. SECURITY: Campanile allows {effective} ({key}): set {how}"
            );
            self.report(node.line, message);
        }
    }

    /// Compares one setting with `key`. A value set by Campanile's own names is not reported.
    fn row(&mut self, row: &SettingRow, section: &PhpNode, key: &KeyPath, has_variable: bool) {
        let (Some(node), source) = (find(section, row.path), self.raw.source(key)) else {
            return;
        };
        let effective =
            self.values.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        let effective = effective.unwrap_or_default();
        let path = row.path.join(".");
        let instead = if has_variable { row.variable } else { row.key() };
        let Some(reverb_value) = text(&node.value) else {
            if !is_chosen(&source) {
                let message = format!(
                    "computes {path}, which cannot be evaluated: Campanile uses {effective} ({key}); {instead} sets it"
                );
                self.report(node.line, message);
            }
            return;
        };
        let meant = match row.key() {
            "server.path" if !reverb_value.trim_matches('/').is_empty() => {
                format!("/{}", reverb_value.trim_matches('/'))
            }
            "server.path" => String::new(),
            "client_events" if !matches!(reverb_value.as_str(), "all" | "members") => {
                "none".to_owned()
            }
            "client_events" => "members".to_owned(),
            "max_connections" if reverb_value.is_empty() => "0".to_owned(),
            _as_it_is => reverb_value.clone(),
        };
        if reverb_value != row.default && meant != effective && !is_ours(&source) {
            self.report(
                node.line,
                format_args!(
                    "sets {path} to {reverb_value}; Campanile uses {effective}: set {instead}={reverb_value}"
                ),
            );
        }
    }
}

/// Whether the value was set for this server.
fn is_ours(source: &ValueSource) -> bool {
    match source {
        ValueSource::File { .. } | ValueSource::FileOption { .. } | ValueSource::Flag(_) => true,
        ValueSource::Environment { variable, .. } => {
            variable.starts_with(PREFIX) || variable == "PORT"
        }
        ValueSource::Default | ValueSource::Compat(_) => false,
    }
}

/// Whether the value was set, instead of being a default.
fn is_chosen(source: &ValueSource) -> bool {
    !matches!(source, ValueSource::Default | ValueSource::Compat(_))
}

fn find(node: &PhpNode, path: &[&str]) -> Option<PhpNode> {
    path.iter().try_fold(node.clone(), |node, name| node.get(name))
}

/// A scalar as text, if it can be determined without PHP.
fn text(value: &PhpValue) -> Option<String> {
    match value {
        PhpValue::Null => Some(String::new()),
        PhpValue::Boolean(truth) => Some(truth.to_string()),
        PhpValue::Number(number) => Some(number.to_string()),
        PhpValue::String(text) => Some(text.clone()),
        PhpValue::Array(_) | PhpValue::Dynamic => None,
    }
}

/// One of Campanile's values without quotes.
fn unquoted(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
