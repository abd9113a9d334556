//! Webhooks of several nodes that share a Redis: the cluster delivers every event once, and queued events outlive the
//! delivering node. The tests use real nodes, a real `redis-server`, and an endpoint that records its requests.
//!
//! The absence of further events is not tested by waiting: a later event is caused, and it must be the next one.

mod failure;
mod group;
mod once;
mod partitions;
mod rejected;
mod reload;
