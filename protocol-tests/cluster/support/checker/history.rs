//! The events that one subscription received.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use serde_json::Value;

use crate::support::ledger::EVENT;
use crate::support::{Observation, TimedObservation};
use kit::{COUNT, inner};

use super::{Rule, Violation};

/// One subscription of one connection, from its acknowledgement to its end.
#[derive(Debug)]
pub(crate) struct History {
    /// The name of the connection.
    pub(crate) client: String,
    pub(crate) channel: String,
    pub(crate) requested_at: Instant,
    pub(crate) acknowledged: Instant,
    /// When the client sent the unsubscription.
    pub(crate) left: Option<Instant>,
    /// Whether the server closed the connection, or the connection broke, while the subscription lasted.
    pub(crate) is_cut: bool,
    /// The users in the roster of the acknowledgement.
    pub(crate) roster: BTreeSet<String>,
    /// The last event of a cache channel, sent right after the acknowledgement.
    pub(crate) cached: Option<String>,
    /// Whether the server sent `pusher:cache_miss`: the cache channel has no last event.
    pub(crate) is_cache_miss: bool,
    /// All later events of the channel, in the order of receipt.
    pub(crate) events: Vec<(Instant, Value)>,
    /// The data of the client events that the connection itself sent; it does not receive them.
    pub(crate) sent: HashSet<String>,
}

impl History {
    /// The data of the ledger's events and of client events, in the order of receipt.
    pub(crate) fn sequence(&self) -> impl Iterator<Item = (Instant, &str)> {
        let numbered = self.events.iter().filter(|(_, message)| is_numbered(message));
        numbered.filter_map(|(at, message)| Some((*at, message["data"].as_str()?)))
    }

    /// Like [`History::sequence`], with the cached event first.
    pub(super) fn all_ids(&self) -> impl Iterator<Item = &str> {
        self.cached.as_deref().into_iter().chain(self.sequence().map(|(_, id)| id))
    }

    /// Whether the subscription still lasts.
    pub(crate) fn is_open(&self) -> bool {
        self.left.is_none() && !self.is_cut
    }

    /// The members according to the events that this subscription received. Each event must change them.
    pub(crate) fn members(&self) -> Result<BTreeSet<String>, Violation> {
        let mut members = self.roster.clone();
        for (at, message) in &self.events {
            let is_change = match message["event"].as_str() {
                Some("pusher_internal:member_added") => members.insert(user_of(message)),
                Some("pusher_internal:member_removed") => members.remove(&user_of(message)),
                _ => true,
            };
            if !is_change {
                return Err(self.violation(
                    Rule::Members,
                    *at,
                    &format!("{message} changes nothing"),
                ));
            }
        }
        Ok(members)
    }

    /// The last subscription count that this subscription received.
    pub(crate) fn last_count(&self) -> Option<u64> {
        let mut counts = self.events.iter().filter(|(_, message)| message["event"] == COUNT);
        counts.next_back().and_then(|(_, message)| inner(message)["subscription_count"].as_u64())
    }

    pub(super) fn violation(&self, rule: Rule, at: Instant, what: &str) -> Violation {
        let (client, channel) = (self.client.clone(), self.channel.clone());
        let how = match (self.left, self.is_cut) {
            (Some(_), _) => "left",
            (None, true) => "cut",
            (None, false) => "open",
        };
        let text = format!("{client} on {channel} ({how}): {what}");
        Violation { rule, text, client, channel, at }
    }
}

/// The subscriptions of a connection, reconstructed from what it sent and received.
pub(crate) fn histories(client: &str, received: &[TimedObservation]) -> Vec<History> {
    let mut finished = Vec::new();
    let mut current: HashMap<&str, History> = HashMap::new();
    let mut requested_at: HashMap<&str, Instant> = HashMap::new();
    for entry in received {
        match &entry.what {
            Observation::SubscribeSent(channel) => {
                requested_at.insert(channel, entry.at);
            }
            Observation::ClientEventSent(channel, data) => {
                if let Some(history) = current.get_mut(channel.as_str()) {
                    history.sent.insert(data.clone());
                }
            }
            Observation::UnsubscribeSent(channel) => {
                if let Some(history) = current.get_mut(channel.as_str()) {
                    history.left.get_or_insert(entry.at);
                }
            }
            Observation::CloseReceived(_) | Observation::ConnectionEnded => {
                for history in current.values_mut() {
                    history.is_cut |= history.left.is_none();
                }
            }
            Observation::MessageReceived(message) => {
                let channel = message["channel"].as_str().unwrap_or_default();
                if message["event"] == "pusher_internal:subscription_succeeded" {
                    let requested_at = requested_at.get(channel).copied().unwrap_or(entry.at);
                    let begun = begin(client, channel, requested_at, entry.at, message);
                    finished.extend(current.insert(channel, begun));
                } else if let Some(history) = current.get_mut(channel) {
                    take(history, entry.at, message);
                }
            }
        }
    }
    finished.extend(current.into_values());
    finished
}

/// Adds a received event. The server answers a subscription to a cache channel with the acknowledgement, followed by
/// the last event or `pusher:cache_miss`.
fn take(history: &mut History, at: Instant, message: &Value) {
    let is_cache = is_cache_channel(&history.channel);
    let is_first = history.events.is_empty() && history.cached.is_none() && !history.is_cache_miss;
    if is_cache && is_first && message["event"] == "pusher:cache_miss" {
        history.is_cache_miss = true;
    } else if is_cache && is_first && is_numbered(message) {
        history.cached = message["data"].as_str().map(str::to_owned);
    } else {
        history.events.push((at, message.clone()));
    }
}

pub(crate) fn is_cache_channel(name: &str) -> bool {
    ["cache-", "private-cache-", "presence-cache-"].iter().any(|kind| name.starts_with(kind))
}

fn is_numbered(message: &Value) -> bool {
    let name = message["event"].as_str().unwrap_or_default();
    name == EVENT || name.starts_with("client-")
}

fn begin(
    client: &str,
    channel: &str,
    requested_at: Instant,
    at: Instant,
    message: &Value,
) -> History {
    let data = inner(message);
    let ids = data["presence"]["ids"].as_array().into_iter().flatten();
    History {
        client: client.to_owned(),
        channel: channel.to_owned(),
        requested_at,
        acknowledged: at,
        left: None,
        is_cut: false,
        roster: ids.filter_map(Value::as_str).map(str::to_owned).collect(),
        cached: None,
        is_cache_miss: false,
        events: Vec::new(),
        sent: HashSet::new(),
    }
}

fn user_of(message: &Value) -> String {
    inner(message)["user_id"].as_str().expect("a member has an id").to_owned()
}
