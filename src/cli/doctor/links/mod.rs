//! The links, one file each.

pub(super) mod configuration;
pub(super) mod direct;
pub(super) mod health;
pub(super) mod host;
pub(super) mod server;
