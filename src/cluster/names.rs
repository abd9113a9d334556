//! What things are called in Redis.
//!
//! All keys of one channel carry the hash tag `{app:channel}`, so a script about it stays in one
//! slot of a Redis Cluster. The bus of a topic, where its messages are published, has the same
//! name as its hash.

use crate::protocol::ChannelName;
use std::{fmt, sync::Arc};

/// What nodes share the truth about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Subject {
    /// A channel: its subscribers, members and events.
    Channel(ChannelName),
    /// A user: whether it is signed in anywhere.
    User(Arc<str>),
    /// The connections of an app.
    Connections,
}

/// A subject of an app.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct TopicName {
    pub(super) app_id: Arc<str>,
    pub(super) subject: Subject,
}

/// Makes and reads the names.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The hash of a topic, and its bus.
    pub(super) fn topic(&self, name: &TopicName) -> String {
        let (prefix, app_id) = (&self.prefix, &name.app_id);
        match &name.subject {
            Subject::Channel(channel) => self.channel(app_id, channel),
            Subject::User(user_id) => format!("{prefix}:u{{{app_id}:{user_id}}}"),
            Subject::Connections => format!("{prefix}:n{{{app_id}}}"),
        }
    }

    pub(super) fn channel(&self, app_id: &str, channel: &ChannelName) -> String {
        format!("{}:c{{{app_id}:{channel}}}", self.prefix)
    }

    /// Reads the name of a topic back. Ids of users and names of channels have no colon, ids of
    /// apps may.
    pub(super) fn parse(&self, name: &str) -> Option<TopicName> {
        let rest = name.strip_prefix(&self.prefix)?.strip_prefix(':')?;
        let kind = rest.chars().next()?;
        let tag = rest.get(1..)?.strip_prefix('{')?.strip_suffix('}')?;
        let (app_id, subject) = match kind {
            'n' => (tag, Subject::Connections),
            'u' => {
                let (app_id, user_id) = tag.rsplit_once(':')?;
                (app_id, Subject::User(user_id.into()))
            }
            'c' => {
                let (app_id, channel) = tag.rsplit_once(':')?;
                // Its length was checked when it was first seen.
                let channel = ChannelName::parse(channel, usize::MAX).ok()?;
                (app_id, Subject::Channel(channel))
            }
            _ => return None,
        };
        Some(TopicName { app_id: app_id.into(), subject })
    }

    /// Where a cache channel's last event lies.
    pub(super) fn last_event(&self, app_id: &str, channel: &ChannelName) -> String {
        format!("{}:e{{{app_id}:{channel}}}", self.prefix)
    }

    /// The ids of a channel's latest events.
    pub(super) fn latest_ids(&self, app_id: &str, channel: &ChannelName) -> String {
        format!("{}:r{{{app_id}:{channel}}}", self.prefix)
    }

    /// The app's occupied channels with their counts.
    pub(super) fn index(&self, app_id: &str) -> String {
        format!("{}:i{{{app_id}}}", self.prefix)
    }

    /// The app's channels that were vacated lately.
    pub(super) fn gone(&self, app_id: &str) -> String {
        format!("{}:j{{{app_id}}}", self.prefix)
    }

    /// Something of an app, by what it is.
    pub(super) fn of_app(&self, what: &str, app_id: &str) -> String {
        format!("{}:{what}{{{app_id}}}", self.prefix)
    }

    /// The nodes by when their leases end.
    pub(super) fn leases(&self) -> String {
        format!("{}:leases{{nodes}}", self.prefix)
    }

    pub(super) fn generation(&self) -> String {
        format!("{}:generation{{nodes}}", self.prefix)
    }

    pub(super) fn expected(&self) -> String {
        format!("{}:expected{{nodes}}", self.prefix)
    }

    /// Who cleans up after a dead node.
    pub(super) fn claim(&self, node: &str) -> String {
        format!("{}:claim{{nodes}}:{node}", self.prefix)
    }

    /// The bus that all nodes hear.
    pub(super) fn all_nodes(&self) -> String {
        format!("{}:bus{{nodes}}", self.prefix)
    }

    /// The topics to which a node contributes.
    pub(super) fn topics_of(&self, node: &str) -> String {
        format!("{}:topics{{{node}}}", self.prefix)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => channel.fmt(f),
            Self::User(user_id) => write!(f, "user {user_id}"),
            Self::Connections => f.write_str("connections"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let names = Names::new("campanile");
        let channel = ChannelName::parse("presence-a.b;c", 100).unwrap();
        for subject in
            [Subject::Channel(channel), Subject::User("a=1".into()), Subject::Connections]
        {
            let name = TopicName { app_id: "an:app{1}".into(), subject };
            assert_eq!(names.parse(&names.topic(&name)), Some(name));
        }
    }

    #[test]
    fn foreign_names_are_nobodys() {
        let names = Names::new("campanile");
        for name in ["", "x", "campanile:", "campanile:c{a}", "campanile:x{a:b}", "other:c{a:b}"] {
            assert_eq!(names.parse(name), None, "{name}");
        }
    }
}
