//! The time of this node.

pub(in crate::cluster) use crate::clock::now;
