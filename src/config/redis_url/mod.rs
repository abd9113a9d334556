//! The address of Redis, as `redis.url` has it.
//!
//! Contains values only: nothing connects here, and the file of `redis.ca` is read elsewhere.

pub(super) mod parse;

use super::Secret;
use parse::parse;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, path::PathBuf, str::FromStr};

/// Characters that a URL contains unescaped.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The Redis servers, with TLS and credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisTarget {
    /// The topology and the servers.
    pub topology: Topology,
    /// Whether to use TLS for all of them, including Sentinels.
    pub is_tls: bool,
    /// The ACL user; `None` for Redis' default user. Never without a password.
    pub username: Option<String>,
    /// The user's password; `None` for no authentication.
    pub password: Option<Secret>,
    /// The number of the database, up to 2,147,483,647. Always 0 in a Redis Cluster.
    pub db: i64,
}

/// The topology and the servers. An address is a name or an IP address, IPv6 without brackets, and
/// a port other than 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Topology {
    /// A single server.
    Single {
        /// Host and port.
        address: (String, u16),
    },
    /// A single server behind a Unix socket.
    Unix {
        /// The path of the socket.
        path: PathBuf,
    },
    /// Sentinels that know the master.
    Sentinel {
        /// The Sentinels, at least one.
        sentinels: Vec<(String, u16)>,
        /// The master's name in Sentinel.
        master: String,
        /// The password of the Sentinels; `None` for no authentication.
        password: Option<Secret>,
    },
    /// A Redis Cluster.
    Cluster {
        /// The seed nodes, at least one.
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

    /// The URL of this target, with its secrets.
    pub(super) fn to_url(&self) -> String {
        let password = self.password.as_ref().map(Secret::expose).unwrap_or_default();
        let username = self.username.as_deref().unwrap_or_default();
        let credentials = if self.password.is_some() {
            format!("{}:{}@", encoded(username), encoded(password))
        } else {
            String::new()
        };
        self.url(&credentials, |secret| encoded(secret.expose()))
    }

    /// The URL of this target, without its credentials.
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

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Addresses in URL form.
fn list(addresses: &[(String, u16)]) -> String {
    let address = |(host, port): &(String, u16)| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    addresses.iter().map(address).collect::<Vec<_>>().join(",")
}

/// The value of `redis.url`: the address of Redis, or empty for a single node.
///
/// Read with [`parse`](str::parse). `Debug` and `Serialize` write the URL with `***` in place of
/// user and passwords.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct RedisUrl(Option<RedisTarget>);

impl RedisUrl {
    /// The target, if there is one.
    #[must_use]
    pub fn target(&self) -> Option<&RedisTarget> {
        self.0.as_ref()
    }

    fn masked(&self) -> String {
        self.0.as_ref().map(RedisTarget::to_masked_url).unwrap_or_default()
    }
}

impl FromStr for RedisUrl {
    /// The violated rule. It contains nothing of the text.
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
