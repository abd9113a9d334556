//! Attacks on the running server, while an ordinary subscriber and an ordinary publisher go about their business.
//!
//! Each test starts a server of its own, watches it with a bystander ([`setup::AttackSetup`]), and attacks it within bounds and on
//! loopback. It holds when the subscriber lost nothing, the server's memory stayed within its bound and came back,
//! and the attacker met the fate that the test names. How much slower the subscriber was served is printed, not
//! judged: that is for benchmarks on a quiet machine. One attack runs at a time.
//!
//! `cargo test --test attacks -- --nocapture` prints a line for each.

mod bodies;
mod bombs;
mod bystander;
mod caches;
mod floods;
mod framing;
mod handshakes;
#[path = "../rust/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the harness serves other tests as well")]
mod harness;
mod presence;
mod replays;
mod setup;
mod smuggling;
mod timing;

use harness::{Server, Settings};

/// Each attack is on one node.
async fn start(settings: &Settings) -> Server {
    Server::start(settings, Vec::new(), None).await
}
