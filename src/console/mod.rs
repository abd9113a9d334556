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
mod gather;
mod live;
mod login_limit;
mod output;
mod overview;
mod page_limits;
mod password;
mod peers;
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
    signature::secrets_equal,
};
use arc_swap::ArcSwap;
use login_limit::{LoginLimit, LoginSource};
use overview::now_ms;
use page_limits::PageLimits;
use parking_lot::Mutex;
use peers::Peers;
use serde_json::{Value, json};
use sessions::{Claims, EndedSessions, Scope, Session, SessionKey};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time};
use worker::Worker;

/// How long a session lasts; the age of its cookie.
pub const SESSION_MAX: Duration = sessions::SESSION_MAX;
/// Maximum number of apps that a page is told about.
const APPS_MAX: usize = 1_000;
/// How long an attempt to log in waits for others that are verified.
const VERIFY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The console of a node.
#[derive(Debug)]
pub struct Console {
    node: Arc<Node>,
    settings: ArcSwap<Settings>,
    /// The sessions that ended before their time. Valid ones are kept nowhere.
    ended: Mutex<EndedSessions>,
    /// Random: a node without others accepts only the sessions that it has opened itself.
    process_secret: String,
    login_limit: Mutex<LoginLimit>,
    /// Verifying a hash takes memory and a core, so it is done for one attempt at a time.
    verifying: Arc<Semaphore>,
    worker: Worker,
    /// Questions to the shards take some milliseconds of each, so there is one at a time.
    questions: Semaphore,
    pages: PageLimits,
    peers: Peers,
    /// The effective configuration, as the page shows it.
    configuration: ArcSwap<Value>,
}

/// The configuration of the console.
#[derive(Debug)]
struct Settings {
    password: Secret,
    /// Whether an app of the configuration has a password.
    has_app_password: bool,
    /// Whether a password of the configuration is a hash.
    has_hash: bool,
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
        let of_apps = config.apps.iter().map(|app| &app.console_password);
        let has_hash = of_apps.chain([&password]).any(password::is_hash);
        Self {
            password,
            has_app_password,
            has_hash,
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
            ended: Mutex::default(),
            process_secret: format!("{:032x}", rand::random::<u128>()),
            login_limit: Mutex::new(LoginLimit::new(Instant::now())),
            verifying: Arc::new(Semaphore::new(1)),
            worker: Worker::default(),
            questions: Semaphore::new(1),
            pages: PageLimits::default(),
            peers: Peers::new(live::run),
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
        let scope = Scope::Server;
        self.is_open().then(|| self.session_key(&Secret::default(), None).open(&scope, now_ms()))
    }

    /// The key of the sessions of a password; that of an app has the secret of the app in addition.
    fn session_key(&self, password: &Secret, app: Option<&Secret>) -> SessionKey {
        let is_shared = self.node.broker().redis().is_some() && !password.is_empty();
        let of_process = if is_shared { "" } else { self.process_secret.as_str() };
        let of_app = app.map(Secret::expose).unwrap_or_default();
        SessionKey::new(password.expose(), &format!("{of_process}:{of_app}"))
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
        // The time does not say whether there is an app with this id and a password.
        let needs_time = self.settings.load().has_hash;
        let of_none = || needs_time.then(|| Secret::new(password::HASH_OF_NONE));
        let Some(configured) = configured.or_else(of_none) else {
            return Err(LoginError::WrongPassword);
        };
        if !self.verify(&configured, sent).await? {
            return Err(LoginError::WrongPassword);
        }
        self.login_limit.lock().refund(source, Instant::now());
        let key = self.key_of(&scope).await.map_err(LoginError::Apps)?;
        let key = key.ok_or(LoginError::WrongPassword)?;
        Ok(key.open(&scope, now_ms()))
    }

    /// The key of the sessions of a scope; `None` if there is no password.
    async fn key_of(&self, scope: &Scope) -> Result<Option<SessionKey>, AppsUnavailable> {
        let password = self.password_of(scope).await?;
        Ok(match (scope, password) {
            (Scope::Server, Some(password)) => Some(self.session_key(&password, None)),
            (Scope::Server, None) => {
                self.is_open().then(|| self.session_key(&Secret::default(), None))
            }
            (Scope::App(id), Some(password)) => self.node.find_hub(id).await?.map(|hub| {
                self.session_key(&password, Some(&hub.read_config(|config| config.secret.clone())))
            }),
            (Scope::App(_), None) => None,
        })
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

    /// Ends the session of a token, on all nodes.
    ///
    /// # Errors
    ///
    /// The app cannot be looked up.
    pub async fn log_out(&self, token: &str) -> Result<(), AppsUnavailable> {
        if let Some(Session { claims, .. }) = self.session(token).await? {
            self.tell_ended_session(&claims);
            self.ended.lock().end(claims, now_ms());
        }
        Ok(())
    }

    /// The session of a token, if it is valid.
    async fn session(&self, token: &str) -> Result<Option<Session>, AppsUnavailable> {
        let Some(claims) = Claims::parse(token) else { return Ok(None) };
        let key = self.key_of(&claims.scope).await?;
        let Some(session) = key.and_then(|key| key.verify(token, now_ms())) else {
            return Ok(None);
        };
        self.learn_ended_sessions().await;
        Ok(Some(session).filter(|session| !self.ended.lock().has_ended(&session.claims)))
    }

    /// Whether `token` is that of a session, and `csrf` is its token against forged requests.
    ///
    /// # Errors
    ///
    /// The app cannot be looked up.
    pub async fn has_csrf(&self, token: &str, csrf: &str) -> Result<bool, AppsUnavailable> {
        let session = self.session(token).await?;
        Ok(session.is_some_and(|session| secrets_equal(&session.csrf, csrf)))
    }

    /// What the page is told about the session of a token, if it is valid.
    ///
    /// # Errors
    ///
    /// The app cannot be looked up.
    pub async fn describe(&self, token: &str) -> Result<Option<Value>, AppsUnavailable> {
        let Some(session) = self.session(token).await? else { return Ok(None) };
        let (app, mut hubs) = match &session.claims.scope {
            Scope::Server => (None, self.node.hubs()),
            Scope::App(id) => (Some(id), self.node.find_hub(id).await?.into_iter().collect()),
        };
        let apps_total = hubs.len();
        hubs.sort_by_cached_key(|hub| hub.app_id());
        hubs.truncate(APPS_MAX);
        let apps = hubs.iter().map(|hub| {
            json!({"id": &*hub.app_id(), "name": null, "payloads": hub.read_config(shows_payloads)})
        });
        Ok(Some(json!({
            "csrf": session.csrf,
            "app": app,
            "apps": apps.collect::<Vec<_>>(),
            "apps_total": apps_total,
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node.name(),
            "development": self.is_open(),
        })))
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
