//! The conformance tests: the real server, raw sockets, and every numbered case of `docs/protocol.md`.
//!
//! A test's name begins with the number of its case, if it has one, and states the guarantee. Each test starts a
//! separate server on a free port. The absence of a message is never asserted by waiting: a ping is sent and its answer
//! must be the next frame, or a marker is published and must be the next event.

mod activity;
mod allocations;
mod cache_count;
mod cli;
mod client_events;
mod connection;
mod console;
mod counted;
mod delivery;
mod development;
mod diagnostics;
mod documented_metrics;
mod framing;
mod history;
mod hostile;
mod http_auth;
mod http_events;
mod http_heads;
mod http_queries;
mod http_wire;
mod idempotency;
mod init;
mod inputs;
mod kit_checks;
mod limits;
mod limits_connections;
mod limits_http;
mod listen;
mod logs;
mod metrics;
mod presence;
mod presence_grace;
mod reload;
mod restart;
mod resume;
mod root_page;
mod run_script;
mod shutdown;
mod signin;
mod soketi_file;
mod subscription;
mod switching;
mod systemd;
mod tls;
mod tls_files;
mod top;
mod vectors;
mod webhook_cli;
mod webhook_flow;
mod webhook_secrets;
mod webhooks;

use kit::{Server, Settings};

/// How this suite starts the server of a test: as one node. Some modules are part of the suite `cluster` as well, which
/// starts two.
trait Start {
    async fn start(&self) -> Server;
}

impl Start for Settings {
    async fn start(&self) -> Server {
        self.start_node().await
    }
}
