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
pub(crate) use redis_cluster::{FAILED_OVER, RedisCluster};
pub(crate) use sentinel::Watched;
pub(crate) use views::{View, assert_view_everywhere, until_everywhere};
