//! The links, one file each.

pub(super) mod api;
pub(super) mod auth;
pub(super) mod client;
pub(super) mod cluster;
pub(super) mod configuration;
pub(super) mod direct;
pub(super) mod health;
pub(super) mod host;
pub(super) mod idle;
pub(super) mod nodes;
pub(super) mod proxy;
pub(super) mod reach;
pub(super) mod server;
