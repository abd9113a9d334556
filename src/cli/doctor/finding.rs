//! What the doctor looks at, and what it finds.

use serde_json::{Value, json};

/// One step of the way between a page and the server. The links are checked in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Link {
    /// The configuration of the server and the variables of the application.
    Configuration,
    /// The built assets of the application.
    Assets,
    /// The Redis of the configuration.
    Redis,
    /// The process of the server on this machine.
    Server,
    /// Whether the server is ready.
    Health,
    /// A client and a publisher at the address that the server listens on.
    Direct,
    /// The address that the application publishes to.
    Host,
    /// The name of the public address.
    Dns,
    /// A connection to the public address.
    Tcp,
    /// The certificate of the public address.
    Tls,
    /// The handshake of a WebSocket at the public address.
    Proxy,
    /// Whether the server accepts clients of the page.
    Origin,
    /// Whether the server behind the public address has the app.
    Key,
    /// Pings at the public address.
    Ping,
    /// The HTTP API at the address that the application publishes to.
    Api,
    /// The authentication endpoint of the application.
    Auth,
    /// The nodes behind the address that the application publishes to.
    Nodes,
    /// Events from the application to clients, through all nodes.
    Delivery,
    /// Members of a presence channel, on all nodes.
    Presence,
    /// A connection on which nothing is sent.
    Idle,
    /// The configuration of a proxy on this machine.
    Upstream,
    /// The queue of the application.
    Queue,
    /// File descriptors and ports.
    Limits,
}

impl Link {
    /// All links, in order.
    pub(super) const ALL: [Self; 23] = [
        Self::Configuration,
        Self::Assets,
        Self::Redis,
        Self::Server,
        Self::Health,
        Self::Direct,
        Self::Host,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Proxy,
        Self::Origin,
        Self::Key,
        Self::Ping,
        Self::Api,
        Self::Auth,
        Self::Nodes,
        Self::Delivery,
        Self::Presence,
        Self::Idle,
        Self::Upstream,
        Self::Queue,
        Self::Limits,
    ];

    /// The name of the link in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Assets => "assets",
            Self::Redis => "redis",
            Self::Server => "server",
            Self::Health => "health",
            Self::Direct => "direct",
            Self::Host => "host",
            Self::Upstream => "upstream",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
            Self::Origin => "origin",
            Self::Key => "key",
            Self::Ping => "ping",
            Self::Api => "api",
            Self::Auth => "auth",
            Self::Nodes => "nodes",
            Self::Delivery => "delivery",
            Self::Presence => "presence",
            Self::Idle => "idle",
            Self::Queue => "queue",
            Self::Limits => "limits",
        }
    }

    /// What must work for the link to be checked.
    pub(super) fn way(self) -> Way {
        match self {
            Self::Configuration | Self::Assets | Self::Redis | Self::Queue => Way::Files,
            Self::Server | Self::Health | Self::Direct | Self::Upstream | Self::Limits => {
                Way::Direct
            }
            Self::Host
            | Self::Dns
            | Self::Tcp
            | Self::Tls
            | Self::Proxy
            | Self::Origin
            | Self::Key
            | Self::Ping
            | Self::Api
            | Self::Auth
            | Self::Nodes
            | Self::Delivery
            | Self::Presence
            | Self::Idle => Way::Public,
        }
    }
}

/// What a link is checked through. A later way includes the earlier ones: the server answers through
/// a proxy only if it answers at all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Way {
    /// Files and the state of this machine.
    Files,
    /// The address that the server listens on.
    Direct,
    /// The address that browsers connect to.
    Public,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Severity {
    /// It may be as intended, or it will break.
    Doubtful,
    /// It does not work.
    Broken,
}

impl Severity {
    /// The word for reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Doubtful => "doubtful",
            Self::Broken => "broken",
        }
    }
}

/// A cause that the doctor can name. `docs/doctor.md` has a table of them.
#[derive(Debug)]
pub(super) struct Cause {
    /// The name in reports.
    pub(super) id: &'static str,
    /// The link that looks for it.
    pub(super) link: Link,
    pub(super) severity: Severity,
    /// What is wrong, in a sentence.
    pub(super) title: &'static str,
    /// Why that breaks something, in a sentence or two.
    pub(super) why: &'static str,
    /// What to change, in general.
    pub(super) remedy: &'static str,
    /// The first way that cannot be checked any more: what fails there follows from this cause.
    pub(super) stops: Option<Way>,
}

impl Cause {
    /// A cause that leaves the later links to be checked: its title, why it matters, and the remedy.
    pub(super) const fn new(
        id: &'static str,
        link: Link,
        severity: Severity,
        [title, why, remedy]: [&'static str; 3],
    ) -> Self {
        Self { id, link, severity, title, why, remedy, stops: None }
    }
}

/// A cause that was found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) cause: &'static Cause,
    /// What was seen, with the values.
    pub(super) seen: String,
    /// What to change, in order.
    pub(super) changes: Vec<Change>,
    pub(super) snippet: Option<Snippet>,
}

/// One step of a repair.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// A line of a file, or a variable.
    Line {
        /// The file with the line if it is known, such as `.env:7`.
        place: String,
        /// The new line.
        text: String,
    },
    /// A command to run.
    Command(String),
    /// Something else, in a sentence.
    Advice(String),
}

/// Lines for the configuration of another program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Snippet {
    /// The program, such as `nginx`.
    pub(super) of: &'static str,
    pub(super) text: String,
}

impl Cause {
    /// A finding of this cause, with its general remedy until a change is added.
    pub(super) fn found(&'static self, seen: impl Into<String>) -> Finding {
        Finding { cause: self, seen: seen.into(), changes: Vec::new(), snippet: None }
    }
}

impl Finding {
    /// Adds the new text of a line.
    pub(super) fn line(mut self, place: impl Into<String>, text: impl Into<String>) -> Self {
        self.changes.push(Change::Line { place: place.into(), text: text.into() });
        self
    }

    /// Adds a command to run.
    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        self.changes.push(Change::Command(command.into()));
        self
    }

    /// Adds a step in words.
    pub(super) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.changes.push(Change::Advice(advice.into()));
        self
    }

    /// Sets the lines for another program.
    pub(super) fn snippet(self, of: &'static str, text: impl Into<String>) -> Self {
        Self { snippet: Some(Snippet { of, text: text.into() }), ..self }
    }

    /// The steps, or the general remedy if there are none.
    pub(super) fn steps(&self) -> Vec<Change> {
        if self.changes.is_empty() {
            return vec![Change::Advice(self.cause.remedy.to_owned())];
        }
        self.changes.clone()
    }

    /// The finding for programs. `mask` hides secrets.
    pub(super) fn to_json(&self, mask: impl Fn(&str) -> String) -> Value {
        let steps = self.steps();
        let changes = steps.iter().map(|change| match change {
            Change::Line { place, text } => json!({"place": mask(place), "line": mask(text)}),
            Change::Command(command) => json!({"command": mask(command)}),
            Change::Advice(advice) => json!({"advice": mask(advice)}),
        });
        let snippet = self.snippet.as_ref();
        json!({
            "id": self.cause.id,
            "link": self.cause.link.name(),
            "severity": self.cause.severity.name(),
            "title": self.cause.title,
            "seen": mask(&self.seen),
            "why": self.cause.why,
            "changes": changes.collect::<Vec<_>>(),
            "snippet": snippet.map(|snippet| json!({"of": snippet.of, "text": mask(&snippet.text)})),
        })
    }
}
