//! Reads an app from a row of a database: soketi's table of apps.

use super::{
    AppConfig, Config, ConfigError,
    check::check_values,
    convert::to_kind,
    declare::Setting,
    guessable,
    key::KeyPath,
    raw_config::RawConfig,
    row_defaults::{INDEX, RowDefaults},
    schema, soketi,
    value_source::ValueSource,
    variables::OptionValue,
    webhooks,
};
use std::net::IpAddr;
use toml::Value;

/// The columns of a row that are not null, as texts, by name.
pub type AppRow = [(String, String)];

/// Columns without a meaning, although they have the names of settings: a row must not name files of
/// this machine.
const NOT_READ: [&str; 1] = ["secret_file"];

/// Whether a column of the table has a meaning.
#[must_use]
pub fn is_app_column(name: &str) -> bool {
    soketi::variable_of_column(name).is_some() || own_setting(name).is_some()
}

/// The setting of an app that has the name of a column.
fn own_setting(column: &str) -> Option<&'static Setting> {
    let pattern = KeyPath::new("apps[]").child(column);
    schema::setting(pattern.as_str()).filter(|_| !NOT_READ.contains(&column))
}

impl Config {
    /// The app in a row of the table `apps_from.table`, for a server that listens on `address`. Columns
    /// have the names of soketi's, or those of other settings of an app; others are ignored.
    ///
    /// # Errors
    ///
    /// The name of the column, and the error message.
    pub fn app_of_row(&self, row: &AppRow, address: IpAddr) -> Result<AppConfig, ConfigError> {
        let app = self.read_row(row).and_then(|app| self.check_app(app, address));
        app.map_err(ConfigError::without_keys)
    }

    fn read_row(&self, row: &AppRow) -> Result<AppConfig, ConfigError> {
        let app = KeyPath::new("apps").index(INDEX);
        let RowDefaults { variables, compat } = &self.apps_from.row_defaults;
        let (mut raw, mut values) = (RawConfig::default(), Vec::new());
        for (column, text) in row {
            let (source, key) = (self.column(column), app.child(column));
            if let Some(variable) = soketi::variable_of_column(column) {
                values.push(OptionValue { variable, text: text.clone(), source });
            } else if let Some(setting) = own_setting(column) {
                let value = to_kind(setting.kind, text)
                    .map_err(|message| ConfigError::key(&source, &key, message))?;
                raw.set(key, value, source);
            }
        }
        soketi::read_row(variables, &values, INDEX, &mut raw)?;
        if let Some(compat) = compat {
            compat.apply(&mut raw, &[INDEX]);
        }
        for name in ["id", "key", "secret"] {
            if raw.get(&app.child(name)).is_none() {
                return Err(ConfigError::key(&self.column(name), app.child(name), "is required"));
            }
        }
        check_values(&mut raw)?;
        let list = app.child("webhooks");
        raw.list_len(&list)?;
        let config = AppConfig::in_table(&raw.to_toml(), INDEX)?;
        webhooks::check_webhooks(&raw, &list, &config.webhooks)?;
        Ok(config)
    }

    /// Checks an app by the settings of the server.
    fn check_app(&self, app: AppConfig, address: IpAddr) -> Result<AppConfig, ConfigError> {
        let key = |name: &str| KeyPath::new("apps").index(INDEX).child(name);
        for (limit, name) in [
            (self.server.max_request_bytes, "server.max_request_bytes"),
            (self.connection.max_outbox_bytes, "connection.max_outbox_bytes"),
        ] {
            if limit < app.max_event_bytes {
                let message = format!(
                    "is {} bytes, and must be at most {name} ({limit})",
                    app.max_event_bytes
                );
                let column = self.column("max_event_payload_in_kb");
                return Err(ConfigError::key(&column, key("max_event_bytes"), message));
            }
        }
        if app.tls_only && self.server.trusted_proxies.is_empty() && self.server.tls.cert.is_empty()
        {
            let message = "rejects all clients unless server.tls or server.trusted_proxies is set";
            return Err(ConfigError::key(&self.column("tls_only"), key("tls_only"), message));
        }
        if address.to_canonical().is_loopback() {
            return Ok(app);
        }
        for (name, weakness) in [
            ("secret", guessable::weakness(&app)),
            ("console_password", guessable::console_weakness(&app)),
        ] {
            if let Some(message) = weakness {
                return Err(ConfigError::key(&self.column(name), key(name), message));
            }
        }
        Ok(app)
    }

    fn column(&self, name: &str) -> ValueSource {
        let file = format!("table {}", self.apps_from.table);
        ValueSource::FileOption { file, path: name.to_owned() }
    }
}

impl AppConfig {
    /// The app with an index in the table of a configuration.
    fn in_table(table: &toml::Table, index: usize) -> Result<Self, ConfigError> {
        let apps = table.get("apps").and_then(Value::as_array);
        let app = apps.and_then(|apps| apps.get(index)).cloned();
        let app = app.unwrap_or_else(|| Value::Table(toml::Table::new()));
        app.try_into().map_err(|error: toml::de::Error| {
            ConfigError::at("row", error.message().replace('\n', ", "))
        })
    }
}
