//! Failures of nodes, the network and Redis, and the guarantees during them.

mod accepted;
mod clocks;
mod cut;
mod delayed;
mod distance;
mod flushed;
mod foreign;
mod keys_taken;
mod kill;
mod large_node;
mod late_generation;
mod layout;
mod lost_pending;
mod one_connection;
mod outage;
mod paused;
mod rejections;
mod repeated_key;
mod restart;
mod returning;
mod rolling;
mod rosters;
mod upgrade;
