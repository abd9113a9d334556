//! Attacks on the running server while a regular subscriber and a regular publisher use it.
//!
//! Each test starts its own server with a bystander ([`setup::AttackSetup`]), and attacks it with a bounded load over
//! loopback. A test passes if the subscriber lost no event, the server's memory stayed within its bound and was
//! released afterwards, and the attacker was treated as the test expects. The slowdown of the subscriber is printed and
//! not asserted: benchmarks measure it on an idle machine. One attack runs at a time.
//!
//! `cargo test --test attacks -- --nocapture` prints a line for each attack.

mod bodies;
mod bombs;
mod bystander;
mod caches;
mod floods;
mod framing;
mod handshakes;
mod presence;
mod replays;
mod setup;
mod smuggling;
mod timing;
