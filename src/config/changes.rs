//! The changes that a reload makes.

use super::{AppConfig, Config, ConfigError, declare::SettingsSection, guessable};
use std::{fmt, net::IpAddr};

/// The difference between the running configuration and another one. Settings are identified by
/// their keys; values are not shown, since some are secrets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// The ids of added apps.
    pub added: Vec<String>,
    /// The ids of removed apps.
    pub removed: Vec<String>,
    /// Apps with changed settings.
    pub changed: Vec<ChangedApp>,
    /// Changed settings of the server.
    pub settings: Vec<String>,
    /// Settings with other values that only a restart can change.
    pub restart_required: Vec<String>,
}

/// An app in both configurations. If its key has changed, it is another app to clients and to the
/// server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangedApp {
    /// The app's id.
    pub id: String,
    /// The names of its changed settings.
    pub settings: Vec<String>,
}

impl Config {
    /// The configuration with which a server continues that runs this one, listens on `address` and
    /// loads `new`, with the changes. Settings that only a restart can change are those of this
    /// configuration.
    ///
    /// # Errors
    ///
    /// `new` has an app with the published secret of the development app and this configuration
    /// has none, or the server is reachable from the network and an app has a guessable secret.
    pub fn reload(&self, new: Self, address: IpAddr) -> Result<(Self, Changes), ConfigError> {
        if new.has_well_known_secret() && !self.has_well_known_secret() {
            let message = "a reload cannot switch to the development app: restart to do that";
            return Err(ConfigError::at("apps", message));
        }
        new.check_for(address)?;
        let changes = self.changes_to(&new);
        let mut next = new;
        next.keep_restart_only(self);
        Ok((next, changes))
    }

    /// Rejects guessable secrets, including that of the development app, unless `address`, on which
    /// the server actually listens, is loopback.
    ///
    /// # Errors
    ///
    /// The address is reachable from the network, and an app has such a secret.
    pub fn check_for(&self, address: IpAddr) -> Result<(), ConfigError> {
        guessable::reject(self, &address.to_canonical().to_string(), None)
    }

    fn changes_to(&self, new: &Self) -> Changes {
        let find = |apps: &[AppConfig], id: &str| apps.iter().find(|app| app.id == id).cloned();
        let mut changes = Changes::default();
        for app in &new.apps {
            match find(&self.apps, &app.id) {
                None => changes.added.push(app.id.clone()),
                Some(previous) if previous != *app => {
                    let settings = changed_settings(&previous, app);
                    changes.changed.push(ChangedApp { id: app.id.clone(), settings });
                }
                Some(_) => {}
            }
        }
        let removed = self.apps.iter().filter(|app| find(&new.apps, &app.id).is_none());
        changes.removed = removed.map(|app| app.id.clone()).collect();
        for setting in self.changed(new) {
            let keys = if setting.needs_restart() {
                &mut changes.restart_required
            } else {
                &mut changes.settings
            };
            keys.push(setting.key.to_owned());
        }
        changes
    }
}

impl AppConfig {
    /// The names of the settings that differ from those of `before`.
    #[must_use]
    pub fn settings_other_than(&self, before: &Self) -> Vec<String> {
        changed_settings(before, self)
    }
}

/// The names of the changed settings of an app: secrets after the others, and last its history and
/// its webhooks, each of which counts as one.
fn changed_settings(previous: &AppConfig, new: &AppConfig) -> Vec<String> {
    let mut changed = previous.changed(new);
    changed.sort_by_key(|setting| setting.is_secret);
    let history = (previous.history != new.history).then_some("history");
    let webhooks = (previous.webhooks != new.webhooks).then_some("webhooks");
    let names = changed.iter().map(|setting| setting.name()).chain(history).chain(webhooks);
    names.map(str::to_owned).collect()
}

impl fmt::Display for ChangedApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.settings.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        HistoryConfig, LogFormat, LogLevel, ResumeAck, Secret, WebhookConfig, schema,
    };

    fn app(id: &str) -> AppConfig {
        let secret = Secret::new("s");
        AppConfig { id: id.into(), key: format!("k{id}"), secret, ..AppConfig::default() }
    }

    fn config(apps: Vec<AppConfig>) -> Config {
        Config { apps, ..Config::default() }
    }

    /// The changes of a server that listens on its configured address.
    fn reload(running: &Config, fresh: Config) -> Result<(Config, Changes), ConfigError> {
        running.reload(fresh, running.server.host.parse().unwrap())
    }

    #[test]
    fn equal_configurations_have_no_changes() {
        let running = config(vec![app("1")]);
        let (next, changes) = reload(&running, running.clone()).unwrap();
        assert_eq!((next, changes), (running, Changes::default()));
    }

    #[test]
    fn apps_are_added_removed_and_changed() {
        let running = config(vec![app("1"), app("2"), app("3")]);
        let secret = AppConfig { secret: Secret::new("t"), max_connections: 5, ..app("3") };
        let webhooks = vec![WebhookConfig::default()];
        let history = vec![HistoryConfig::default()];
        let of_app_2 = AppConfig { webhooks, history, allowed_origins: Vec::new(), ..app("2") };
        // Their order does not matter.
        let (_, changes) = reload(&running, config(vec![secret, of_app_2, app("4")])).unwrap();
        assert_eq!((changes.added, changes.removed), (vec!["4".into()], vec!["1".into()]));
        let words: Vec<String> = changes.changed.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            ["3 (max_connections, secret)", "2 (allowed_origins, history, webhooks)"]
        );
    }

    #[test]
    fn settings_that_need_a_restart_are_reported_and_kept() {
        let running = config(vec![app("1")]);
        let mut fresh = running.clone();
        fresh.server.host = "127.0.0.1".into();
        fresh.server.port = 1;
        fresh.server.reuse_port = true;
        fresh.server.shards = 2;
        fresh.apps_from.url = Secret::new("x");
        fresh.apps_from.url_file = "x".into();
        fresh.apps_from.table = "x".into();
        fresh.apps_from.cache_ttl_s = 1;
        fresh.apps_from.pool_size = 1;
        fresh.apps_from.timeout_ms = 100;
        fresh.connection.resume_s = 1;
        fresh.connection.resume_max_events = 1;
        fresh.connection.resume_ack = ResumeAck::Websocket;
        fresh.connection.presence_grace_s = 1;
        fresh.redis.ca = "x".into();
        fresh.redis.url_file = "x".into();
        fresh.redis.prefix = "x".into();
        fresh.redis.broker_wait_ms = 1;
        fresh.redis.node_timeout_ms = 1;
        fresh.redis.url = serde_json::from_str(r#""redis://:secret@h""#).unwrap();
        fresh.metrics.listen = "x".into();
        fresh.log.format = LogFormat::Json;
        let (next, changes) = reload(&running, fresh.clone()).unwrap();
        assert_eq!(next, running);
        assert_eq!(changes.settings, Vec::<String>::new());
        let mut unchanged = changes.restart_required;
        unchanged.sort();
        let fixed = schema::settings().filter(|setting| setting.needs_restart());
        let mut all: Vec<_> = fixed.map(|setting| setting.key.to_owned()).collect();
        all.sort();
        assert_eq!(unchanged, all);
        // The same masked value can be another secret.
        fresh.redis.url = serde_json::from_str(r#""redis://:other@h""#).unwrap();
        let mut before = running;
        before.redis.url = serde_json::from_str(r#""redis://:secret@h""#).unwrap();
        assert!(
            reload(&before, fresh).unwrap().1.restart_required.contains(&"redis.url".to_owned())
        );
    }

    #[test]
    fn other_settings_are_applied() {
        let running = config(vec![app("1")]);
        let mut fresh = running.clone();
        fresh.server.path = "/ws".into();
        fresh.connection.max_channels = 5;
        fresh.metrics.token = Secret::new("x");
        fresh.log.level = LogLevel::Debug;
        let (next, changes) = reload(&running, fresh.clone()).unwrap();
        assert_eq!(next, fresh);
        let keys = ["server.path", "connection.max_channels", "metrics.token", "log.level"];
        assert_eq!(
            (changes.settings, changes.restart_required),
            (keys.map(str::to_owned).into(), vec![])
        );
    }

    #[test]
    fn a_reload_does_not_add_the_development_app() {
        let mut running = config(vec![app("1")]);
        running.server.host = "127.0.0.1".into();
        let development = AppConfig::development();
        let other = AppConfig { id: "2".into(), key: "k2".into(), ..development.clone() };
        for fresh in [vec![development.clone()], vec![app("1"), development.clone()], vec![other]] {
            let error = reload(&running, config(fresh)).unwrap_err().to_string();
            assert!(error.contains("cannot switch to the development app"), "{error}");
        }
        running.apps = vec![development.clone()];
        let more = AppConfig { max_connections: 5, ..development };
        assert!(reload(&running, config(vec![more, app("1")])).is_ok(), "it is there already");
    }

    #[test]
    fn a_guessable_secret_is_rejected_off_loopback() {
        let running = config(vec![app("1")]);
        let mut fresh = config(vec![app("1"), AppConfig { secret: Secret::new("k2"), ..app("2") }]);
        // The listen address does not change.
        fresh.server.host = "127.0.0.1".into();
        let error = reload(&running, fresh.clone()).unwrap_err().to_string();
        assert!(error.starts_with("apps[1].secret: is the app's key or id"), "{error}");
        let mut local = running;
        local.server.host = "127.0.0.1".into();
        assert!(reload(&local, fresh).is_ok());
    }
    #[test]
    fn the_actual_address_counts_and_not_the_configured_one() {
        let mut local = config(vec![AppConfig::development()]);
        local.server.host = "127.0.0.1".into();
        for (address, is_local) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("192.168.1.7", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(local.check_for(address).is_ok(), is_local, "{address}");
            assert_eq!(local.reload(local.clone(), address).is_ok(), is_local, "{address}");
        }
    }
}
