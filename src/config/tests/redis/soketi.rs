//! The address of Redis according to soketi's variables.

use super::{
    ADAPTER, SCALING, cluster, secured, sentinel, single, target, with, with_app, with_db, with_tls,
};
use crate::config::{RedisTarget, Topology};

#[test]
fn soketis_variables_say_where_redis_is_when_its_adapter_is_redis() {
    let sentinels = r#"SOKETI_DB_REDIS_SENTINELS=[{"host":"a"},{"host":"::1","port":2,"x":0}]"#;
    let nodes = r#"SOKETI_DB_REDIS_CLUSTER_NODES=[{"host":"a"},{"host":"b","port":2}]"#;
    let both = || sentinel(&[("a", 26_379), ("::1", 2)], None);
    for (lines, expected, from) in [
        (&[][..], single("127.0.0.1", 6_379), "ADAPTER_DRIVER"),
        (&["SOKETI_DB_REDIS_PORT=7"], single("127.0.0.1", 7), "ADAPTER_DRIVER"),
        (
            &["SOKETI_DB_REDIS_HOST=h", "SOKETI_DB_REDIS_DB=2", "SOKETI_DB_REDIS_PASSWORD=p"],
            secured(with_db(single("h", 6_379), 2), "", "p"),
            "DB_REDIS_HOST",
        ),
        (
            &["SOKETI_DB_REDIS_USERNAME=u", "SOKETI_DB_REDIS_PASSWORD=p", "SOKETI_DB_REDIS_HOST=h"],
            secured(single("h", 6_379), "u", "p"),
            "DB_REDIS_HOST",
        ),
        (
            &[sentinels, "SOKETI_DB_REDIS_INSTANCE_NAME=main", "SOKETI_DB_REDIS_DB=1"],
            with_db(both(), 1),
            "DB_REDIS_SENTINELS",
        ),
        (
            &[
                sentinels,
                "SOKETI_DB_REDIS_INSTANCE_NAME=main",
                "SOKETI_DB_REDIS_SENTINEL_PASSWORD=s/s",
            ],
            sentinel(&[("a", 26_379), ("::1", 2)], Some("s/s")),
            "DB_REDIS_SENTINELS",
        ),
        (
            &[nodes, "SOKETI_ADAPTER_REDIS_CLUSTER_MODE=true", "SOKETI_DB_REDIS_PASSWORD=p"],
            secured(cluster(&[("a", 6_379), ("b", 2)]), "", "p"),
            "DB_REDIS_CLUSTER_NODES",
        ),
        (
            &[
                "SOKETI_ADAPTER_REDIS_SUB_OPTIONS={\"tls\":{}}",
                "SOKETI_ADAPTER_REDIS_PUB_OPTIONS={\"tls\":true}",
            ],
            with_tls(single("127.0.0.1", 6_379)),
            "ADAPTER_DRIVER",
        ),
        (
            &[
                "SOKETI_ADAPTER_REDIS_SUB_OPTIONS={\"tls\":false}",
                "SOKETI_ADAPTER_REDIS_PUB_OPTIONS={\"tls\":null}",
            ],
            single("127.0.0.1", 6_379),
            "ADAPTER_DRIVER",
        ),
    ] {
        let expected = (expected, format!("environment SOKETI_{from}"));
        assert_eq!(target(with(ADAPTER, lines)), expected, "{lines:?}");
    }
    let (RedisTarget { topology, .. }, _) = target(with(ADAPTER, &[sentinels]));
    assert!(matches!(topology, Topology::Sentinel { master, .. } if master == "mymaster"));
}

#[test]
fn other_options_of_soketis_client_are_noted() {
    for options in [r#"{"tls":{"rejectUnauthorized":false}}"#, r#"{"tls":{},"lazyConnect":true}"#] {
        let line = format!("SOKETI_ADAPTER_REDIS_PUB_OPTIONS={options}");
        let loaded = with(ADAPTER, &[&line]).loaded();
        assert!(loaded.config.redis.target().unwrap().is_tls);
        let expected = "environment SOKETI_ADAPTER_REDIS_PUB_OPTIONS: only the presence of `tls` is used; the other options are ignored";
        assert_eq!(loaded.warnings, [expected]);
    }
}

#[test]
fn a_variable_of_soketi_that_cannot_be_meant_is_named() {
    let nodes = "must be a JSON list of servers such as [{\"host\":\"10.0.0.1\",\"port\":6379}]";
    let no_nodes = "needs a node in SOKETI_DB_REDIS_CLUSTER_NODES (database.redis.clusterNodes)";
    let cluster = "SOKETI_ADAPTER_REDIS_CLUSTER_MODE=1";
    for (lines, expected) in [
        (&["SOKETI_DB_REDIS_SENTINELS=a:1"][..], nodes),
        (&["SOKETI_DB_REDIS_SENTINELS=[{\"host\":\"a\",\"port\":0}]"], nodes),
        (&["SOKETI_DB_REDIS_SENTINELS=[{\"port\":1}]"], nodes),
        (&[cluster, "SOKETI_DB_REDIS_CLUSTER_NODES=[]"], no_nodes),
        (&[cluster, "SOKETI_DB_REDIS_CLUSTER_NODES="], no_nodes),
        (&["SOKETI_DB_REDIS_CLUSTER_NODES=[1]", cluster], nodes),
        (&["SOKETI_DB_REDIS_PORT=x"], "must have ports from 1 to 65535"),
        (&["SOKETI_ADAPTER_REDIS_SUB_OPTIONS=[]"], "must be a JSON object"),
        (&["SOKETI_ADAPTER_REDIS_CLUSTER_MODE=x"], "must be true or false, or 1 or 0"),
        (
            &["SOKETI_DB_REDIS_CLUSTER_NODES=[{\"host\":\"a\"}]", cluster, "SOKETI_DB_REDIS_DB=1"],
            "redis.url: must have no database but 0, because a Redis Cluster has no other",
        ),
    ] {
        let (name, _) = lines[0].split_once('=').unwrap();
        let expected = format!("environment {name}: {expected}");
        assert_eq!(with(ADAPTER, lines).error(), expected);
    }
}

#[test]
fn soketis_drivers_may_be_redis_where_there_is_one() {
    for name in ["SOKETI_CACHE_DRIVER", "SOKETI_QUEUE_DRIVER", "SOKETI_RATE_LIMITER_DRIVER"] {
        let message =
            "needs Redis: set redis.url, or SOKETI_ADAPTER_DRIVER (adapter.driver) to redis";
        let setup = || with_app().env(name, "redis");
        assert_eq!(setup().error(), format!("environment {name}: {message}"));
        let emptied = setup().file("[redis]\nurl = \"redis://h\"").env("CAMPANILE_REDIS__URL", "");
        assert_eq!(emptied.error(), format!("environment {name}: {message}"));
        assert!(setup().file("[redis]\nurl = \"redis://h\"").load().is_ok());
        assert!(setup().env(ADAPTER.0, ADAPTER.1).load().is_ok());
        assert!(setup().env(SCALING.0, SCALING.1).load().is_ok());
    }
}
