//! Campanile: a broadcast server that speaks the Pusher Channels protocol.
//!
//! It takes events from application servers over HTTP and carries them to everyone who listens
//! by WebSocket: browsers with pusher-js or Laravel Echo, phones, other servers.
//!
//! # The map
//!
//! Four kinds of code, kept apart: **values** ([`protocol`]), **state machines without I/O**
//! ([`session`], the topics of [`cluster`]), **shared state without waiting** ([`hub`]), and **I/O
//! without decisions** ([`shard`], [`http`], the link of [`cluster`]). They form layers; a lower one
//! never names a higher one, and the test `tidy` reads the `use` lines to see to it.
//!
//! ```text
//! 7  main, cli                what can be typed
//! 6  server                   builds the parts, runs them, drains them in order
//! 5  shard       http         sockets; the HTTP API
//! 4  node                     hubs, cluster, webhooks and counters as one: all that layer 5 knows
//! 3  cluster    webhook       the other nodes; telling the application
//! 2  session     hub          one client's protocol without I/O; who and what is on this node
//! 1  signature   app          HMAC and its strings to sign; tenants and their limits
//! 0  protocol  config  file  host  live  rate  permit  metrics  shutdown  throttle  tls  clock
//! ```
//!
//! # The way of an event
//!
//! [`http`] checks the request's signature and reads the event. [`node`] encodes it once for
//! each channel as a [`protocol::Frame`]. The [`hub`] of the app takes the channel's lock,
//! advances its sequence and pushes a handle of the frame into the inbox of each shard that has
//! subscribers. Where there are other nodes, the event goes to Redis first and comes back to the
//! hubs of all of them ([`cluster`]). Each [`shard`] hands it to the outboxes of its subscribers, and writes those in
//! slices.

pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod file;
pub mod host;
pub mod http;
pub mod hub;
pub mod live;
pub mod metrics;
pub mod node;
pub mod permit;
pub mod protocol;
pub mod rate;
pub mod server;
pub mod session;
pub mod shard;
pub mod shutdown;
pub mod signature;
pub mod throttle;
pub mod tls;
pub mod webhook;
