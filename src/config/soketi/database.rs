//! soketi's variables for its database of apps, used if its app manager is `mysql` or `postgres`.

use super::compat_variables;
use crate::config::{
    compat_variable::CompatVariable,
    convert::integer,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
    redis_url::{encoded, parse},
    variables::{Variables, is_true},
};
use toml::Value;

const DRIVER: &str = "SOKETI_APP_MANAGER_DRIVER";
const CACHE_ENABLED: &str = "SOKETI_APP_MANAGER_CACHE_ENABLED";
const CACHE_TTL: &str = "SOKETI_APP_MANAGER_CACHE_TTL";
const POOLING: &str = "SOKETI_DB_POOLING_ENABLED";
const POOL_MAX: &str = "SOKETI_DB_POOLING_MAX";

/// How long an app is cached if soketi would not cache it: the shortest time there is.
const UNCACHED_S: i64 = 1;
/// How long an app is cached if soketi would keep it until its restart: the longest time there is.
const FOREVER_S: i64 = 86_400;

/// One of the two databases that soketi reads from.
struct Driver {
    /// The word in the middle of the names of its variables.
    name: &'static str,
    scheme: &'static str,
    port: &'static str,
    user: &'static str,
}

const MYSQL: Driver = Driver { name: "MYSQL", scheme: "mysql", port: "3306", user: "root" };
const POSTGRES: Driver =
    Driver { name: "POSTGRES", scheme: "postgres", port: "5432", user: "postgres" };

/// Writes the values into `raw`, if `SOKETI_APP_MANAGER_DRIVER` names a database. Otherwise warns
/// about those without effect.
pub(super) fn read(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let driver = match variables.non_empty(DRIVER) {
        Some("mysql") => Some(MYSQL),
        Some("postgres") => Some(POSTGRES),
        Some(_) | None => None,
    };
    warn_unused(driver.as_ref(), variables, warnings);
    let Some(driver) = driver else { return Ok(()) };
    let table = format!("SOKETI_APP_MANAGER_{}_TABLE", driver.name);
    if let Some(name) = variables.non_empty(&table) {
        let value = Value::String(name.to_owned());
        raw.set(KeyPath::new("apps_from.table"), value, variables.source(&table));
    }
    collect_errors([
        driver.url(variables, raw),
        cache_ttl(variables, raw),
        pool_size(variables, raw, warnings),
    ])
}

impl Driver {
    fn variable(&self, name: &str) -> String {
        format!("SOKETI_DB_{}_{name}", self.name)
    }

    /// Writes the URL, which several variables make.
    fn url(&self, variables: &Variables, raw: &mut RawConfig) -> Result<(), ConfigError> {
        let host_name = self.variable("HOST");
        let port_name = self.variable("PORT");
        let set = |name: &str, default| {
            variables.non_empty(&self.variable(name)).unwrap_or(default).to_owned()
        };
        let host = parse::host(&parse::in_brackets(&set("HOST", "127.0.0.1")))
            .map_err(|message| ConfigError::at(variables.source(&host_name), message))?;
        let port = parse::port(&set("PORT", self.port))
            .map_err(|message| ConfigError::at(variables.source(&port_name), message))?;
        // An empty password is one, unlike other empty variables.
        let password = variables.get(&self.variable("PASSWORD")).unwrap_or("password");
        let password = if password == "null" { String::new() } else { password.to_owned() };
        let user = set("USERNAME", self.user);
        let database = set("DATABASE", "main");
        let [user, password, database] = [user, password, database].map(|text| encoded(&text));
        let (scheme, host) = (self.scheme, parse::in_brackets(&host));
        let url = format!("{scheme}://{user}:{password}@{host}:{port}/{database}");
        let is_named = variables.non_empty(&host_name).is_some();
        let source = variables.source(if is_named { &host_name } else { DRIVER });
        raw.set(KeyPath::new("apps_from.url"), Value::String(url), source);
        Ok(())
    }
}

/// Writes how long apps are cached. Without its cache, soketi asks the database each time.
fn cache_ttl(variables: &Variables, raw: &mut RawConfig) -> Result<(), ConfigError> {
    let key = KeyPath::new("apps_from.cache_ttl_s");
    if !is_true(CACHE_ENABLED, variables)? {
        raw.set(key, Value::Integer(UNCACHED_S), variables.source(DRIVER));
        return Ok(());
    }
    let set = variables.non_empty(CACHE_TTL);
    let source = variables.source(if set.is_some() { CACHE_TTL } else { CACHE_ENABLED });
    let value = integer(set.unwrap_or("-1"));
    let value = value.map_err(|message| ConfigError::key(&source, &key, message))?;
    let value = if value.as_integer() < Some(1) { Value::Integer(FOREVER_S) } else { value };
    raw.set(key, value, source);
    Ok(())
}

/// Writes the number of connections, if soketi would use a pool.
fn pool_size(
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let key = KeyPath::new("apps_from.pool_size");
    let set = variables.non_empty(POOL_MAX);
    let source = variables.source(if set.is_some() { POOL_MAX } else { POOLING });
    if is_true(POOLING, variables)? {
        let value = integer(set.unwrap_or("7"));
        let value = value.map_err(|message| ConfigError::key(&source, &key, message))?;
        raw.set(key, value, source);
    } else if set.is_some_and(|value| value != "7") {
        warnings.push(format!("{source} has no effect: {POOLING} is not true"));
    }
    Ok(())
}

/// Warns about the variables of a database that is not used, and the lower limit of a pool.
fn warn_unused(driver: Option<&Driver>, variables: &Variables, warnings: &mut Vec<String>) {
    for variable in compat_variables() {
        let CompatVariable::OfDatabase(name, default) = variable else { continue };
        let of_other = |other: &Driver| {
            name.contains(other.name) && driver.is_none_or(|used| used.name != other.name)
        };
        let why = if driver.is_none() || of_other(&MYSQL) || of_other(&POSTGRES) {
            "SOKETI_APP_MANAGER_DRIVER (appManager.driver) does not name this database"
        } else if *name == "SOKETI_DB_POOLING_MIN" {
            "connections are made when they are needed"
        } else {
            continue;
        };
        if variables.non_empty(name).is_some_and(|value| value != *default) {
            warnings.push(format!("{} has no effect: {why}", variables.source(name)));
        }
    }
}
