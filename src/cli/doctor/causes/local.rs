//! Causes on this machine: files, the process of the server, and the server itself.

use super::super::finding::{
    Cause, Link,
    Severity::{Broken, Doubtful},
    Way,
};

/// The causes in this file.
pub(in crate::cli::doctor) const ALL: &[&Cause] = &[
    &CONFIGURATION_INVALID,
    &BROADCASTING_NOT_CONFIGURED,
    &HOST_IS_BIND_ADDRESS,
    &SERVER_NOT_RUNNING,
    &SERVER_IS_OTHER,
    &SERVER_NOT_READY,
    &UNKNOWN_KEY,
    &SIGNATURE_DIFFERS,
    &CONNECTION_CLOSED,
    &SUBSCRIPTION_FAILED,
    &EVENT_NOT_DELIVERED,
    &HOST_UNREACHABLE,
    &HOST_OF_CONTAINER,
];

pub(in crate::cli::doctor) const CONFIGURATION_INVALID: Cause = Cause {
    id: "configuration_invalid",
    link: Link::Configuration,
    severity: Broken,
    title: "The configuration of the server is not valid.",
    why: "The server does not start with it, and rejects it on a reload.",
    remedy: "Correct the lines. `campanile check` reads them again.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const BROADCASTING_NOT_CONFIGURED: Cause = Cause {
    id: "broadcasting_not_configured",
    link: Link::Configuration,
    severity: Broken,
    title: "The application does not broadcast through this server.",
    why: "Laravel sends its events elsewhere, writes them to the log or drops them, often without an error.",
    remedy: "Set BROADCAST_CONNECTION=reverb, and run `php artisan config:clear`.",
    stops: None,
};

pub(in crate::cli::doctor) const HOST_IS_BIND_ADDRESS: Cause = Cause {
    id: "host_is_bind_address",
    link: Link::Configuration,
    severity: Broken,
    title: "The address for clients is one to listen on.",
    why: "0.0.0.0 and :: mean every address of a machine. A server can listen on them, a browser cannot connect to them.",
    remedy: "Set REVERB_HOST to the name that browsers use. The address to listen on is REVERB_SERVER_HOST.",
    stops: Some(Way::Public),
};

pub(in crate::cli::doctor) const SERVER_NOT_RUNNING: Cause = Cause {
    id: "server_not_running",
    link: Link::Server,
    severity: Broken,
    title: "No server listens at the address of the configuration.",
    why: "Browsers and the application cannot connect.",
    remedy: "Start it with `campanile start`, or pass --server with the address that it listens on.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const SERVER_IS_OTHER: Cause = Cause {
    id: "server_is_other",
    link: Link::Server,
    severity: Broken,
    title: "Another program answers at the address of the server.",
    why: "Clients connect to that program instead of Campanile.",
    remedy: "Stop the other program, or correct the address.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const SERVER_NOT_READY: Cause = Cause {
    id: "server_not_ready",
    link: Link::Health,
    severity: Broken,
    title: "The server is running but not ready.",
    why: "It answers publishes with 503, and load balancers send no clients to it.",
    remedy: "Remove the reason: the log of the server has the details.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const UNKNOWN_KEY: Cause = Cause {
    id: "unknown_key",
    link: Link::Direct,
    severity: Broken,
    title: "The server has no app with this key.",
    why: "It closes connections with 4001, and client libraries do not try again.",
    remedy: "Use one key in the server, in .env and in the built assets; restart the server and build the assets.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const SIGNATURE_DIFFERS: Cause = Cause {
    id: "signature_differs",
    link: Link::Direct,
    severity: Broken,
    title: "The server does not accept the signature of a request.",
    why: "It answers with 401, so the application cannot publish.",
    remedy: "Use one secret in the server and in the application, and restart the server after a change.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const CONNECTION_CLOSED: Cause = Cause {
    id: "connection_closed",
    link: Link::Direct,
    severity: Broken,
    title: "The server closed the connection.",
    why: "The close code says why, and whether client libraries try again.",
    remedy: "Look the close code up in the table of close codes.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const SUBSCRIPTION_FAILED: Cause = Cause {
    id: "subscription_failed",
    link: Link::Direct,
    severity: Broken,
    title: "A private channel cannot be subscribed to.",
    why: "The connection is established, and the server does not answer a rightly signed subscription, or rejects it.",
    remedy: "Look at the log of the server, and at the limits of the app.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const EVENT_NOT_DELIVERED: Cause = Cause {
    id: "event_not_delivered",
    link: Link::Direct,
    severity: Broken,
    title: "A published event did not arrive.",
    why: "The server accepted the event, but the subscriber received nothing within five seconds.",
    remedy: "Look at the log of the server and at /ready.",
    stops: None,
};

pub(in crate::cli::doctor) const HOST_UNREACHABLE: Cause = Cause {
    id: "host_unreachable",
    link: Link::Host,
    severity: Broken,
    title: "The application cannot reach the address that it publishes to.",
    why: "Laravel throws a BroadcastException: cURL error 6, 7 or 28.",
    remedy: "Set REVERB_HOST, REVERB_PORT and REVERB_SCHEME to an address that this machine reaches. Browsers may have another one: VITE_REVERB_HOST.",
    stops: None,
};

pub(in crate::cli::doctor) const HOST_OF_CONTAINER: Cause = Cause {
    id: "host_of_container",
    link: Link::Host,
    severity: Doubtful,
    title: "The application publishes to the name of a container.",
    why: "Containers of the same network resolve the name, and this machine does not: from here nothing is known about the address.",
    remedy: "Run `campanile doctor` in a container of the same network. Browsers need another address: VITE_REVERB_HOST.",
    stops: None,
};
