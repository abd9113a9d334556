//! Where the log of an app and the queues of its endpoints are: in memory, or with several nodes in
//! Redis.

pub(super) mod memory;
pub(super) mod redis;
