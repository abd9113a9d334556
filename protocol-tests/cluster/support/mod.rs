//! The parts that the cluster tests share, in addition to the kit.

mod api;
mod basics;
mod checker;
mod checks;
mod group;
mod ledger;
mod listener;
mod monitor;
mod redis_cluster;
mod sentinel;
mod views;

pub(crate) use api::{Api, Outcome, with_tolerance};
pub(crate) use basics::assert_nodes_act_as_one;
pub(crate) use checker::{
    Checker, History, Least, Period, Rule, Violation, WHISPER, WebhookRequest, caches_differ,
    is_cache_channel, webhook_violations, webhooks_differ,
};
pub(crate) use checks::assert_history_valid;
pub(crate) use group::{C, CLEANUP_MAX, Group, R, RECOVERY_MAX, member};
pub(crate) use ledger::{Ledger, Published, Publishing, publish_from};
pub(crate) use listener::{Listener, Observation, TimedObservation};
pub(crate) use monitor::Monitor;
pub(crate) use redis_cluster::{FAILED_OVER, RedisCluster};
pub(crate) use sentinel::Watched;
pub(crate) use views::{View, assert_view_everywhere, wait_for_state_on_all};
