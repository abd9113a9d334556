//! Campanile: a broadcast server that speaks the Pusher Channels protocol.
//!
//! It receives events from application servers over HTTP and delivers them to WebSocket clients:
//! browsers with pusher-js or Laravel Echo, apps, other servers.
//!
//! # Layers
//!
//! Four kinds of code, kept apart: **values** ([`protocol`]), **state machines without I/O**
//! ([`channel`], [`session`], the topics of [`broker::redis`]), **shared state that never blocks** ([`hub`]), and **I/O
//! without decisions** ([`shard`], [`http`], the link of [`broker::redis`]). They form layers; a lower one
//! never imports a higher one, which the test `tidy` checks by the `use` lines.
//!
//! ```text
//! 7  main, cli                the command line
//! 6  server                   builds the parts, runs them, drains them in order
//! 5  shard       http         sockets; the HTTP API
//! 4  node                     hubs, broker, webhooks and counters as one, for layer 5
//! 3  broker     webhook       decisions, for one node or for all that share a Redis; webhooks
//! 2  session     hub          one client's protocol without I/O; subscribers of this node
//! 1  signature   app          HMAC and its strings to sign; tenants and their limits
//!    channel                  the state of a channel and its transitions
//!    app_database             queries of the apps in a database
//! 0  protocol  config  file  host  rate  permit  metrics  shutdown  throttle  tls  clock
//!    http_client  backoff  escape  snippet  alarm
//! ```
//!
//! # The path of an event
//!
//! [`http`] checks the request's signature and reads the event. [`broker`] encodes it once for
//! each channel as a [`protocol::Frame`]. The [`hub`] of the app takes the channel's lock,
//! advances its sequence and pushes a handle of the frame into the inbox of each shard that has
//! subscribers. In a cluster, the event is published through Redis first and delivered to the
//! hubs of all nodes ([`broker::redis`]). Each [`shard`] queues it in the outboxes of its subscribers, and writes those in
//! slices.

// The future of an HTTP connection contains those of all calls. Whether it can be sent to another thread is evaluated
// deeper than the default of 128.
#![recursion_limit = "256"]

#[cfg(windows)]
compile_error!(
    "Windows is not supported: Campanile runs on Linux. On Windows, use WSL 2 or a container."
);

pub mod alarm;
pub mod app;
pub mod app_database;
pub mod backoff;
pub mod broker;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
mod escape;
pub mod file;
pub mod host;
pub mod http;
pub mod http_client;
pub mod hub;
pub mod metrics;
pub mod node;
pub mod permit;
pub mod protocol;
pub mod rate;
pub mod recent;
pub mod server;
pub mod session;
pub mod shard;
pub mod shutdown;
pub mod signature;
pub mod snippet;
pub mod throttle;
pub mod tls;
pub mod webhook;
