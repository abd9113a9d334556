//! The parts that the cluster tests share, in addition to the harness of the conformance tests.

mod api;
mod basics;
mod checker;
mod checks;

mod group;
mod ledger;
mod listener;
mod monitor;
mod nodes;
mod proxy;
mod redis;
mod redis_cluster;
mod resp;
mod sentinel;
mod views;

pub(crate) use api::{Api, Outcome, unhurried};
pub(crate) use basics::they_are_one;
pub(crate) use checker::{
    Checker, History, Least, Period, Rule, Violation, WHISPER, WebhookRequest, caches_differ,
    is_cache_channel, webhook_violations, webhooks_differ,
};
pub(crate) use checks::assert_agrees;
pub(crate) use group::{C, CLEANED_UP, Group, HEALED, R, member};
pub(crate) use ledger::{Ledger, Published, Publishing, publish_from};
pub(crate) use listener::{Entry, Heard, Listener};
pub(crate) use monitor::Monitor;
pub(crate) use nodes::{
    becomes_ready, becomes_unready, cluster_settings, metrics, node, node_beside, readiness,
    unready_node,
};
pub(crate) use proxy::{Link, Proxy};
pub(crate) use redis::{Redis, free_port};
pub(crate) use redis_cluster::{FAILED_OVER, RedisCluster};
pub(crate) use resp::{RedisClient, Resp};
pub(crate) use sentinel::Watched;
pub(crate) use views::{View, assert_view_everywhere, until_everywhere};
