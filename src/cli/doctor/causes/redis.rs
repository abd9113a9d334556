//! Causes in the Redis of the configuration.

use super::super::finding::{
    Cause, Link,
    Severity::{Broken, Doubtful},
    Way,
};

/// The causes in this file.
pub(in crate::cli::doctor) const ALL: &[&Cause] =
    &[&REDIS_UNREACHABLE, &REDIS_VERSION_OLD, &REDIS_EVICTION_POLICY, &REDIS_PREFIX_DIFFERS];

pub(in crate::cli::doctor) const REDIS_UNREACHABLE: Cause = Cause {
    id: "redis_unreachable",
    link: Link::Redis,
    severity: Broken,
    title: "The Redis of the configuration cannot be used.",
    why: "Nodes are not ready without it, and answer publishes with 503.",
    remedy: "Start Redis, or correct redis.url: host, port, password, TLS.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const REDIS_VERSION_OLD: Cause = Cause {
    id: "redis_version_old",
    link: Link::Redis,
    severity: Broken,
    title: "The Redis is too old.",
    why: "It lacks commands that nodes use: Redis 6.2 is needed, 7.0 for a Redis Cluster.",
    remedy: "Install a newer Redis, or Valkey.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const REDIS_EVICTION_POLICY: Cause = Cause {
    id: "redis_eviction_policy",
    link: Link::Redis,
    severity: Doubtful,
    title: "The Redis may evict keys of the cluster.",
    why: "When its memory is full, it removes any key, and with it counts, members and cached events.",
    remedy: "Set maxmemory-policy to noeviction, or use a Redis of its own.",
    stops: None,
};

pub(in crate::cli::doctor) const REDIS_PREFIX_DIFFERS: Cause = Cause {
    id: "redis_prefix_differs",
    link: Link::Health,
    severity: Broken,
    title: "The running server uses another redis.prefix than the configuration.",
    why: "Nodes with different prefixes do not see one another: each has its own channels and members.",
    remedy: "Set the same redis.prefix on all nodes, and restart the server.",
    stops: None,
};
