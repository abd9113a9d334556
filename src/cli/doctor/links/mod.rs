//! The links, one file each.

pub(super) mod api;
pub(super) mod assets;
pub(super) mod auth;
pub(super) mod cached;
pub(super) mod client;
pub(super) mod cluster;
pub(super) mod configuration;
pub(super) mod direct;
pub(super) mod health;
pub(super) mod host;
pub(super) mod idle;
pub(super) mod limits;
pub(super) mod nodes;
mod page;
pub(super) mod proxy;
pub(super) mod queue;
pub(super) mod reach;
pub(super) mod redis;
pub(super) mod server;
pub(super) mod stale;
pub(super) mod upstream;
