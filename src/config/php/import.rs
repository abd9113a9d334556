//! Converts Reverb's configuration, as PHP evaluates it, to `config.toml`.

use crate::config::{declare::parse_toml, redis_url::encoded, schema};
use serde_json::Value;
use std::fmt::Write as _;

/// Reverb's default size of requests and messages. Campanile's own limits are larger, so that it is
/// imported only if it was changed.
const REVERB_SIZE: u64 = 10_000;

/// The text of a `config.toml` that means the same as `reverb`, the value that `config/reverb.php`
/// returns, and warnings about what it does not take over.
///
/// # Errors
///
/// `reverb` has no apps.
pub fn import_reverb(reverb: &Value) -> Result<(String, Vec<String>), String> {
    let mut importer = Importer::default();
    let apps = reverb["apps"]["apps"].as_array().filter(|apps| !apps.is_empty());
    let apps = apps.ok_or("it has no list apps.apps: apps from another provider can't be read")?;
    let name = reverb["default"].as_str().unwrap_or("reverb");
    importer.server(&reverb["servers"][name], name);
    importer.connection(apps);
    for (index, app) in apps.iter().enumerate() {
        importer.app(app, index);
    }
    importer.redis(&reverb["servers"][name]["scaling"]);
    Ok((importer.text, importer.warnings))
}

#[derive(Default)]
struct Importer {
    text: String,
    warnings: Vec<String>,
}

impl Importer {
    fn section(&mut self, header: &str) {
        let break_before = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{break_before}{header}");
    }

    /// Writes a setting, unless the value is null.
    fn set(&mut self, name: &str, value: &Value) {
        if let Some(value) = to_toml(value) {
            let _ = writeln!(self.text, "{name} = {value}");
        }
    }

    /// Names the keys of `table` that are not among `known`.
    fn warn_others(&mut self, path: &str, table: &Value, known: &[&str]) {
        for key in table.as_object().iter().flat_map(|table| table.keys()) {
            if !known.contains(&key.as_str()) {
                self.warnings.push(format!("{path}.{key} has no effect"));
            }
        }
    }

    fn server(&mut self, server: &Value, name: &str) {
        self.section("[server]");
        for key in ["host", "port", "path"] {
            self.set(key, &integer_if_possible(&server[key]));
        }
        let size = integer_if_possible(&server["max_request_size"]);
        if size.as_u64() != Some(REVERB_SIZE) {
            self.set("max_request_bytes", &size);
        }
        let tls = &server["options"]["tls"];
        if tls["local_cert"].is_string() || tls["local_pk"].is_string() {
            self.section("[server.tls]");
            self.set("cert", &tls["local_cert"]);
            // PHP takes the key from the file of the certificate if there is none.
            let key =
                if tls["local_pk"].is_string() { &tls["local_pk"] } else { &tls["local_cert"] };
            self.set("key", key);
        }
        let path = format!("servers.{name}");
        self.warn_others(&format!("{path}.options.tls"), tls, &["local_cert", "local_pk"]);
        let ingest = ["pulse_ingest_interval", "telescope_ingest_interval"];
        let read = ["host", "port", "path", "max_request_size", "options", "scaling", "hostname"];
        self.warn_others(&path, server, &[&read[..], &ingest].concat());
    }

    /// Settings per app in Reverb that hold for all connections here: the most generous of each.
    fn connection(&mut self, apps: &[Value]) {
        let numbers = |name: &str| -> Vec<u64> {
            apps.iter().filter_map(|app| integer_if_possible(&app[name]).as_u64()).collect()
        };
        let (timeouts, sizes) = (numbers("activity_timeout"), numbers("max_message_size"));
        let timeout = timeouts.iter().max().filter(|timeout| **timeout != 30);
        let size = sizes.iter().max().filter(|size| **size != REVERB_SIZE);
        if timeout.is_some() || size.is_some() {
            self.section("[connection]");
        }
        for (name, largest, all) in
            [("activity_timeout_s", timeout, &timeouts), ("max_message_bytes", size, &sizes)]
        {
            if let Some(largest) = largest {
                self.set(name, &(*largest).into());
            }
            if all.iter().any(|one| Some(one) != all.first()) {
                self.warnings
                    .push(format!("connection.{name} holds for all apps: the largest is taken"));
            }
        }
    }

    fn app(&mut self, app: &Value, index: usize) {
        self.section("[[apps]]");
        for (name, key) in [("id", "app_id"), ("key", "key"), ("secret", "secret")] {
            self.set(name, &text(&app[key]));
        }
        self.set("allowed_origins", &app["allowed_origins"]);
        self.set("max_connections", &integer_if_possible(&app["max_connections"]));
        if let Some(from) = app["accept_client_events_from"].as_str() {
            let who = if matches!(from, "members" | "all") { "members" } else { "none" };
            self.set("client_events", &who.into());
            if from == "all" {
                self.warnings.push(format!(
                    "apps.apps.{index}.accept_client_events_from is all: here only subscribers of the channel may send client events"
                ));
            }
        }
        let limit = &app["rate_limiting"];
        if limit["enabled"] == true {
            let or = |key: &str, default: Value| {
                let value = integer_if_possible(&limit[key]);
                if value.is_null() { default } else { value }
            };
            self.set("max_messages", &or("max_attempts", 60.into()));
            self.set("max_messages_window_s", &or("decay_seconds", 60.into()));
            self.set("max_messages_closes", &or("terminate_on_limit", false.into()));
        }
        self.reverb_defaults();
        let of_clients = ["options", "ping_interval"];
        let read = [
            "app_id",
            "key",
            "secret",
            "allowed_origins",
            "max_connections",
            "activity_timeout",
            "max_message_size",
            "accept_client_events_from",
            "rate_limiting",
        ];
        self.warn_others(&format!("apps.apps.{index}"), app, &[&read[..], &of_clients].concat());
    }

    /// What Reverb does not limit, an imported app does not limit either.
    fn reverb_defaults(&mut self) {
        self.text.push_str(
            "# As Reverb has them. Without these lines the defaults of Campanile apply.\n",
        );
        for setting in schema::settings().filter(|setting| setting.key.starts_with("apps[].")) {
            if let Some(default) = setting.reverb {
                let _ = writeln!(self.text, "{} = {}", setting.name(), parse_toml(default));
            }
        }
    }

    fn redis(&mut self, scaling: &Value) {
        let is_on = scaling["enabled"] == true || scaling["enabled"] == "true";
        if !is_on {
            return;
        }
        let server = &scaling["server"];
        let given = |name: &str| {
            text(&server[name]).as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let url = given("url").unwrap_or_else(|| {
            let credentials = match (given("username"), given("password")) {
                (user, Some(password)) => {
                    format!("{}:{}@", encoded(&user.unwrap_or_default()), encoded(&password))
                }
                (Some(user), None) => format!("{}@", encoded(&user)),
                (None, None) => String::new(),
            };
            let host = given("host").unwrap_or_else(|| "127.0.0.1".to_owned());
            let (scheme, host) = match host.strip_prefix("tls://") {
                Some(host) => ("rediss", host.to_owned()),
                None => ("redis", host),
            };
            let port = given("port").unwrap_or_else(|| "6379".to_owned());
            let database = given("database").unwrap_or_else(|| "0".to_owned());
            format!("{scheme}://{credentials}{host}:{port}/{database}")
        });
        self.section("[redis]");
        self.set("url", &url.replacen("tls://", "rediss://", 1).into());
        self.set("prefix", &scaling["channel"]);
    }
}

/// A number that PHP has as a text, because it comes from `.env`.
fn integer_if_possible(value: &Value) -> Value {
    let number = value.as_str().and_then(|text| text.trim().parse::<i64>().ok());
    number.map_or_else(|| value.clone(), Value::from)
}

/// A text that PHP may have as a number.
fn text(value: &Value) -> Value {
    value.as_number().map_or_else(|| value.clone(), |number| number.to_string().into())
}

/// `value` in TOML; `None` for null and for objects, which no imported setting is.
fn to_toml(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null | Value::Object(_) => return None,
        Value::Bool(is_true) => toml::Value::Boolean(*is_true),
        Value::Number(number) => toml::Value::Integer(number.as_i64()?),
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Array(items) => toml::Value::Array(items.iter().filter_map(to_toml).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    fn app() -> Value {
        json!({ "app_id": "1", "key": "k", "secret": "s" })
    }

    fn reverb(server: &Value, apps: &[Value]) -> Value {
        json!({ "default": "reverb", "servers": { "reverb": server }, "apps": { "apps": apps } })
    }

    /// The imported configuration, and the warnings.
    fn imported(reverb: &Value) -> (Config, Vec<String>) {
        let (text, warnings) = import_reverb(reverb).unwrap();
        (toml::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")), warnings)
    }

    #[test]
    fn the_server_is_imported_with_its_certificate() {
        let tls = json!({ "local_cert": "/a.pem", "passphrase": "x" });
        let server = json!({
            "host": "127.0.0.1", "port": "7000", "path": "/ws", "hostname": "h",
            "max_request_size": 20_000, "options": { "tls": tls }, "colour": 1,
        });
        let (config, warnings) = imported(&reverb(&server, &[app()]));
        let server = config.server;
        assert_eq!(
            (server.host.as_str(), server.port, server.path.as_str()),
            ("127.0.0.1", 7_000, "/ws")
        );
        assert_eq!(server.max_request_bytes, 20_000);
        assert_eq!((server.tls.cert.as_str(), server.tls.key.as_str()), ("/a.pem", "/a.pem"));
        let unread = ["options.tls.passphrase", "colour"];
        assert_eq!(warnings, unread.map(|key| format!("servers.reverb.{key} has no effect")));
    }

    #[test]
    fn what_reverb_does_not_limit_is_not_limited() {
        let mut limited = app();
        limited["max_connections"] = "5".into();
        limited["accept_client_events_from"] = "none".into();
        limited["rate_limiting"] =
            json!({ "enabled": true, "max_attempts": "7", "terminate_on_limit": true });
        let mut unlimited =
            json!({ "app_id": 2, "key": "l", "secret": "s", "allowed_origins": ["a.test"] });
        unlimited["rate_limiting"] = json!({ "enabled": "true", "max_attempts": 7 });
        let (config, warnings) = imported(&reverb(&json!({}), &[limited, unlimited]));
        let [limited, unlimited] = &config.apps[..] else { panic!("two apps") };
        assert_eq!(limited.max_connections, 5);
        assert_eq!(limited.client_events.as_str(), "none");
        assert_eq!((limited.max_messages, limited.max_messages_window_s), (7, 60));
        assert!(limited.max_messages_closes);
        assert_eq!((unlimited.id.as_str(), unlimited.max_messages), ("2", 0));
        assert_eq!(unlimited.allowed_origins, ["a.test"]);
        assert_eq!(unlimited.max_presence_members, 1_000_000);
        assert_eq!(warnings, [""; 0]);
        // Reverb's own sizes are smaller than Campanile's, which stay.
        assert_eq!(config.server.max_request_bytes, Config::default().server.max_request_bytes);
    }

    #[test]
    fn settings_of_all_connections_are_the_largest_of_the_apps() {
        let with = |size: u64, timeout: u64| {
            let mut app = app();
            app["max_message_size"] = size.into();
            app["activity_timeout"] = timeout.into();
            app
        };
        let (config, warnings) =
            imported(&reverb(&json!({}), &[with(10_000, 30), with(20_000, 30)]));
        assert_eq!(config.connection.max_message_bytes, 20_000);
        assert_eq!(config.connection.activity_timeout_s, 30);
        assert_eq!(
            warnings,
            ["connection.max_message_bytes holds for all apps: the largest is taken"]
        );
        let (config, warnings) = imported(&reverb(&json!({}), &[with(10_000, 60)]));
        assert_eq!(config.connection.activity_timeout_s, 60);
        assert_eq!(config.connection.max_message_bytes, 65_536);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn scaling_is_imported_as_a_url_if_it_is_enabled() {
        let url = |scaling: Value| {
            let server = json!({ "scaling": scaling });
            let (text, _) = import_reverb(&reverb(&server, &[app()])).unwrap();
            let table: toml::Table = text.parse().unwrap();
            table.get("redis").map(|redis| {
                (
                    redis["url"].as_str().unwrap().to_owned(),
                    redis["prefix"].as_str().unwrap().to_owned(),
                )
            })
        };
        let server = json!({ "host": "r", "port": 6_380, "username": "u", "password": "p@/", "database": "2" });
        let off = json!({ "enabled": false, "channel": "c", "server": server });
        assert_eq!(url(off), None);
        for (server, expected) in [
            (server, "redis://u:p%40%2F@r:6380/2"),
            (json!({}), "redis://127.0.0.1:6379/0"),
            (json!({ "host": "tls://r", "password": "p" }), "rediss://:p@r:6379/0"),
            (json!({ "url": "tls://r:1", "host": "x" }), "rediss://r:1"),
        ] {
            let on = json!({ "enabled": true, "channel": "c", "server": server });
            assert_eq!(url(on), Some((expected.to_owned(), "c".to_owned())));
        }
    }

    #[test]
    fn a_configuration_without_apps_is_an_error() {
        for reverb in [json!(null), json!({}), reverb(&json!({}), &[])] {
            assert!(import_reverb(&reverb).unwrap_err().contains("apps.apps"), "{reverb}");
        }
    }
}
