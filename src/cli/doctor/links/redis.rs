//! The Redis of the configuration: reachable, new enough, and keeping what is written.

use super::super::{
    causes::redis::{REDIS_EVICTION_POLICY, REDIS_UNREACHABLE, REDIS_VERSION_OLD},
    finding::Finding,
    inputs::Inputs,
    report::Outcome,
};
use crate::{
    broker::redis::{RedisFacts, inspect},
    config::Topology,
};

/// The oldest versions that work: major and minor, of a single server and of a Redis Cluster.
const OLDEST: (u32, u32) = (6, 2);
const OLDEST_CLUSTER: (u32, u32) = (7, 0);

pub(in crate::cli::doctor) async fn check(inputs: &Inputs<'_>) -> Outcome {
    let Some(config) = inputs.config() else {
        return Outcome::Skipped("the configuration is not valid".to_owned());
    };
    let Some(target) = config.redis.target() else {
        return Outcome::Skipped("no Redis is configured: one node".to_owned());
    };
    let servers = target.servers();
    match inspect(&config.redis).await {
        Err(why) => REDIS_UNREACHABLE.found(format!("Redis at {servers}: {why}.")).into(),
        Ok(facts) => {
            let is_cluster = matches!(target.topology, Topology::Cluster { .. });
            Outcome::of(judge(&facts, is_cluster), format!("Redis at {servers} answers"))
        }
    }
}

/// What is wrong with the servers: each cause once.
fn judge(servers: &[RedisFacts], is_cluster: bool) -> Vec<Finding> {
    let oldest = if is_cluster { OLDEST_CLUSTER } else { OLDEST };
    let is_old = |facts: &&RedisFacts| {
        let version = facts.version.as_deref().and_then(major_and_minor);
        version.is_some_and(|version| version < oldest)
    };
    let evicts = |facts: &&RedisFacts| {
        facts.eviction_policy.as_deref().is_some_and(|policy| policy.starts_with("allkeys-"))
    };
    let old = servers.iter().find(is_old).map(|facts| {
        let RedisFacts { address, version, .. } = facts;
        let version = version.as_deref().unwrap_or_default();
        let (major, minor) = oldest;
        REDIS_VERSION_OLD
            .found(format!("Redis at {address} is {version}; {major}.{minor} is needed."))
    });
    let evicting = servers.iter().find(evicts).map(|facts| {
        let RedisFacts { address, eviction_policy, .. } = facts;
        let policy = eviction_policy.as_deref().unwrap_or_default();
        REDIS_EVICTION_POLICY
            .found(format!("Redis at {address} has the maxmemory-policy {policy}."))
            .line("redis.conf", "maxmemory-policy noeviction")
            .command("redis-cli config set maxmemory-policy noeviction")
    });
    old.into_iter().chain(evicting).collect()
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_and_evicting_policies_are_found() {
        for (version, policy, is_cluster, expected) in [
            ("7.4.1", "noeviction", false, &[][..]),
            ("6.2.0", "volatile-lru", false, &[]),
            ("6.0.16", "noeviction", false, &["redis_version_old"]),
            ("6.2.7", "noeviction", true, &["redis_version_old"]),
            ("10.0.0", "noeviction", true, &[]),
            ("7.0.0", "allkeys-lru", false, &["redis_eviction_policy"]),
            ("5.0.0", "allkeys-lfu", false, &["redis_version_old", "redis_eviction_policy"]),
            ("unknown", "", false, &[]),
        ] {
            let facts = RedisFacts {
                address: "a.test:6379".into(),
                version: Some(version.into()),
                eviction_policy: Some(policy.into()),
            };
            let found = judge(&[RedisFacts::default(), facts], is_cluster);
            let ids: Vec<_> = found.iter().map(|finding| finding.cause.id).collect();
            assert_eq!(ids, expected, "{version} {policy}");
        }
    }
}
