//! soketi's variables, and its configuration file.

mod database;
mod json;
mod mapping;
mod options;

pub(super) use json::is_json;
pub(super) use options::{SoketiFile, read_file};

use super::{
    compat_variable::{CompatVariable, apply, apply_all},
    convert::milliseconds,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
    redis,
    variables::{OptionValue, Variables, is_true},
    webhooks,
};
use std::net::{IpAddr, SocketAddr};
use toml::Value;

/// The effect of each of soketi's variables.
pub(super) fn compat_variables() -> impl Iterator<Item = &'static CompatVariable> + Clone {
    mapping::OPTIONS.iter().map(|(_, variable)| variable)
}

/// Adds the options of `file` to the variables, which win over it, as in soketi.
pub(super) fn add(file: &SoketiFile, variables: &mut Variables) {
    variables.add_defaults(&file.values);
}

/// Writes the values of soketi's variables and of its `file` into `raw`.
pub(super) fn read(
    variables: &Variables,
    file: Option<&SoketiFile>,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let apps = file.iter().flat_map(|file| &file.apps);
    for (index, app) in apps.clone() {
        // Single options of the first app complete soketi's own app.
        let of_option = app.values.first().filter(|_| *index > 0).map(|value| &value.source);
        if let Some(place) = app.place.as_ref().or(of_option) {
            raw.add_section(KeyPath::new("apps").index(*index), place.clone());
        }
    }
    let first = file.and_then(|file| file.apps.get(&0)).map_or(&[][..], |app| &app.values);
    let further = apps.filter(|(index, _)| **index > 0);
    let first = read_server(&variables.for_app(0, first), raw, warnings);
    let further = further
        .map(|(index, app)| read_app(&variables.for_app(*index, &app.values), raw, warnings));
    collect_errors([first].into_iter().chain(further))
}

/// Writes the values for the server and for the first app.
fn read_server(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    collect_errors([
        apply("SOKETI_", compat_variables(), variables, raw, warnings),
        debug(variables, raw),
        metrics(variables, raw),
        authorized_connections(variables, raw),
        database::read(variables, raw, warnings),
        redis::read_soketi(compat_variables(), variables, raw, warnings),
        webhooks::read_soketi(variables, raw, warnings),
    ])
}

/// Writes the values for an app after the first.
fn read_app(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let of_app = compat_variables().filter(|variable| variable.is_of_app());
    collect_errors([
        apply_all(of_app, variables, raw, warnings),
        authorized_connections(variables, raw),
        webhooks::read_soketi(variables, raw, warnings),
    ])
}

/// Writes the `columns` of a row of soketi's table into `raw`, as the app with the index `app`. The
/// `variables` have limits for all apps.
pub(super) fn read_row(
    variables: &Variables,
    columns: &[OptionValue],
    app: usize,
    raw: &mut RawConfig,
) -> Result<(), ConfigError> {
    // What is noted about the configuration of an app would be noted each time that it is read.
    read_app(&variables.for_app(app, columns), raw, &mut Vec::new())
}

/// The variable with the effect of a column of soketi's table.
pub(super) fn variable_of_column(column: &str) -> Option<&'static str> {
    let known = mapping::APP_OPTIONS.iter().find(|([_, _, snake], _)| *snake == column);
    known.map(|(_, variable)| *variable)
}

/// `SOKETI_DEBUG` sets the log level to `debug`.
fn debug(variables: &Variables, raw: &mut RawConfig) -> Result<(), ConfigError> {
    let key = KeyPath::new("log.level");
    if is_true("SOKETI_DEBUG", variables)? {
        raw.set(key, Value::String("debug".to_owned()), variables.source("SOKETI_DEBUG"));
    }
    Ok(())
}

/// `SOKETI_METRICS_ENABLED` starts a separate listener on soketi's port.
fn metrics(variables: &Variables, raw: &mut RawConfig) -> Result<(), ConfigError> {
    let key = KeyPath::new("metrics.listen");
    if is_true("SOKETI_METRICS_ENABLED", variables)? {
        let host = variables.non_empty("SOKETI_METRICS_HOST").unwrap_or("0.0.0.0");
        let port = variables.non_empty("SOKETI_METRICS_SERVER_PORT").unwrap_or("9601");
        let address = match (host.parse::<IpAddr>(), port.parse()) {
            (Ok(host), Ok(port)) => SocketAddr::new(host, port).to_string(),
            (Ok(_) | Err(_), _) => format!("{host}:{port}"),
        };
        raw.set(key, Value::String(address), variables.source("SOKETI_METRICS_ENABLED"));
    }
    Ok(())
}

/// With user authentication, soketi also closes connections that are not authorized within 30 s.
fn authorized_connections(variables: &Variables, raw: &mut RawConfig) -> Result<(), ConfigError> {
    let (user, timeout) =
        ("SOKETI_DEFAULT_APP_USER_AUTHENTICATION", "SOKETI_USER_AUTHENTICATION_TIMEOUT");
    let key = KeyPath::new(variables.with_app_index("apps[0].authorized_connections_timeout_s"));
    if is_true(user, variables)? {
        let (name, value) =
            variables.non_empty(timeout).map_or((user, "30000"), |value| (timeout, value));
        let source = variables.source(name);
        let value =
            milliseconds(value).map_err(|message| ConfigError::key(&source, &key, message))?;
        raw.set(key, value, source);
    }
    Ok(())
}
