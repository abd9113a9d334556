//! What the state of a channel is, and which transitions it has. No I/O, no locks.

mod roster;

pub use roster::Roster;
