//! Applies the rows that were read: adds apps, and changes and removes known ones.

use super::{AppRef, DatabaseApps};
use crate::{
    app::App,
    app_database::{AppColumn, AppRecord},
    config::{AppConfig, is_app_column},
    hub::Hub,
    node::{Node, apps::HubFactory},
    webhook::PreparedAppWebhooks,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

/// Maximum number of apps whose last error is remembered.
const ERRORS_MAX: usize = 10_000;

/// Applies rows of the table to the node, and logs each error in them once.
#[derive(Debug)]
pub(super) struct Rows {
    node: Arc<Node>,
    /// The last error of an app, by id: it is logged once.
    errors: HashMap<String, String>,
}

/// An app that is valid, with its webhooks.
struct ValidApp {
    config: AppConfig,
    webhooks: PreparedAppWebhooks,
}

impl Rows {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, errors: HashMap::new() }
    }

    /// Lets each error be logged once more.
    pub(super) fn forget_errors(&mut self) {
        self.errors.clear();
    }

    /// Takes the result of a lookup. Returns the hub of the app, which is known from now on.
    pub(super) fn found(
        &mut self,
        name: &AppRef,
        rows: &[AppRecord],
        now: Instant,
    ) -> Option<Arc<Hub>> {
        let node = Arc::clone(&self.node);
        let database = node.database.as_deref()?;
        if let Some(hub) = node.known(name) {
            return Some(hub);
        }
        let column = match name.column {
            AppColumn::Id => "id",
            AppColumn::Key => "key",
        };
        let row = only(rows, column, &name.value);
        let hub = match row {
            Ok(Some(row)) => self.serve(database, row, now),
            Ok(None) => None,
            Err(error) => self.reject(&name.value, error),
        };
        if hub.is_none() {
            database.unknown.insert(name.clone(), now);
        }
        hub
    }

    /// Serves the app of a row that was not known by its id or by its key.
    fn serve(
        &mut self,
        database: &DatabaseApps,
        row: &AppRecord,
        now: Instant,
    ) -> Option<Arc<Hub>> {
        let (id, key) = (row.text("id")?, row.text("key")?);
        let apps = self.node.apps.load();
        let configured = [apps.hub(id), apps.hub_by_key(key)];
        if configured.iter().any(Option::is_some) {
            let error =
                "its id or key is that of an app in the configuration, which is served instead";
            return self.reject(id, error.to_owned());
        }
        if database.hub(id).is_some() {
            // Its key has changed.
            self.read_again(&[id.to_owned()], std::slice::from_ref(row), true);
        }
        if database.hub_by_key(key).is_some() {
            return self.reject(id, "its key is that of another app".to_owned());
        }
        let ValidApp { config, webhooks } = self.validate(database, row, id)?;
        let node = &self.node;
        let factory = HubFactory { inboxes: &node.inboxes, webhooks: &node.webhooks };
        let hub = factory.hub(config);
        // The webhooks and the broker know a new app before its first connection.
        node.webhooks.change_app(webhooks);
        node.broker.set_app(&hub);
        database.insert(Arc::clone(&hub), now);
        self.node.update_known_apps_metric(database);
        tracing::info!(app = id, "app found in the database");
        Some(hub)
    }

    /// Takes the rows of known apps, and applies their changes. An app without a row is removed, unless
    /// there may be further rows or one has no readable id; one with an invalid row keeps its settings.
    pub(super) fn read_again(&mut self, ids: &[String], rows: &[AppRecord], is_complete: bool) {
        let node = Arc::clone(&self.node);
        let Some(database) = node.database.as_deref() else { return };
        let mut of_id: HashMap<&str, Vec<&AppRecord>> = HashMap::new();
        for row in rows {
            of_id.entry(row.text("id").unwrap_or_default()).or_default().push(row);
        }
        let may_lack_rows = !is_complete || of_id.contains_key("");
        for id in ids.iter().collect::<HashSet<_>>() {
            match of_id.get(id.as_str()).map_or(&[][..], Vec::as_slice) {
                [] if may_lack_rows => {
                    let error = "its row cannot be read, or ids of the table are not unique";
                    let _: Option<()> = self.reject(id, error.to_owned());
                }
                [] => self.remove(database, id, "app removed from the database"),
                [row] => self.apply(database, id, row),
                _ => {
                    let _: Option<()> = self.reject(id, "several rows have its id".to_owned());
                }
            }
        }
    }

    fn apply(&mut self, database: &DatabaseApps, id: &str, row: &AppRecord) {
        let Some(hub) = database.hub(id) else { return };
        let Some(ValidApp { config, webhooks }) = self.validate(database, row, id) else { return };
        let before = hub.app();
        if before.config.key != config.key {
            // To clients it is another app, which they have to find.
            database.unknown.clear();
            return self.remove(database, id, "app has another key in the database");
        }
        if before.config == config {
            return;
        }
        let settings = config.settings_other_than(&before.config).join(", ");
        hub.reconfigure(App::new(config));
        self.node.webhooks.change_app(webhooks);
        self.node.broker.apply_config(&hub);
        self.node.broker.set_app(&hub);
        tracing::info!(app = id, settings, "app changed in the database");
    }

    fn remove(&mut self, database: &DatabaseApps, id: &str, why: &'static str) {
        let Some(hub) = database.take(id) else { return };
        self.errors.remove(id);
        self.node.broker.remove_app(&hub.app_id());
        self.node.end_app(hub);
        self.node.update_known_apps_metric(database);
        tracing::info!(app = id, "{why}");
    }

    /// Reads and checks the settings in a row.
    fn validate(&mut self, database: &DatabaseApps, row: &AppRecord, id: &str) -> Option<ValidApp> {
        let config = database.config.load();
        if let Some(column) = row.unreadable().iter().find(|column| is_app_column(column)) {
            return self.reject(id, format!("the column {column} is no text and no number"));
        }
        let app = config.app_of_row(row.columns(), database.address);
        let app = app.map_err(|error| error.to_string());
        let valid = app.and_then(|app| {
            let webhooks =
                PreparedAppWebhooks::new(&config, &app).map_err(|error| error.to_string())?;
            Ok(ValidApp { config: app, webhooks })
        });
        match valid {
            Ok(valid) => {
                self.errors.remove(id);
                Some(valid)
            }
            Err(error) => self.reject(id, error),
        }
    }

    /// Logs why an app is not served, or keeps its settings, unless this was logged before.
    fn reject<T>(&mut self, id: &str, error: String) -> Option<T> {
        self.node.metrics.app_database().row_rejected();
        if self.errors.get(id) != Some(&error) {
            tracing::error!(app = id, error, "app of the database rejected");
            if ERRORS_MAX <= self.errors.len() {
                self.errors.clear();
            }
            self.errors.insert(id.to_owned(), error);
        }
        None
    }
}

/// The row whose `column` is exactly `value`, if there is one.
fn only<'a>(
    rows: &'a [AppRecord],
    column: &str,
    value: &str,
) -> Result<Option<&'a AppRecord>, String> {
    let mut exact = rows.iter().filter(|row| row.text(column) == Some(value));
    match (exact.next(), exact.next()) {
        (row, None) => Ok(row),
        (_, Some(_)) => Err(format!("several rows have its {column}")),
    }
}
