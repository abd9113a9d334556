//! What a Redis server says of itself.

/// What a Redis server says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RedisFacts {
    /// Host and port, or the path of a socket.
    pub address: String,
    /// `redis_version`, as far as the user may read it. Valkey has the version of the Redis that it
    /// is compatible with.
    pub version: Option<String>,
    /// `maxmemory_policy`.
    pub eviction_policy: Option<String>,
}

impl RedisFacts {
    /// Reads the reply to `INFO`.
    pub(super) fn from_info(address: String, info: &str) -> Self {
        let value = |name: &str| {
            let of_name = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
            info.lines().map(str::trim).find_map(of_name)
        };
        let (version, eviction_policy) = (value("redis_version"), value("maxmemory_policy"));
        Self { address, version, eviction_policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_info() {
        let info =
            "# Server\r\nredis_version:6.0.16\r\n# Memory\r\nmaxmemory_policy:allkeys-lru\r\n";
        let facts = RedisFacts::from_info("a:1".into(), info);
        assert_eq!(facts.version.as_deref(), Some("6.0.16"));
        assert_eq!(facts.eviction_policy.as_deref(), Some("allkeys-lru"));
        assert_eq!(RedisFacts::from_info("a:1".into(), "").version, None);
    }
}
