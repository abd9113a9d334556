//! Causes in processes, ports and limits of this machine.

use super::super::finding::{
    Cause, Link,
    Severity::{Broken, Doubtful},
    Way,
};

/// The causes in this file.
pub(in crate::cli::doctor) const ALL: &[&Cause] = &[
    &PORT_IN_USE,
    &PORT_NOT_PUBLISHED,
    &QUEUE_WORKER_NOT_RUNNING,
    &DESCRIPTORS_LOW,
    &PORTS_FEW,
    &CONNTRACK_FULL,
];

pub(in crate::cli::doctor) const PORT_IN_USE: Cause = Cause {
    id: "port_in_use",
    link: Link::Server,
    severity: Broken,
    title: "Another process of this machine has the port of the server.",
    why: "Campanile cannot start on the port, and clients connect to the other process.",
    remedy: "Stop the other process, and have its supervisor no longer start it. Or set another port.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const PORT_NOT_PUBLISHED: Cause = Cause {
    id: "port_not_published",
    link: Link::Server,
    severity: Broken,
    title: "Docker Compose does not publish the port of the server.",
    why: "The port is open inside the container only; browsers on this machine cannot connect.",
    remedy: "Add the port to the service that runs the server, and run `docker compose up -d`.",
    stops: Some(Way::Direct),
};

pub(in crate::cli::doctor) const QUEUE_WORKER_NOT_RUNNING: Cause = Cause {
    id: "queue_worker_not_running",
    link: Link::Queue,
    severity: Doubtful,
    title: "No queue worker runs on this machine.",
    why: "Laravel broadcasts events with ShouldBroadcast from its queue. Without a worker they wait there, without an error.",
    remedy: "Run `php artisan queue:work`, unless a worker runs on another machine. ShouldBroadcastNow does without.",
    stops: None,
};

pub(in crate::cli::doctor) const DESCRIPTORS_LOW: Cause = Cause {
    id: "descriptors_low",
    link: Link::Limits,
    severity: Doubtful,
    title: "The server may open few files.",
    why: "Each client needs one. At the limit, new clients are closed with 4100.",
    remedy: "Raise LimitNOFILE of systemd, minfds of Supervisor, or ulimit -n.",
    stops: None,
};

pub(in crate::cli::doctor) const PORTS_FEW: Cause = Cause {
    id: "ports_few",
    link: Link::Limits,
    severity: Doubtful,
    title: "This machine has few ports for outgoing connections.",
    why: "A proxy on this machine needs one for each client. Without a free port it answers 502.",
    remedy: "Widen net.ipv4.ip_local_port_range.",
    stops: None,
};

pub(in crate::cli::doctor) const CONNTRACK_FULL: Cause = Cause {
    id: "conntrack_full",
    link: Link::Limits,
    severity: Doubtful,
    title: "The table of connections of this machine's firewall is almost full.",
    why: "When it is full, the kernel drops packets of new connections without an answer, and clients time out.",
    remedy: "Raise net.netfilter.nf_conntrack_max.",
    stops: None,
};
