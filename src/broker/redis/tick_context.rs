//! The state that periodic work of a joined node borrows.

use super::{
    cluster_state::ClusterState, link::RedisConnection, membership::Membership, topics::Topics,
};
use std::sync::Arc;

/// The state of a joined node, and its connection.
#[derive(Clone, Copy)]
pub(super) struct TickContext<'a> {
    pub(super) shared: &'a Arc<ClusterState>,
    pub(super) membership: &'a Membership,
    pub(super) topics: &'a Topics,
    pub(super) connection: &'a RedisConnection,
}
