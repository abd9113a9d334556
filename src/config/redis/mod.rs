//! Where Redis is: what `redis.url` says, and what other servers' variables say instead.
//!
//! Values only: nobody connects here, and the file that `redis.ca` names is read by whoever does.

mod laravel;
mod parse;
mod soketi;

pub(super) use laravel::read as read_laravel;
pub(super) use parse::parse;
pub(super) use soketi::read as read_soketi;

use super::{
    Secret, draft::Draft, error::ConfigError, key::Key, settings::RedisConfig,
    values::redis_prefix, variables::Variables,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, path::PathBuf, str::FromStr};
use toml::Value;

/// What stands in a URL as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// Redis, or what stands for it, as the nodes reach it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisTarget {
    /// Which servers there are, and how they belong together.
    pub topology: Topology,
    /// Whether to speak TLS to every one of them, sentinels included.
    pub is_tls: bool,
    /// The ACL user. None: Redis' default user. Never without a password.
    pub username: Option<String>,
    /// The user's password. None: no authentication.
    pub password: Option<Secret>,
    /// The number of the database, up to 2,147,483,647. In a cluster always 0.
    pub db: i64,
}

/// The servers and how they belong together. An address is a name or an IP address, IPv6 without
/// brackets, and a port that is not 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Topology {
    /// One server.
    Single {
        /// Its address.
        address: (String, u16),
    },
    /// One server behind a Unix socket.
    Unix {
        /// The socket.
        path: PathBuf,
    },
    /// Sentinels that know which server is the master.
    Sentinel {
        /// The sentinels, at least one.
        sentinels: Vec<(String, u16)>,
        /// The name by which they know the master.
        master: String,
        /// Password of the sentinels themselves. None: they ask for none.
        password: Option<Secret>,
    },
    /// A Redis Cluster.
    Cluster {
        /// The nodes to ask first, at least one.
        nodes: Vec<(String, u16)>,
    },
}

impl RedisTarget {
    /// The addresses of the Redis servers, without secrets: hosts with ports, or the path of a
    /// socket.
    #[must_use]
    pub fn servers(&self) -> String {
        match &self.topology {
            Topology::Single { address } => list(std::slice::from_ref(address)),
            Topology::Unix { path } => path.display().to_string(),
            Topology::Sentinel { sentinels: servers, .. }
            | Topology::Cluster { nodes: servers } => list(servers),
        }
    }

    /// The URL that stands for this target, with its secrets.
    fn to_url(&self) -> String {
        let password = self.password.as_ref().map(Secret::expose).unwrap_or_default();
        let username = self.username.as_deref().unwrap_or_default();
        let credentials = if self.password.is_some() {
            format!("{}:{}@", encoded(username), encoded(password))
        } else {
            String::new()
        };
        self.url(&credentials, |secret| encoded(secret.expose()))
    }

    /// The URL that stands for this target, without its credentials.
    fn to_masked_url(&self) -> String {
        let credentials = if self.password.is_some() { "***@" } else { "" };
        self.url(credentials, |_| "***".to_owned())
    }

    fn url(&self, credentials: &str, shown: fn(&Secret) -> String) -> String {
        let (scheme, db) = (if self.is_tls { "rediss" } else { "redis" }, self.db);
        match &self.topology {
            Topology::Single { address } => {
                format!("{scheme}://{credentials}{}/{db}", list(std::slice::from_ref(address)))
            }
            Topology::Unix { path } => {
                let path = path.to_string_lossy();
                let path = utf8_percent_encode(&path, ENCODED_IN_PATH);
                format!("{scheme}+unix://{credentials}{path}?db={db}")
            }
            Topology::Sentinel { sentinels, master, password } => {
                let query = password.as_ref().map(shown);
                let query = query.map(|password| format!("?sentinel_password={password}"));
                let (hosts, master) = (list(sentinels), encoded(master));
                let query = query.unwrap_or_default();
                format!("{scheme}+sentinel://{credentials}{hosts}/{master}/{db}{query}")
            }
            Topology::Cluster { nodes } => {
                format!("{scheme}+cluster://{credentials}{}/{db}", list(nodes))
            }
        }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Addresses as a URL has them.
fn list(addresses: &[(String, u16)]) -> String {
    let address = |(host, port): &(String, u16)| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    addresses.iter().map(address).collect::<Vec<_>>().join(",")
}

/// What `redis.url` says: where Redis is, or, empty, that this node is alone.
///
/// Read with [`parse`](str::parse). `Debug` and `Serialize` write the URL with `***` in place of
/// user and passwords.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct RedisUrl(Option<RedisTarget>);

impl RedisUrl {
    /// Where Redis is, if anywhere.
    #[must_use]
    pub fn target(&self) -> Option<&RedisTarget> {
        self.0.as_ref()
    }

    fn masked(&self) -> String {
        self.0.as_ref().map(RedisTarget::to_masked_url).unwrap_or_default()
    }
}

impl FromStr for RedisUrl {
    /// The rule that the text breaks. It holds nothing of the text.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The keys that the variables here set.
const URL: &str = "redis.url";
const PREFIX: &str = "redis.prefix";

/// What the variable `name` says, if it is set, or an error that names it.
fn optional<T>(
    variables: &Variables,
    name: &str,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, ConfigError> {
    let value = variables.set(name).map(parse).transpose();
    value.map_err(|rule| ConfigError::at(variables.origin(name), rule))
}

/// The user and the password in two variables. A user alone cannot sign in, which is noted.
fn credentials(
    variables: &Variables,
    [username, password]: [&str; 2],
    notes: &mut Vec<String>,
) -> (Option<String>, Option<Secret>) {
    let secret = variables.set(password).map(Secret::new);
    let user = variables.set(username).map(str::to_owned);
    if user.is_some() && secret.is_none() {
        let origin = variables.origin(username);
        notes.push(format!("{origin} has no effect: {password} is not set"));
        return (None, None);
    }
    (user, secret)
}

/// Writes `target` as the value of `redis.url`. The variable `name` said so.
fn set_target(draft: &mut Draft, target: &RedisTarget, variables: &Variables, name: &str) {
    draft.set(Key::new(URL), Value::String(target.to_url()), variables.origin(name));
}

/// Writes the prefix: what every key of the other server begins with, then its name for what is in
/// Redis. Each of the two variables may be missing; without both, nothing is written.
fn set_prefix(draft: &mut Draft, variables: &Variables, names: [&str; 2]) {
    let [outer, inner] = names.map(|name| variables.set(name));
    let is_broken = |part: Option<&str>| part.is_some_and(|part| redis_prefix(part).is_err());
    let to_blame = match (outer, inner) {
        (None, None) => return,
        (_, Some(_)) if !is_broken(outer) => names[1],
        (_, _) => names[0],
    };
    let own = RedisConfig::default().prefix;
    let prefix = format!("{}{}", outer.unwrap_or_default(), inner.unwrap_or(&own));
    draft.set(Key::new(PREFIX), Value::String(prefix), variables.origin(to_blame));
}
