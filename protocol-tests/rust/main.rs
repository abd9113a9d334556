//! The conformance tests: the real server, raw sockets, and every numbered case of `docs/protocol.md`.
//!
//! A test's name begins with the number of its case, if it has one, and states the guarantee. Each test starts a
//! separate server on a free port. The absence of a message is never asserted by waiting: a ping is sent and its answer
//! must be the next frame, or a marker is published and must be the next event.

mod cache_count;
mod cli;
mod client_events;
mod connection;
mod delivery;
mod development;
mod documented_metrics;
mod framing;
mod harness;
mod harness_checks;
mod hostile;
mod http_auth;
mod http_events;
mod http_heads;
mod http_queries;
mod http_wire;
mod inputs;
mod limits;
mod limits_connections;
mod limits_http;
mod listen;
mod logs;
mod metrics;
mod presence;
mod reload;
mod restart;
mod run_script;
mod shutdown;
mod signin;
mod subscription;
mod switching;
mod tls;
mod tls_files;
mod vectors;
mod webhook_cli;
mod webhook_flow;
mod webhook_receiver;
mod webhook_secrets;
mod webhooks;

use harness::{Server, Settings};

/// Starts a server for a test. It has one node; the target `cluster` runs some of these tests with two.
async fn start(settings: &Settings) -> Server {
    Server::start(settings, Vec::new(), None).await
}
