//! A model of a Redis server: its data, its commands, a real Lua for scripts, subscriptions, and its part of a Redis
//! Cluster. It does no I/O and has no clock: the caller passes the time with each command.
//!
//! This module uses nothing else of the crate, so that the cluster tests can compare it with a real Redis.

mod cjson;
mod commands;
mod history;
pub(crate) mod lua;
mod pubsub;
pub(crate) mod replies;
pub(crate) mod resp;
pub(crate) mod server;
pub(crate) mod slots;
pub(crate) mod state;
mod store;
