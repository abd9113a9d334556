//! The cluster: the state that nodes share through Redis, so that they act as one server.
//!
//! Nodes do not talk to one another. The shared state lies in Redis, and Lua scripts (`lua/`) change
//! it there, each atomically. A script publishes what it has changed on a pub/sub channel of
//! Redis, in the same step. `docs/cluster.md` lists what holds when, and the limits.
//!
//! # Keys
//!
//! - `partition`: keys with the same hash tag, so that one script may use all of them. A Redis Cluster
//!   has 256, a single Redis one. `names` makes the names of keys and pub/sub channels.
//! - *Registry* (`lua/fencing.lua`): a hash in each partition, with its generation and the registered
//!   nodes with their link numbers. Each write carries all three, and Redis rejects it if one is outdated.
//! - *Topic*: the hash of a channel, of a user, or of an app's connections. Its pub/sub channel has the same name.
//! - *Control channel*: a pub/sub channel that all nodes subscribe to, for heartbeats and notifications.
//!
//! # Words
//!
//! - *node*: a member of the cluster, named `process.incarnation`. *process*: the 24-bit id of a server process. A
//!   node that was declared dead takes the next incarnation.
//! - *link*: the connections to Redis since the last reconnect. Its number is part of the *fencing token*, which
//!   each write carries.
//! - *lease partition*: partition 0. It stores the leases and carries the control channel.
//! - *generation*: an id of the data of one partition, replaced when Redis may have lost writes. It is *open* once
//!   all expected processes have synced; before, nothing is published.
//! - *epoch* and *version* of a topic: an id of its hash, and a counter of its changes. *sequence*: the counter of
//!   its events.
//! - *contribution*: the subscriptions and users that one node adds to a topic. *provisional*: read before all nodes
//!   have written theirs.
//! - *view*: what a node knows of a topic on all nodes.
//! - *leader*: the live node with the lowest name. It does the work that one node does for all.
//!
//! # Publishing
//!
//! `RedisBroker::publish` puts the encoded frame into an `envelope` and runs one script, which advances
//! the sequence of the channel and publishes the event on its pub/sub channel. Each node with subscribers, the
//! publisher included, receives it and passes it to its hub: all nodes deliver in Redis' order.
//!
//! # Subscribing
//!
//! `RedisBroker::subscribe` sends a request to the `coordinator`, a task that owns the `topics`: a `topic` state
//! machine for each channel with subscribers on this node. The topic subscribes to its pub/sub channel, writes to Redis what
//! this node contributes (`sync`, `lua/sync.lua`), and reads the state of all nodes. From this
//! *view* the subscriber gets `subscription_succeeded`.
//!
//! # Logs
//!
//! `lua/publish.lua` adds events to a stream while the channel has *readers*, which are connections that may resume, or if it has a
//! history. A sync tells Redis whether this node has readers, and reads the log for those that return, and for new subscribers that
//! receive the history (`channel_logs`). `lua/history.lua` reads it for the HTTP API.
//!
//! # Clients that return
//!
//! A client with a token has a *record* (`client_records`, `lua/client.lua`): its *place*, which is a process and a number that the process uses
//! once, or what the connection in that place has left. A node that finds the client connected elsewhere asks that process
//! (`session_requests`). The node's registry of clients decides (`node::resume`); the broker only carries.
//!
//! # Webhooks
//!
//! `lua/sync.lua` logs changes in the step that makes them, in the partition of the topic. On a Redis
//! Cluster, `forwarding` passes the records on to the app's log. `AppScripts` runs the scripts of the node that delivers
//! them.
//!
//! # Failures
//!
//! - `link` connects to Redis and follows its masters: two connections per server, for commands and for pub/sub.
//! - `membership` decides when to connect, join, send the heartbeats that keep the *lease*, and leave.
//!   After a lost link each topic is written and read again; differences are sent to clients, and
//!   the connections of subscribers that may have missed events are closed with 4200, so that they subscribe again.
//! - `restore` reports sequences to a Redis that has lost data: a new *generation*.
//! - `cleanup` removes what a node contributed whose lease has expired.
//! - `compare` continuously compares the state of this node with that in Redis, and repairs it.
//! - Publishes wait for Redis for a bounded time. The scripts reject those that arrive later.
//!
//! # Tests
//!
//! `simulation` runs this code and the scripts on a model of Redis and of the network, from seeds. For
//! it, time is read through `clock`, and random numbers are drawn through `random`. `protocol-tests/cluster/scripts`
//! calls each script directly.

mod app_scripts;
mod cache;
mod cache_updates;
mod channel_list_read;
mod channel_logs;
mod cleanup;
mod client_records;
mod cluster_state;
mod compare;
mod console_peers;
mod coordinator;
mod dedup;
mod encoded_publish;
mod envelope;
mod fencing_token;
mod forwarding;
mod heartbeat;
mod history;
mod in_flight;
mod inspect;
mod link;
mod link_state;
mod list_reads;
mod lua;
mod membership;
mod metrics;
mod names;
mod nodes;
mod notifiers;
mod partition;
mod peers;
mod publish;
mod publish_groups;
mod query;
mod random;
mod ready;
mod reason;
mod recent_sequences;
mod redis_broker;
mod reports;
mod restore;
mod scheduler;
mod scripts;
mod session_requests;
mod sign_in;
#[cfg(test)]
mod simulation;
mod sync;
mod tick_context;
mod topic;
mod topics;
mod unforwarded;
mod watch;
mod webhook_interest;

pub(crate) use app_scripts::{AppCall, AppScripts};
pub use console_peers::PeerMessage;
pub use encoded_publish::EncodedPublish;
pub use inspect::inspect;
pub use link::RedisFacts;
pub(crate) use lua::{LOG_BYTES_MAX, OVERHEAD_BYTES};
pub(in crate::broker) use redis_broker::ClusterPermit;
pub use redis_broker::RedisBroker;
pub(crate) use scripts::{Script, ScriptReply, Unexpected};
pub(crate) use session_requests::{ClientMessage, ReturnedClient, SessionRequest};
#[cfg(test)]
pub(crate) use simulation::{SimulatedNode, SimulatedRedis};
pub(in crate::broker) use watch::RedisWatch;

// The modules read the time through this name, see above.
use crate::clock;
