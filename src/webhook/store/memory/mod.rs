//! The log and the queues of a single node.

pub(in crate::webhook) mod log;
pub(in crate::webhook) mod queue;
