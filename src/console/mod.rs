//! The console: a page that shows what happens in the server.
//!
//! The HTTP module serves the page and its requests; this module has the passwords, the sessions and
//! what the page is sent over its WebSocket (`live`). All of that runs on a thread of its own, and
//! nothing of it runs while no page is open.

mod assets;
mod channel;
mod channels;
mod connection;
mod connections;
mod context;
mod event;
mod explain;
mod live;
mod login_limit;
mod output;
mod overview;
mod page_limits;
mod password;
mod publish;
mod records;
mod request;
mod sampler;
mod sessions;
mod worker;

pub use assets::Asset;
pub use live::{LiveError, LiveTicket, SUBPROTOCOL};
pub use password::{HashError, hash_password};

use crate::{
    config::{AppConfig, Config, Secret},
    hub::Hub,
    node::{AppsUnavailable, Node},
    recent,
};
use arc_swap::ArcSwap;
use login_limit::{LoginLimit, LoginSource};
use page_limits::PageLimits;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sessions::{Hash, Scope, Session, Sessions, hash};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time};
use worker::Worker;

/// How long a session lasts; the age of its cookie.
pub const SESSION_MAX: Duration = sessions::SESSION_MAX;
/// How long an attempt to log in waits for others that are verified.
const VERIFY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The console of a node.
#[derive(Debug)]
pub struct Console {
    node: Arc<Node>,
    settings: ArcSwap<Settings>,
    sessions: Mutex<Sessions>,
    login_limit: Mutex<LoginLimit>,
    /// Verifying a hash takes memory and a core, so it is done for one attempt at a time.
    verifying: Arc<Semaphore>,
    worker: Worker,
    /// Questions to the shards take some milliseconds of each, so there is one at a time.
    questions: Semaphore,
    pages: PageLimits,
    /// The effective configuration, as the page shows it.
    configuration: ArcSwap<Value>,
}

/// The configuration of the console.
#[derive(Debug)]
struct Settings {
    password: Secret,
    /// Whether an app of the configuration has a password.
    has_app_password: bool,
    /// Whether the development app is served and no password is set: no password is needed.
    is_open: bool,
}

/// Why a client is not logged in.
#[derive(Debug)]
pub enum LoginError {
    /// The password is wrong, or none is set for what the client wants to see.
    WrongPassword,
    /// There were too many attempts. Contains the time until the next is allowed.
    TooMany(Duration),
    /// The app cannot be looked up.
    Apps(AppsUnavailable),
}

impl Settings {
    fn new(config: &Config) -> Self {
        let has_app_password = config.apps.iter().any(|app| !app.console_password.is_empty());
        let password = config.console.password.clone();
        let has_password = has_app_password || !password.is_empty();
        Self {
            password,
            has_app_password,
            is_open: config.serves_only_development() && !has_password,
        }
    }

    fn is_on(&self) -> bool {
        self.is_open || self.has_app_password || !self.password.is_empty()
    }
}

impl Console {
    /// The console of `node`, as configured.
    #[must_use]
    pub fn new(config: &Config, node: Arc<Node>) -> Self {
        let settings = Settings::new(config);
        prepare(&settings);
        Self {
            node,
            settings: ArcSwap::from_pointee(settings),
            sessions: Mutex::default(),
            login_limit: Mutex::new(LoginLimit::new(Instant::now())),
            verifying: Arc::new(Semaphore::new(1)),
            worker: Worker::default(),
            questions: Semaphore::new(1),
            pages: PageLimits::default(),
            configuration: ArcSwap::default(),
        }
    }

    /// Applies another configuration. Sessions whose password has changed end.
    pub fn reconfigure(&self, config: &Config) {
        let settings = Settings::new(config);
        prepare(&settings);
        self.settings.store(Arc::new(settings));
    }

    /// Sets the effective configuration that the page shows: the masked value and the source of each
    /// setting, by its key.
    pub fn set_configuration(&self, settings: &Value) {
        let rows = settings.as_object().into_iter().flatten().map(|(key, setting)| {
            let value = &setting["value"];
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            json!({"key": key, "value": value, "source": setting["source"]})
        });
        self.configuration.store(Arc::new(rows.collect()));
    }

    fn configuration(&self) -> Value {
        (**self.configuration.load()).clone()
    }

    /// Whether there is a console: a password is set, or only the development app is served.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.settings.load().is_on()
    }

    /// Whether no password is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.settings.load().is_open
    }

    /// Opens a session without a password, if none is needed. Returns its token.
    #[must_use]
    pub fn open_session(&self) -> Option<String> {
        self.is_open().then(|| self.open(Scope::Server, &Secret::default()))
    }

    fn open(&self, scope: Scope, password: &Secret) -> String {
        let credential = hash(password.expose());
        self.sessions.lock().open(scope, credential, Instant::now())
    }

    /// Opens a session with a password: that of the server, or that of an app. Returns its token.
    /// `network` is the client's address, or the /64 of one.
    ///
    /// # Errors
    ///
    /// [`LoginError`].
    pub async fn log_in(
        &self,
        app_id: Option<&str>,
        sent: &str,
        network: IpAddr,
    ) -> Result<String, LoginError> {
        let scope = app_id.map_or(Scope::Server, |id| Scope::App(id.to_owned()));
        let source = LoginSource { network, is_for_server: app_id.is_none() };
        self.login_limit.lock().take(source, Instant::now()).map_err(LoginError::TooMany)?;
        let configured = self.password_of(&scope).await.map_err(LoginError::Apps)?;
        let Some(configured) = configured else { return Err(LoginError::WrongPassword) };
        if !self.verify(&configured, sent).await? {
            return Err(LoginError::WrongPassword);
        }
        self.login_limit.lock().refund(source, Instant::now());
        Ok(self.open(scope, &configured))
    }

    /// The password that is set for `scope`.
    async fn password_of(&self, scope: &Scope) -> Result<Option<Secret>, AppsUnavailable> {
        let password = match scope {
            Scope::Server => Some(self.settings.load().password.clone()),
            Scope::App(id) => self.node.find_hub(id).await?.map(|hub| password_of_app(&hub)),
        };
        Ok(password.filter(|password| !password.is_empty()))
    }

    async fn verify(&self, configured: &Secret, sent: &str) -> Result<bool, LoginError> {
        if !password::is_hash(configured) {
            return Ok(password::verify(configured, sent));
        }
        let busy = LoginError::TooMany(Duration::from_secs(1));
        let waiting = time::timeout(VERIFY_WAIT_MAX, Arc::clone(&self.verifying).acquire_owned());
        let (Ok(Ok(permit)), Ok(worker)) = (waiting.await, self.worker.handle()) else {
            return Err(busy);
        };
        let (configured, sent) = (configured.clone(), sent.to_owned());
        let verifying = worker.spawn_blocking(move || {
            let _one_at_a_time = permit;
            password::verify(&configured, &sent)
        });
        verifying.await.map_err(|_panicked| LoginError::TooMany(VERIFY_WAIT_MAX))
    }

    /// Ends the session of a token.
    pub fn log_out(&self, token: &str) {
        self.sessions.lock().close(token);
    }

    /// The session of a token, if it is valid.
    fn session(&self, token: &str) -> Option<Session> {
        let session = self.sessions.lock().find(token, Instant::now()).cloned()?;
        self.is_current(&session.scope, &session.credential).then_some(session)
    }

    /// Whether the password of a session is still the configured one.
    fn is_current(&self, scope: &Scope, credential: &Hash) -> bool {
        let settings = self.settings.load();
        let configured = match scope {
            Scope::Server => settings.password.clone(),
            Scope::App(id) => {
                self.node.hub(id).map(|hub| password_of_app(&hub)).unwrap_or_default()
            }
        };
        let needs_none = settings.is_open && *scope == Scope::Server;
        (needs_none || !configured.is_empty()) && hash(configured.expose()) == *credential
    }

    /// Whether `token` is that of a session, and `csrf` is its token against forged requests.
    #[must_use]
    pub fn has_csrf(&self, token: &str, csrf: &str) -> bool {
        let session = self.session(token);
        session.is_some_and(|session| hash(&session.csrf) == hash(csrf))
    }

    /// What the page is told about the session of a token, if it is valid.
    #[must_use]
    pub fn describe(&self, token: &str) -> Option<Value> {
        let session = self.session(token)?;
        let (app, hubs) = match &session.scope {
            Scope::Server => (None, self.node.hubs()),
            Scope::App(id) => (Some(id), self.node.hub(id).into_iter().collect()),
        };
        let mut apps: Vec<_> = hubs.iter().map(|hub| hub.app()).collect();
        apps.sort_by(|one, other| one.config.id.cmp(&other.config.id));
        let apps = apps.iter().map(|app| {
            json!({"id": app.config.id, "name": null, "payloads": shows_payloads(&app.config)})
        });
        Some(json!({
            "csrf": session.csrf,
            "app": app,
            "apps": apps.collect::<Vec<_>>(),
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node.name(),
            "development": self.is_open(),
        }))
    }
}

/// Starts or ends what a console needs before a page asks for it. The files of the page are compressed
/// now, since that takes some milliseconds that no shard should spend.
fn prepare(settings: &Settings) {
    recent::set_on(settings.is_on());
    if settings.is_on() {
        assets::prepare();
    }
}

fn password_of_app(hub: &Hub) -> Secret {
    hub.read_config(|config| config.console_password.clone())
}

/// Whether the console may show the data of events of an app.
fn shows_payloads(app: &AppConfig) -> bool {
    app.console_payloads || app.is_development()
}
