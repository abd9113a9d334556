//! soketi's variables for Redis, used if its adapter is `redis`.

use super::{credentials, parse_if_set, set_prefix, set_target};
use crate::config::{
    Secret,
    compat_variable::{
        CompatVariable::{self, Ignored},
        CompatVariables, apply_all, warn_no_redis,
    },
    error::ConfigError,
    raw_config::RawConfig,
    redis_url::{
        RedisTarget, Topology,
        parse::{self, REDIS_PORT, SENTINEL_PORT, in_brackets},
    },
    variables::{Variables, is_true},
};
use serde::Deserialize;
use serde_json::{Map, Value};

const DRIVER: &str = "SOKETI_ADAPTER_DRIVER";
const CLUSTER_MODE: &str = "SOKETI_ADAPTER_REDIS_CLUSTER_MODE";
const OPTIONS: [&str; 2] = ["SOKETI_ADAPTER_REDIS_SUB_OPTIONS", "SOKETI_ADAPTER_REDIS_PUB_OPTIONS"];
const KEY_PREFIX: &str = "SOKETI_DB_REDIS_KEY_PREFIX";
const CHANNEL_PREFIX: &str = "SOKETI_ADAPTER_REDIS_PREFIX";
const HOST: &str = "SOKETI_DB_REDIS_HOST";
const SENTINELS: &str = "SOKETI_DB_REDIS_SENTINELS";
const CLUSTER_NODES: &str = "SOKETI_DB_REDIS_CLUSTER_NODES";

const NO_REDIS: &str = "SOKETI_ADAPTER_DRIVER (adapter.driver) is not redis";
const NOT_IN_CLUSTER: &[CompatVariable] = &[Ignored(
    SENTINELS,
    "null",
    "SOKETI_ADAPTER_REDIS_CLUSTER_MODE (adapter.redis.clusterMode) is true",
)];
const ONLY_IN_CLUSTER: &[CompatVariable] = &[Ignored(
    CLUSTER_NODES,
    "[]",
    "SOKETI_ADAPTER_REDIS_CLUSTER_MODE (adapter.redis.clusterMode) is not true",
)];

const EXPECTED_NODES: &str =
    "must be a JSON list of servers such as [{\"host\":\"10.0.0.1\",\"port\":6379}]";
const NO_NODES: &str =
    "needs a node in SOKETI_DB_REDIS_CLUSTER_NODES (database.redis.clusterNodes)";
const EXPECTED_OBJECT: &str = "must be a JSON object";

/// Writes the values into `raw`, if `SOKETI_ADAPTER_DRIVER` is `redis`.
pub(in crate::config) fn read(
    table: impl CompatVariables,
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    if variables.non_empty(DRIVER) != Some("redis") {
        warn_no_redis(table, NO_REDIS, variables, warnings);
        return Ok(());
    }
    let is_redis_cluster = is_true(CLUSTER_MODE, variables)?;
    let unused = if is_redis_cluster { NOT_IN_CLUSTER } else { ONLY_IN_CLUSTER };
    apply_all(unused, variables, raw, warnings)?;
    let (topology, name) = if is_redis_cluster { cluster(variables)? } else { servers(variables)? };
    let names = ["SOKETI_DB_REDIS_USERNAME", "SOKETI_DB_REDIS_PASSWORD"];
    let (username, password) = credentials(variables, names, warnings);
    let db = parse_if_set(variables, "SOKETI_DB_REDIS_DB", parse::db_number)?.flatten();
    let (is_tls, db) = (is_tls(variables, warnings)?, db.unwrap_or_default());
    let target = RedisTarget { topology, is_tls, username, password, db };
    set_target(raw, &target, variables, name);
    set_prefix(raw, variables, [KEY_PREFIX, CHANNEL_PREFIX]);
    Ok(())
}

/// The nodes of a Redis Cluster, and the variable that sets them.
fn cluster(variables: &Variables) -> Result<(Topology, &'static str), ConfigError> {
    let nodes = parse_if_set(variables, CLUSTER_NODES, |json| parse_servers(json, REDIS_PORT))?;
    match nodes {
        Some(nodes) if !nodes.is_empty() => Ok((Topology::Cluster { nodes }, CLUSTER_NODES)),
        Some(_) | None => Err(ConfigError::at(variables.source(CLUSTER_MODE), NO_NODES)),
    }
}

/// The Sentinels if there are any, else the single server, and the variable that sets them.
fn servers(variables: &Variables) -> Result<(Topology, &'static str), ConfigError> {
    let sentinels = parse_if_set(variables, SENTINELS, |json| parse_servers(json, SENTINEL_PORT))?;
    if let Some(sentinels) = sentinels.filter(|sentinels| !sentinels.is_empty()) {
        let master = variables.non_empty("SOKETI_DB_REDIS_INSTANCE_NAME").unwrap_or("mymaster");
        let password = variables.non_empty("SOKETI_DB_REDIS_SENTINEL_PASSWORD").map(Secret::new);
        let topology = Topology::Sentinel { sentinels, master: master.to_owned(), password };
        return Ok((topology, SENTINELS));
    }
    let host = parse_if_set(variables, HOST, |host| parse::host(&in_brackets(host)))?;
    let port = parse_if_set(variables, "SOKETI_DB_REDIS_PORT", parse::port)?;
    let name = if host.is_some() { HOST } else { DRIVER };
    let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
    Ok((Topology::Single { address: (host, port.unwrap_or(REDIS_PORT)) }, name))
}

/// A server in the form of ioredis.
#[derive(Deserialize)]
struct IoredisServer {
    host: String,
    port: Option<u16>,
}

fn parse_servers(json: &str, default_port: u16) -> Result<Vec<(String, u16)>, &'static str> {
    let servers: Vec<IoredisServer> = serde_json::from_str(json).map_err(|_| EXPECTED_NODES)?;
    let address = |IoredisServer { host, port }: IoredisServer| {
        let port = port.unwrap_or(default_port);
        if port == 0 { Err(EXPECTED_NODES) } else { Ok((parse::host(&in_brackets(&host))?, port)) }
    };
    servers.into_iter().map(address).collect()
}

/// TLS is an option of ioredis, the library that soketi reaches Redis with. Nothing else that the
/// options say has an effect.
fn is_tls(variables: &Variables, warnings: &mut Vec<String>) -> Result<bool, ConfigError> {
    let mut is_tls = false;
    for name in OPTIONS {
        let options: Option<Map<String, Value>> = parse_if_set(variables, name, |json| {
            serde_json::from_str(json).map_err(|_| EXPECTED_OBJECT)
        })?;
        let options = options.unwrap_or_default();
        let tls = options.get("tls").filter(|tls| !matches!(tls, Value::Null | Value::Bool(false)));
        let is_plain = tls.is_none_or(|tls| tls.as_object().is_none_or(Map::is_empty));
        is_tls |= tls.is_some();
        if !is_plain || options.keys().any(|option| option != "tls") {
            let source = variables.source(name);
            warnings.push(format!(
                "{source}: only the presence of `tls` is used; the other options are ignored"
            ));
        }
    }
    Ok(is_tls)
}
