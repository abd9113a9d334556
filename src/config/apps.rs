//! Completeness of apps, and the loopback restriction of the development app.

use super::{
    AppConfig, Config,
    app::DEVELOPMENT,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::{RawConfig, SourcedValue},
    value_source::ValueSource,
};
use std::net::IpAddr;
use toml::Value;

/// Whether `raw` names a database of apps.
pub(super) fn has_database(raw: &RawConfig) -> bool {
    ["apps_from.url", "apps_from.url_file"].iter().any(|key| {
        let value = raw.get(&KeyPath::new(*key)).and_then(|setting| setting.value.as_str());
        value.is_some_and(|text| !text.is_empty())
    })
}

/// With a database of apps, removes what another server's variables and defaults say about a first app
/// that has neither id, key nor secret: it is meant for the apps in the database.
pub(super) fn remove_unnamed(raw: &mut RawConfig) {
    let first = KeyPath::new("apps").index(0);
    let named = DEVELOPMENT.iter().any(|(name, _)| raw.get(&first.child(name)).is_some());
    let is_of_all_apps = |(key, setting): (&KeyPath, &SourcedValue)| {
        let is_of_app = |name: &str| name.starts_with("REVERB_APP_");
        let is_of_one = setting.source.variable().is_some_and(is_of_app);
        let is_foreign = matches!(setting.source, ValueSource::Compat(_))
            || setting.source.is_compat() && !is_of_one;
        key.section() != first || is_foreign
    };
    if !named && raw.section_source(&first).is_none() && raw.iter().all(is_of_all_apps) {
        raw.remove_section(&first);
    }
}

/// Checks that each of `count` apps has id, key and secret. A single app of which the environment
/// only sets limits is the development app.
pub(super) fn check_credentials(raw: &mut RawConfig, count: usize) -> Result<(), ConfigError> {
    let first = KeyPath::new("apps").index(0);
    let named = DEVELOPMENT.iter().any(|(name, _)| raw.get(&first.child(name)).is_some());
    if count == 1 && !has_database(raw) && !named && raw.section_source(&first).is_none() {
        for (name, value) in DEVELOPMENT {
            raw.set(first.child(name), Value::String(value.to_owned()), ValueSource::Default);
        }
    }
    let apps = (0..count).map(|index| KeyPath::new("apps").index(index));
    let keys = apps.flat_map(|app| DEVELOPMENT.map(|(name, _)| (app.clone(), app.child(name))));
    collect_errors(keys.map(|(app, key)| {
        if raw.get(&key).is_some() { Ok(()) } else { Err(missing(raw, &app, key)) }
    }))
}

/// Where the missing `key` of `app` belongs: the app's table in the file, or the variable beside
/// one that is set.
fn missing(raw: &RawConfig, app: &KeyPath, key: KeyPath) -> ConfigError {
    let named = DEVELOPMENT.iter().find_map(|(name, _)| raw.get(&app.child(name)));
    let beside = raw.section_source(app).or(named.map(|setting| &setting.source));
    let source = beside.or_else(|| raw.source_within(app)).unwrap_or(&ValueSource::Default);
    match source.variable() {
        Some(variable) => {
            let name = key.name().to_ascii_uppercase();
            let wanted = match variable {
                reverb if reverb.starts_with("REVERB_") => format!("REVERB_APP_{name}"),
                soketi if soketi.starts_with("SOKETI_") => format!("SOKETI_DEFAULT_APP_{name}"),
                _ours => key.variable_name(),
            };
            let message = format!("is required beside {variable}");
            ConfigError::key(&source.with_variable(&wanted), key, message)
        }
        None => ConfigError::key(source, key, "is required"),
    }
}

/// Restricts the development app to loopback.
///
/// A default address becomes loopback, and true is returned. An address that was configured is
/// rejected instead.
pub(super) fn restrict_to_loopback(
    config: &mut Config,
    raw: &RawConfig,
    warnings: &mut Vec<String>,
) -> Result<bool, ConfigError> {
    if !config.is_development() || is_loopback_bind_address(&config.server.host) {
        return Ok(false);
    }
    let host = KeyPath::new("server.host");
    let source = raw.source(&host);
    let chosen = match &source {
        ValueSource::Default
        | ValueSource::Compat(_)
        | ValueSource::File { .. }
        | ValueSource::FileOption { .. } => config.server.host != "0.0.0.0",
        ValueSource::Environment { .. } | ValueSource::Flag(_) => true,
    };
    if chosen {
        let message = "must be a loopback address, because the development app has a well-known secret; \
            configure an app of your own";
        return Err(ConfigError::key(&source, host, message));
    }
    let secret = raw.source(&KeyPath::new("apps").index(0).child("secret"));
    if secret.variable().is_some() || secret.is_compat() {
        warnings.push(format!(
            "{secret}: apps[0].secret is the public secret of the development app: the server listens on \
             127.0.0.1 instead of {}. Set a secret of your own",
            config.server.host
        ));
    }
    "127.0.0.1".clone_into(&mut config.server.host);
    Ok(true)
}

impl Config {
    /// Whether an app has the secret of the development app.
    pub(super) fn has_well_known_secret(&self) -> bool {
        self.apps.iter().any(AppConfig::has_well_known_secret)
    }
}

/// Whether the listen address `host` is loopback for certain. Stricter than [`Host::is_loopback`](crate::host::Host::is_loopback): a name
/// such as `app.test`, which browsers may use, can resolve to any address here.
pub(super) fn is_loopback_bind_address(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
