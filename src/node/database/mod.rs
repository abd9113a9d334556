//! The apps of a database: found when a client or a request names one, then known.
//!
//! A known app is found without a query, whatever the database does. One task ([`query_task`]) makes all
//! queries: lookups of unknown apps, which share one query for each name, and the reading of known apps
//! again, whose changes it applies.

mod query_task;
mod rows;
mod unknown;

use super::Node;
use crate::{
    app_database::{AppColumn, AppDatabase, DatabaseUrlError},
    clock,
    config::{Config, check_setting},
    hub::Hub,
    metrics::LookupResult,
};
use arc_swap::ArcSwap;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use unknown::UnknownApps;

/// Maximum number of lookups that wait. Further ones are answered as if the database were unavailable.
const LOOKUPS_MAX: usize = 1_000;
/// Maximum length of an id or a key that is looked up, in bytes: that of soketi's columns.
const NAME_BYTES_MAX: usize = 255;

/// The id or the key of an app.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct AppRef {
    column: AppColumn,
    value: String,
}

/// It is unknown whether there is such an app, because the database does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AppsUnavailable;

/// The answer to a lookup.
type Answer = Result<Option<Arc<Hub>>, AppsUnavailable>;

/// A request to the query task.
#[derive(Debug)]
enum Request {
    /// Find an app that is not known.
    Find(AppRef, oneshot::Sender<Answer>),
    /// Read a known app again, by its id.
    Refresh(String, oneshot::Sender<Answer>),
    /// All known apps are due, and their errors are logged again.
    RefreshAll,
}

/// The known apps of the database.
#[derive(Debug)]
pub(super) struct DatabaseApps {
    database: Arc<AppDatabase>,
    /// By id.
    apps: DashMap<String, KnownApp>,
    /// The ids, by key.
    ids: DashMap<String, String>,
    unknown: UnknownApps,
    /// By its settings, rows are checked.
    config: ArcSwap<Config>,
    /// The address on which the server listens.
    address: IpAddr,
    /// How long a lookup waits for its turn and for its query.
    wait_max: Duration,
    requests: mpsc::Sender<Request>,
    /// For the query task, once it starts.
    incoming: Mutex<Option<mpsc::Receiver<Request>>>,
}

/// A known app.
#[derive(Clone, Debug)]
struct KnownApp {
    hub: Arc<Hub>,
    /// When its row was read; `None` if it must be read again now.
    read_at: Option<Instant>,
}

impl DatabaseApps {
    fn open(config: &Config, address: IpAddr) -> Result<Self, DatabaseUrlError> {
        let (requests, incoming) = mpsc::channel(LOOKUPS_MAX);
        Ok(Self {
            database: Arc::new(AppDatabase::open(&config.apps_from)?),
            apps: DashMap::new(),
            ids: DashMap::new(),
            unknown: UnknownApps::default(),
            config: ArcSwap::from_pointee(config.clone()),
            address,
            wait_max: 2 * Duration::from_millis(config.apps_from.timeout_ms),
            requests,
            incoming: Mutex::new(Some(incoming)),
        })
    }

    pub(super) fn hub(&self, app_id: &str) -> Option<Arc<Hub>> {
        self.apps.get(app_id).map(|app| Arc::clone(&app.hub))
    }

    pub(super) fn hub_by_key(&self, key: &str) -> Option<Arc<Hub>> {
        let id = self.ids.get(key)?.clone();
        self.hub(&id)
    }

    pub(super) fn hubs(&self) -> Vec<Arc<Hub>> {
        self.apps.iter().map(|app| Arc::clone(&app.hub)).collect()
    }

    fn insert(&self, hub: Arc<Hub>, now: Instant) {
        let (id, key) = hub.read_config(|config| (config.id.clone(), config.key.clone()));
        self.apps.insert(id.clone(), KnownApp { hub, read_at: Some(now) });
        self.ids.insert(key, id);
    }

    /// Removes an app from the known ones.
    fn take(&self, app_id: &str) -> Option<Arc<Hub>> {
        let (id, KnownApp { hub, .. }) = self.apps.remove(app_id)?;
        let key = hub.read_config(|config| config.key.clone());
        self.ids.remove_if(&key, |_, of_key| *of_key == id);
        Some(hub)
    }

    /// Makes an app due. False if it is not known.
    fn expire(&self, app_id: &str) -> bool {
        let app = self.apps.get_mut(app_id);
        app.map(|mut app| app.read_at = None).is_some()
    }

    /// Records that the row of a known app is read now.
    fn renew(&self, app_id: &str, now: Instant) {
        if let Some(mut app) = self.apps.get_mut(app_id) {
            app.read_at = Some(now);
        }
    }

    /// The ids of at most `max` known apps whose rows were read `ttl` ago or earlier.
    fn due(&self, ttl: Duration, now: Instant, max: usize) -> Vec<String> {
        let is_due = |read_at: Option<Instant>| {
            read_at.is_none_or(|read_at| ttl <= now.saturating_duration_since(read_at))
        };
        let due = self.apps.iter().filter(|app| is_due(app.read_at));
        due.take(max).map(|app| app.key().clone()).collect()
    }

    /// Takes another configuration, by which rows are checked from now on, and reads all rows again. Apps
    /// that are now configured leave the known ones: those with the same id and key are returned first,
    /// and go on; those of which only one is the same are returned second, and end.
    pub(super) fn reconfigure(&self, config: &Config) -> (Vec<Arc<Hub>>, Vec<Arc<Hub>>) {
        self.config.store(Arc::new(config.clone()));
        self.unknown.clear();
        let (mut kept, mut ended) = (Vec::new(), Vec::new());
        for app in &config.apps {
            let of_key = self.ids.get(&app.key).map(|id| id.clone());
            for id in [Some(app.id.clone()), of_key].into_iter().flatten() {
                let Some(hub) = self.take(&id) else { continue };
                let is_same = hub.read_config(|known| known.id == app.id && known.key == app.key);
                if is_same { kept.push(hub) } else { ended.push(hub) }
            }
        }
        for mut app in self.apps.iter_mut() {
            app.read_at = None;
        }
        // If the queue is full, the query task is about to run anyway.
        let _ = self.requests.try_send(Request::RefreshAll);
        (kept, ended)
    }

    /// Asks the query task, and waits for its answer.
    async fn ask(&self, request: impl FnOnce(oneshot::Sender<Answer>) -> Request) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.requests.try_send(request(sender)).map_err(|_full| AppsUnavailable)?;
        match time::timeout(self.wait_max, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(AppsUnavailable),
        }
    }
}

impl Node {
    /// Prepares the database of apps of `config`, if there is one, for a server that listens on
    /// `address`. Connecting happens later. Needs a runtime.
    ///
    /// # Errors
    ///
    /// The URL of the database is invalid.
    pub fn open_database(
        &mut self,
        config: &Config,
        address: IpAddr,
    ) -> Result<(), DatabaseUrlError> {
        if config.apps_from.has_database() {
            self.database = Some(Box::new(DatabaseApps::open(config, address)?));
        }
        Ok(())
    }

    /// The hub of the app with this key, which is looked up in the database if it is not known.
    ///
    /// # Errors
    ///
    /// The database does not answer.
    pub async fn find_hub_by_key(&self, key: &str) -> Answer {
        match self.hub_by_key(key) {
            Some(hub) => Ok(Some(hub)),
            None => self.look_up(AppColumn::Key, key).await,
        }
    }

    /// The hub of the app with this id, which is looked up in the database if it is not known.
    ///
    /// # Errors
    ///
    /// The database does not answer.
    pub async fn find_hub(&self, app_id: &str) -> Answer {
        match self.hub(app_id) {
            Some(hub) => Ok(Some(hub)),
            None => self.look_up(AppColumn::Id, app_id).await,
        }
    }

    /// Updates the metric of known apps.
    pub(super) fn update_known_apps_metric(&self, database: &DatabaseApps) {
        self.metrics.app_database().set_apps(database.apps.len());
    }

    /// The hub of an app, if it is known.
    fn known(&self, name: &AppRef) -> Option<Arc<Hub>> {
        match name.column {
            AppColumn::Id => self.hub(&name.value),
            AppColumn::Key => self.hub_by_key(&name.value),
        }
    }

    async fn look_up(&self, column: AppColumn, value: &str) -> Answer {
        let Some(database) = &self.database else { return Ok(None) };
        // Texts that no app can have are not looked up. Databases reject some control characters.
        let is_printable = !value.contains(char::is_control);
        if NAME_BYTES_MAX < value.len()
            || !is_printable
            || check_setting("apps[].key", value).is_err()
        {
            return Ok(None);
        }
        let name = AppRef { column, value: value.to_owned() };
        if database.unknown.contains(&name, clock::now()) {
            return Ok(None);
        }
        let answer = database.ask(|sender| Request::Find(name, sender)).await;
        self.metrics.app_database().looked_up(match &answer {
            Ok(Some(_hub)) => LookupResult::Found,
            Ok(None) => LookupResult::Unknown,
            Err(AppsUnavailable) => LookupResult::Unavailable,
        });
        answer
    }

    /// Reads an app of the database again, and applies its changes. False if the app is not one of the
    /// database.
    ///
    /// # Errors
    ///
    /// The database does not answer.
    pub async fn refresh_app(&self, app_id: &str) -> Result<bool, AppsUnavailable> {
        match &self.database {
            Some(database) if database.hub(app_id).is_some() => {
                let app_id = app_id.to_owned();
                database.ask(|sender| Request::Refresh(app_id, sender)).await?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }
}
