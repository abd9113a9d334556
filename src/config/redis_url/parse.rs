//! The grammar of `redis.url`.
//!
//! ```text
//! redis://[user:password@]host[:port][/db]
//! redis+unix://[user:password@]/path[?db=N]
//! redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/db][?sentinel_password=…]
//! redis+cluster://[user:password@]host[:port][,host[:port]…][/0]
//! ```
//!
//! `rediss` in place of `redis` is TLS. Users, passwords, the master's name and the path of a socket
//! are percent-decoded.

use super::{RedisTarget, Topology};
use crate::config::Secret;
use percent_encoding::percent_decode_str;
use std::net::Ipv6Addr;

/// The default port of Redis.
pub(in crate::config) const REDIS_PORT: u16 = 6_379;
/// The default port of Sentinel.
pub(in crate::config) const SENTINEL_PORT: u16 = 26_379;
/// Maximum number of a database.
const DB_MAX: u32 = i32::MAX.unsigned_abs();

const SCHEME: &str = "must begin with redis://, redis+sentinel:// or redis+cluster://, with rediss for TLS, or with redis+unix://";
const SPACE: &str = "must not contain white space";
const HOST: &str = "must name hosts as names, IPv4 addresses or [IPv6 addresses]; in a password, `:/?#@%` are written \
    as percent codes such as %2F";
const ONE_HOST: &str = "must name one host; several are for redis+sentinel:// and redis+cluster://";
const PORT: &str = "must have ports from 1 to 65535";
const HOST_PORT: &str = "must have ports from 1 to 65535; in a password, `:/?#@%` are written as percent codes such as \
    %2F";
const PERCENT: &str = "must have two hexadecimal digits after each `%`, and be UTF-8 when decoded; a `%` itself is %25";
const USER: &str =
    "has a user without a password; a password without a user is written as :password@";
const DB: &str = "must end with the number of a database, such as /0, or without a path";
const CLUSTER_DB: &str = "must have no database but 0, because a Redis Cluster has no other";
const MASTER: &str = "must end with the master's name, such as /mymaster or /mymaster/0";
const SOCKET: &str =
    "must be the path of a socket and nothing else, such as redis+unix:///run/redis.sock";
const FRAGMENT: &str = "must not contain `#`, which is %23 in a password";
const QUERY: &str = "has a parameter that is not known: redis+sentinel:// takes ?sentinel_password=, redis+unix:// \
    takes ?db=, and the others take none";

/// Values for parts that a URL omits.
#[derive(Default)]
pub(in crate::config) struct Defaults {
    /// The port of a server; `None` for Redis' default.
    pub(in crate::config) port: Option<u16>,
    /// The user, if the URL has no credentials.
    pub(in crate::config) username: Option<String>,
    /// The user's password, if the URL has no credentials.
    pub(in crate::config) password: Option<Secret>,
    /// The number of the database.
    pub(in crate::config) db: i64,
}

/// Parses `text`, or returns the error message, which contains nothing of the text. Empty: no
/// Redis.
pub(in crate::config) fn parse(text: &str) -> Result<Option<RedisTarget>, &'static str> {
    if text.is_empty() { Ok(None) } else { parse_url(text, Defaults::default()).map(Some) }
}

/// Parses the URL `text`, or returns the error message.
pub(in crate::config) fn parse_url(
    text: &str,
    defaults: Defaults,
) -> Result<RedisTarget, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
    let (is_tls, form) = form(scheme).ok_or(SCHEME)?;
    if rest.contains(char::is_whitespace) {
        return Err(SPACE);
    }
    if rest.contains('#') {
        return Err(FRAGMENT);
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (username, password) = match credentials(userinfo)? {
        (_, None) => (defaults.username, defaults.password),
        given => given,
    };
    let port = defaults.port.unwrap_or(REDIS_PORT);
    let path = path.strip_prefix('/').unwrap_or_default();
    let (topology, db) = match form {
        UrlKind::Single => {
            (Topology::Single { address: single_address(hosts, port)? }, db_number(path)?)
        }
        UrlKind::Unix => return unix(hosts, path, query, (username, password), defaults.db),
        UrlKind::Sentinel => sentinel(hosts, path, query)?,
        UrlKind::Cluster => {
            (Topology::Cluster { nodes: addresses(hosts, port)? }, db_number(path)?)
        }
    };
    if !query.is_empty() && !matches!(form, UrlKind::Sentinel) {
        return Err(QUERY);
    }
    let db = db.unwrap_or(defaults.db);
    if db != 0 && matches!(form, UrlKind::Cluster) {
        return Err(CLUSTER_DB);
    }
    Ok(RedisTarget { topology, is_tls, username, password, db })
}

#[derive(Clone, Copy)]
enum UrlKind {
    Single,
    Unix,
    Sentinel,
    Cluster,
}

/// Whether `scheme` is TLS, and what follows it.
fn form(scheme: &str) -> Option<(bool, UrlKind)> {
    match scheme.to_ascii_lowercase().as_str() {
        "redis" => Some((false, UrlKind::Single)),
        "rediss" => Some((true, UrlKind::Single)),
        "redis+unix" => Some((false, UrlKind::Unix)),
        "redis+sentinel" => Some((false, UrlKind::Sentinel)),
        "rediss+sentinel" => Some((true, UrlKind::Sentinel)),
        "redis+cluster" => Some((false, UrlKind::Cluster)),
        "rediss+cluster" => Some((true, UrlKind::Cluster)),
        _other => None,
    }
}

type RedisCredentials = (Option<String>, Option<Secret>);

fn credentials(userinfo: &str) -> Result<RedisCredentials, &'static str> {
    let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    match (decoded(username)?, decoded(password)?) {
        (username, password) if password.is_empty() => {
            if username.is_empty() {
                Ok((None, None))
            } else {
                Err(USER)
            }
        }
        (username, password) => {
            Ok((Some(username).filter(|name| !name.is_empty()), Some(Secret::new(password))))
        }
    }
}

fn sentinel(hosts: &str, path: &str, query: &str) -> Result<(Topology, Option<i64>), &'static str> {
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    let (master, sentinels) = (decoded(master)?, addresses(hosts, SENTINEL_PORT)?);
    if master.is_empty() {
        return Err(MASTER);
    }
    let password = parameter(query, "sentinel_password")?.map(decoded).transpose()?;
    let password = password.filter(|password| !password.is_empty()).map(Secret::new);
    Ok((Topology::Sentinel { sentinels, master, password }, db_number(db)?))
}

fn unix(
    hosts: &str,
    path: &str,
    query: &str,
    (username, password): RedisCredentials,
    db: i64,
) -> Result<RedisTarget, &'static str> {
    let path = decoded(path)?;
    if !hosts.is_empty() || path.is_empty() || path.contains('\0') {
        return Err(SOCKET);
    }
    let topology = Topology::Unix { path: format!("/{path}").into() };
    let db = parameter(query, "db")?.map(db_number).transpose()?.flatten().unwrap_or(db);
    Ok(RedisTarget { topology, is_tls: false, username, password, db })
}

/// The value of the parameter `name`, the only one that `query` may have.
fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<&'a str>, &'static str> {
    match query.split_once('=') {
        _ if query.is_empty() => Ok(None),
        Some((first, value)) if first == name && !value.contains('&') => Ok(Some(value)),
        Some(_) | None => Err(QUERY),
    }
}

/// The number of a database, if there is one.
pub(in crate::config) fn db_number(text: &str) -> Result<Option<i64>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = digits(text).and_then(|text| text.parse::<u32>().ok());
    number.filter(|number| *number <= DB_MAX).map(|number| Some(number.into())).ok_or(DB)
}

pub(in crate::config) fn port(text: &str) -> Result<u16, &'static str> {
    let port = digits(text).and_then(|text| text.parse().ok());
    port.filter(|port| *port > 0).ok_or(PORT)
}

fn digits(text: &str) -> Option<&str> {
    Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn single_address(hosts: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    if hosts.contains(',') { Err(ONE_HOST) } else { address(hosts, default_port) }
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<(String, u16)>, &'static str> {
    hosts.split(',').map(|host| address(host, default_port)).collect()
}

fn address(text: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    let (name, rest) = match text.find(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let name = host(name)?;
    match rest.strip_prefix(':') {
        Some(digits) => Ok((name, port(digits).map_err(|_| HOST_PORT)?)),
        None if rest.is_empty() => Ok((name, default_port)),
        None => Err(HOST),
    }
}

/// A name or an address, IPv6 in brackets, which are taken off.
pub(in crate::config) fn host(text: &str) -> Result<String, &'static str> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().map(|ip| ip.to_string()).map_err(|_| HOST),
        None if !text.is_empty() && text.chars().all(is_in_name) => Ok(text.to_owned()),
        None => Err(HOST),
    }
}

/// `host` as a URL has it: an IPv6 address in brackets.
pub(in crate::config) fn in_brackets(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let is_code = |code: &str| {
        code.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_code) {
        return Err(PERCENT);
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| PERCENT)
}
